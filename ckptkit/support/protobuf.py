"""The protobuf wire format, as much of it as TensorFlow's checkpoints need; nothing is read past a given end.

Source: protobuf.dev/programming-guides/encoding. Readers walk anything that can be indexed and sliced like bytes, so
that the same code serves bytes in memory and a window on a file whose weights must not be read.
"""

from __future__ import annotations

from collections.abc import Iterator

from .._typing import NoReturn, Protocol, SupportsIndex, overload
from ..errors import CorruptError
from ..limits import LIMITS

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5


class Readable(Protocol):
    """What can be indexed and sliced like bytes."""

    @overload
    def __getitem__(self, index: SupportsIndex, /) -> int: ...

    @overload
    def __getitem__(self, index: slice, /) -> bytes: ...


def bad(what: str, path: str, at: int | None = None) -> NoReturn:
    """Raise the CorruptError that says what is wrong where."""
    raise CorruptError(what if at is None else f"{what} at byte {at}", path=path)


def varint(data: Readable, pos: int, end: int, path: str) -> tuple[int, int]:
    """The unsigned varint at `pos` and where it ends. CorruptError if it passes `end` or 64 bits."""
    value = shift = 0
    for b in data[pos : min(pos + 10, end)]:
        value |= (b & 127) << shift
        shift += 7
        if b < 128:
            if value >> 64:
                break
            return value, pos + shift // 7
    bad("bad varint", path, pos)


def signed(value: int) -> int:
    """A varint's value as the int64 it stands for."""
    return value - (1 << 64) if value >> 63 else value


def fields(data: Readable, pos: int, end: int, path: str) -> Iterator[tuple[int, int, int, int]]:
    """(field, wire type, value, end) of each field of a message.

    For BYTES, `value` and `end` are where the content begins and ends; else `end` is where the field does.
    """
    while pos < end:
        at = pos
        tag, pos = varint(data, pos, end, path)
        wire = tag & 7
        if tag < 8 or tag >> 32:
            bad("bad protobuf tag", path, at)
        if wire == VARINT:
            value, pos = varint(data, pos, end, path)
        elif wire == BYTES:
            length, value = varint(data, pos, end, path)
            pos = value + length
        elif wire in (FIXED32, FIXED64):
            width = 4 if wire == FIXED32 else 8
            value = int.from_bytes(data[pos : min(pos + width, end)], "little")
            pos += width
        else:
            bad(f"protobuf wire type {wire}", path, at)
        if pos > end:
            bad("a protobuf field runs past its message", path, at)
        yield tag >> 3, wire, value, pos


def shape(data: Readable, pos: int, end: int, path: str) -> tuple[int, ...]:
    """The sizes of a TensorShapeProto (tensorflow/core/framework/tensor_shape.proto). CorruptError for an unknown or negative one."""
    dims = []
    for number, wire, value, stop in fields(data, pos, end, path):
        if number == 2 and wire == BYTES:
            size = 0
            for n, w, v, _ in fields(data, value, stop, path):
                if n == 1 and w == VARINT:
                    size = signed(v)
            if size < 0:
                bad(f"a dimension of size {size}", path, value)
            dims.append(size)
            LIMITS.check("rank", len(dims), f"the rank of the shape at byte {pos}", path)
        elif number == 3 and value:
            bad("a shape of unknown rank", path, pos)
    return tuple(dims)


_ONE = [bytes((i,)) for i in range(128)]


def encode_varint(value: int) -> bytes:
    """`value` (not negative) as a varint."""
    if value < 128:
        return _ONE[value]
    if value < 16384:
        return bytes((value & 127 | 128, value >> 7))
    if value < 1 << 21:
        return bytes((value & 127 | 128, value >> 7 & 127 | 128, value >> 14))
    if value < 1 << 28:
        return bytes((value & 127 | 128, value >> 7 & 127 | 128, value >> 14 & 127 | 128, value >> 21))
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def encode(number: int, value: int | bytes) -> bytes:
    """A varint or bytes field; nothing for 0, as proto3 has it."""
    if isinstance(value, bytes):
        return encode_varint(number << 3 | BYTES) + encode_varint(len(value)) + value
    return encode_varint(number << 3 | VARINT) + encode_varint(value) if value else b""
