"""numpy's files as numpy reads them: numbers with their high byte first, names in the old code page of zips. Held against numpy.load."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

import ckptkit
from ckptkit.errors import CheckpointError

DTYPES = [">f2", ">f4", ">f8", ">i2", ">i4", ">i8", ">u2", ">u4", ">u8", ">c8", ">c16", "<f4", "|i1", "|b1"]


def arrays(order: str = "C") -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    shapes = [(), (3,), (4, 5), (2, 3, 4), (0, 3), (700, 601)]
    return {
        f"{d[1:]}.{k}": np.asarray(rng.standard_normal(s) * 50, order=order).astype(d, order=order)
        for d in DTYPES
        for k, s in enumerate(shapes)
    }  # type: ignore[call-overload]


@pytest.mark.parametrize("how", ["npz", "compressed", "npy"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_numbers_with_their_high_byte_first_are_read_as_numpy_reads_them(how: str, order: str, tmp_path: Path) -> None:
    held = arrays(order)
    if how == "npy":
        path = tmp_path / "folder"
        path.mkdir()
        for n, a in held.items():
            np.save(path / f"{n}.npy", a)
        theirs = {n: np.load(path / f"{n}.npy") for n in held}
    else:
        path = tmp_path / "m.npz"
        (np.savez if how == "npz" else np.savez_compressed)(path, **held)
        with np.load(path) as f:
            theirs = {n: f[n] for n in f.files}
    with ckptkit.open(path) as c:
        assert c.tensors.keys() == theirs.keys()
        for n, a in theirs.items():
            mine = c.array(n)
            assert mine.shape == a.shape and mine.dtype == a.dtype.newbyteorder("<") and mine.tobytes() == a.astype(mine.dtype).tobytes(), n
    ckptkit.convert(path, tmp_path / "out.npz", container="npz", force=True)
    with np.load(tmp_path / "out.npz") as f:
        assert all(np.array_equal(f[n], a) and f[n].dtype == a.dtype.newbyteorder("<") for n, a in theirs.items())


def test_big_endian_values_are_looked_at(tmp_path: Path) -> None:
    np.savez(tmp_path / "m.npz", w=np.array([1, np.nan], ">f4"))
    assert any(f.rule == "non-finite" or "NaN" in f.message for f in ckptkit.validate(tmp_path / "m.npz").findings)


def named(path: Path, raw: bytes, flag: int) -> Path:
    """An .npz whose entry has a name of these bytes, with or without the flag that says UTF-8."""
    array = io.BytesIO()
    np.save(array, np.arange(3, dtype="f4"))
    with zipfile.ZipFile(path, "w") as z:
        z.writestr("X" * len(raw), array.getvalue())
    data = bytearray(path.read_bytes().replace(b"X" * len(raw), raw))
    for magic, at in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        k = data.find(magic)
        data[k + at : k + at + 2] = flag.to_bytes(2, "little")
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("raw", ["é0.npy".encode(), b"w.npy", bytes(range(0x80, 0x100)) + b".npy"])
@pytest.mark.parametrize("flag", [0, 0x0800])
def test_names_in_a_zip_are_those_that_numpy_sees(raw: bytes, flag: int, tmp_path: Path) -> None:
    path = named(tmp_path / "m.npz", raw, flag)
    try:
        with np.load(path) as f:
            theirs = list(f.files)
    except UnicodeDecodeError:
        with pytest.raises(CheckpointError, match="not UTF-8"):
            ckptkit.open(path)
        return
    try:
        with ckptkit.open(path) as c:
            assert list(c.tensors) == theirs
    except CheckpointError as e:
        assert "leads out" in str(e) and not theirs[0].isprintable()
