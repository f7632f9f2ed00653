"""leveldb's sorted table, which TensorFlow keeps its checkpoint indexes in.

Source: github.com/google/leveldb doc/table_format.md; tensorflow tsl/lib/io/{table_builder,block_builder,format}.cc.
A file is data blocks, a metaindex block, an index block and a footer of 48 bytes. Every block ends in a type byte and
the masked CRC-32C of itself and that byte. Keys are prefix-compressed, strictly ascending, and restart now and then.
Everything is checked while it is read: bounds, order, restarts, checksums; a block is visited once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from struct import unpack

from ... import store
from ..._typing import Any, NamedTuple, SupportsIndex, overload
from ...errors import CheckpointError, CorruptError
from ...limits import LIMITS
from ...support import crc32c
from ...support.columns import compiled, pluck, tuples
from ...support.protobuf import Readable, bad, encode_varint, varint
from . import MAGIC

FOOTER = 48
TRAILER = 5  # type byte, checksum
BLOCK_SIZE = 262144  # TensorFlow's table::Options
RESTART_INTERVAL = 16
_MANY = 256  # items from which compiled loops are looked for
_new = tuple.__new__  # a named tuple without its argument handling


def _key_limit() -> int:
    """Bytes of a name, escaped, with a slice behind it."""
    return LIMITS.name_bytes + 20 * LIMITS.rank + 64


class Window:
    """A file as something to index and slice like bytes, read a few kilobytes at a time."""

    __slots__ = ("at", "blob", "chunk", "path")

    def __init__(self, blob: store.Blob, path: str) -> None:
        self.blob, self.path, self.at, self.chunk = blob, path, 0, b""

    @overload
    def __getitem__(self, index: SupportsIndex, /) -> int: ...

    @overload
    def __getitem__(self, index: slice, /) -> bytes: ...

    def __getitem__(self, index: SupportsIndex | slice, /) -> int | bytes:
        if not isinstance(index, slice):
            i = index.__index__()
            k = i - self.at
            if not 0 <= k < len(self.chunk):
                self._load(i, 1)
                k = 0
            return self.chunk[k]
        a, b = index.start, index.stop
        if a < self.at or b > self.at + len(self.chunk):
            self._load(a, b - a)
        return self.chunk[a - self.at : b - self.at]

    def _load(self, start: int, length: int) -> None:
        want = max(length, 4096)
        data = self.blob.pread(want, start)
        while len(data) < length:
            more = self.blob.pread(want - len(data), start + len(data))
            if not more:
                raise CorruptError(f"ends at byte {start + len(data)}", path=self.path)
            data += more
        self.at, self.chunk = start, data


class Block(NamedTuple):
    """Where a block lies, without its trailer; no key in it is above `last`."""

    offset: int
    size: int
    last: bytes


class Entry(NamedTuple):
    """A key, and where its value begins and ends in what holds the block."""

    key: bytes
    start: int
    end: int


def blocks(data: Readable, size: int, path: str) -> list[Block]:
    """The data blocks of a table of `size` bytes, ascending and apart. Checks the footer, the metaindex and the index."""
    if size < FOOTER or data[size - 8 : size] != MAGIC:
        bad("is no table: the footer's magic number is missing (cut short?)", path)
    pos = size - FOOTER
    meta, pos = _handle(data, pos, size - 8, size - FOOTER, path)
    index, _ = _handle(data, pos, size - 8, size - FOOTER, path)
    verify(data, *meta, path)
    held, start, end = contents(data, *index, path)
    out: list[Block] = []
    free = 0
    for key, a, b in entries(held, start, end, path):
        (offset, length), stop = _handle(held, a, b, size - FOOTER, path)
        past = offset + length + TRAILER
        if stop != b or offset < free or any(offset < o + n + TRAILER and o < past for o, n in (meta, index)):
            bad(f"the table's index points at bytes {offset} to {past}, which are not a data block of their own", path)
        free = past
        out.append(Block(offset, length, key))
    return out


def _handle(data: Readable, pos: int, end: int, size: int, path: str) -> tuple[tuple[int, int], int]:
    offset, pos = varint(data, pos, end, path)
    length, pos = varint(data, pos, end, path)
    if offset + length + TRAILER > size:
        bad(f"a table block at byte {offset} of {length} bytes runs past the end of the file's {size}", path)
    return (offset, length), pos


def checksum(data: Readable, offset: int, size: int) -> int:
    """The stored checksum, unmasked, of a block's content and type byte."""
    return crc32c.unmask(int.from_bytes(data[offset + size + 1 : offset + size + TRAILER], "little"))


def verify(data: Readable, offset: int, size: int, path: str) -> None:
    """Hold a block against its checksum. Raises CorruptError."""
    LIMITS.check("block_bytes", size, f"the size in bytes of the table block at byte {offset}", path)
    if crc32c.value(data[offset : offset + size + 1]) != checksum(data, offset, size):
        bad("the checksum does not match in the table block", path, offset)


def contents(data: Readable, offset: int, size: int, path: str, *, check: bool = True) -> tuple[Readable, int, int]:
    """What holds a block's content, and from where to where: the file itself, or bytes where it was compressed."""
    kind = data[offset + size]
    if check or kind:
        verify(data, offset, size, path)
    if kind == 0:
        return data, offset, offset + size
    if kind != 1:
        bad(f"compression type {kind} of the table block", path, offset)
    plain = snappy(data[offset : offset + size], path, offset)
    return plain, 0, len(plain)


Told = tuple[list[bytes], list[tuple[int, int]], list[Any]]  # keys, where their values begin and end, what these say (None: not known)


def told(data: Readable, start: int, end: int, above: bytes | None, heads: dict[bytes, Any]) -> Told | None:
    """The entries of one block's content as `entries` gives them, by a compiled loop, with what is said in values that begin as one of
    `heads`. None where the loop is not there, and where anything is not as it should be."""
    native = compiled()
    count = int.from_bytes(data[end - 4 : end], "little") if end - start >= 8 else 0
    limit = end - 4 - 4 * count
    if native is None or not isinstance(data, bytes) or not 0 < count <= (end - start) // 4 or limit < start:
        return None
    if 4 * count > LIMITS.header_bytes:
        return None
    found = native.block(data, start, limit, above, min(_key_limit(), 1 << 24), heads)
    if found is None or found[4] > LIMITS.header_bytes:
        return None
    keys, places, said, whole, _ = found
    if not {0, *whole}.issuperset(unpack(f"<{count}I", data[limit : end - 4])):
        return None
    return keys, places, said


def entries(data: Readable, start: int, end: int, path: str, above: bytes | None = None) -> list[Entry]:
    """The entries of one block's content, keys strictly ascending (and above `above`). Raises CorruptError, LimitError."""
    count = int.from_bytes(data[end - 4 : end], "little") if end - start >= 8 else 0
    limit = end - 4 - 4 * count
    if not count or limit < start:
        bad("a table block without restart points", path, start)
    LIMITS.check("header_bytes", 4 * count, f"the size of the restart points of the table block at byte {start}", path)
    restarts = data[limit : end - 4]
    out: list[Entry] = []
    most, room = _key_limit(), LIMITS.header_bytes
    whole = {0}  # where entries with their whole key begin
    key, last, pos, kept = b"", above, start, 0
    while pos < limit:
        at = pos
        shared, own, length = data[pos : pos + 3]
        pos += 3
        if shared > 127 or own > 127 or length > 127:
            shared, pos = varint(data, at, limit, path)
            own, pos = varint(data, pos, limit, path)
            length, pos = varint(data, pos, limit, path)
        stop = pos + own
        if stop + length > limit or shared > len(key):
            bad("a table entry runs past its block", path, at)
        if shared + own > most:
            LIMITS.check("name_bytes", shared + own, f"the length of the key at byte {at}", path)
        key = key[:shared] + data[pos:stop]
        if last is not None and key <= last:
            bad(f"keys are not in ascending order: {key.decode('utf-8', 'replace')!r} comes too late", path, at)
        if not shared:
            whole.add(at - start)
        kept += shared + own
        last = key
        pos = stop + length
        out.append(_new(Entry, (key, stop, pos)))
        if kept > room:
            LIMITS.check("header_bytes", kept, "the keys' size in bytes", path)
    if any(int.from_bytes(restarts[i : i + 4], "little") not in whole for i in range(0, 4 * count, 4)):
        bad("a restart point lies within an entry of the table block", path, start)
    return out


def scan(data: Readable, size: int, path: str, *, check: bool = True) -> Iterator[tuple[Block, Readable, list[Entry]]]:
    """Each data block of a table, what holds its content, and its entries; keys ascend throughout."""
    for block, held, found, _ in scan_with(data, size, path, None, check=check):
        yield block, held, found


def scan_with(
    data: Readable, size: int, path: str, heads: dict[bytes, Any] | None, *, check: bool = True
) -> Iterator[tuple[Block, Readable, list[Entry], list[Any]]]:
    """`scan`, with what each value says that begins as one of `heads` ([] where that was not looked at, None for one that does not)."""
    above: bytes | None = None
    total = 0
    for block in blocks(data, size, path):
        held, start, end = contents(data, block.offset, block.size, path, check=check or total == 0)
        known = told(held, start, end, above, heads) if heads is not None else None
        if known is not None:
            found, said = tuples(Entry, [known[0], pluck(known[1], 0), pluck(known[1], 1)], len(known[0])), known[2]
        else:
            found, said = entries(held, start, end, path, above), []
        if found and found[-1].key > block.last:
            bad("a key is above its block's key in the index, in the table block", path, block.offset)
        above = block.last
        total += len(found)
        LIMITS.check("tensors", total, "the number of entries", path)
        yield block, held, found, said


def first(path: str) -> tuple[bytes, bytes] | None:
    """The first key of a table and the first byte of its value; None where that cannot be read."""
    try:
        blob = store.open_blob(path)
    except CheckpointError:
        return None
    try:
        window = Window(blob, path)
        found = blocks(window, blob.size, path)
        held, start, end = contents(window, found[0].offset, found[0].size, path, check=False)
        shared, pos = varint(held, start, end, path)
        own, pos = varint(held, pos, end, path)
        length, pos = varint(held, pos, end, path)
        if shared or own > _key_limit() or pos + own + length > end:
            return None
        return held[pos : pos + own], held[pos + own : pos + own + min(length, 1)]
    except (CheckpointError, OSError, IndexError):
        return None
    finally:
        blob.close()


def snappy(data: bytes, path: str, at: int = 0) -> bytes:
    """Undo snappy's block format (github.com/google/snappy format_description.txt) of the block at byte `at`. Raises CorruptError,
    LimitError."""
    size, pos = varint(data, 0, len(data), path)
    LIMITS.check("block_bytes", size, f"the unpacked size in bytes of the table block at byte {at}", path)
    if size > 64 * len(data):  # three bytes give 64 at most
        bad(f"{len(data)} bytes of snappy cannot give {size}, in the table block", path, at)
    out = bytearray()
    while pos < len(data):
        tag = data[pos]
        kind, pos = tag & 3, pos + 1
        if kind == 0:
            length = tag >> 2
            if length >= 60:
                extra = length - 59
                length = int.from_bytes(data[pos : pos + extra], "little")
                pos += extra
            length += 1
            if pos + length > len(data):
                bad("a snappy literal runs past the table block", path, at)
            out += data[pos : pos + length]
            pos += length
        else:
            width = (1, 2, 4)[kind - 1]
            back = int.from_bytes(data[pos : pos + width], "little")
            pos += width
            length = 1 + (tag >> 2)
            if kind == 1:
                length, back = 4 + (tag >> 2 & 7), back | tag >> 5 << 8
            if pos > len(data) or not 0 < back <= len(out):
                bad("a snappy copy reaches before the table block", path, at)
            piece = bytes(out[-back : len(out) - back + length] if length < back else out[-back:])
            out += (piece * (length // back + 1))[:length]
        if len(out) > size:
            break
    if len(out) != size:
        bad(f"a snappy block of {size} bytes gives {len(out)}: the table block", path, at)
    return bytes(out)


class _Builder:
    """A block being put together: block_builder.cc."""

    def __init__(self, interval: int) -> None:
        self.interval = interval
        self.out, self.restarts, self.last, self.count = bytearray(), [0], b"", 0

    def add(self, key: bytes, value: bytes) -> None:
        shared = 0
        if self.count == self.interval:
            self.restarts.append(len(self.out))
            self.count = 0
        elif self.count:
            shared = _shared(self.last, key)
        own, n = len(key) - shared, len(value)
        if shared < 128 and own < 128 and n < 128:
            self.out += bytes((shared, own, n)) + key[shared:] + value
        else:
            self.out += encode_varint(shared) + encode_varint(own) + encode_varint(n) + key[shared:] + value
        self.last = key
        self.count += 1

    def size(self) -> int:
        return len(self.out) + 4 * len(self.restarts) + 4

    def finish(self) -> bytes:
        restarts = b"".join(r.to_bytes(4, "little") for r in [*self.restarts, len(self.restarts)])
        content = bytes(self.out) + restarts
        self.out, self.restarts, self.last, self.count = bytearray(), [0], b"", 0
        return content


def _shared(a: bytes, b: bytes) -> int:
    n = min(len(a), len(b))
    differ = int.from_bytes(a[:n], "big") ^ int.from_bytes(b[:n], "big")
    return n - (differ.bit_length() + 7) // 8


def _between(low: bytes, high: bytes) -> bytes:
    """A short key that is not below `low`, and below `high`."""
    i = _shared(low, high)
    return low[:i] + bytes([low[i] + 1]) if i < min(len(low), len(high)) and low[i] + 1 < high[i] else low


def _after(key: bytes) -> bytes:
    """A short key that is not below `key`."""
    i = next((i for i, b in enumerate(key) if b != 255), None)
    return key if i is None else key[:i] + bytes([key[i] + 1])


def build(items: Iterable[tuple[bytes, bytes]]) -> bytes:
    """A table of `items`, whose keys ascend, byte for byte as TensorFlow builds it without compression."""
    both = list(items)
    return build_of([key for key, _ in both], [value for _, value in both])


def build_of(keys: list[bytes], values: list[bytes]) -> bytes:
    """The same of keys and values."""
    out = bytearray()
    block, index = _Builder(RESTART_INTERVAL), _Builder(1)
    last, pending = b"", b""  # the last key, and the handle of a block whose index entry awaits the next key

    def put(content: bytes) -> bytes:
        handle = encode_varint(len(out)) + encode_varint(len(content))
        content += b"\0"
        out.extend(content + crc32c.mask(crc32c.value(content)).to_bytes(4, "little"))
        return handle

    done = 0
    if len(keys) > _MANY and (native := compiled()) is not None:
        while done < len(keys):
            if pending:
                index.add(_between(last, keys[done]), pending)
            content, done = native.build(keys, values, done, RESTART_INTERVAL, BLOCK_SIZE)
            pending, last = put(content), keys[done - 1]
    for key, value in zip(keys[done:], values[done:], strict=True):
        if block.out and len(key) + len(value) >= 2 * BLOCK_SIZE:
            pending = put(block.finish())
        if pending:
            index.add(_between(last, key), pending)
            pending = b""
        block.add(key, value)
        last = key
        if block.size() >= BLOCK_SIZE:
            pending = put(block.finish())
    if block.out:
        pending = put(block.finish())
    handles = put(block.finish())  # an empty metaindex
    if pending:
        index.add(_after(last), pending)
    handles += put(index.finish())
    return bytes(out) + handles.ljust(FOOTER - 8, b"\0") + MAGIC
