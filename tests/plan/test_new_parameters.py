"""What a conversion makes new: exactly what the source lacks, where it belongs, and the rows it does not have."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tiny
from planned import carried_out, folder, fused_by_hand, plan

from ckptkit.errors import FindingsError, UsageError
from ckptkit.graph.examine import examine
from ckptkit.plan.new_parameters import lacking, places, resized
from ckptkit.schema import Architecture

LINED = tiny.arrays_of(tiny.lined_shapes(2))


def test_a_template_is_met_at_every_place_of_its_placeholders() -> None:
    assert list(places("x", {})) == [("x", {})]
    said = list(places("a.{layer}.b.{expert}", {"layers": 2, "experts": 2}))
    assert said == [(f"a.{i}.b.{j}", {"layer": i, "expert": j}) for i in (0, 1) for j in (0, 1)]
    assert list(places("a.{layer}", {})) == []


def test_what_is_lacking_is_what_the_core_and_the_heads_asked_for_need(tmp_path: Path, only_tiny: Architecture) -> None:
    arrays = {n: a for n, a in LINED.items() if n not in ("net.layers.1.q.bias", "net.layers.0.up.weight")}
    with examine(folder(tmp_path / "s", arrays)) as s:
        assert lacking(s, frozenset(), frozenset()) == {"layers.1.query.bias", "layers.0.up.weight"}
        assert lacking(s, {"classifier"}, {"layers.{layer}.up.weight"}) == {"layers.1.query.bias", "score.weight", "score.bias"}


@pytest.mark.parametrize(("gates", "lacks"), [([], set()), ([0], {"layers.1.gate.weight"}), ([0, 1], set())])
def test_what_hangs_on_a_switch_is_lacking_where_the_switch_stands_so(
    tmp_path: Path, only_tiny: Architecture, gates: list[int], lacks: set[str]
) -> None:
    more = {f"net.layers.{i}.gate.weight": np.ones((7, 6), "f4") for i in gates}
    with examine(folder(tmp_path / "s", {**LINED, **more})) as s:
        assert lacking(s, frozenset(), frozenset()) == lacks


def test_a_vocabulary_of_another_size_is_the_targets_alone(tmp_path: Path, only_tiny: Architecture) -> None:
    with examine(folder(tmp_path / "s", LINED)) as s:
        sizes, grown = resized(s, None)
        assert grown is None and sizes.axis["vocab"] == 11
        wide, grown = resized(s, 13)
        assert grown is not None and (wide.axis["vocab"], grown.axis, s.sizes().axis["vocab"]) == (13, "vocab", 11)
        assert resized(s, 11)[1] is None
        for rows in (0, -3):
            with pytest.raises(UsageError, match=f"a vocabulary of {rows} rows"):
                resized(s, rows)


@pytest.mark.parametrize("rows", [9, 11, 14])
def test_rows_that_both_have_are_the_sources_and_the_others_drawn(tmp_path: Path, only_tiny: Architecture, rows: int) -> None:
    done = plan(folder(tmp_path / "s", LINED), to="fused", resize_vocab=rows)
    got = carried_out(done.plan)
    want = fused_by_hand(LINED)
    assert got["t/wte"].shape == (rows, 6)
    np.testing.assert_array_equal(got["t/wte"][:11], want["t/wte"][:rows])
    assert (got["t/wte"][11:] == -7).all()
    assert all(np.array_equal(got[n], a) for n, a in want.items() if n != "t/wte")
    said = [f.message for f in done.findings]
    assert any("rows 11-13 of the vocabulary are new" in m for m in said) is (rows == 14)
    assert any("rows 9-10 of the vocabulary are left out" in m for m in said) is (rows == 9)


def test_a_missing_part_of_a_joined_tensor_is_made_in_its_own_place(tmp_path: Path, only_tiny: Architecture) -> None:
    source = folder(tmp_path / "s", {n: a for n, a in LINED.items() if ".1.k." not in n})
    with pytest.raises(FindingsError):
        plan(source, to="fused")
    done = plan(source, to="fused", init_missing=True, seed=5)
    got, want = carried_out(done.plan), fused_by_hand(LINED)
    drawn = np.full((6, 6), -7, "f4")
    np.testing.assert_array_equal(
        got["t/block_02/qkv/w"], np.concatenate([want["t/block_02/qkv/w"][:, :6], drawn, want["t/block_02/qkv/w"][:, 12:]], 1)
    )
    np.testing.assert_array_equal(got["t/block_02/qkv/b"][6:12], np.zeros(6, "f4"))  # biases begin as zeros
    story = done.ledger["target"]["tensors"]["t/block_02/qkv/w"]["initialised"]
    assert list(story) == ["layers.1.key.weight"] and story["layers.1.key.weight"].endswith("seed 5")
    (new,) = [s.drawn for s in done.plan.sources if s.drawn is not None]
    assert (new.name, new.seed, new.numel) == ("layers.1.key.weight", 5, 36)
