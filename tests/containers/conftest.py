"""Fixtures that several tests of containers share."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest


@pytest.fixture(scope="module")
def assorted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with every type and every kind of storage."""
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
