"""The `checkpoint` file of older folders of zarr arrays: a tree in msgpack that says of each array where it lies, or holds it.

Sources: t5x/checkpoints.py (an array is the specification of a tensorstore driver; target and state below "optimizer"); orbax-checkpoint
before 0.5 (type_handlers.py and aggregate_handlers.py: "PLACEHOLDER://NAME" stands for the array of that name).
"""

from __future__ import annotations

from collections.abc import Mapping

from ... import store
from ..._typing import NamedTuple
from ...errors import CorruptError, printable
from ...limits import LIMITS
from ...tensors import Extent, StoredTensor
from .._wire.msgpack import Array, Reader

FILE = "checkpoint"
_PLACEHOLDER = "PLACEHOLDER://"
_OUTER = "optimizer."  # T5X' arrays are called without it


class Aggregate(NamedTuple):
    """`listed`: arrays that lie in folders of their own; `tensors`: those that the file holds; `extras`: plain values."""

    listed: list[str]
    tensors: dict[str, StoredTensor]
    extras: dict[str, object]


def is_one(head: bytes) -> bool:
    """Whether a file that begins so can be such a tree."""
    return bool(head) and (head[0] & 0xF0 == 0x80 or head[0] in (0xDE, 0xDF)) and (b"zarr" in head or b"PLACEHOLDER" in head)


def read_aggregate(path: str) -> Aggregate:
    """The tree of a `checkpoint` file. Raises CorruptError, LimitError."""
    blob = store.open_blob(path)
    try:
        size = blob.size
        LIMITS.check("header_bytes", size, "the size of the tree", path)
        root = Reader(blob, size, path).value()
    finally:
        blob.close()
    found = Aggregate([], {}, {})
    todo: list[tuple[str, object]] = [("", root)]
    while todo:
        name, value = todo.pop()
        if isinstance(value, Array):
            called = name.removeprefix(_OUTER)
            found.tensors[called] = StoredTensor(called, value.spec, (Extent(path, value.offset, value.spec.nbytes),))
        elif isinstance(value, Mapping) and value.get("driver") == "zarr":
            found.listed.append(_place(value, name, path))
        elif isinstance(value, str) and value.startswith(_PLACEHOLDER):
            found.listed.append(value.removeprefix(_PLACEHOLDER))
        elif isinstance(value, Mapping):
            todo += reversed([(f"{name}.{k}" if name else str(k), v) for k, v in value.items()])
        elif isinstance(value, list):
            todo += reversed([(f"{name}.{i}", v) for i, v in enumerate(value)])
        elif value is not None:
            found.extras[name.removeprefix(_OUTER)] = value
    LIMITS.check("tensors", len(found.listed) + len(found.tensors), "the number of tensors", path)
    return found


def _place(value: Mapping[object, object], name: str, path: str) -> str:
    """The folder of an array, as its specification says."""
    store = value.get("kvstore")
    where = store.get("path") if isinstance(store, Mapping) else None
    if not isinstance(where, str):
        raise CorruptError(f"does not say where the array {printable(name, 100)!r} lies", path=path)
    return where.rstrip("/")
