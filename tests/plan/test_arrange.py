"""Name for name: the tensors stay what they are, whatever way they lie, and nothing is left out without a word."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tiny
from planned import carried_out, folder, plan, same

from ckptkit.plan.arrange import how_made
from ckptkit.plan.values import Piece
from ckptkit.schema import Architecture
from ckptkit.schema.loops import Loop


def some() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(3)
    return {
        "a.weight": rng.standard_normal((3, 4)).astype("f4"),
        "a.bias": rng.standard_normal(4).astype("f2"),
        "ids": np.arange(5),
        "flag": np.array([True, False]),
        "scalar": np.array(2.5, "f4"),
        "empty": np.zeros((0, 3), "f4"),
    }


def test_every_tensor_goes_over_under_its_own_name(tmp_path: Path) -> None:
    same(carried_out(plan(folder(tmp_path / "s", some(), None), container="safetensors").plan), some())


def test_views_in_any_order_are_written_row_major(tmp_path: Path) -> None:
    import torch

    base = torch.arange(60.0).reshape(5, 12)
    state = {
        "t": base.t(),
        "rows": base[1:4],
        "columns": base[:, 2:7],
        "steps": base[::2, ::3],
        "block": base.reshape(5, 3, 4).permute(2, 0, 1),
    }
    torch.save(state, tmp_path / "m.pt")
    got = carried_out(plan(tmp_path / "m.pt", container="safetensors").plan)
    same(got, {k: v.contiguous().numpy() for k, v in state.items()})


def test_only_floats_are_cast_and_the_first_glob_that_fits_by_target_or_canonical_name(tmp_path: Path, only_tiny: Architecture) -> None:
    source = folder(tmp_path / "s", {**tiny.arrays_of(tiny.lined_shapes(2)), "ids": np.arange(3)})
    dtypes = (("*", "F16"), ("layers.*.up.weight", "BF16"), ("net.tokens.*", "F64"))
    done = plan(source, container="safetensors", dtypes=dtypes)
    stored = {t.name: t.dtype for t in done.plan.tasks}
    assert (stored["ids"], stored["net.layers.0.norm.bias"]) == ("I64", "F16")
    assert (stored["net.layers.1.up.weight"], stored["net.tokens.weight"]) == ("BF16", "F64")


def test_names_of_one_storage_stay_one_where_the_container_can_and_are_two_where_not(tmp_path: Path) -> None:
    import torch

    base = torch.arange(6.0)
    torch.save({"x": base, "y": base, "z": base.clone()}, tmp_path / "m.pt")
    tied, apart = (plan(tmp_path / "m.pt", container=c, target=tmp_path / c) for c in ("torch", "npz"))
    assert [t.name for t in tied.plan.tasks] == ["x", "z"] and tied.ledger["target"]["tensors"]["y"]["how"] == "tied to x"
    assert [t.name for t in apart.plan.tasks] == ["x", "y", "z"]


def test_optimizer_state_goes_along_unless_it_is_to_be_dropped_and_the_ledger_says_so(tmp_path: Path) -> None:
    arrays = {"w": np.ones(3, "f4"), "w/adam_m": np.zeros(3, "f4"), "global_step": np.array(7)}
    source = folder(tmp_path / "s", arrays, None)
    assert carried_out(plan(source, container="npz").plan).keys() == arrays.keys()
    done = plan(source, container="npz", drop_optimizer=True)
    assert carried_out(done.plan).keys() == {"w"}
    told = done.ledger["source"]["tensors"]
    assert {n: told[n]["dropped"] for n in ("w/adam_m", "global_step")} == dict.fromkeys(("w/adam_m", "global_step"), "optimizer state")


STRAIGHT, TURNED = (Loop(6, 1, 1),), (Loop(2, 1, 3), Loop(3, 2, 1))


@pytest.mark.parametrize(
    ("pieces", "cast", "word"),
    [
        ([Piece(0, STRAIGHT)], False, "copied"),
        ([Piece(0, STRAIGHT)], True, "cast"),
        ([Piece(0, TURNED)], False, "re-laid"),
        ([Piece(0, STRAIGHT), Piece(1, STRAIGHT)], False, "joined"),
        ([Piece(0, TURNED), Piece(1, TURNED)], True, "joined, re-laid, cast"),
        ([Piece(0, STRAIGHT), Piece(-1, STRAIGHT, op="fill")], False, "filled"),
        ([Piece(0, STRAIGHT), Piece(1, STRAIGHT, op="add")], False, "added"),
    ],
)
def test_what_was_done_is_said_in_words(pieces: list[Piece], cast: bool, word: str) -> None:
    assert how_made(pieces, cast) == word
