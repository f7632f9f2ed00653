"""Writing HDF5, judged by h5py and by what Keras needs."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import oracles
import pytest
from hdf5_files import KERAS2, Arrays, attributes, by_h5py, mine, same

import ckptkit
from ckptkit.containers import hdf5, open_checkpoint
from ckptkit.errors import UnsupportedError, UsageError
from ckptkit.tensors import TensorSpec

# ---------------------------------------------------------------------------------------------- writing


def test_what_keras_needs_comes_back_through_safetensors(tmp_path: Path) -> None:
    ckptkit.convert(KERAS2, tmp_path / "x.safetensors")
    ckptkit.convert(tmp_path / "x.safetensors", tmp_path / "y.h5")
    same(by_h5py(tmp_path / "y.h5"), by_h5py(KERAS2))
    assert attributes(tmp_path / "y.h5") == attributes(KERAS2)
    done = ckptkit.convert(KERAS2, tmp_path / "z.npz")
    assert any(f.rule == "dropped" and "hdf5:model_config" in f.message for f in done.findings)


def write(path: Path, arrays: Arrays, **options: object) -> None:
    """Through safetensors, by the engine."""
    from safetensors.numpy import save_file

    source = path.with_suffix(".safetensors")
    save_file({n: np.array(a, order="C") for n, a in arrays.items()}, source)
    ckptkit.convert(source, path, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("n", [0, 1, 8, 9, 64, 65, 3000])
def test_groups_of_any_size_are_found_by_h5py(tmp_path: Path, n: int) -> None:
    specs = [(f"layer/{i}", TensorSpec("U8", ())) for i in range(n)] + [("another", TensorSpec("U8", (1,)))]
    layout = hdf5.layout(specs, filename="x.h5")
    raw = bytearray(layout.files[0][1])
    raw[: len(layout.parts[0].data)] = layout.parts[0].data
    for i in range(n):
        raw[layout.slots[f"layer/{i}"].offset] = i % 251
    (tmp_path / "x.h5").write_bytes(raw)
    with h5py.File(tmp_path / "x.h5") as f:
        assert not n or [int(f[f"layer/{i}"][()]) for i in range(n)] == [i % 251 for i in range(n)]
        assert not n or list(f["layer"]) == sorted(str(i) for i in range(n))
    assert set(mine(tmp_path / "x.h5")) == {s for s, _ in specs}


def test_every_type_is_written_as_h5py_reads_it(tmp_path: Path, assorted: Path) -> None:
    arrays = {n: a for n, a in by_h5py(assorted).items() if a.dtype != np.complex128}
    write(tmp_path / "x.h5", arrays)
    same(by_h5py(tmp_path / "x.h5"), arrays)
    with pytest.raises(UnsupportedError, match="no dtype for the F8_E4M3"):
        hdf5.layout([("x", TensorSpec("F8_E4M3", (2,)))], filename="x.h5")


def test_the_layers_of_names_without_attributes_are_made_from_the_names(tmp_path: Path) -> None:
    write(
        tmp_path / "x.h5",
        {"dense/dense/kernel:0": np.ones((2, 2), "f4"), "dense/dense/bias:0": np.ones(2, "f4"), "norm/gamma:0": np.ones(2, "f4")},
    )
    said = attributes(tmp_path / "x.h5")
    assert (
        sorted(said[""]["layer_names"]) == ["dense", "norm"]
        and said[""]["backend"] == "tensorflow"
        and said["norm"] == {"weight_names": ["gamma:0"]}
    )  # type: ignore[call-overload]
    assert sorted(said["dense"]["weight_names"]) == ["dense/bias:0", "dense/kernel:0"]  # type: ignore[call-overload]
    write(tmp_path / "y.h5", {"layers/dense/vars/0": np.ones((2, 2), "f4"), "vars/0": np.ones(2, "f4")})
    assert not any(attributes(tmp_path / "y.h5").values())  # Keras 3's form has none


def test_long_lists_are_cut_as_keras_cuts_them(tmp_path: Path) -> None:
    weights = {f"layer_{i:04d}/{'x' * 90}{i:04d}": np.zeros(1, "u1") for i in range(900)}
    write(tmp_path / "x.h5", weights)
    whole = {f"one/{'x' * 90}{i:04d}": np.zeros(1, "u1") for i in range(900)}
    write(tmp_path / "y.h5", whole)
    said = attributes(tmp_path / "y.h5")["one"]
    pieces = [said[f"weight_names{i}"] for i in range(len(said))]
    assert len(pieces) > 1 and [f"one/{n}" for p in pieces for n in p] == sorted(whole)  # type: ignore[attr-defined]
    with open_checkpoint(tmp_path / "y.h5") as c:
        assert list(c.tensors) == sorted(whole)


@pytest.mark.parametrize("names", [["a", "a/b"], ["a//b"], ["/a"], ["a/.."], ["a", "a"]])
def test_names_that_hdf5_cannot_hold_are_refused(names: list[str]) -> None:
    with pytest.raises(UsageError):
        hdf5.layout([(n, TensorSpec("F32", (1,))) for n in names], filename="x.h5")


def test_the_weights_of_deepcut_go_to_safetensors_and_back(tmp_path: Path) -> None:
    """Keras 2.0.2, weights only; real weights."""
    from safetensors.numpy import load_file

    path = oracles.real_package("deepcut", "0.7.0.0", "5c9a5fa34677")
    want = by_h5py(path)
    report = ckptkit.inspect(path)
    assert report.parameters == sum(a.size for a in want.values()) == 535_025 and report.findings == ()
    ckptkit.convert(path, tmp_path / "x.safetensors")
    same({n: np.asarray(a) for n, a in load_file(tmp_path / "x.safetensors").items()}, want)
    ckptkit.convert(tmp_path / "x.safetensors", tmp_path / "y.h5")
    same(by_h5py(tmp_path / "y.h5"), want)
    assert attributes(tmp_path / "y.h5") == attributes(path)
