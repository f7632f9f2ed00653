"""What no architecture file knows is still checked, and converted from container to container, name for name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import oracles
import pytest

import ckptkit


def test_basic_pitch_goes_to_safetensors_bit_equal_to_tensorflows_reading(tmp_path: Path) -> None:
    import safetensors.numpy

    weights = oracles.real_package("basic-pitch", "0.4.0", "f5d12cd7245f")
    prefix = str(weights)[: str(weights).index(".data-")]
    report = ckptkit.validate(prefix)
    assert report.exit_code == 3 and report.subject.architecture is None
    assert [f.rule for f in report.findings if f.basis == "undecided" and f.severity == "warning"] == ["unknown"]
    done = ckptkit.convert(prefix, tmp_path / "out.safetensors", container="safetensors")
    want = {n: v for n, v in oracles.tf_variables(prefix).items() if v.dtype.kind not in "OSU"}
    have = safetensors.numpy.load_file(tmp_path / "out.safetensors")
    want = {n.removesuffix("/.ATTRIBUTES/VARIABLE_VALUE"): v for n, v in want.items()}  # attribute paths
    assert have.keys() == want.keys() and len(want) > 20
    for name, array in want.items():
        assert have[name].dtype == array.dtype and have[name].shape == array.shape and have[name].tobytes() == array.tobytes(), name
    assert not [f for f in done.findings if f.rule == "dropped"]  # the object graph goes along


def test_tied_and_strided_tensors_of_an_unknown_model_stay_what_they_are(tmp_path: Path) -> None:
    import torch

    base = torch.arange(24, dtype=torch.float32).reshape(4, 6)
    state = {"a.weight": base, "b.weight": base, "c.weight": base.t(), "d.weight": base[1:3], "step": torch.tensor(7)}
    torch.save(state, tmp_path / "m.pt")
    ckptkit.convert(tmp_path / "m.pt", tmp_path / "again.pt")
    back = torch.load(tmp_path / "again.pt", weights_only=True)
    assert list(back) == list(state)
    assert all(torch.equal(back[k], state[k]) for k in state)
    assert back["a.weight"].data_ptr() == back["b.weight"].data_ptr() != back["c.weight"].data_ptr()
    ckptkit.convert(tmp_path / "m.pt", tmp_path / "tf", container="tf")
    read = oracles.tf_variables(tmp_path / "tf" / "model.ckpt")
    assert all(np.array_equal(read[k], state[k].numpy()) for k in state)


def test_the_names_of_an_unknown_model_cannot_be_translated(tmp_path: Path) -> None:
    import torch

    torch.save({"x": torch.zeros(2)}, tmp_path / "m.pt")
    with pytest.raises(ckptkit.CheckpointError, match="architecture is unknown"):
        ckptkit.convert(tmp_path / "m.pt", tmp_path / "out", to="hf")
    assert not (tmp_path / "out").exists()
