"""The bytes of a zip file that is written, but for its entries' own: stored entries only, as `torch.save` makes them.

Source: PKWARE's APPNOTE.TXT 6.3 (see `zip_archive`); the order and the padding of records from `caffe2/serialize/inline_container.cc` and
`miniz.c` in pytorch.

Policy: what of an entry depends on few things (how long its name is, how far it is padded) is made once for all that share them: there may
be 90,000.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from operator import itemgetter
from struct import pack

from ..._typing import Any, NamedTuple
from ...support.columns import compiled, weave, words
from .zip_archive import ALIGN, CENTRAL, DESCRIPTOR, END, END64, FULL, LOCAL, LOCATOR

_MANY = 64  # records from which the compiled loop is looked for


class Record(NamedTuple):
    """An entry to be written: its local header at `header`, padded so that its bytes begin at `start`, a multiple of 64."""

    name: str
    header: int
    start: int
    size: int

    @property
    def big(self) -> bool:
        """Whether it needs zip64 fields."""
        return self.size >= FULL or self.header >= FULL

    @property
    def end(self) -> int:
        """Where the next record begins: after the data descriptor, which empty records do not have."""
        return self.start + self.size + (0 if not self.size else 24 if self.big else 16)


class Records(Sequence[Record]):
    """Entries to be written, by columns."""

    __slots__ = ("headers", "names", "sizes", "starts")

    def __init__(self, names: list[str], headers: list[int], starts: list[int], sizes: list[int]) -> None:
        self.names, self.headers, self.starts, self.sizes = names, headers, starts, sizes

    @property
    def columns(self) -> list[Any]:
        """Names, headers, starts and sizes: what makes them again."""
        return [self.names, self.headers, self.starts, self.sizes]

    def part(self, first: int, last: int) -> Records:
        """Those from `first` to before `last`."""
        return Records(*(column[first:last] for column in self.columns))

    def __getitem__(self, i: Any) -> Any:
        if isinstance(i, slice):
            return list(map(partial(tuple.__new__, Record), zip(*(column[i] for column in self.columns), strict=True)))
        return Record(self.names[i], self.headers[i], self.starts[i], self.sizes[i])

    def __iter__(self) -> Iterator[Record]:
        return map(partial(tuple.__new__, Record), zip(*self.columns, strict=True))

    def __len__(self) -> int:
        return len(self.names)


def by_columns(records: Sequence[Record]) -> Records:
    """The same records by columns."""
    if isinstance(records, Records):
        return records
    columns: list[list[Any]] = [list(map(itemgetter(i), records)) for i in range(4)]
    return Records(*columns)


def place(entries: Iterable[tuple[str, int]]) -> list[Record]:
    """Where (name, size) records lie, one after another."""
    entries = list(entries)
    return list(place_all([name for name, _ in entries], [size for _, size in entries]))


def place_all(names: list[str], sizes: list[int]) -> Records:
    """The same of names and sizes."""
    native = compiled() if len(names) >= _MANY else None
    found = native.place(names, sizes, ALIGN) if native is not None else None
    if found is not None:
        return Records(names, found[0], found[1], sizes)
    headers, starts, at = [], [], 0  # type: list[int], list[int], int
    for name, size in zip(names, sizes, strict=True):
        big = size >= FULL or at >= FULL
        fixed = at + 34 + len(name if name.isascii() else name.encode()) + (len(_extra64(size, at)) if big else 0)
        start = fixed + -fixed % ALIGN
        headers.append(at)
        starts.append(start)
        at = start + size + (0 if not size else 24 if big else 16)  # as Record.end
    return Records(names, headers, starts, sizes)


def _extra64(size: int, header: int) -> bytes:
    """The zip64 extra field with what is saturated, or nothing."""
    if size < FULL and header < FULL:
        return b""
    words = ([size, size] if size >= FULL else []) + ([header] if header >= FULL else [])
    return b"\1\0" + (8 * len(words)).to_bytes(2, "little") + b"".join(w.to_bytes(8, "little") for w in words)


def local_header(r: Record) -> bytes:
    """A record's local header: sizes and checksum follow the data, the padding is an extra field FB of Z."""
    name = r.name.encode()
    fixed, after = _around(len(name), r.start - r.header, r.size > 0, _extra64(r.size, r.header), r.size >= FULL)
    return fixed + name + after


def _around(length: int, gap: int, filled: bool, extra: bytes = b"", huge: bool = False) -> tuple[bytes, bytes]:
    """What stands before and after a name of so many bytes in a local header of `gap` bytes."""
    pad = gap - 30 - length - len(extra) - 4
    full = FULL if huge else 0
    flags = 0x0808 if filled else 0x0800
    head = LOCAL.pack(b"PK\3\4", 0, flags, 0, 0, 0, 0, full, full, length, len(extra) + 4 + pad)
    return head, extra + b"FB" + pad.to_bytes(2, "little") + b"Z" * pad


def local_headers(records: Records) -> list[bytes]:
    """The local header of each."""
    if _are_large(records):
        return list(map(local_header, records))
    names = list(map(str.encode, records.names))
    kinds = [(len(n), start - header, size > 0) for n, header, start, size in zip(names, *records.columns[1:], strict=True)]
    made = {kind: _around(*kind) for kind in set(kinds)}
    return [head + name + after for name, (head, after) in zip(names, map(made.__getitem__, kinds), strict=True)]


def _are_large(records: Records) -> bool:
    """Whether one needs zip64 fields."""
    return max(records.sizes, default=0) >= FULL or max(records.headers, default=0) >= FULL


def descriptor(r: Record, crc: int) -> bytes:
    """What follows a record's bytes; nothing for an empty record."""
    if not r.size:
        return b""
    if not r.big:
        return DESCRIPTOR.pack(b"PK\7\x08", crc, r.size, r.size)
    return b"PK\7\x08" + crc.to_bytes(4, "little") + r.size.to_bytes(8, "little") * 2


def descriptors(records: Records, crcs: Sequence[int]) -> list[bytes]:
    """The descriptor of each."""
    if _are_large(records) or 0 in records.sizes:
        return list(map(descriptor, records, crcs))
    twice = {n: pack("<2I", n, n) for n in set(records.sizes)}
    return [b"PK\7\x08" + crc + both for crc, both in zip(words(crcs), map(twice.__getitem__, records.sizes), strict=True)]


def tails(records: Sequence[Record], crcs: Sequence[int]) -> list[bytes]:
    """What stands behind the bytes of each: its descriptor and the local header of the next; of the last nothing but the descriptor."""
    held = by_columns(records)
    native = compiled()
    found: list[bytes] | None = native.tails(*held.columns, list(crcs)) if native is not None else None
    if found is not None:
        return found
    heads = [*local_headers(held.part(1, len(held))), b""]
    return [behind + head for behind, head in zip(descriptors(held, crcs), heads, strict=True)]


def directory_size(records: Sequence[Record]) -> int:
    """How many bytes `directory` gives."""
    held = by_columns(records)
    names = "".join(held.names)
    extras = sum([len(_extra64(size, header)) for _, header, _, size in held]) if _are_large(held) else 0
    return CENTRAL.size * len(held) + len(names if names.isascii() else names.encode()) + extras + END64.size + LOCATOR.size + END.size


def directory(records: Sequence[Record], crcs: Sequence[int]) -> bytes:
    """The central directory and the end records."""
    raw = _central(by_columns(records), crcs)
    at, n = records[-1].end if records else 0, len(records)
    end64 = END64.pack(b"PK\6\6", 44, 0x031E, 45, 0, 0, n, n, len(raw), at)
    locator = LOCATOR.pack(b"PK\6\7", 0, at + len(raw), 1)
    few = min(n, 0xFFFF)
    return raw + end64 + locator + END.pack(b"PK\5\6", 0, 0, few, few, min(len(raw), FULL), min(at, FULL), 0)


def _central(records: Records, crcs: Sequence[int]) -> bytes:
    """The entries of the central directory."""
    native = compiled()
    found: bytes | None = native.directory(*records.columns, list(crcs)) if native is not None else None
    if found is not None:
        return found
    names = list(map(str.encode, records.names))
    if _are_large(records):
        out = []
        for name, (_, header, _, size), crc in zip(names, records, crcs, strict=True):
            extra = _extra64(size, header)
            out.append(_entry(min(size, FULL), len(name), len(extra), crc, min(header, FULL)) + name + extra)
        return b"".join(out)
    kinds = list(zip(records.sizes, map(len, names), strict=True))
    whole = {kind: _entry(*kind, 0, 0, 0) for kind in set(kinds)}
    before = {kind: entry[:16] for kind, entry in whole.items()}
    between = {kind: entry[20:42] for kind, entry in whole.items()}  # the checksum and the offset
    fixed = list(map(before.__getitem__, kinds)), list(map(between.__getitem__, kinds))
    return weave([fixed[0], ("I", list(crcs)), fixed[1], ("I", records.headers), names], len(records))


def _entry(size: int, name: int, extra: int, crc: int, header: int) -> bytes:
    """The fixed part of an entry of the central directory; `name` and `extra` are lengths."""
    flags = 0x0808 if size else 0x0800
    return CENTRAL.pack(b"PK\1\2", 0, 0, flags, 0, 0, 0, crc, size, size, name, extra, 0, 0, 0, 0, header)
