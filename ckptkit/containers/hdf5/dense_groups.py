"""What HDF5 1.8 and later keep outside of object headers: links and attributes in a fractal heap, found through a version 2 B-tree.

Source: HDF5 File Format Specification 3.0, III.A.2 (version 2 B-trees), III.G (fractal heaps). h5py writes these with `libver="latest"` or
`track_order=True`; Keras does not. Only unfiltered heaps are read.
"""

from __future__ import annotations

from collections.abc import Iterator

from ...errors import UnsupportedError
from ...limits import LIMITS
from .file import U32, U64, File, checksum, unpacker

_TREE = unpacker("<BBIHHBBQHQ")  # version, type, node size, record size, depth, split, merge, root, records, all records
_HEAP = unpacker("<BHHBI")  # version, length of an id, of the filters, flags, largest object
# width, first block's size, largest direct block's, bits of the heap, rows at first, root, rows of the root
_TABLE = unpacker("<HQQHHQH")
_HUGE = unpacker("<QQQ")  # where an object lies that no block holds, its bytes, the number it is known by
_ID_AT = {5: 4, 8: 0}  # where a record of a B-tree of this type has the heap's id


def objects(file: File, heap: int, tree: int, kind: int) -> list[tuple[int, int]]:
    """(address, size) of every object that a B-tree of type `kind` lists (5: links, 8: attributes), as they lie in the heap."""
    place = _Heap(file, heap)
    at = _ID_AT[kind]
    return sorted(place.find(record[at:]) for record in _records(file, tree, kind))


def _records(file: File, at: int, kind: int) -> Iterator[bytes]:
    """The records of a version 2 B-tree."""
    data = file.data
    if data[at : at + 4].tobytes() != b"BTHD":
        file.corrupt(f"there is no B-tree at byte {at:,}")
    _, what, node, size, depth, _, _, root, n, total = _TREE(data, at + 4)
    if what != kind or size < 11 or node < 16 + size or depth > 30:
        file.corrupt(f"the B-tree at byte {at:,} is damaged")
    LIMITS.check("tensors", total, "the number of links or attributes", file.path)
    most = (node - 10) // size
    width = _bytes_for(most)
    totals, cumulated = [0], most  # bytes of a child's total number of records, by level
    for level in range(1, depth + 1):
        pointer = 8 + width + totals[level - 1]
        here = (node - 10 - pointer) // (size + pointer)
        cumulated = (here + 1) * cumulated + here
        totals.append(_bytes_for(cumulated))
    todo = [(root, n, depth)] if n else []
    met = 0
    while todo:
        p, n, level = todo.pop()
        pointer = 8 + width + totals[level - 1] if level else 0
        used = 6 + n * size + (n + 1) * pointer * bool(level)
        if data[p : p + 4].tobytes() != (b"BTIN" if level else b"BTLF") or data[p + 5] != kind or used + 4 > node or p + node > file.end:
            file.corrupt(f"the B-tree node at byte {p:,} is damaged")
        if U32(data, p + used)[0] != checksum(file.take(p, used)):
            file.corrupt(f"the B-tree node at byte {p:,} is damaged: the checksum is not its own")
        met += n
        if met > total:
            file.corrupt(f"the B-tree at byte {at:,} has more records than it says")
        for i in range(n):
            yield data[p + 6 + i * size : p + 6 + (i + 1) * size].tobytes()
        for i in range((n + 1) * bool(level)):
            q = p + 6 + n * size + i * pointer
            todo.append((U64(data, q)[0], int.from_bytes(data[q + 8 : q + 8 + width], "little"), level - 1))


def _bytes_for(n: int) -> int:
    """How many bytes a number up to `n` takes."""
    return (max(n, 1).bit_length() - 1) // 8 + 1


class _Heap:
    """A fractal heap's header: blocks of doubling size in a table."""

    def __init__(self, file: File, at: int) -> None:
        data = file.data
        if data[at : at + 4].tobytes() != b"FRHP":
            file.corrupt(f"there is no fractal heap at byte {at:,}")
        version, self.id_bytes, packed, _, largest = _HEAP(data, at + 4)
        if version or packed:
            raise UnsupportedError(
                "keeps links or attributes in a packed heap, which is not read", path=file.path, hint="h5repack gives a plain file"
            )
        self.file = file
        self.huge_tree: int = U64(data, at + 22)[0]
        self.huge: dict[int, tuple[int, int]] | None = None
        self.width, self.first, self.direct, bits, _, self.root, self.rows = _TABLE(data, at + 110)
        if not self.width or not self.first or self.width & self.width - 1 or self.first & self.first - 1 or bits > 64:
            file.corrupt(f"the fractal heap at byte {at:,} is damaged")
        self.offset_bytes = (bits + 7) // 8
        self.length_bytes = min(_bytes_for(self.direct), _bytes_for(largest))

    def find(self, key: bytes) -> tuple[int, int]:
        """(address, size) of the object with this id."""
        if key[0] >> 4 == 1 and self.id_bytes < 17:  # too long for the blocks: a B-tree of the heap's own says where it lies
            if self.huge is None:
                self.huge = {number: (at, n) for at, n, number in map(_HUGE, _records(self.file, self.huge_tree, 1))}
            at, n = self.huge.get(int.from_bytes(key[1 : self.id_bytes], "little"), (self.file.end, 1))
            if at + n > self.file.end:
                self.file.corrupt("keeps a long attribute where there is none")
            return at, n
        if key[0] >> 4:
            raise UnsupportedError(
                "keeps an attribute in a form of heap that is not read", path=self.file.path, hint="h5repack gives a plain file"
            )
        end = 1 + self.offset_bytes
        offset, length = int.from_bytes(key[1:end], "little"), int.from_bytes(key[end : end + self.length_bytes], "little")
        block, rows = self.root, self.rows
        size = self.first
        data = self.file.data
        for _ in range(64 if rows else 0):
            row = 0 if offset < self.first * self.width else offset.bit_length() - (self.first * self.width).bit_length() + 1
            size = self.first << max(row - 1, 0)
            start = self.first * self.width << row - 1 if row else 0
            column = (offset - start) // size
            if row >= rows or data[block : block + 4].tobytes() != b"FHIB":
                self.file.corrupt("a fractal heap has no block where an object should lie")
            block = U64(data, block + 13 + self.offset_bytes + 8 * (row * self.width + column))[0]
            offset -= start + column * size
            if size <= self.direct:
                break
            rows = size.bit_length() - (self.first * self.width).bit_length() + 1
        if offset + length > size or block + size > self.file.end or data[block : block + 4].tobytes() != b"FHDB":
            self.file.corrupt("a fractal heap has no block where an object should lie")
        return block + offset, length
