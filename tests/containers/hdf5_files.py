"""What the tests of HDF5 share: files of every kind, and h5py's reading of them."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import oracles

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
