"""The messages in a tensor bundle's index: BundleHeaderProto and BundleEntryProto, both ways.

Source: tensorflow/core/protobuf/tensor_bundle.proto, core/framework/{types,versions,tensor_shape}.proto.
"""

from __future__ import annotations

from functools import lru_cache, partial

from ... import store
from ..._typing import TYPE_CHECKING, NamedTuple
from ...errors import CheckpointError, UnsupportedError
from ...limits import LIMITS
from ...support.columns import compiled, pluck
from ...support.lazy import later
from ...support.protobuf import BYTES, VARINT, Readable, bad, encode, encode_varint, fields, signed, varint
from ...support.protobuf import shape as parse_shape
from ...tensors import DTYPES, TensorSpec
from .table import scan_with

if TYPE_CHECKING:
    from . import partitions
else:
    later(globals(), partitions=".partitions")

VERSION = 1
_new = tuple.__new__  # a named tuple without its argument handling
KINDS = {d.tensorflow: d.name for d in DTYPES.values() if d.tensorflow is not None}
# quantised integers are integers; the rest has no array form
QUANTISED = {11: ("I8", "qint8"), 12: ("U8", "quint8"), 13: ("I32", "qint32"), 15: ("I16", "qint16"), 16: ("U16", "quint16")}
OPAQUE = {
    20: "resource", 21: "variant", 27: "float8_e4m3b11fnuz", 29: "int4", 30: "uint4", 31: "int2", 32: "uint2", 33: "float4_e2m1fn",
}  # fmt: skip


class Kind(NamedTuple):
    """What an entry says a tensor is. `spec` is None for a DataType that has no array form or does not exist."""

    number: int  # DataType
    shape: tuple[int, ...]
    spec: TensorSpec | None
    nbytes: int
    usual: bytes  # how the size and the tag of the checksum are encoded in a sound entry


class Raw(NamedTuple):
    """A BundleEntryProto. Numbers are as encoded: a negative one is above 2**63."""

    kind: Kind
    shard: int
    offset: int
    size: int
    crc: int
    slices: tuple[tuple[tuple[int, int], ...], ...]


@lru_cache(4096)
def kind_of(number: int, shape: tuple[int, ...]) -> Kind:
    """The Kind of a DataType and a shape."""
    dtype = KINDS.get(number) or QUANTISED.get(number, ("",))[0]
    spec = TensorSpec(dtype, shape) if dtype else None
    nbytes = spec.nbytes if spec else 0
    return Kind(number, shape, spec, nbytes, encode(5, nbytes) + b"\x35")


def entry(v: Readable, start: int, end: int, path: str, heads: dict[bytes, Kind]) -> Raw:
    """One BundleEntryProto. Written out, as an index may have 20,000.

    `heads` remembers what encoded dtypes and shapes mean; where such a beginning and the usual end frame nothing but
    a data file's number and an offset, that is all there is to read.
    """
    p = start
    kind: Kind | None = None
    number = shard = offset = size = crc = 0
    shape: tuple[int, ...] | None = None
    slices: list[tuple[tuple[int, int], ...]] | None = None
    if end - p > 4 and v[p] == 0x08 and v[p + 2] == 0x12:
        head = v[p : p + 4 + v[p + 3]]
        kind = heads.get(head)
        if kind is not None:
            p += len(head)
            cut = end - 4 - len(kind.usual)
            if kind.nbytes and cut >= p and v[cut : end - 4] == kind.usual and v[cut - 1] < 128:
                q = p
                if v[q] == 0x18 and v[q + 1] < 128:
                    shard = v[q + 1]
                    q += 2
                if q < cut and v[q] == 0x20:
                    offset, q = varint(v, q + 1, cut, path)
                if q == cut:
                    crc = int.from_bytes(v[end - 4 : end], "little")
                    return _new(Raw, (kind, shard, offset, kind.nbytes, crc, ()))
                shard = offset = 0
    while p < end:
        at = p
        tag = v[p]
        if tag == 0x35:
            crc = int.from_bytes(v[p + 1 : p + 5], "little")
            p += 5
            continue
        n = v[p + 1]
        p += 2
        if n > 127:
            n, p = varint(v, p - 1, end, path)
        if tag == 0x20:
            offset = n
        elif tag == 0x28:
            size = n
        elif tag == 0x18:
            shard = n
        elif tag == 0x08 and kind is None and not number:
            number = n
        elif tag == 0x12 and kind is None and shape is None and p + n <= end:
            shape = parse_shape(v, p, p + n, path)
            if p == start + 4:
                heads[v[start : p + n]] = kind_of(number, shape)
            p += n
        elif tag == 0x3A and p + n <= end:
            slices = slices or []
            partitions.add(slices, v, p, p + n, path)
            p += n
        else:
            p = _unknown(v, at, end, path)
    if p != end:
        bad("an entry's fields run past its end", path, start)
    return _new(Raw, (kind or kind_of(number, shape or ()), shard, offset, size, crc, tuple(slices) if slices else ()))


def _unknown(v: Readable, p: int, end: int, path: str) -> int:
    """Where a field that this version does not know ends."""
    number, _, _, stop = next(fields(v, p, end, path))
    if number < 8:
        bad(f"field {number} of an entry is not encoded as it should be", path, p)
    return stop


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
    blob = store.open_blob(path)
    try:
        data = blob.pread(LIMITS.check("header_bytes", blob.size, "the index's size in bytes", path), 0)
    finally:
        blob.close()
    shards = 0
    out: dict[bytes, Raw] = {}
    heads: dict[bytes, Kind] = {}
    native = compiled()
    for _, held, found, said in scan_with(data, len(data), path, heads):
        i = 0
        if not shards and found:
            key, start, end = found[0]
            if key:
                break
            shards, i = header(held, start, end, path), 1
        whole = bool(said) and None not in said[i:]
        while i < len(found):
            known = said[i:] if whole else native.says(held, found, i, heads) if said and native is not None else []  # of a form met since
            out.update(zip(pluck(found[i : i + len(known)], 0), map(partial(_new, Raw), known), strict=True))
            i += len(known)
            if i < len(found):
                key, start, end = found[i]
                out[key] = _entry_of(key, held, start, end, path, heads)
                i += 1
    if not shards:
        bad("has no header: the first key is not the empty one", path)
    return shards, out


def _entry_of(key: bytes, held: Readable, start: int, end: int, path: str, heads: dict[bytes, Kind]) -> Raw:
    try:
        return entry(held, start, end, path, heads)
    except CheckpointError as e:
        raise type(e)(f"{key.decode('utf-8', 'backslashreplace')!r}: {e.message}", path=path, hint=e.hint) from None


def encode_header(shards: int) -> bytes:
    """The header TensorFlow writes on a little-endian machine."""
    return encode(1, shards) + encode(3, encode(1, VERSION))


def encode_entry(raw: Raw) -> bytes:
    """A BundleEntryProto without slices."""
    kind, shard, offset, size, crc, _ = raw
    head = (
        _encode_kind(kind.number, kind.shape) + (encode(3, shard) if shard else b"") + (b"\x20" + encode_varint(offset) if offset else b"")
    )
    if crc and size == kind.nbytes:
        return head + kind.usual + crc.to_bytes(4, "little")
    return head + encode(5, size) + (b"\x35" + crc.to_bytes(4, "little") if crc else b"")


@lru_cache(4096)
def _encode_kind(number: int, shape: tuple[int, ...]) -> bytes:
    """The dtype and shape of an entry: a model has few of them."""
    return encode(1, number) + encode(2, b"".join(encode(2, encode(1, n)) for n in shape))
