"""HDF5: judged by h5py, in both directions; what leads out of a file, in circles or out of all proportion is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import h5py
import ml_dtypes
import numpy as np
import oracles
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ckptkit
from ckptkit.containers import hdf5, open_checkpoint
from ckptkit.containers.hdf5 import chunks
from ckptkit.errors import CheckpointError, CorruptError, LimitError, UnsafeError, UnsupportedError, UsageError
from ckptkit.tensors import TensorSpec

KERAS2 = oracles.FIXTURES / "containers" / "keras-2.3.1.h5"
Arrays = dict[str, np.ndarray]


def by_h5py(path: Path) -> Arrays:
    out: Arrays = {}
    with h5py.File(path, "r") as f:
        f.visititems(lambda name, o: out.__setitem__(name, o[()]) if isinstance(o, h5py.Dataset) else None)
    return {n: np.asarray(a) for n, a in out.items()}


def attributes(path: Path) -> dict[str, dict[str, object]]:
    """Every group's attributes, by h5py."""
    out: dict[str, dict[str, object]] = {}

    def note(name: str, o: h5py.Group) -> None:
        if not isinstance(o, h5py.Dataset):
            out[name] = {
                k: [x.decode() if isinstance(x, bytes) else x for x in v] if isinstance(v, np.ndarray) else v for k, v in o.attrs.items()
            }

    with h5py.File(path, "r") as f:
        note("", f)
        f.visititems(note)
    return out


def same(a: Arrays, b: Arrays) -> None:
    assert a.keys() == b.keys()
    for n in a:
        assert (a[n].shape, a[n].dtype) == (b[n].shape, b[n].dtype) and a[n].tobytes() == b[n].tobytes(), n


def mine(path: Path) -> Arrays:
    with open_checkpoint(path) as c:
        return {n: c.array(n) for n in c.tensors}


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


@pytest.fixture(scope="module")
def assorted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("h5") / "assorted.h5"
    rng = np.random.default_rng(0)
    a = rng.standard_normal((50, 30)).astype("f4")
    with h5py.File(path, "w") as f:
        f.create_dataset("gzip", data=a, compression="gzip", chunks=(7, 11))
        f.create_dataset("all_filters", data=a, compression="gzip", shuffle=True, fletcher32=True, chunks=(7, 11))
        f.create_dataset("odd_bytes", data=rng.integers(0, 255, 51).astype("u1"), fletcher32=True, chunks=(7,))
        f.create_dataset("lzf", data=a, compression="lzf")
        f.create_dataset("rows", data=a, chunks=(8, 30))
        f.create_dataset("tiles", data=a, chunks=(8, 8))
        f.create_dataset("zeros", data=np.zeros((100, 100), "f4"), compression="gzip")
        f.create_dataset("partly", shape=(30, 4), chunks=(4, 4), dtype="f4", fillvalue=2.5)[5:7] = 1
        f.create_dataset("never", shape=(3, 4), dtype="f4", fillvalue=-1)
        for name, x in (
            ("bool", np.array([True, False])),
            ("c8", np.arange(6).astype("c8")),
            ("c16", np.arange(6).astype("c16")),
            ("empty", np.zeros((0, 4), "f4")),
        ):
            f[name] = x
        for dtype in ("f2", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8"):
            f[f"numbers/{dtype}"] = np.arange(5).astype(dtype)
        f["scalar"] = np.int64(-3)
    return path


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


# ---------------------------------------------------------------------------------------------- what is refused


def virtual(f: h5py.File) -> None:
    v = h5py.VirtualLayout((4,), "f4")
    v[:] = h5py.VirtualSource("other.h5", "x", (4,))
    f.create_virtual_dataset("x", v)


HOSTILE = {
    "an external link": (lambda f: f.__setitem__("x", h5py.ExternalLink("other.h5", "/x")), UnsafeError, "another file"),
    "external storage": (lambda f: f.create_dataset("x", (4,), "f4", external=[("secret", 0, 16)]), UnsafeError, "other files"),
    "a virtual dataset": (virtual, UnsafeError, "virtual"),
    "soft links in a circle": (lambda f: [f.__setitem__("a", h5py.SoftLink("/b")), f.__setitem__("b", h5py.SoftLink("/a"))], CorruptError,
        "circle"),
    "a soft link to itself": (lambda f: f.__setitem__("a", h5py.SoftLink("a")), CorruptError, "circle"),
    "a bomb of one chunk": (lambda f: f.create_dataset("x", data=np.zeros(1 << 20, "f4"), chunks=(1 << 20,), compression="gzip"),
        LimitError,
            "over the limit unpack_ratio=100"),
    "a bomb of many chunks": (lambda f: f.create_dataset("x", data=np.zeros(1 << 20, "f4"), chunks=(1 << 14,), compression="gzip"),
        LimitError,
            "over the limit unpack_ratio=100"),
    "what was never written": (lambda f: f.create_dataset("x", (1 << 40,), "f4"), LimitError, "over the limit unpack_ratio=100"),
    "chunks that were never written": (lambda f: f.create_dataset("x", (1 << 40,), "f4", chunks=(4,)), LimitError,
        "over the limit unpack_ratio=100"),
    "a chunk larger than its data": (lambda f: f.create_dataset("x", data=np.ones(4, "f4"), maxshape=(None,), chunks=(1 << 22,),
        compression="gzip"), LimitError,
            "over the limit unpack_ratio=100"),
    "records": (lambda f: f.create_dataset("x", data=np.zeros(2, [("a", "f4"), ("b", "i4")])), UnsupportedError, "records"),
    "references": (lambda f: f.create_dataset("x", data=f.ref, dtype=h5py.ref_dtype), UnsupportedError, "references"),
}  # fmt: skip


@pytest.mark.parametrize("case", HOSTILE)
@pytest.mark.parametrize("libver", ["earliest", "latest"])
def test_what_leads_out_or_grows_is_refused(tmp_path: Path, case: str, libver: str) -> None:
    make, error, words = HOSTILE[case]
    with h5py.File(tmp_path / "x.h5", "w", libver=libver) as f:
        f["good"] = np.ones(3)
        make(f)  # type: ignore[no-untyped-call, operator]
    with pytest.raises(error, match=words):
        open_checkpoint(tmp_path / "x.h5")


def test_a_damaged_chunk_is_refused_when_it_is_read(assorted: Path, tmp_path: Path) -> None:
    raw = bytearray(assorted.read_bytes())
    with h5py.File(assorted) as f:
        info = f["all_filters"].id.get_chunk_info(0)
    raw[info.byte_offset + 5] ^= 1
    (tmp_path / "x.h5").write_bytes(raw)
    with open_checkpoint(tmp_path / "x.h5") as c, pytest.raises(CorruptError, match="all_filters"):
        c.array("all_filters")


def test_a_chunk_never_unpacks_to_more_than_its_shape() -> None:
    import zlib

    with pytest.raises(CorruptError, match="more than the 100 bytes"):
        chunks.unpack(zlib.compress(bytes(1 << 20)), ((1, ()),), 0, 100, "the chunk", "x")
    with pytest.raises(CorruptError, match="needs 100"):
        chunks.unpack(zlib.compress(bytes(99)), ((1, ()),), 0, 100, "the chunk", "x")


@pytest.mark.parametrize("case", oracles.hostile_cases("hdf5", "keras", "npz", "flax"), ids=lambda c: c["id"])
def test_the_hostile_cases(case: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    canary = tmp_path / "canary"
    monkeypatch.setenv("CKPTKIT_CANARY", str(canary))
    try:
        findings = [f.severity for f in ckptkit.validate(str(case["path"])).findings if f.rule != "unknown"]
    except CheckpointError as e:
        assert case["expect"] != "accept", str(e)
        assert "\n" not in str(e)
    else:
        assert case["expect"] != "reject"
        assert case["expect"] != "warn" or {"warning", "error"} & set(findings)
        assert case["expect"] != "accept" or not findings
    assert not canary.exists()


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    folder = tmp_path_factory.mktemp("small")
    out = []
    for libver in ("earliest", "latest"):
        with h5py.File(folder / "x.h5", "w", libver=libver) as f:
            f["a/b"] = np.ones((2, 3))
            f.create_dataset(
                "gz", data=np.arange(300, dtype="f4").reshape(30, 10), compression="gzip", shuffle=True, fletcher32=True, chunks=(7, 4)
            )
            f.attrs["x"] = ["a", "b"]
            f["soft"] = h5py.SoftLink("/a/b")
            for i in range(12):
                f[f"g/{i}"] = np.int8(i)
        out.append((folder / "x.h5").read_bytes())
    return out


@settings(max_examples=80, deadline=None)
@given(data=st.data())
def test_a_damaged_file_costs_an_error_and_nothing_else(
    data: st.DataObject, small: list[bytes], tmp_path_factory: pytest.TempPathFactory
) -> None:
    raw = bytearray(data.draw(st.sampled_from(small)))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(raw) - 8))
        raw[at : at + 8] = data.draw(
            st.one_of(st.binary(min_size=8, max_size=8), st.integers(0, len(raw)).map(lambda n: n.to_bytes(8, "little")))
        )[: data.draw(st.sampled_from([1, 4, 8]))].ljust(8, b"\0")
    path = tmp_path_factory.getbasetemp() / "damaged.h5"
    path.write_bytes(raw)
    try:
        with open_checkpoint(path) as c:
            for n in [n for n, t in c.tensors.items() if t.spec.nbytes < 1 << 20][:30]:
                c.array(n)
    except CheckpointError as e:
        assert "\n" not in str(e)


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


def test_a_long_attribute_of_too_many_texts_is_refused_before_they_are_made(tmp_path: Path) -> None:
    import tracemalloc

    from ckptkit.errors import LimitError

    path = tmp_path / "m.h5"
    with h5py.File(path, "w", libver="latest") as f:  # such a file keeps long attributes in a heap of their own
        f.create_group("a").attrs.create("weight_names", np.zeros(3_000_000, "S1"))
        f["x"] = np.zeros(3, "f4")
    tracemalloc.start()
    with pytest.raises(LimitError, match="number of texts in the attributes is 3,000,000"):
        open_checkpoint(str(path))
    assert tracemalloc.get_traced_memory()[1] < 2 << 20
    tracemalloc.stop()
