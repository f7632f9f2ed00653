"""HDF5 files that lead out of themselves, in circles or out of all proportion, and damaged ones, are refused."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import oracles
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ckptkit
from ckptkit.containers import open_checkpoint
from ckptkit.containers.hdf5 import chunks
from ckptkit.errors import CheckpointError, CorruptError, LimitError, UnsafeError, UnsupportedError

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
