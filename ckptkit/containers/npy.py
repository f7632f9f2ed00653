"""Folders of numpy's `.npy` files, one array each, and a single such file.

Source: numpy/lib/format.py, read by `_npy`. A tensor's name is the file's path in the folder without `.npy`, "/" between its parts, or for
a single file its name. Only plain files are taken: a link could lead out of the folder.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from math import prod

from ..errors import CheckpointError, UnsupportedError
from ..limits import LIMITS
from ..tensors import Extent, StoredTensor, TensorSpec
from ._base import Checkpoint, FileLayout, Part, open_fd

NAME = "npy"
TITLE = "numpy arrays (.npy), one or a folder of them"
SUFFIXES: tuple[str, ...] = (".npy",)
DEFAULT_FILE = "model"
WRITABLE = False
TIES = False
SINGLE = False
STRINGS = False

_DEPTH = 16


def sniff(head: bytes, tail: bytes, path: str) -> bool:
    """numpy's signature."""
    return head.startswith(b"\x93NUMPY")


def find(directory: str, names: Sequence[str]) -> list[tuple[int, str]]:
    """The folder itself, if it holds .npy files (60): anything that is meant to be a checkpoint comes before it."""
    return [(60, directory)] if any(n.endswith(SUFFIXES) for n in names) else []


def prefix(path: str) -> str | None:
    """Files and folders are named in full."""
    return None


def open(path: str) -> Checkpoint:
    """The arrays of a folder, or the one of a file; only headers are read. Raises CorruptError, UnsupportedError, LimitError."""
    from ._npy import MAX_HEADER, header

    files = _files(path) if os.path.isdir(path) else {os.path.basename(path).removesuffix(".npy") or "0": path}
    LIMITS.check("tensors", len(files), "the number of arrays", path)
    tensors: dict[str, StoredTensor] = {}
    for name, file in files.items():
        fd = open_fd(file)
        try:
            h = header(os.pread(fd, MAX_HEADER + 12, 0), os.fstat(fd).st_size, file)
        finally:
            os.close(fd)
        shape = h.spec.shape
        strides = tuple(prod(shape[:i]) for i in range(len(shape))) if h.fortran and len(shape) > 1 else None
        tensors[name] = StoredTensor(name, h.spec, (Extent(file, h.start, h.spec.nbytes),), strides)
    return Checkpoint(path, NAME, tensors, files=tuple(files.values()))


def _files(folder: str) -> dict[str, str]:
    """The .npy files of a folder and of those in it, by name."""
    out: dict[str, str] = {}
    todo = [("", folder, 0)]
    while todo:
        base, at, depth = todo.pop(0)
        with os.scandir(at) as entries:
            listed = sorted(entries, key=lambda e: e.name)
        for e in listed:
            if e.name.endswith(SUFFIXES) and e.is_file(follow_symlinks=False):
                out[base + e.name.removesuffix(".npy")] = e.path
            elif e.is_dir(follow_symlinks=False):
                if depth >= _DEPTH:
                    raise CheckpointError(f"its folders are nested more than {_DEPTH} deep", path=folder)
                todo.append((f"{base}{e.name}/", e.path, depth + 1))
    return out


def layout(
    tensors: Sequence[tuple[str, TensorSpec]],
    *,
    filename: str,
    ties: Mapping[str, str] = {},
    metadata: Mapping[str, str] = {},
    extras: Mapping[str, object] = {},
    wrapper: str = "",
    strings: Mapping[str, Sequence[bytes]] = {},
    max_shard_size: int | None = None,
) -> FileLayout:
    raise UnsupportedError("not yet")


def finish(layout: FileLayout, crcs: Mapping[str, int]) -> tuple[Part, ...]:
    """Nothing here depends on the weights."""
    return ()
