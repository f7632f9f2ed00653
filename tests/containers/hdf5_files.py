"""What the tests of HDF5 share: files of every kind, and h5py's reading of them."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import oracles
import pytest

from ckptkit.containers import open_checkpoint

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
