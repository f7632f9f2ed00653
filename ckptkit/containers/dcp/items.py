"""What the files of a distributed checkpoint hold: one torch.save file after another, a tensor or a value each.

Policy: of the first item of a kind the whole zip is read; of the others, which differ in nothing but their values and checksums, the
beginning and the end. What is told by the pickle of an item (its type, its shape, how it lies) is held against what the metadata say.
"""

from __future__ import annotations

import os

from ... import store
from ..._typing import NamedTuple
from ...errors import CheckpointError, CorruptError
from ...findings import Finding
from ...tensors import Check, Extent, StoredTensor
from .._pickle import interpreter
from .._pickle.globals import Storage
from .._wire.zip_archive import Entry, Within, read_directory
from ..torch.state_dict import Tree, read_tree, storage_key

NOTHING = object()  # what `value` gives of an item that is no plain data
_OBJECT = 1 << 16  # bytes of a value that is read


class Item(NamedTuple):
    """A tensor of one item, its extent in the file, and the checksum that the zip keeps of its bytes (0: none)."""

    tensor: StoredTensor
    record: Extent
    crc: int


class _Kind(NamedTuple):
    """What items of one length and beginning have in common."""

    head: bytes  # up to the tensor's bytes
    tensor: StoredTensor  # its extent counts from the item's beginning
    size: int  # of the record
    descriptor: bytes  # what follows the record, after its checksum
    central: int  # where the directory has the checksum again, from the item's end
    end: bytes  # the last bytes of the directory


class Items:
    """The items of a checkpoint's files."""

    def __init__(self) -> None:
        self._kinds: dict[int, list[_Kind]] = {}
        self.findings: list[Finding] = []  # what the pickles of values name that nobody should call

    def tensor(self, blob: store.Blob, path: str, at: int, length: int) -> Item:
        """The tensor that an item holds. Raises CheckpointError for what is no torch.save of one tensor."""
        for kind in self._kinds.get(length, ()):
            found = self._same(kind, blob, path, at, length)
            if found is not None:
                return found
        entries, root, tree, said = _read(blob, path, at, length)
        self.findings += said
        if list(tree.tensors) != ["tensor"]:
            raise CorruptError(f"what lies at byte {at:,} is no tensor", path=path)
        t = tree.tensors["tensor"]
        record = next((e for e in entries.values() if e.name.startswith(root + "data/")), None)
        if record is None:
            return Item(t, Extent(path, at, 0), 0)
        self._learn(blob, at, length, t, record, entries)
        return Item(t, Extent(path, at + record.start, record.size), record.crc)

    def _same(self, kind: _Kind, blob: store.Blob, path: str, at: int, length: int) -> Item | None:
        """The item, if it is of a known kind."""
        start = len(kind.head)
        if blob.pread(start, at) != kind.head:
            return None
        tail = blob.pread(length - start - kind.size, at + start + kind.size)
        crc = tail[4:8]
        if tail[:4] + tail[8:16] != kind.descriptor or tail[-22:] != kind.end or tail[-kind.central : 4 - kind.central] != crc:
            return None
        t = kind.tensor
        (e,) = t.extents
        moved = t._replace(extents=(Extent(path, at + e.offset, e.length),))
        return Item(moved, Extent(path, at + start, kind.size), int.from_bytes(crc, "little"))

    def _learn(self, blob: store.Blob, at: int, length: int, t: StoredTensor, record: Entry, entries: dict[str, Entry]) -> None:
        tail_at = record.start + record.size
        (e,) = t.extents
        raw = blob.pread(min(length - tail_at, 1 << 16), at + tail_at) if length - tail_at <= 1 << 16 else b""
        name = record.name.encode()
        central = raw.rfind(b"PK\1\2")
        while central >= 0 and raw[central + 46 : central + 46 + len(name)] != name:
            central = raw.rfind(b"PK\1\2", 0, central)
        if central < 0 or raw[:4] != b"PK\7\x08" or raw[4:8] != raw[central + 16 : central + 20]:
            return
        head = blob.pread(record.start, at)
        kind = _Kind(
            head, t._replace(extents=(Extent("", e.offset - at, e.length),)), record.size, raw[:4] + raw[8:16], len(raw) - central - 16,
            raw[-22:],
        )  # fmt: skip
        self._kinds.setdefault(length, []).append(kind)

    def value(self, blob: store.Blob, path: str, at: int, length: int) -> object:
        """The plain data that an item holds; NOTHING where it is large, or nothing that can be read."""
        if length > _OBJECT:
            return NOTHING
        try:
            _, _, tree, said = _read(blob, path, at, length)
        except CheckpointError:
            return NOTHING
        self.findings += [f for f in said if f not in self.findings]
        if tree.tensors:
            return NOTHING
        return tree.extras.get("value") if list(tree.extras) == ["value"] else tree.extras


def check_of(name: str, item: Item) -> Check:
    """The checksum of an item's bytes."""
    return Check(name, "crc32", (item.record,), item.crc)


def _read(blob: store.Blob, path: str, at: int, length: int) -> tuple[dict[str, Entry], str, Tree, list[Finding]]:
    """(the entries of an item's zip, counted from its beginning, their root, what its pickle holds, what is to be said of it)."""
    try:
        entries = read_directory(Within(blob, at), length, path)
    except CheckpointError as e:
        raise type(e)(f"{e.message} (of the item at byte {at:,})", path=path, hint=e.hint) from None
    pickles = [n for n in entries if n == "data.pkl" or n.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise CorruptError(f"what lies at byte {at:,} is no torch.save file", path=path)
    root, data = pickles[0][: -len("data.pkl")], entries[pickles[0]]
    order = entries.get(root + "byteorder")
    if order is not None and blob.pread(min(order.size, 64), at + order.start) != b"little":
        raise CorruptError(f"what lies at byte {at:,} is not in little-endian order", path=path)
    got = interpreter.load(blob.pread(data.size, at + data.start), path=path)

    def locate(s: Storage, declared: int) -> tuple[int, int, str]:
        key = s.key if type(s.key) is str else storage_key(s.key)
        e = entries.get(f"{root}data/{key}")
        if e is None or s.view is not None or declared > e.size:
            raise CorruptError(f"the item at byte {at:,} has no record of its tensor's bytes", path=path)
        return at + e.start, declared, key

    said = interpreter.findings(got.opaque, os.path.basename(path), got.calls)
    return entries, root, read_tree(got.value, locate, path, len(got.storages)), said
