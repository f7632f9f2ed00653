"""From one naming to another: every target tensor is what numpy makes of the source by hand, and what has no place is said or refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from planned import carried_out, folder, fused_by_hand, plan, same

from ckptkit.errors import CheckpointError, FindingsError, UnsupportedError
from ckptkit.plan.translate import walk
from ckptkit.schema import GOOGLE, Architecture, Lack

LINED = tiny.arrays_of(tiny.lined_shapes(2))


def messages(done: Any, rule: str) -> list[str]:
    return [f.message for f in done.findings if f.rule == rule]


def test_parts_are_joined_and_turned_as_by_hand(tmp_path: Path, only_tiny: Architecture) -> None:
    same(carried_out(plan(folder(tmp_path / "s", LINED), to="fused").plan), fused_by_hand(LINED))


def test_what_was_joined_is_taken_apart_again(tmp_path: Path, only_tiny: Architecture) -> None:
    got = carried_out(plan(folder(tmp_path / "s", fused_by_hand(LINED)), to="lined").plan)
    bare = {n.removeprefix("net."): a for n, a in LINED.items()}  # no head is stored beside the core: no prefix
    same(got, bare)  # nor is the shift made up of what its absence means, since it may be absent here too


def test_each_target_element_is_written_once(tmp_path: Path, only_tiny: Architecture) -> None:
    for task in plan(folder(tmp_path / "s", LINED), to="fused").plan.tasks:
        at = np.zeros(int(np.prod(task.shape)), int)
        for piece in task.pieces:
            t = np.array(piece.target_offset)
            for n, _, b in piece.loops:
                t = np.add.outer(t, np.arange(n) * b)
            np.add.at(at, t.ravel(), 1)
        assert (at == 1).all(), task.name


def test_a_row_that_lacks_one_of_its_parts_is_refused_with_the_part(tmp_path: Path, only_tiny: Architecture) -> None:
    arrays = {n: a for n, a in LINED.items() if n != "net.layers.1.k.weight"}
    with pytest.raises(FindingsError):
        plan(folder(tmp_path / "s", arrays), to="fused")
    with pytest.raises(UnsupportedError, match=r"t/block_02/qkv/w joins .*, but the weights lack layers\.1\.key\.weight"):
        plan(folder(tmp_path / "s", arrays), to="fused", force=True)


def with_fused(monkeypatch: pytest.MonkeyPatch, **fields: object) -> None:
    usual: dict[str, object] = {"style": GOOGLE, "rows": tiny.FUSED, "lacks": {"shift": Lack(0.0, why="it adds nothing")}}
    fused = tiny.dialect("fused", **{**usual, **fields})
    tiny.only(monkeypatch, tiny.architecture(tiny.dialect("lined", prefixes=("net.", "")), fused))


@pytest.mark.parametrize(("shift", "fold"), [(0.0, None), (0.0, "tokens.weight"), (2.0, "tokens.weight")])
def test_what_is_what_its_absence_means_is_left_out_and_what_can_be_folded_is_added(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shift: float, fold: str | None
) -> None:
    with_fused(monkeypatch, lacks={"shift": Lack(0.0, fold=fold)})
    done = plan(folder(tmp_path / "s", {**LINED, "net.shift": np.full((1, 6), shift, "f4")}), to="fused")
    want = fused_by_hand(LINED)
    same(carried_out(done.plan), {**want, "t/wte": want["t/wte"] + np.float32(shift)})
    story = done.ledger["source"]["tensors"]["net.shift"]
    assert ("dropped" in story) is (shift == 0.0) and bool(messages(done, "lossy")) is (shift != 0.0)


def test_what_means_something_and_has_no_place_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_fused(monkeypatch)
    with pytest.raises(UnsupportedError, match=r"fused has no place for net\.shift: it adds nothing"):
        plan(folder(tmp_path / "s", {**LINED, "net.shift": np.ones((1, 6), "f4")}), to="fused")


def test_a_harmless_loss_is_left_out_and_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_fused(monkeypatch, lacks={"shift": Lack(0.0, harmless="nobody reads it")})
    done = plan(folder(tmp_path / "s", {**LINED, "net.shift": np.ones((1, 6), "f4")}), to="fused")
    same(carried_out(done.plan), fused_by_hand(LINED))
    assert ["nobody reads it" in m for m in messages(done, "dropped")] == [True]


def test_a_size_that_a_naming_never_has_is_refused_with_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_fused(monkeypatch, limits={"inner": (8, "its code says 8"), "layers": (2, "two")})
    with pytest.raises(UnsupportedError, match=r"no place for inner 7 .*its code says 8"):
        plan(folder(tmp_path / "s", LINED), to="fused")
    with_fused(monkeypatch, limits={"inner": (7, ""), "layers": (3, "three")})
    with pytest.raises(UnsupportedError, match="no place for layers 2"):
        plan(folder(tmp_path / "s", LINED), to="fused")


@pytest.mark.parametrize("untied", [False, True])
def test_a_tied_head_without_a_place_is_dropped_where_it_is_equal_and_refused_where_not(
    tmp_path: Path, only_tiny: Architecture, untied: bool
) -> None:
    arrays = {**LINED, "lm_head.weight": LINED["net.tokens.weight"] + untied}
    source = folder(tmp_path / "s", arrays)
    if untied:
        with pytest.raises(UnsupportedError, match=r"lm_head\.weight is a tensor of its own \(not tied to net\.tokens\.weight\)"):
            plan(source, to="fused")
    else:
        same(carried_out(plan(source, to="fused").plan), fused_by_hand(LINED))


def test_a_head_that_the_naming_has_goes_along_and_one_that_it_lacks_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    score = {"score.weight": np.ones((3, 6), "f4"), "score.bias": np.zeros(3, "f4")}
    with_fused(monkeypatch)
    source = folder(tmp_path / "s", {**LINED, **score})
    got = carried_out(plan(source, to="fused").plan)
    np.testing.assert_array_equal(got["t/score/kernel"], score["score.weight"].T)
    with_fused(monkeypatch, rows={k: v for k, v in tiny.FUSED.items() if k != "t/score"})
    done = plan(source, to="fused")
    same(carried_out(done.plan), fused_by_hand(LINED))
    assert done.ledger["source"]["tensors"]["score.bias"]["dropped"] == "fused has no classifier"
    assert any("classifier" in m for m in messages(done, "dropped"))


def test_what_nothing_explains_is_dropped_with_a_warning(tmp_path: Path, only_tiny: Architecture) -> None:
    done = plan(folder(tmp_path / "s", {**LINED, "net.layers.0.adapter": np.ones(2, "f4")}), to="fused", force=True)
    assert [f.severity for f in done.findings if f.rule == "dropped"] == ["error", "warning"]  # what --force has overruled, and what was done
    assert done.ledger["source"]["tensors"]["net.layers.0.adapter"]["dropped"] == "no part of Tiny"


def test_an_identity_is_ones_on_the_diagonal_and_zeros_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    modules = {"tokens": tiny.embedding("vocab hidden"), "mapping": tiny.param("hidden other")}
    short = tiny.dialect("short", rows={"w": "tokens.weight"}, lacks={"mapping": Lack("identity", {"other": 6})})
    long = tiny.dialect("long", rows={"tokens": "tokens.weight", "mapping": ("mapping", "other hidden")})
    tiny.only(monkeypatch, tiny.architecture(short, long, modules=modules, relations=()))
    source = folder(tmp_path / "s", {"w": LINED["net.tokens.weight"]})
    same(
        carried_out(plan(source, to="long", dialect="short").plan), {"tokens": LINED["net.tokens.weight"], "mapping": np.eye(6, dtype="f4")}
    )


def test_rows_are_walked_layer_by_layer(only_tiny: Architecture) -> None:
    said = [(row.names[0], at.get("layer")) for row, at in walk(only_tiny.table("lined").rows, {"layers": 2})]
    assert [n for n, at in said if at is None] == ["tokens.weight", "shift", "score.weight", "score.bias", "lm_head.weight"]
    layers = [at for _, at in said if at is not None]
    assert layers == sorted(layers) and layers.count(0) == layers.count(1) == 10


def test_a_number_of_layers_beyond_the_limit_is_refused_before_they_are_walked(only_tiny: Architecture) -> None:
    with pytest.raises(CheckpointError, match="tensors"):
        list(walk(only_tiny.table("lined").rows, {"layers": 10**9}))
