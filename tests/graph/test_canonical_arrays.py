"""Canonical arrays are numpy's transposes and slices of what is stored, and never a way into the file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tiny

from ckptkit.graph.canonical_arrays import Weights, template_of
from ckptkit.graph.equal import canonical_array
from ckptkit.graph.examine import Subject, examine
from ckptkit.schema import Architecture


@pytest.fixture
def stored(tmp_path: Path, only_tiny: Architecture) -> dict[str, np.ndarray]:
    arrays = tiny.arrays_of(tiny.fused_shapes(2))
    tiny.saved(tmp_path / "model.safetensors", arrays).close()
    (tmp_path / "config.json").write_text('{"hidden_size": 6, "num_layers": 2, "num_heads": 2}')
    return arrays


@pytest.fixture
def subject(tmp_path: Path, stored: dict[str, np.ndarray]) -> Subject:
    return examine(tmp_path)


def by_hand(stored: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    out = {"tokens.weight": stored["t/wte"]}
    for i in (0, 1):
        at = f"t/block_{i + 1:02}/"
        out |= {f"layers.{i}.norm.weight": stored[at + "ln/gamma"], f"layers.{i}.up.weight": stored[at + "up/kernel"].T}
        for k, x in enumerate(("query", "key", "value")):
            out[f"layers.{i}.{x}.weight"] = stored[at + "qkv/w"][:, 6 * k : 6 * k + 6].T
            out[f"layers.{i}.{x}.bias"] = stored[at + "qkv/b"][6 * k : 6 * k + 6]
    return out


def test_each_parameter_is_what_numpy_cuts_out_by_hand(subject: Subject, stored: dict[str, np.ndarray]) -> None:
    with subject:
        weights = Weights(subject)
        for name, want in by_hand(stored).items():
            assert name in weights
            np.testing.assert_array_equal(weights.get(name), want)
            np.testing.assert_array_equal(canonical_array(subject.graph, name, subject.sizes()), want)


def test_what_the_naming_lacks_is_its_fill_in_its_shape(subject: Subject) -> None:
    with subject:
        weights = Weights(subject)
        assert "shift" in weights and "layers.0.gate.weight" not in weights
        np.testing.assert_array_equal(weights.get("shift"), np.zeros((1, 6), "f4"))


def test_arrays_outlive_the_subject_and_changing_them_leaves_the_file(tmp_path: Path, subject: Subject) -> None:
    before = (tmp_path / "model.safetensors").read_bytes()
    with subject:
        weights = Weights(subject)
        array = weights.get("tokens.weight")
    array[...] = 0
    assert (array == 0).all() and (tmp_path / "model.safetensors").read_bytes() == before


def test_a_name_is_an_expansion_of_one_template_or_of_none(only_tiny: Architecture) -> None:
    said = {n: template_of(only_tiny, n) for n in ("tokens.weight", "layers.12.up.weight", "layers.up.weight", "layers.1.up", "x")}
    assert said == {
        "tokens.weight": "tokens.weight",
        "layers.12.up.weight": "layers.{layer}.up.weight",
        "layers.up.weight": "",
        "layers.1.up": "",
        "x": "",
    }
