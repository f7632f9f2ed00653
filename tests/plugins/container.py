"""A line of JSON that says where each tensor lies, then the tensors: what a format of one's own may be like."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence

from ..errors import CorruptError
from ..tensors import DTYPES, Extent, StoredTensor, TensorSpec
from ._interface import NOTHING, Checkpoint, FileLayout, Inside, Part, Slot

NAME = "plain"
TITLE = "plain (a line of JSON, then the tensors)"
SUFFIXES: tuple[str, ...] = (".plain",)
DEFAULT_FILE = "model.plain"
WRITABLE = True
TIES = False
SINGLE = True
STRINGS = False

_START = b'{"plain": '


def sniff(head: bytes, tail: bytes, path: str) -> bool:
    """How the first line begins."""
    return head.startswith(_START)


def find(directory: str, names: Sequence[str]) -> list[tuple[int, str]]:
    """Any file of that suffix."""
    return [(30, os.path.join(directory, n)) for n in names if n.endswith(SUFFIXES)]


def prefix(path: str) -> str | None:
    """Files are named in full."""
    return None


def open(path: str) -> Checkpoint:
    """The tensors that the first line lists. Raises CorruptError."""
    import builtins

    with builtins.open(path, "rb") as f:
        line = f.readline(1 << 20)
        size = f.seek(0, os.SEEK_END)
    tensors = {}
    try:
        for name, (dtype, shape, at) in json.loads(line)["plain"].items():
            spec = TensorSpec(dtype if dtype in DTYPES else "", tuple(shape))
            tensors[name] = StoredTensor(name, spec, (Extent(path, len(line) + at, spec.nbytes),))
            if len(line) + at + spec.nbytes > size:
                raise CorruptError(f"{name} ends after the file", path=path)
    except (ValueError, KeyError, TypeError):
        raise CorruptError("its first line is no list of tensors", path=path) from None
    return Checkpoint(path, NAME, tensors, files=(path,))


def layout(
    tensors: Sequence[tuple[str, TensorSpec]],
    *,
    filename: str,
    ties: Mapping[str, str] = {},
    inside: Inside = NOTHING,
    max_shard_size: int | None = None,
) -> FileLayout:
    """One file, the tensors in their order."""
    listed, at = {}, 0
    for name, spec in tensors:
        listed[name] = (spec.dtype, spec.shape, at)
        at += spec.nbytes
    line = json.dumps({"plain": listed}).encode() + b"\n"
    slots = {n: Slot(0, len(line) + listed[n][2], s.nbytes) for n, s in tensors}
    return FileLayout(NAME, ((filename, len(line) + at),), slots, (Part(0, 0, line),))


def finish(layout: FileLayout, crcs: Mapping[str, int]) -> tuple[Part, ...]:
    """Nothing depends on the weights."""
    return ()
