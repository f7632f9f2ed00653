"""Partitioned TensorFlow variables: slices of a tensor, the keys they are stored under, and putting them together.

Sources in tensorflow/core: framework/tensor_slice.{proto,cc}, util/saved_tensor_slice_util.cc (the keys),
lib/strings/ordered_code.cc (an encoding whose bytes sort as the values do).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import islice, product
from math import prod

from ..._typing import NamedTuple
from ...errors import CorruptError
from ...limits import LIMITS
from ...support.open_file import open_fd
from ...support.protobuf import BYTES, VARINT, Readable, fields, signed
from ...tensors import Extent

WHOLE = (0, -1)  # the range of a dimension that is not sliced
_MAX_RUNS = 1 << 17


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


def cover(pieces: list[Piece], shape: tuple[int, ...], what: str, path: str) -> None:
    """Hold that the pieces cover the tensor once. CorruptError for holes and overlaps."""
    held = sum(prod(n for _, n in p.box) for p in pieces)
    total = prod(shape)
    if held < total:
        raise CorruptError(f"slices of {what} are missing: {held} of {total} elements are there", path=path)
    if not shape:
        if len(pieces) > 1:
            raise CorruptError(f"the scalar {what} is there {len(pieces)} times", path=path)
        return
    boxes = [p.box for p in pieces if all(n for _, n in p.box)]
    axis = max(range(len(shape)), key=lambda d: len({b[d] for b in boxes}))
    boxes.sort(key=lambda b: b[axis])
    compared = 0
    for i, a in enumerate(boxes):
        for b in islice(boxes, i + 1, None):
            if b[axis][0] >= sum(a[axis]):
                break
            compared += 1
            if compared > LIMITS.slice_pairs:
                LIMITS.refuse("slice_pairs", f"{what} is cut into {len(boxes):,} slices along too many axes", path)
            if all(s < t + m and t < s + n for (s, n), (t, m) in zip(a, b, strict=True)):
                raise CorruptError(f"slices of {what} overlap: {list(a)} and {list(b)} (start, length)", path=path)


def _rows(piece: Piece, shape: tuple[int, ...], width: int) -> tuple[int, int]:
    """How many runs of the full tensor a piece is, and the bytes of each."""
    split = next((d for d in reversed(range(len(shape))) if piece.box[d][1] != shape[d]), 0)
    return prod(n for _, n in piece.box[:split]), prod(n for _, n in piece.box[split:]) * width


def _runs(piece: Piece, shape: tuple[int, ...], width: int) -> Iterator[tuple[int, int, int]]:
    """(byte in the full tensor, byte in the file, length) of every run of a piece."""
    count, length = _rows(piece, shape, width)
    if not count or not length:
        return
    split = next((d for d in reversed(range(len(shape))) if piece.box[d][1] != shape[d]), 0)
    strides = [width * prod(shape[d + 1 :]) for d in range(len(shape))]
    base = sum(s * w for (s, _), w in zip(piece.box, strides, strict=True))
    steps = product(*(range(0, n * w, w) for (_, n), w in zip(piece.box[:split], strides[:split], strict=True)))
    for i, step in enumerate(steps):
        yield base + sum(step), piece.extent.offset + i * length, length


def join(pieces: list[Piece], shape: tuple[int, ...], width: int) -> tuple[Extent, ...] | None:
    """The extents that are the full row-major tensor in order; None where there would be too many."""
    if sum(_rows(p, shape, width)[0] for p in pieces) > _MAX_RUNS:
        return None
    runs = sorted((to, p.extent.path, at, n) for p in pieces for to, at, n in _runs(p, shape, width))
    out: list[Extent] = []
    for _, path, at, n in runs:
        if out and out[-1].path == path and out[-1].offset + out[-1].length == at:
            out[-1] = Extent(path, out[-1].offset, out[-1].length + n)
        else:
            out.append(Extent(path, at, n))
    return tuple(out)


def read(pieces: list[Piece], shape: tuple[int, ...], width: int) -> bytes:
    """The full row-major tensor, read piece by piece."""
    return assemble([(p.box, slurp(p.extent)) for p in pieces], shape, width)


def assemble(parts: list[tuple[tuple[tuple[int, int], ...], bytes]], shape: tuple[int, ...], width: int) -> bytes:
    """The full row-major tensor of slices whose bytes are at hand: (box, bytes)."""
    out = bytearray(prod(shape) * width)
    for box, data in parts:
        for to, start, n in _runs(Piece(box, Extent("", 0, len(data))), shape, width):
            out[to : to + n] = data[start : start + n]
    return bytes(out)


def slurp(extent: Extent) -> bytes:
    """The bytes of an extent. CorruptError if the file ends before it does."""
    fd = open_fd(extent.path)
    try:
        data = os.pread(fd, extent.length, extent.offset)
        while len(data) < extent.length:
            more = os.pread(fd, extent.length - len(data), extent.offset + len(data))
            if not more:
                raise CorruptError(f"ends at byte {extent.offset + len(data)}, {extent.length - len(data)} short", path=extent.path)
            data += more
        return data
    finally:
        os.close(fd)
