"""Folders of numpy's `.npy` files, one array each, and a single such file.

Source: numpy/lib/format.py, read by `npy_header`. A tensor's name is the file's path in the folder without `.npy`, "/" between its parts,
or for a single file its name. Only plain files are taken: a link could lead out of the folder.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from .. import store
from ..errors import UsageError, printable
from ..limits import LIMITS
from ..tensors import StoredTensor, TensorSpec
from ._interface import FOLDERS, NOTHING, Checkpoint, FileLayout, Inside, Part, Slot

NAME = "npy"
TITLE = "numpy arrays (.npy), one or a folder of them"
GENERAL = True  # a folder of arrays may be a form of its own: whoever knows more of it comes first
SUFFIXES: tuple[str, ...] = (".npy",)
MARKS = (".npy", FOLDERS)
DEFAULT_FILE = "model"
WRITABLE = True
TIES = False
SINGLE = False
STRINGS = False

_LOOK = 2000  # entries that are looked at to find out whether a folder holds arrays


def sniff(head: bytes, tail: bytes, path: str) -> bool:
    """numpy's signature."""
    return head.startswith(b"\x93NUMPY")


def find(directory: str, names: Sequence[str]) -> list[tuple[int, str]]:
    """The folder itself, if it (60) or folders in it that hold nothing else (62) hold .npy files: whatever is meant to be a checkpoint
    comes before."""
    if any(n.endswith(SUFFIXES) for n in names):
        return [(60, directory)]
    seen = found = 0
    todo = [os.path.join(directory, n) for n in names]
    for depth in range(LIMITS.folders):
        below: list[str] = []
        for path in todo:
            if path.endswith(SUFFIXES):
                found += 1
            elif store.is_folder(path) and not store.is_link(path):
                try:
                    below += [os.path.join(path, n) for n in store.listdir(path)]
                except OSError:  # a folder that may not be looked into
                    return []
            elif depth:
                return []
            seen += 1
            if seen > _LOOK:
                return [(62, directory)] if found else []
        todo = below
    return [(62, directory)] if found else []


def prefix(path: str) -> str | None:
    """Files and folders are named in full."""
    return None


def open(path: str) -> Checkpoint:
    """The arrays of a folder, or the one of a file; only headers are read. Raises CorruptError, UnsupportedError, LimitError."""
    from ._wire.npy_array import stored_array
    from ._wire.npy_header import MAX_HEADER, header

    files = _files(path) if store.is_folder(path) else {os.path.basename(path).removesuffix(".npy") or "0": path}
    tensors: dict[str, StoredTensor] = {}
    for name, file in files.items():
        blob = store.open_blob(file)
        try:
            h = header(blob.pread(MAX_HEADER + 12, 0), blob.size, file, swapped=True)
        finally:
            blob.close()
        tensors[name] = stored_array(name, h, file, h.start)
    return Checkpoint(path, NAME, tensors, files=tuple(files.values()))


def _files(folder: str) -> dict[str, str]:
    """The .npy files of a folder and of those in it, by name."""
    out: dict[str, str] = {}
    todo = [("", folder, 0)]
    while todo:
        base, at, depth = todo.pop(0)
        for name, below, regular in sorted(store.entries(at)):
            if name.endswith(SUFFIXES) and regular:
                out[base + name.removesuffix(".npy")] = os.path.join(at, name)
                if len(out) > LIMITS.tensors:
                    LIMITS.check("tensors", len(out), "the number of arrays", folder)
            elif below:
                if depth >= LIMITS.folders:
                    LIMITS.refuse("folders", f"its folders are nested deeper at {printable(base + name)}", folder)
                todo.append((f"{base}{name}/", os.path.join(at, name), depth + 1))
    return out


def layout(
    tensors: Sequence[tuple[str, TensorSpec]],
    *,
    filename: str,
    ties: Mapping[str, str] = {},
    inside: Inside = NOTHING,
    max_shard_size: int | None = None,
) -> FileLayout:
    """A file for each tensor, in folders as its name says. numpy has no ties, metadata or text: they are left out."""
    from ._wire.npy_header import write_header

    files: list[tuple[str, int]] = []
    parts: list[Part] = []
    slots: dict[str, Slot] = {}
    taken: set[str] = set()
    for name, spec in tensors:
        if name in ties:
            continue
        steps = name.split("/")
        if name in slots or not all(s and s.strip(".") and "\0" not in s and len(s.encode()) < 250 for s in steps) or name.lower() in taken:
            raise UsageError(
                f"no file can be named after the tensor {name!r}" if name not in slots else f"two tensors are to be written as {name!r}"
            )
        taken.add(name.lower())
        head = write_header(spec)
        slots[name] = Slot(len(files), len(head), spec.nbytes)
        parts.append(Part(len(files), 0, head))
        files.append((f"{name}.npy", len(head) + spec.nbytes))
    LIMITS.check("shards", len(files), "the number of files")
    return FileLayout(NAME, tuple(files), slots, tuple(parts))


def finish(layout: FileLayout, crcs: Mapping[str, int]) -> tuple[Part, ...]:
    """Nothing here depends on the weights."""
    return ()
