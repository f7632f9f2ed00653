"""The messages in a tensor bundle's index: BundleHeaderProto and BundleEntryProto, both ways.

Source: tensorflow/core/protobuf/tensor_bundle.proto, core/framework/{types,versions,tensor_shape}.proto.
"""

from __future__ import annotations

import os

from .._typing import NamedTuple
from ..errors import UnsupportedError
from ..limits import LIMITS
from ..tensors import DTYPES
from ._base import open_fd
from ._proto import BYTES, VARINT, Readable, bad, encode, fields, signed, varint
from ._proto import shape as parse_shape
from ._slices import parse as parse_slice
from ._table import scan

VERSION = 1
KINDS = {d.tensorflow: d.name for d in DTYPES.values() if d.tensorflow is not None}
# quantised integers are integers; the rest has no array form
QUANTISED = {11: ("I8", "qint8"), 12: ("U8", "quint8"), 13: ("I32", "qint32"), 15: ("I16", "qint16"), 16: ("U16", "quint16")}
OPAQUE = {
    20: "resource", 21: "variant", 27: "float8_e4m3b11fnuz", 29: "int4", 30: "uint4", 31: "int2", 32: "uint2", 33: "float4_e2m1fn",
}  # fmt: skip


class Raw(NamedTuple):
    """A BundleEntryProto. `kind` is a DataType; numbers are as encoded, so a negative one is above 2**63."""

    kind: int
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int
    crc: int
    slices: tuple[tuple[tuple[int, int], ...], ...]


def entry(v: Readable, p: int, end: int, path: str, shapes: dict[bytes, tuple[int, ...]]) -> Raw:
    """One BundleEntryProto. Written out since there are 20,000 of them; `shapes` remembers what encodings mean."""
    kind = shard = offset = size = crc = 0
    shape: tuple[int, ...] | None = None
    slices: list[tuple[tuple[int, int], ...]] = []
    while p < end:
        tag = v[p]
        p += 1
        if tag == 0x35:
            crc = int.from_bytes(v[p : p + 4], "little")
            p += 4
        elif tag in (0x08, 0x18, 0x20, 0x28, 0x12, 0x3A):
            n = v[p]
            if n > 127 or p >= end:
                n, p = varint(v, p, end, path)
            else:
                p += 1
            if tag == 0x20:
                offset = n
            elif tag == 0x28:
                size = n
            elif tag == 0x08:
                kind = n
            elif tag == 0x18:
                shard = n
            else:
                stop = p + n
                if stop > end:
                    break
                if tag == 0x3A:
                    slices.append(parse_slice(v, p, stop, path))
                else:
                    if shape is not None:
                        bad("two shapes in one entry", path, p)
                    code = v[p:stop]
                    shape = shapes.get(code)
                    if shape is None:
                        shape = shapes[code] = parse_shape(v, p, stop, path)
                p = stop
        else:
            p -= 1
            number, _, _, stop = next(fields(v, p, end, path))
            if number < 8:
                bad(f"field {number} of an entry is not encoded as it should be", path, p)
            p = stop
    if p != end:
        bad("an entry's fields run past its end", path, p)
    return Raw(kind, shape or (), shard, offset, size, crc, tuple(slices))


def header(data: Readable, start: int, end: int, path: str) -> int:
    """num_shards of a BundleHeaderProto. CorruptError for a bad count, UnsupportedError for big-endian and newer versions."""
    shards = 0
    for number, wire, value, stop in fields(data, start, end, path):
        if number == 1 and wire == VARINT:
            shards = signed(value)
        elif number == 2 and value:
            raise UnsupportedError("is a big-endian bundle", path=path, hint="save it again on a little-endian machine")
        elif number == 3 and wire == BYTES:
            for n, w, v, s in fields(data, value, stop, path):
                held = [v] if w == VARINT else list(data[v:s]) if w == BYTES else []
                if (n == 2 and held and held[0] > VERSION) or (n == 3 and VERSION in held):
                    raise UnsupportedError(f"asks for a newer reader of tensor bundles than version {VERSION}", path=path)
    if shards < 1:
        bad(f"the header says {shards} data files", path)
    return LIMITS.check("shards", shards, "the number of data files", path)


def load(path: str) -> tuple[int, dict[bytes, Raw]]:
    """How many data files an index says there are, and its entries by key, in the file's order.

    Raises CorruptError, UnsupportedError, LimitError, NotFoundError.
    """
    fd = open_fd(path)
    try:
        data = os.read(fd, LIMITS.check("header_bytes", os.fstat(fd).st_size, "the index's size in bytes", path))
    finally:
        os.close(fd)
    shards = 0
    out: dict[bytes, Raw] = {}
    shapes: dict[bytes, tuple[int, ...]] = {}
    for _, held, found in scan(data, len(data), path):
        for key, start, end in found:
            if shards:
                out[key] = entry(held, start, end, path, shapes)
            elif key:
                break
            else:
                shards = header(held, start, end, path)
    if not shards:
        bad("has no header: the first key is not the empty one", path)
    return shards, out


def encode_header(shards: int) -> bytes:
    """The header TensorFlow writes on a little-endian machine."""
    return encode(1, shards) + encode(3, encode(1, VERSION))


def encode_entry(raw: Raw) -> bytes:
    """A BundleEntryProto without slices."""
    dims = b"".join(encode(2, encode(1, n)) for n in raw.shape)
    crc = b"\x35" + raw.crc.to_bytes(4, "little") if raw.crc else b""
    return encode(1, raw.kind) + encode(2, dims) + encode(3, raw.shard) + encode(4, raw.offset) + encode(5, raw.size) + crc
