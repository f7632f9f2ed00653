"""Partitioned TensorFlow variables: slices of a tensor, the keys they are stored under, and putting them together.

Sources in tensorflow/core: framework/tensor_slice.{proto,cc}, util/saved_tensor_slice_util.cc (the keys),
lib/strings/ordered_code.cc (an encoding whose bytes sort as the values do).
"""

from __future__ import annotations

from itertools import combinations
from math import prod

from ... import store
from ..._typing import NamedTuple
from ...errors import CorruptError
from ...limits import LIMITS
from ...support.protobuf import BYTES, VARINT, Readable, fields, signed
from ...tensors import Box, Extent
from .._pieces import runs, tile

WHOLE = (0, -1)  # the range of a dimension that is not sliced


class Piece(NamedTuple):
    """A slice with its bytes: (start, length) along every axis of the full tensor."""

    box: tuple[tuple[int, int], ...]
    extent: Extent


def parse(data: Readable, pos: int, end: int, path: str) -> tuple[tuple[int, int], ...]:
    """A TensorSliceProto as (start, length) of each axis; WHOLE where it says nothing."""
    out = []
    for number, wire, value, stop in fields(data, pos, end, path):
        if number == 1 and wire == BYTES:
            start, length = WHOLE
            for n, w, v, _ in fields(data, value, stop, path):
                if n == 1 and w == VARINT:
                    start = signed(v)
                elif n == 2 and w == VARINT:
                    length = signed(v)
                    if length < 0:
                        raise CorruptError(f"a slice of length {length} at byte {value}", path=path)
            if length < 0 and start:
                raise CorruptError(f"a slice from {start} without a length at byte {value}", path=path)
            out.append((start, length))
            LIMITS.check("rank", len(out), f"the rank of the slice at byte {pos}", path)
    return tuple(out)


def add(out: list[tuple[tuple[int, int], ...]], data: Readable, pos: int, end: int, path: str) -> None:
    """Append a TensorSliceProto to the slices of one tensor. LimitError for more of them than are handled."""
    if len(out) >= LIMITS.slices:
        LIMITS.refuse("slices", f"a tensor is cut into more slices, at byte {pos}", path)
    out.append(parse(data, pos, end, path))


def key(name: bytes, ranges: tuple[tuple[int, int], ...]) -> bytes:
    """The key that a slice of the tensor `name` is stored under."""
    escaped = name
    if b"\0" in name or b"\xff" in name:
        escaped = b"".join({0: b"\0\xff", 255: b"\xff\0"}.get(b, bytes([b])) for b in name)
    rank = len(ranges).to_bytes((len(ranges).bit_length() + 7) // 8, "big")
    return b"".join((b"\0", escaped, b"\0\1", bytes([len(rank)]), rank, *(_signed(v) for r in ranges for v in r)))


def _signed(value: int) -> bytes:
    """OrderedCode's signed number: as many leading ones as bytes (zeros if negative), then two's complement."""
    size = (value if value >= 0 else ~value).bit_length() // 7 + 1
    ones = ((1 << size) - 1) << (7 * size)
    return ((value & ((1 << 8 * size) - 1)) ^ ones).to_bytes(size, "big")


def resolve(ranges: tuple[tuple[int, int], ...], shape: tuple[int, ...], what: str, path: str) -> tuple[tuple[int, int], ...]:
    """`ranges` with every length stated. CorruptError where they leave `shape`."""
    if len(ranges) != len(shape):
        raise CorruptError(f"a slice of {what} has {len(ranges)} axes, the tensor {len(shape)}", path=path)
    box = tuple((0, n) if r == WHOLE else r for r, n in zip(ranges, shape, strict=True))
    for (start, length), n in zip(box, shape, strict=True):
        if start < 0 or length < 0 or start + length > n:
            raise CorruptError(f"a slice of {what} covers {start} to {start + length} of an axis of {n}", path=path)
    return box


def boxes_of(pieces: list[Piece]) -> tuple[Box, ...]:
    """The pieces in the words of all formats."""
    return tuple(Box(tuple(o for o, _ in p.box), tuple(n for _, n in p.box), p.extent) for p in pieces)


def cover(pieces: list[Piece], shape: tuple[int, ...], what: str, path: str) -> None:
    """Hold that the pieces cover the tensor once, as TensorFlow's always do. CorruptError for holes and overlaps."""
    held = sum(prod(n for _, n in p.box) for p in pieces)
    total = prod(shape)
    if held < total:
        raise CorruptError(f"slices of {what} are missing: {held} of {total} elements are there", path=path)
    if held > total or tile(boxes_of(pieces), shape, "U8", what, path).missing:
        found = next(((a.box, b.box) for a, b in combinations(pieces[:1000], 2) if _share(a, b)), None)
        said = f": {list(found[0])} and {list(found[1])} (start, length)" if found else ""
        raise CorruptError(f"slices of {what} overlap{said}", path=path)


def _share(a: Piece, b: Piece) -> bool:
    return all(s < t + m and t < s + n for (s, n), (t, m) in zip(a.box, b.box, strict=True))


def assemble(parts: list[tuple[tuple[tuple[int, int], ...], bytes]], shape: tuple[int, ...], width: int) -> bytes:
    """The full row-major tensor of slices whose bytes are at hand: (box, bytes)."""
    out = bytearray(prod(shape) * width)
    for (box,), data in ((boxes_of([Piece(box, Extent("", 0, len(data)))]), data) for box, data in parts):
        for to, start, n in runs(box, shape):
            out[to * width : (to + n) * width] = data[start * width : (start + n) * width]
    return bytes(out)


def slurp(extent: Extent) -> bytes:
    """The bytes of an extent. CorruptError if the file ends before it does."""
    blob = store.open_blob(extent.path)
    try:
        data = blob.pread(extent.length, extent.offset)
        while len(data) < extent.length:
            more = blob.pread(extent.length - len(data), extent.offset + len(data))
            if not more:
                raise CorruptError(f"ends at byte {extent.offset + len(data)}, {extent.length - len(data)} short", path=extent.path)
            data += more
        return data
    finally:
        blob.close()
