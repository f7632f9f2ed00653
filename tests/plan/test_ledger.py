"""The ledger tells of every source tensor where it went or why not, and of every target tensor where it came from."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tiny
from planned import folder, plan

from ckptkit.plan.ledger import LEDGER, Told, ledger_text
from ckptkit.schema import Architecture
from ckptkit.tensors import TensorSpec

LINED = tiny.arrays_of(tiny.lined_shapes(2))


def test_both_sides_are_whole_and_say_the_same(tmp_path: Path, only_tiny: Architecture) -> None:
    extra = {"net.tokens.weight/adam_m": np.ones((11, 6), "f4"), "net.layers.0.adapter": np.ones(2, "f4")}
    done = plan(folder(tmp_path / "s", {**LINED, **extra}), to="fused", force=True)
    source, target = done.ledger["source"]["tensors"], done.ledger["target"]["tensors"]
    assert set(source) == {*LINED, *extra}
    assert set(target) == {t.name for t in done.plan.tasks}
    went = {(n, t) for n in source for t in source[n].get("to", ())}
    assert went == {(n, t) for t in target for n in target[t]["from"]}
    assert all(("to" in source[n]) != ("dropped" in source[n]) for n in source)
    assert {n for n in source if "dropped" in source[n]} == set(extra)
    assert target["t/block_01/qkv/w"]["holds"] == [f"layers.0.{x}.weight" for x in ("query", "key", "value")]
    assert target["t/block_01/qkv/w"]["shape"] == (6, 18) and source["net.layers.0.q.weight"]["shape"] == (6, 6)


def test_it_is_written_beside_the_weights_as_it_is_told(tmp_path: Path, only_tiny: Architecture) -> None:
    done = plan(folder(tmp_path / "s", LINED), to="fused")
    text = dict(done.plan.texts)[LEDGER]
    told = json.loads(text)
    for side in ("source", "target"):
        want = done.ledger[side]["tensors"]
        assert told[side]["tensors"] == json.loads(json.dumps({n: want[n] for n in want}))
    assert text.count("\n") > len(LINED)  # a line for each tensor


@pytest.mark.parametrize("n", [0, 1, 4999, 5001, 7300])
def test_the_text_is_the_same_json_for_few_tensors_and_for_many(n: int) -> None:
    specs = {f"t{i}": TensorSpec("F32", (i, 2)) for i in range(n)}
    tensors = Told(specs, dict.fromkeys(specs), lambda name: {"to": [name]})
    text = ledger_text({"version": 1, "source": {"tensors": tensors}, "findings": [{"a": "ü"}]})
    assert json.loads(text) == {
        "version": 1,
        "source": {"tensors": {f"t{i}": {"to": [f"t{i}"], "dtype": "F32", "shape": [i, 2]} for i in range(n)}},
        "findings": [{"a": "ü"}],
    }
    assert text.endswith("}\n")


def test_what_has_a_story_without_a_tensor_is_told_too() -> None:
    told = Told({"a": TensorSpec("F32", (2,))}, {"a": None, "b": {"how": "tied to a"}}, lambda n: {"from": [n]})
    assert dict(told) == {"a": {"from": ["a"], "dtype": "F32", "shape": (2,)}, "b": {"how": "tied to a"}} and len(told) == 2
