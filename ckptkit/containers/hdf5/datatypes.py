"""What HDF5 says of a dataset: its datatype, dataspace, filters and attributes, turned into ckptkit's own terms.

Source: HDF5 File Format Specification 3.0, IV.A.2 (header messages). numpy's bool is an enumeration of FALSE and TRUE and its complex
a compound of r and i, as h5py writes them; Keras 3 marks bfloat16, which it stores as two opaque bytes, with an attribute.
"""

from __future__ import annotations

from struct import Struct

from ..._typing import NamedTuple, cast
from ...errors import CorruptError, UnsupportedError, printable
from ...limits import LIMITS
from .file import DAMAGE, File, heap_object, unpacker

DEFLATE, SHUFFLE, FLETCHER = 1, 2, 3

# size, bits of the exponent, of the mantissa, bias -> dtype
_FLOATS = {
    (8, 11, 52, 1023): "F64", (4, 8, 23, 127): "F32", (2, 5, 10, 15): "F16", (2, 8, 7, 127): "BF16", (1, 5, 2, 15): "F8_E5M2",
    (1, 4, 3, 7): "F8_E4M3",
}  # fmt: skip
_ATTRIBUTE = unpacker("<BBHHH")
_VLEN = Struct("<IQI")


class Type(NamedTuple):
    """A datatype: `kind` is number, swapped (a number, its high byte first), string, vlen (a string of any length), opaque or other;
    `dtype` that of DTYPES, "" where it has none."""

    kind: str
    size: int
    dtype: str
    what: str = ""  # in words, where it is not read


def datatype(raw: bytes) -> Type:
    """The type that a datatype message describes."""
    kind, version, bits = raw[0] & 15, raw[0] >> 4, raw[1]
    size = int.from_bytes(raw[4:8], "little")
    if not 1 <= version <= 5:
        return Type("other", size, "", f"a datatype of version {version}")
    if kind == 0:
        offset, precision = Struct("<HH").unpack_from(raw, 8)
        if size not in (1, 2, 4, 8) or offset or precision != 8 * size:
            return Type("other", size, "", f"integers of {precision} bits")
        return Type("swapped" if bits & 1 and size > 1 else "number", size, f"{'I' if bits & 8 else 'U'}{8 * size}")
    if kind == 1:
        offset, precision, _, exponent, _, mantissa, bias = Struct("<HHBBBBI").unpack_from(raw, 8)
        dtype = _FLOATS.get((size, exponent, mantissa, bias), "")
        if not dtype or offset or precision != 8 * size or bits & 0x40:
            return Type("other", size, "", f"floating-point numbers of {exponent} and {mantissa} bits")
        return Type("swapped" if bits & 1 and size > 1 else "number", size, dtype)
    if kind == 3:
        return Type("string", size, "STRING")
    if kind == 5:
        return Type("opaque", size, "", f"opaque elements of {size} bytes")
    if kind == 6:
        return _complex(raw, version, size)
    if kind == 8:
        base = datatype(raw[8:])
        if base.dtype == "I8" and b"FALSE\0" in raw and b"TRUE\0" in raw and bits == 2:
            return Type("number", 1, "BOOL")
        return Type("other", size, "", "an enumeration")
    if kind == 9:
        return Type("vlen", size, "STRING") if bits & 15 == 1 and size == 16 else Type("other", size, "", "sequences of variable length")
    return Type("other", size, "", {2: "times", 4: "bit fields", 7: "references", 10: "arrays"}.get(kind, f"datatype class {kind}"))


def _complex(raw: bytes, version: int, size: int) -> Type:
    """A compound, which is read if it is numpy's complex."""
    other = Type("other", size, "", "records (a compound type)")
    names = (b"r\0", b"i\0") if version > 2 else (b"r".ljust(8, b"\0"), b"i".ljust(8, b"\0"))
    gap = {1: 32, 2: 4}.get(version, 1)  # between a member's name and its type: its offset, and in version 1 dimensions
    at = 8
    if raw[1] != 2 or raw[2]:
        return other
    for i, name in enumerate(names):
        if raw[at : at + len(name)] != name or raw[at + len(name)] != i * size // 2:
            return other
        at += len(name) + gap
        part = datatype(raw[at:])
        if part.kind != "number" or part.dtype != {8: "F32", 16: "F64"}.get(size):
            return other
        at += 20
    return Type("number", size, f"C{8 * size}")


def dataspace(file: File, p: int, size: int) -> tuple[int, ...] | None:
    """The shape of a dataspace message; None of the null space, which has no elements."""
    data = file.data
    version, rank, flags = data[p], data[p + 1], data[p + 2]
    if version not in (1, 2):
        raise UnsupportedError(f"has a dataspace of version {version}, which is not known", path=file.path)
    if version == 2 and data[p + 3] == 2:
        return None
    at = p + (8 if version == 1 else 4)
    LIMITS.check("rank", rank, "the rank of a dataset", file.path)
    if at + rank * 8 * (2 if flags & 1 else 1) > p + size:
        file.corrupt("has a dataspace that is longer than its message")
    return unpacker(f"<{rank}Q")(data, at)


def filters(file: File, p: int, size: int) -> tuple[tuple[int, tuple[int, ...]], ...]:
    """(filter, its values) of a pipeline, in the order in which they were applied."""
    data = file.data
    version, n = data[p], data[p + 1]
    if version not in (1, 2):
        raise UnsupportedError(f"has a filter pipeline of version {version}, which is not known", path=file.path)
    end = p + size
    p += 8 if version == 1 else 2
    out = []
    for _ in range(n):
        kind = int.from_bytes(data[p : p + 2], "little")
        p += 2
        named = 0
        if version == 1 or kind >= 256:
            named = int.from_bytes(data[p : p + 2], "little")
            p += 2
        count = int.from_bytes(data[p + 2 : p + 4], "little")
        p += 4 + (named + -named % 8 if version == 1 else named)
        if p + 4 * count > end:
            file.corrupt("has a filter pipeline that is longer than its message")
        out.append((kind, unpacker(f"<{count}I")(data, p)))
        p += 4 * count + (4 if version == 1 and count % 2 else 0)
    return tuple(out)


def attribute(file: File, p: int, size: int, cache: dict[int, dict[int, tuple[int, int]]]) -> tuple[str, object]:
    """(name, value) of an attribute: text, a list of texts, an int or a float; None for what is none of these."""
    data = file.data
    version, flags, name_size, type_size, space_size = _ATTRIBUTE(data, p)
    if version not in (1, 2, 3) or (version > 1 and flags & 3):
        raise UnsupportedError(f"has an attribute of version {version} with flags {flags}, which is not read", path=file.path)
    end = p + size
    at = p + (9 if version == 3 else 8)

    def padded(n: int) -> int:
        return n + -n % 8 if version == 1 else n

    starts = (at, at + padded(name_size), at + padded(name_size) + padded(type_size))
    value = starts[2] + padded(space_size)
    if value > end:
        file.corrupt("has an attribute that is longer than its message")
    name = data[at : at + name_size].tobytes().split(b"\0")[0].decode("utf-8", "replace")
    raw = bytes(data[starts[1] : value])
    known = file.spaces.get(raw)
    if known is None:
        known = file.spaces[raw] = (datatype(raw[:type_size]), dataspace(file, starts[2], space_size))
    kind, shape = cast("tuple[Type, tuple[int, ...] | None]", known)
    if shape is None or len(shape) > 1:
        return name, None
    count = shape[0] if shape else 1
    if value + count * kind.size > end:
        file.corrupt(f"the attribute {printable(name)!r} has fewer bytes than elements")
    if kind.kind in ("string", "vlen"):
        file.texts += count
        if file.texts > LIMITS.strings:
            LIMITS.check("strings", file.texts, "the number of texts in the attributes", file.path)
        texts = [t.decode("utf-8", "replace") for t in strings(file, kind, file.take(value, count * kind.size), count, cache)]
        return name, texts if shape else texts[0]
    if shape == (0,):
        return name, []  # what numpy makes of an empty list: floats, none of them
    raw = data[value : value + kind.size].tobytes()
    if shape or kind.kind != "number" or kind.dtype[0] not in "IUF" or kind.dtype in ("BF16", "F8_E5M2", "F8_E4M3"):
        return name, None
    if kind.dtype[0] != "F":
        return name, int.from_bytes(raw, "little", signed=kind.dtype[0] == "I")
    return name, Struct({2: "<e", 4: "<f", 8: "<d"}[kind.size]).unpack(raw)[0]


def strings(file: File, kind: Type, raw: bytes, count: int, cache: dict[int, dict[int, tuple[int, int]]]) -> list[bytes]:
    """The elements of `count` stored strings."""
    if kind.kind == "string":
        return [raw[i * kind.size : (i + 1) * kind.size].rstrip(b"\0") for i in range(count)]
    total = 0
    out = []
    for length, address, index in _VLEN.iter_unpack(raw[: 16 * count]):
        total += length
        LIMITS.check("string_bytes", total, "the text of one dataset or attribute", file.path)
        out.append(heap_object(file, (length, address, index), cache))
    return out


def guarded_strings(file: File, kind: Type, raw: bytes, count: int) -> list[bytes]:
    """`strings` of a dataset, damage told as CorruptError."""
    try:
        return strings(file, kind, raw, count, {})
    except DAMAGE:
        raise CorruptError("has text that lies outside the file", path=file.path) from None
