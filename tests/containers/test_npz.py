"""numpy's archives and folders of arrays: numpy writes and reads the other side."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import oracles
import pytest

import ckptkit
from ckptkit.containers import npy, npz, open_checkpoint
from ckptkit.errors import CheckpointError, CorruptError, LimitError, UnsupportedError, UsageError
from ckptkit.support import crc32
from ckptkit.tensors import TensorSpec

Arrays = dict[str, np.ndarray]
RNG = np.random.default_rng(0)
ARRAYS: Arrays = {
    "bert/kernel:0": RNG.standard_normal((40, 30)).astype("f4"), "half": np.arange(6).astype("f2"), "scalar": np.array(3),
    "empty": np.zeros((0, 2)),
    "turned": np.asfortranarray(RNG.standard_normal((5, 7))), "flags": np.array([True, False]), "c": np.arange(4).astype("c8"),
}  # fmt: skip


def mine(path: Path) -> Arrays:
    with open_checkpoint(path) as c:
        return {n: c.array(n) for n in c.tensors}


def same(a: Arrays, b: Arrays) -> None:
    assert a.keys() == b.keys()
    for n in a:
        assert (a[n].shape, a[n].dtype) == (b[n].shape, b[n].dtype) and a[n].tobytes() == b[n].tobytes(), n


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_archives_of_numpy_are_read_and_come_back(tmp_path: Path, save: object) -> None:
    save(tmp_path / "x.npz", **ARRAYS)  # type: ignore[operator]
    same(mine(tmp_path / "x.npz"), ARRAYS)
    assert [f.rule for f in ckptkit.validate(tmp_path / "x.npz").findings if f.severity != "info"] == ["unknown"]  # the checksums too
    ckptkit.convert(tmp_path / "x.npz", tmp_path / "y.npz")
    with np.load(tmp_path / "y.npz") as z:
        same({n: z[n] for n in z.files}, ARRAYS)
    assert zipfile.ZipFile(tmp_path / "y.npz").testzip() is None
    with open_checkpoint(tmp_path / "y.npz") as c:
        assert all(t.extents[0].offset % 64 == 0 for t in c.tensors.values())


def test_folders_are_read_and_written(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", **ARRAYS)
    ckptkit.convert(tmp_path / "x.npz", tmp_path / "out", container="npy")
    same({n: np.load(tmp_path / "out" / f"{n}.npy") for n in ARRAYS}, ARRAYS)
    same(mine(tmp_path / "out"), ARRAYS)
    same(mine(tmp_path / "out" / "half.npy"), {"half": ARRAYS["half"]})
    (tmp_path / "deep" / "er").mkdir(parents=True)
    np.save(tmp_path / "deep" / "er" / "w.npy", ARRAYS["half"])
    (tmp_path / "deep" / "link.npy").symlink_to(tmp_path / "out" / "half.npy")
    same(mine(tmp_path / "deep"), {"er/w": ARRAYS["half"]})


def zipped(path: Path, entries: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", method) as z:
        for name, raw in entries.items():
            z.writestr(name, raw)
    return path


def npy_bytes(a: np.ndarray) -> bytes:
    out = io.BytesIO()
    np.save(out, a, allow_pickle=True)
    return out.getvalue()


def test_what_is_no_archive_of_arrays_is_refused(tmp_path: Path) -> None:
    good = npy_bytes(np.ones(3))
    cases = {
        "objects": ({"a.npy": npy_bytes(np.array([None, {}], object))}, UnsupportedError, "Python objects"),
        "no array": ({"a.npy": good, "readme.txt": b"x"}, UnsupportedError, "readme.txt"),
        "outside": ({"../a.npy": good}, CorruptError, "leads out"),
        "cut": ({"a.npy": good[:-1]}, CorruptError, "truncated"),
        "nothing": ({}, UnsupportedError, "no arrays"),
    }
    for case, (entries, error, words) in cases.items():
        with pytest.raises(error, match=words):
            open_checkpoint(zipped(tmp_path / f"{case}.npz", entries))


def test_a_deflated_array_is_never_unpacked_to_more_than_it_is_said_to_be(tmp_path: Path) -> None:
    with pytest.raises(LimitError, match="over the limit unpack_ratio=100"):
        open_checkpoint(zipped(tmp_path / "bomb.npz", {"a.npy": npy_bytes(np.zeros(1 << 19))}, zipfile.ZIP_DEFLATED))
    raw = bytearray(zipped(tmp_path / "lie.npz", {"a.npy": npy_bytes(np.zeros(4000))}, zipfile.ZIP_DEFLATED).read_bytes())
    fewer = npy_bytes(np.zeros(1000))
    for at in (raw.find((32128).to_bytes(4, "little")), raw.rfind((32128).to_bytes(4, "little"))):
        raw[at : at + 4] = len(fewer).to_bytes(4, "little")
    (tmp_path / "lie.npz").write_bytes(raw)
    with pytest.raises(CheckpointError), open_checkpoint(tmp_path / "lie.npz") as c:
        c.array("a")
    raw = bytearray(zipped(tmp_path / "hurt.npz", {"a.npy": npy_bytes(RNG.standard_normal(400))}, zipfile.ZIP_DEFLATED).read_bytes())
    raw[1500] ^= 1
    (tmp_path / "hurt.npz").write_bytes(raw)
    with pytest.raises(CorruptError, match="damaged"), open_checkpoint(tmp_path / "hurt.npz") as c:
        c.array("a")


def test_what_numpy_cannot_hold_is_refused() -> None:
    for module in (npz, npy):
        with pytest.raises(UnsupportedError, match="BF16"):
            module.layout([("x", TensorSpec("BF16", (1,)))], filename="x")
        for name in ("", "../x", "a//b", "a\0"):
            with pytest.raises(UsageError):
                module.layout([(name, TensorSpec("F32", (1,)))], filename="x")


def test_checksums_of_pieces_make_that_of_the_whole() -> None:
    import zlib

    for n, m in ((0, 0), (5, 0), (0, 5), (3, 70_000), (1 << 16, 1)):
        a, b = RNG.bytes(n), RNG.bytes(m)
        assert crc32.combine(zlib.crc32(a), zlib.crc32(b), m) == zlib.crc32(a + b)


def test_the_weights_of_g2p_go_to_safetensors_and_back(tmp_path: Path) -> None:
    """Real weights, saved by numpy."""
    from safetensors.numpy import load_file

    path = oracles.real_package("g2p-en", "2.1.0", "b8af35e4596d")
    with np.load(path) as z:
        want = {n: z[n] for n in z.files}
    assert len(want) == 12 and ckptkit.inspect(path).total == 12
    ckptkit.convert(path, tmp_path / "x.safetensors")
    same(load_file(tmp_path / "x.safetensors"), want)
    ckptkit.convert(tmp_path / "x.safetensors", tmp_path / "y.npz")
    with np.load(tmp_path / "y.npz") as z:
        same({n: z[n] for n in z.files}, want)


def test_what_lies_beside_a_folder_of_arrays_is_found(tmp_path: Path) -> None:
    ckptkit.convert(oracles.made("bert-google"), tmp_path / "out", container="npy")
    found = ckptkit.inspect(tmp_path / "out")
    assert found.architecture == "bert" and found.config == str(tmp_path / "out" / "bert_config.json")
    ckptkit.convert(tmp_path / "out", tmp_path / "hf", to="hf")
    assert (tmp_path / "hf" / "vocab.txt").exists()
