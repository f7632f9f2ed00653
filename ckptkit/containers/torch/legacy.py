"""PyTorch's form before 1.6: five pickles one after another, then the storages.

Source: `_legacy_load` and `_legacy_save` in `torch/serialization.py`: magic number, protocol version 1001, sys_info, the object, the
list of storage keys; then for each key an int64 number of elements and the elements. A storage may be declared as a view of another.
"""

from __future__ import annotations

import os

from ... import store
from ..._typing import Any
from ...errors import CheckpointError, CorruptError, UnsupportedError
from ...findings import Finding
from ...limits import LIMITS
from .._pickle import interpreter
from .._pickle.globals import Storage, StorageType
from .purpose import module_finding
from .state_dict import SIZES, Locate, Tree, read_tree, shown, storage_key

MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001


class Stream:
    """Pickles one after another in a file, of which no more is read than they need."""

    def __init__(self, blob: store.Blob, size: int, path: str) -> None:
        self.blob, self.size, self.path = blob, size, path
        self.at = 0
        self.base, self.data = 0, b""
        self.opaque: dict[str, None] = {}
        self.refused: dict[str, None] = {}
        self.calls: set[str] = set()
        self.storages: list[Any] = []  # of the last pickle

    def next(self) -> Any:
        """What the next pickle describes."""
        want = 1 << 20
        while True:
            if self.at - self.base >= len(self.data):
                self._fill(want)
            try:
                got = interpreter.load(self.data, self.at - self.base, self.size - self.base, self.path)
            except interpreter.Short:
                if len(self.data) >= LIMITS.pickle_bytes:
                    LIMITS.refuse("pickle_bytes", f"the pickle at byte {self.at} is longer", self.path)
                want *= 4
                self._fill(want)
                continue
            except CheckpointError as e:
                if not self.base:
                    raise
                raise type(e)(f"{e.message} (bytes counted from {self.base:,})", path=self.path, hint=e.hint) from None
            self.at = self.base + got.end
            self.storages = got.storages
            self.opaque.update(dict.fromkeys(got.opaque))
            self.refused.update(dict.fromkeys(got.refused))
            self.calls |= got.calls
            return got.value

    def _fill(self, want: int) -> None:
        self.base = self.at
        self.data = self.blob.pread(min(want, LIMITS.pickle_bytes), self.at)

    def findings(self) -> list[Finding]:
        return interpreter.findings(self.opaque, os.path.basename(self.path), self.calls, self.refused)


def read_legacy(stream: Stream) -> tuple[Any, Tree, list[Finding], Locate]:
    """The object and the tensors of a legacy file whose magic number `stream` has just given, the findings, and what finds a storage.
    Raises CorruptError, UnsupportedError."""
    path = stream.path
    protocol = stream.next()
    if protocol != _PROTOCOL:
        raise UnsupportedError(f"is of PyTorch's serialization protocol {shown(protocol)}, not {_PROTOCOL}", path=path)
    info = stream.next()
    if type(info) is dict and info.get("little_endian") is False:
        raise UnsupportedError(
            "was written on a big-endian machine", path=path, hint="load and save it again with PyTorch on a usual machine"
        )
    value = stream.next()
    sizes = {storage_key(s.key): SIZES[s.type.dtype] for s in stream.storages if type(s.type) is StorageType and s.type.dtype}
    rebuilt = len(stream.storages)
    keys = stream.next()
    if type(keys) is not list or any(type(k) not in (str, int) for k in keys):
        raise CorruptError(f"its list of storages, which ends at byte {stream.at}, is no list of keys", path=path)
    LIMITS.check("tensors", len(keys), "the number of storages", path)
    placed, end = _place(stream, keys, sizes)

    def locate(s: Storage, declared: int) -> tuple[int, int, str]:
        return _locate(s, declared, placed, sizes, path)

    tree = read_tree(value, locate, path, rebuilt)
    whole = module_finding(value, tuple(stream.opaque), os.path.basename(path))
    found = stream.findings()
    if whole is not None:
        found = [whole, *(f for f in found if f.severity == "error")]
    if end != stream.size:
        text = f"{stream.size - end:,} bytes follow the last storage; nothing reads them"
        found.append(Finding("warning", "trailing", os.path.basename(path), text))
    return value, tree, found, locate


def _place(stream: Stream, keys: list[object], sizes: dict[str, int]) -> tuple[dict[str, tuple[int, int]], int]:
    """(offset, bytes) of each storage of the list, and where the last one ends."""
    placed: dict[str, tuple[int, int]] = {}
    at = stream.at
    for raw in keys:
        key = storage_key(raw)
        item = sizes.get(key)
        if item is None or key in placed:
            raise CorruptError(f"storage {shown(raw)} is listed {'twice' if item else 'and no tensor is made of it'}", path=stream.path)
        head = stream.blob.pread(8, at) if at < stream.size else b""
        numel = int.from_bytes(head, "little", signed=True)
        if len(head) != 8 or numel < 0 or at + 8 + numel * item > stream.size:
            raise CorruptError(f"storage {shown(raw)} at byte {at} does not fit into the file: cut short or damaged", path=stream.path)
        placed[key] = (at + 8, numel * item)
        at += 8 + numel * item
    return placed, at


def _locate(s: Storage, declared: int, placed: dict[str, tuple[int, int]], sizes: dict[str, int], path: str) -> tuple[int, int, str]:
    """Where a storage, or the view of one that it is, lies."""
    key = storage_key(s.key)
    if key not in placed:
        raise CorruptError(f"storage {shown(s.key)} is used by a tensor and is not in the file", path=path)
    offset, there = placed[key]
    if declared > there:
        raise CorruptError(f"storage {shown(s.key)} is said to have {shown(declared)} bytes; there are {there:,}", path=path)
    if s.view is None:
        return offset, declared, key
    view = s.view
    if type(view) is not tuple or len(view) != 3 or type(view[1]) is not int or type(view[2]) is not int:
        raise CorruptError(f"storage {shown(s.key)} has a view that is none", path=path)
    first, length = view[1] * sizes[key], view[2] * sizes[key]
    if first < 0 or length < 0 or first + length > there:
        raise CorruptError(f"storage {shown(s.key)} has a view that leaves it", path=path)
    return offset + first, length, key
