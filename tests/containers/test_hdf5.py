"""Reading HDF5, judged by h5py."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import h5py
import ml_dtypes
import numpy as np
import pytest
from hdf5_files import KERAS2, attributes, by_h5py, mine, same

import ckptkit
from ckptkit.containers import open_checkpoint
from ckptkit.errors import CorruptError, UnsupportedError

# ---------------------------------------------------------------------------------------------- reading


def test_a_model_of_keras_2_is_read_as_h5py_reads_it() -> None:
    same(mine(KERAS2), by_h5py(KERAS2))
    with open_checkpoint(KERAS2) as c:
        assert c.metadata["hdf5:keras_version"] == "2.3.1" and json.loads(c.metadata["hdf5:model_config"])["class_name"] == "Model"
        said = attributes(KERAS2)
        layers = said["model_weights"]["layer_names"]
        names = {x: said[f"model_weights/{x}"]["weight_names"] for x in layers}  # type: ignore[attr-defined]
        listed = [f"model_weights/{x}/{w}" for x in layers for w in names[x]]
        assert list(c.tensors) == listed  # the model's order, not that of the file's tables
        assert all(len(t.extents) == 1 for t in c.tensors.values())


@pytest.mark.parametrize(
    "kind", [{}, {"libver": "earliest"}, {"libver": "latest"}, {"libver": "v108"}, {"libver": "v110"}, {"track_order": True}]
)
@pytest.mark.parametrize("n", [3, 9, 300])
def test_groups_and_attributes_of_every_version_of_the_format(tmp_path: Path, kind: dict[str, object], n: int) -> None:
    path = tmp_path / "x.h5"
    if isinstance(kind.get("libver"), str) and kind["libver"] not in ("earliest", "latest"):
        kind = {"libver": (kind["libver"], kind["libver"])}
    with h5py.File(path, "w", **kind) as f:
        for i in range(n):
            f[f"g{i % 7}/layer_{i}/w"] = np.full((2, 3), i, "f4")
        for i in range(min(n, 60)):
            f.attrs[f"attr{i}"] = f"wert {i} ü"
        f.attrs["layer_names"] = np.array([b"abc", b"de"])
        f.attrs["others"] = ["x", "yy"]
    same(mine(path), by_h5py(path))
    with open_checkpoint(path) as c:
        assert [c.metadata[f"hdf5:attr{i}"] for i in range(min(n, 60))] == [f"wert {i} ü" for i in range(min(n, 60))]
        root = json.loads(c.metadata["hdf5:groups"])[""]
        assert root["layer_names"] == ["abc", "de"] and root["others"] == ["x", "yy"]


def test_every_type_and_every_kind_of_storage_is_read_as_h5py_reads_it(assorted: Path) -> None:
    same(mine(assorted), by_h5py(assorted))
    with open_checkpoint(assorted) as c:
        found = {n: (len(t.extents), t.read is None) for n, t in c.tensors.items()}
        assert found["rows"] == (7, True) and found["tiles"] == (0, False) and found["scalar"] == (1, True)
        assert sorted(f.where for f in c.findings) == ["never", "partly"]


def test_bfloat16_is_what_keras_marks_as_such(tmp_path: Path) -> None:
    values = np.arange(6).astype(ml_dtypes.bfloat16)
    with h5py.File(tmp_path / "a.h5", "w") as f:
        f.create_dataset("vars/0", data=values).attrs["dtype"] = "bfloat16"
    same(mine(tmp_path / "a.h5"), {"vars/0": values})
    ckptkit.convert(tmp_path / "a.h5", tmp_path / "b.h5")
    with h5py.File(tmp_path / "b.h5") as f:
        assert f["vars/0"].attrs["dtype"] == "bfloat16"
        np.testing.assert_array_equal(np.array(f["vars/0"], dtype=ml_dtypes.bfloat16), values)


def test_bfloat16_that_keras_2_leaves_unmarked_is_read_and_said(tmp_path: Path) -> None:
    values = {
        "a/a/kernel:0": np.arange(6).astype(ml_dtypes.bfloat16),
        "a/a/bias:0": np.ones(3).astype(ml_dtypes.bfloat16),
        "b/b/kernel:0": np.ones(2, "f4"),
    }
    with h5py.File(tmp_path / "a.h5", "w") as f:
        for n, v in values.items():
            f[n] = v  # as tf_keras saves it
    same(mine(tmp_path / "a.h5"), values)
    with open_checkpoint(tmp_path / "a.h5") as c:
        assert [(f.severity, f.where) for f in c.findings] == [("warning", "a/a/bias:0")]
    with h5py.File(tmp_path / "b.h5", "w") as f:
        f["x"] = np.zeros(2, "V1")  # of one byte there are several
    with pytest.raises(UnsupportedError, match="opaque elements of 1"):
        open_checkpoint(tmp_path / "b.h5")


@pytest.mark.parametrize("libver", ["earliest", "latest"])
def test_numbers_with_the_high_byte_first_are_turned(tmp_path: Path, libver: str) -> None:
    rng = np.random.default_rng(2)
    with h5py.File(tmp_path / "x.h5", "w", libver=libver) as f:
        for dtype in (">f4", ">f8", ">f2", ">i2", ">u8"):
            f[f"whole {dtype}"] = rng.normal(0, 50, (30, 7)).astype(dtype)
            for packed in (None, "gzip", "lzf"):
                f.create_dataset(f"{packed} {dtype}", data=rng.normal(0, 50, (30, 7)).astype(dtype), chunks=(4, 3), compression=packed)
        f["rows"] = np.arange(12, dtype=">i4").reshape(4, 3)
    with h5py.File(tmp_path / "x.h5") as f, open_checkpoint(tmp_path / "x.h5") as c:
        assert set(c.tensors) == set(f)
        assert [n for n in f if not np.array_equal(c.array(n), f[n][()]) or c.array(n).dtype != f[n].dtype.newbyteorder("<")] == []


@pytest.mark.parametrize("libver", ["earliest", "latest"])
@pytest.mark.parametrize("block", [512, 4096])
def test_a_file_behind_a_block_of_the_users_own(tmp_path: Path, libver: str, block: int) -> None:
    array = np.arange(60, dtype="f4").reshape(6, 10)
    with h5py.File(tmp_path / "x.h5", "w", libver=libver, userblock_size=block) as f:
        f["g/whole"] = array
        f.create_dataset("packed", data=array, chunks=(4, 3), compression="gzip")
        f.create_dataset("other", data=array, chunks=(4, 3), compression="lzf")
    raw = bytearray((tmp_path / "x.h5").read_bytes())
    raw[:20] = b"#!/usr/bin/env notes"
    (tmp_path / "x.h5").write_bytes(raw)
    with open_checkpoint(tmp_path / "x.h5") as c:
        assert set(c.tensors) == {"g/whole", "packed", "other"} and all(np.array_equal(c.array(n), array) for n in c.tensors)
    (tmp_path / "cut.h5").write_bytes(raw[:-8])
    with pytest.raises(CorruptError, match="truncated"):
        open_checkpoint(tmp_path / "cut.h5")


def test_attributes_longer_than_a_heap_s_blocks_are_read(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5", "w", libver="latest") as f:
        f["x"] = np.ones(3)
        for i in range(12):
            f.attrs[f"short{i}"] = "word"
        f.attrs["long"] = np.bytes_(b"ab" * 40000)
        f.attrs["longer"] = np.bytes_(b"xyz" * 50000)
    with open_checkpoint(tmp_path / "x.h5") as c:
        assert (
            c.metadata["hdf5:long"] == "ab" * 40000 and c.metadata["hdf5:longer"] == "xyz" * 50000 and c.metadata["hdf5:short7"] == "word"
        )


def test_links_are_further_names_of_one_tensor(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as f:
        f["a/w"] = np.ones((2, 3), "f4")
        f["b"] = f["a/w"]
        f["c/soft"] = h5py.SoftLink("../c/../a/w")
        f["c/plain"] = h5py.SoftLink("/a/w")
        f["circle"] = f["/"]
    with open_checkpoint(path) as c:
        assert sorted(c.tensors) == ["a/w", "b", "c/plain"]
        assert len({t.identity for t in c.tensors.values()}) == 1
        assert {f.where for f in c.findings} == {"circle", "c/soft"}
    ckptkit.convert(path, tmp_path / "y.h5")
    with h5py.File(tmp_path / "y.h5") as f:
        assert f["b"].id.get_offset() == f["a/w"].id.get_offset() == f["c/plain"].id.get_offset()


def test_neither_h5py_nor_numpy_is_imported_to_inspect(tmp_path: Path) -> None:
    program = (
        f"import sys, ckptkit; ckptkit.inspect({str(KERAS2)!r}); print(sorted({{'h5py', 'numpy', 'keras', "
        f"'tensorflow'}} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=Path(ckptkit.__file__).parents[1]
    )
    assert done.stdout.strip() == "[]"


def test_without_h5py_the_message_names_the_extra(assorted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *a: None)
    with open_checkpoint(assorted) as c:
        assert c.array("all_filters").shape == (50, 30)
        with pytest.raises(UnsupportedError, match="lzf is packed in a way that only h5py unpacks") as e:
            c.array("lzf")
    assert "hdf5" in str(e.value.hint)


def test_shards_whose_index_gives_the_names_that_transformers_gave_them(tmp_path: Path) -> None:
    weights = {
        "tf_bert/bert/word/weight:0": np.ones((3, 2), "f4"),
        "tf_bert/bert/norm/gamma:0": np.zeros(2, "f4"),
        "top:0": np.ones(1, "f4"),
    }
    for i, (name, a) in enumerate(weights.items(), 1):
        with h5py.File(tmp_path / f"tf_model-0000{i}-of-00003.h5", "w") as f:
            f.create_dataset(name.partition("/")[2] or name, data=a)
    index = {"metadata": {"total_size": 36}, "weight_map": {n: f"tf_model-0000{i}-of-00003.h5" for i, n in enumerate(weights, 1)}}
    (tmp_path / "tf_model.h5.index.json").write_text(json.dumps(index))
    got = mine(tmp_path)
    same(got, {n.removeprefix("tf_bert/"): a for n, a in weights.items()})
    assert ckptkit.inspect(tmp_path).findings == ()


def test_a_weight_that_keras_lists_and_the_file_lacks_is_an_error(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as f:
        f.attrs["layer_names"] = np.array([b"dense"])
        f["dense/kernel:0"] = np.ones(3)
        f["dense"].attrs["weight_names"] = np.array([b"kernel:0", b"bias:0"])
    found = ckptkit.validate(tmp_path / "x.h5").findings
    assert [(f.severity, f.where) for f in found if f.rule != "unknown"] == [("error", "dense/bias:0")]


def test_a_file_and_its_safetensors_twin_have_one_digest(tmp_path: Path, assorted: Path) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as f, h5py.File(assorted) as g:
        for name in ("gzip", "rows", "tiles"):
            g.copy(name, f)
    ckptkit.convert(tmp_path / "x.h5", tmp_path / "x.safetensors")
    assert ckptkit.digest(tmp_path / "x.h5") == ckptkit.digest(tmp_path / "x.safetensors")
    assert ckptkit.diff(tmp_path / "x.h5", tmp_path / "x.safetensors").exit_code == 0
