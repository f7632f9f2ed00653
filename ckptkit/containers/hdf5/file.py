"""The building blocks of an HDF5 file, read as data: superblock, object headers, groups, heaps.

Source: HDF5 File Format Specification 3.0 (II: disk format level 0, III: level 1, IV: level 2). h5py and libhdf5 are not used: their C code
trusts the addresses in a file. Here every address is held against the end of the file, every count against the bytes it needs, and no
object is entered twice, so that a damaged or hostile file costs an error and nothing else.

Addresses are 8 bytes wide, as libhdf5 has always written them unless told otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from struct import Struct
from struct import error as StructError

from ..._typing import Any, NoReturn
from ...errors import CorruptError, LimitError, UnsafeError, UnsupportedError, printable
from ...limits import LIMITS

MAGIC = b"\x89HDF\r\n\x1a\n"
NOWHERE = (1 << 64) - 1  # the undefined address
SMALL = 1 << 20  # bytes: what is stored may swell by the limit unpack_ratio at most, unless it stays below this
DAMAGE = (StructError, IndexError, OverflowError, ValueError)  # what reading past an end raises

DATASPACE, LINK_INFO, DATATYPE, FILL, LINK, EXTERNAL, LAYOUT, FILTERS, ATTRIBUTE = 0x01, 0x02, 0x03, 0x05, 0x06, 0x07, 0x08, 0x0B, 0x0C
CONTINUATION, SYMBOLS, ATTRIBUTE_INFO = 0x10, 0x11, 0x15


def unpacker(form: str) -> Callable[..., tuple[Any, ...]]:
    """f(data, at) -> the fields of `form` at a place: of memory, or of pages (`store`), whose bytes are cut out first."""
    known = Struct(form)
    take, size = known.unpack_from, known.size

    def fields(data: Any, at: int = 0) -> tuple[Any, ...]:
        try:
            return take(data, at)
        except TypeError:
            return take(data[at : at + size])

    return fields


_HEAD = unpacker("<BBHIIxxxx")  # version, reserved, messages, references, size
_MESSAGE = unpacker("<HHB3x")  # type, size, flags
_PAIR = unpacker("<QQ")
_HEAP = unpacker("<4sB3xQQQ")  # signature, version, size of the data, free list, address of the data
_TREE = unpacker("<4sBBHQQ")  # signature, type, level, entries, left, right
_SMALL_TREE = unpacker("<4sBBH24xQ")  # the same with its first child
_NODE = unpacker("<4sBxH")  # signature, version, symbols
_SMALL_NODE = unpacker("<4sBxHQQI")  # the same with its first symbol's name, address, kind
_SYMBOLS = Struct("<QQI4xI12x")  # name, address, kind, of a soft link the target
_COLLECTION = unpacker("<4sB3xQ")  # signature, version, size
_OBJECT = unpacker("<H6xQ")  # number, size
U32, U64 = unpacker("<I"), unpacker("<Q")

Message = tuple[int, int, int]  # type, address, size
Member = tuple[str, int, "str | None"]  # name, address, a soft link's target


class File:
    """The bytes of an HDF5 file: `data` begins at address 0, which lies at byte `origin` of the file at `path`."""

    __slots__ = ("copied", "data", "end", "map", "most", "names", "origin", "path", "root", "spaces", "texts")

    def __init__(self, data: Any, origin: int, path: str, map: object = None) -> None:
        self.data = data
        self.origin = origin
        self.path = path
        self.map = map
        self.copied = 0
        self.texts = 0  # in attributes
        self.most = LIMITS.header_bytes
        self.names: dict[bytes, dict[int, str]] = {}  # a small local heap -> the links' names in it, checked
        self.spaces: dict[bytes, object] = {}  # attributes' types and dataspaces, understood
        self.end = len(data)
        self.root = 0
        self.superblock()

    def corrupt(self, what: str) -> NoReturn:
        raise CorruptError(what, path=self.path)

    def superblock(self) -> None:
        """Find the root group and the end of the file, which must be there."""
        data = self.data
        if data[:8].tobytes() != MAGIC:
            self.corrupt(f"has no HDF5 signature at byte {self.origin:,}")
        try:
            version = data[8]
            if version > 3:
                raise UnsupportedError(f"has HDF5 superblock version {version}, which is not known", path=self.path)
            if version < 2 and (data[9] or data[10] or data[12]):
                self.corrupt(
                    f"its HDF5 superblock at byte {self.origin:,} is damaged: it names versions of its parts that there never were"
                )
            widths = (data[13], data[14]) if version < 2 else (data[9], data[10])
            if widths != (8, 8):
                raise UnsupportedError(
                    f"has HDF5 addresses of {widths[0]} and lengths of {widths[1]} bytes; 8 and 8 are read", path=self.path
                )
            at = (24, 28)[version] if version < 2 else 12
            base, _, end, other = unpacker("<4Q")(data, at)
            self.root = U64(data, at + 32 + 8)[0] if version < 2 else other
            if version >= 2 and U32(data, 44)[0] != checksum(data[:44].tobytes()):
                self.corrupt(f"its HDF5 superblock at byte {self.origin:,} is damaged: the checksum is not its own")
        except DAMAGE:
            self.corrupt("is cut short within the HDF5 superblock")
        if base == self.origin:  # after a block of the user's own; addresses count from the superblock, the end from the file's beginning
            end -= base
        elif base:
            self.corrupt(f"its HDF5 base address is {base:,}, not where its superblock is")
        if end > len(data):
            raise CorruptError(
                f"truncated: HDF5 says that it ends at byte {end:,}, the file at {len(data):,}", path=self.path, hint="download it again"
            )
        self.end = end
        self.data = data[:end]

    def take(self, at: int, n: int) -> bytes:
        """`n` bytes at an address; all that is copied counts against the limit header_bytes."""
        if at + n > self.end or n < 0:
            self.corrupt(f"has something of {n:,} bytes at byte {at:,}; it ends at {self.end:,}")
        self.copied += n
        if self.copied > self.most:
            LIMITS.check("header_bytes", self.copied, "the size of the HDF5 metadata", self.path)
        raw: bytes = self.data[at : at + n].tobytes()
        return raw

    # --- objects ---------------------------------------------------------------------------------------------------

    def messages(self, at: int) -> list[Message]:
        """The messages of the object header at an address, continuations followed, nothing interpreted."""
        data = self.data
        if data[at] != 1:
            return self._messages2(at)
        _, _, left, _, size = _HEAD(data, at)
        out: list[Message] = []
        blocks = [(at + 16, size)]
        end_of_file = self.end
        for p, n in blocks:
            end = p + n
            if end > end_of_file:
                self.corrupt(f"the object header at byte {at:,} is said to go on to byte {end:,}; the file ends at {end_of_file:,}")
            while p + 8 <= end and left:
                kind, size, flags = _MESSAGE(data, p)
                left -= 1
                p += 8
                if p + size > end:
                    self.corrupt(f"a message of the object header at byte {at:,} is longer than the header")
                if kind == CONTINUATION:
                    blocks.append(_PAIR(data, p))
                elif kind:
                    if flags & 2:
                        self._shared(kind, at)
                    out.append((kind, p, size))
                p += size
        return out

    def _messages2(self, at: int) -> list[Message]:
        """Those of a version 2 header, which carries checksums."""
        data = self.data
        if data[at : at + 4].tobytes() != b"OHDR" or data[at + 4] != 2:
            self.corrupt(f"there is no HDF5 object header at byte {at:,}")
        flags = data[at + 5]
        p = at + 6 + (16 if flags & 0x20 else 0) + (4 if flags & 0x10 else 0)
        width = 1 << (flags & 3)
        size = int.from_bytes(data[p : p + width], "little")
        p += width
        head = 6 if flags & 4 else 4
        out: list[Message] = []
        blocks = [(at, p, p + size)]  # where the checksum begins, the first message, the checksum itself
        seen = {at}
        for start, p, end in blocks:
            if end + 4 > self.end:
                self.corrupt(f"the object header at byte {at:,} is said to go on to byte {end:,}; the file ends at {self.end:,}")
            if U32(data, end)[0] != checksum(self.take(start, end - start)):
                self.corrupt(f"the object header at byte {at:,} is damaged: the checksum is not its own")
            while p + head <= end:
                kind, size, own = data[p], data[p + 1] | data[p + 2] << 8, data[p + 3]
                p += head
                if p + size > end:
                    self.corrupt(f"a message of the object header at byte {at:,} is longer than the header")
                if kind == CONTINUATION:
                    block, length = _PAIR(data, p)
                    if block in seen or data[block : block + 4].tobytes() != b"OCHK":
                        self.corrupt(f"the object header at byte {at:,} goes on where no continuation is")
                    seen.add(block)
                    blocks.append((block, block + 4, block + length - 4))
                elif kind:
                    if own & 2:
                        self._shared(kind, at)
                    out.append((kind, p, size))
                p += size
        return out

    def _shared(self, kind: int, at: int) -> None:
        if kind in (DATASPACE, DATATYPE, FILTERS, ATTRIBUTE, LAYOUT, LINK):
            raise UnsupportedError(
                f"the object at {at:,} shares a part of its header with others (a committed datatype), which is not read", path=self.path
            )

    # --- groups ----------------------------------------------------------------------------------------------------

    def group(self, tree: int, heap: int) -> list[Member]:
        """(name, address, None) of what an old-style group holds; (name, 0, target) of a soft link."""
        data = self.data
        sig, version, size, _, start = _HEAP(data, heap)
        if sig != b"HEAP" or version:
            self.corrupt(f"there is no local heap at byte {heap:,}")
        if start + size > self.end or self.copied > self.most:
            self.take(start, size)  # says what is wrong
        self.copied += size
        names = data[start : start + size].tobytes()
        known = self.names.get(names)
        if known is None:  # many groups hold the same few names ("0", "1", "kernel"): they are cut out once
            known = {}
            if size < 512:
                self.names[names] = known
        sig, kind, level, n, child = _SMALL_TREE(data, tree)
        if n == 1 and sig == b"TREE" and not kind and not level:
            sig, version, n, at, address, kind = _SMALL_NODE(data, child)
            if n == 1 and sig == b"SNOD" and version == 1 and kind != 2 and at in known and child + 48 <= self.end:
                return [(known[at], address, None)]  # one link of a usual name
            sig, kind, n = b"TREE", 0, 1
        # nearly every group is one node: the general way costs three times as much
        nodes = ((child,) if n else ()) if n < 2 and sig == b"TREE" and not kind and not level else self.leaves(tree)
        out: list[Member] = []
        for node in nodes:
            sig, version, n = _NODE(data, node)
            if sig != b"SNOD" or version != 1:
                self.corrupt(f"there is no symbol table node at byte {node:,}")
            end = node + 8 + 40 * n
            if end > self.end:
                self.corrupt(f"the symbol table node at byte {node:,} runs over the end of the file")
            for at, address, kind, target in _SYMBOLS.iter_unpack(data[node + 8 : end]):
                name = known.get(at)
                if name is None:
                    name = known[at] = self.name(names[at : names.index(0, at)])
                out.append(
                    (name, 0, names[target : names.index(0, target)].decode("utf-8", "replace")) if kind == 2 else (name, address, None)
                )
        return out

    def next_places(self, tree: int, heap: int) -> list[int]:
        """Where reading a group goes on from its B-tree and its heap. Says nothing of what is wrong."""
        try:
            (sig, _, _, n, child), (_, _, _, _, names) = _SMALL_TREE(self.data, tree), _HEAP(self.data, heap)
            children = [child] if n < 2 else [U64(self.data, p)[0] for p in range(tree + 32, tree + 32 + 16 * n, 16)]
            return [names, *children] if sig == b"TREE" else [names]
        except DAMAGE:
            return []

    def leaves(self, tree: int, kind: int = 0, size: int = 8) -> Iterator[int]:
        """The addresses under a version 1 B-tree whose keys are `size` bytes long."""
        for _, child in self.entries(tree, kind, size):
            yield child

    def entries(self, tree: int, kind: int, size: int) -> Iterator[tuple[int, int]]:
        """(address of the key, child) of every entry at the lowest level of a version 1 B-tree."""
        data = self.data
        todo = [(tree, -1)]
        seen = 0
        while todo:
            at, level = todo.pop()
            sig, what, found, n, _, _ = _TREE(data, at)
            if sig != b"TREE" or what != kind:
                self.corrupt(f"there is no B-tree node at byte {at:,}")
            if level >= 0 and found != level:
                self.corrupt(f"the B-tree node at byte {at:,} has level {found}, where {level} is expected")
            seen += 1
            if seen * 24 > self.end or found > 60:
                self.corrupt("its B-tree has more nodes than fit into the file")
            if at + 24 + n * (size + 8) > self.end:
                self.corrupt(f"the B-tree node at byte {at:,} runs over the end of the file")
            children = [(p, U64(data, p + size)[0]) for p in range(at + 24, at + 24 + n * (size + 8), size + 8)]
            if found:
                todo += [(child, found - 1) for _, child in reversed(children)]
            else:
                yield from children

    def name(self, raw: bytes) -> str:
        """A link's name as text."""
        if len(raw) > LIMITS.name_bytes:
            LIMITS.check("name_bytes", len(raw), "the length of a name", self.path)
        try:
            name = raw.decode()
        except UnicodeDecodeError:
            self.corrupt(f"has a name that is not UTF-8: {printable(raw)}")
        if not name or "/" in name or name in (".", ".."):
            self.corrupt(f"has a link called {printable(name)!r}")
        return name

    def link(self, p: int, size: int) -> tuple[str, int, str | None]:
        """A link message, as `symbols` gives it. Raises UnsafeError for one that leads into another file."""
        data = self.data
        end = p + size
        version, flags = data[p], data[p + 1]
        if version != 1:
            raise UnsupportedError(f"has a link of version {version}, which is not known", path=self.path)
        p += 2
        kind = 0
        if flags & 8:
            kind, p = data[p], p + 1
        p += (8 if flags & 4 else 0) + (1 if flags & 16 else 0)
        width = 1 << (flags & 3)
        n = int.from_bytes(data[p : p + width], "little")
        p += width
        if p + n > end:
            self.corrupt("has a link whose name is longer than the link")
        name = self.name(data[p : p + n].tobytes())
        p += n
        if kind == 0:
            return name, U64(data, p)[0], None
        n = data[p] | data[p + 1] << 8
        value = data[p + 2 : min(p + 2 + n, end)].tobytes()
        if kind == 1:
            return name, 0, value.decode("utf-8", "replace")
        if kind == 64:
            file = value[1:].split(b"\0")[0]
            raise UnsafeError(
                f"the link {printable(name)!r} leads into another file, {printable(file)!r}, which is never opened", path=self.path
            )
        raise UnsafeError(f"the link {printable(name)!r} is of the user-defined kind {kind}, which is never followed", path=self.path)


def heap_object(file: File, v: tuple[int, int, int], cache: dict[int, dict[int, tuple[int, int]]]) -> bytes:
    """The bytes of a string of variable length: `v` is its length, the address of the global heap it lies in, its number there."""
    length, address, number = v
    if not length:
        return b""
    found = cache.get(address)
    if found is None:
        data = file.data
        sig, _, size = _COLLECTION(data, address)
        if sig != b"GCOL" or address + size > file.end:
            file.corrupt(f"there is no global heap at byte {address:,}")
        found = cache[address] = {}
        p, end = address + 16, address + size
        while p + 16 <= end:
            index, n = _OBJECT(data, p)
            if not index:
                break
            if p + 16 + n > end:
                file.corrupt(f"an object of the global heap at byte {address:,} runs over its end")
            found[index] = (p + 16, n)
            p += 16 + n + -n % 8
    held = found.get(number)
    if held is None:
        file.corrupt(f"the global heap at byte {address:,} has no object {number}")
    at, n = held
    if length > n:
        file.corrupt(f"object {number} of the global heap at byte {address:,} is shorter than is said")
    return file.take(at, length)


def swell(name: str, need: int, stored: int, label: str) -> None:
    """Refuse a tensor that is out of all proportion to what the file stores of it: a bomb, whatever its size."""
    if need > SMALL and need > LIMITS.unpack_ratio * stored:
        hint = "where you trust its writer, copy it without compression (h5repack -f NONE), or --limit unpack_ratio=N"
        what = f"dataset {name} is said to have {need:,} bytes, of which the file stores {stored:,}"
        raise LimitError(f"{what}, over the limit unpack_ratio={LIMITS.unpack_ratio}", path=label, hint=hint)


def checksum(raw: bytes) -> int:
    """The checksum of HDF5 metadata: Bob Jenkins' lookup3 (hashlittle) with initial value 0."""
    n = len(raw)
    a: int = 0xDEADBEEF + n & 0xFFFFFFFF
    b = c = a
    mask = 0xFFFFFFFF
    whole = (n - 1) // 12 * 12 if n else 0
    for x, y, z in Struct("<3I").iter_unpack(raw[:whole]):
        a, b, c = a + x & mask, b + y & mask, c + z & mask
        a = (a - c & mask) ^ (c << 4 & mask | c >> 28)
        c = c + b & mask
        b = (b - a & mask) ^ (a << 6 & mask | a >> 26)
        a = a + c & mask
        c = (c - b & mask) ^ (b << 8 & mask | b >> 24)
        b = b + a & mask
        a = (a - c & mask) ^ (c << 16 & mask | c >> 16)
        c = c + b & mask
        b = (b - a & mask) ^ (a << 19 & mask | a >> 13)
        a = a + c & mask
        c = (c - b & mask) ^ (b << 4 & mask | b >> 28)
        b = b + a & mask
    if not n:
        return c
    last = raw[whole:].ljust(12, b"\0")
    a, b, c = (v + int.from_bytes(last[i : i + 4], "little") & mask for v, i in ((a, 0), (b, 4), (c, 8)))
    c = (c ^ b) - (b << 14 & mask | b >> 18) & mask
    a = (a ^ c) - (c << 11 & mask | c >> 21) & mask
    b = (b ^ a) - (a << 25 & mask | a >> 7) & mask
    c = (c ^ b) - (b << 16 & mask | b >> 16) & mask
    a = (a ^ c) - (c << 4 & mask | c >> 28) & mask
    b = (b ^ a) - (a << 14 & mask | a >> 18) & mask
    return (c ^ b) - (b << 24 & mask | b >> 8) & mask
