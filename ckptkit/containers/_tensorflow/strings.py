"""String tensors of a tensor bundle.

Source: ReadStringTensor and WriteStringTensor in tensorflow/core/util/tensor_bundle/tensor_bundle.cc. On disk: varint
lengths, the masked checksum of the lengths, the strings. What is summed is the lengths as uint32 (uint64 above that),
the stored checksum of them, and the strings; the entry keeps that sum.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...errors import CorruptError
from ...limits import LIMITS
from ...support import crc32c
from ...support.protobuf import bad, encode_varint, varint
from ...tensors import Check, Extent
from .partitions import slurp


def encode(items: Sequence[bytes]) -> tuple[bytes, int]:
    """The bytes of a string tensor, and their checksum (unmasked)."""
    sizes = _fixed([len(s) for s in items])
    stored = crc32c.mask(crc32c.value(sizes)).to_bytes(4, "little")
    text = b"".join(items)
    return b"".join(encode_varint(len(s)) for s in items) + stored + text, crc32c.value(sizes + stored + text)


def _fixed(lengths: Sequence[int]) -> bytes:
    return b"".join(n.to_bytes(4 if n < 1 << 32 else 8, "little") for n in lengths)


def _lengths(extent: Extent, count: int, name: str) -> tuple[list[int], int, int]:
    """The lengths of the strings, where in the extent the strings begin, and the checksum of all before them."""
    LIMITS.check("string_bytes", extent.length, f"the size of the string tensor {name!r} in bytes", extent.path)
    LIMITS.check("strings", count, f"the number of strings of {name!r}", extent.path)
    data = slurp(extent._replace(length=min(extent.length, 10 * count + 4)))
    lengths, pos = [], 0
    for _ in range(count):
        n, pos = varint(data, pos, len(data), extent.path)
        lengths.append(n)
    stored = data[pos : pos + 4]
    sizes = _fixed(lengths)
    if len(stored) < 4 or pos + 4 + sum(lengths) != extent.length:
        bad(f"the strings of {name!r} do not fill their {extent.length} bytes", extent.path, extent.offset)
    if crc32c.unmask(int.from_bytes(stored, "little")) != crc32c.value(sizes):
        bad(f"the checksum of the string lengths of {name!r} does not match", extent.path, extent.offset)
    return lengths, pos + 4, crc32c.value(sizes + stored)


def read(extent: Extent, count: int, masked: int, name: str) -> list[bytes]:
    """The strings of an entry. Raises CorruptError, also where a checksum does not match, and LimitError."""
    if not extent.length:
        return []
    lengths, pos, head = _lengths(extent, count, name)
    data = slurp(extent)
    if crc32c.value(data[pos:], head) != crc32c.unmask(masked):
        bad(f"the checksum of the strings {name!r} does not match", extent.path, extent.offset)
    out = []
    for n in lengths:
        out.append(data[pos : pos + n])
        pos += n
    return out


def check(extent: Extent, count: int, masked: int, name: str) -> Check:
    """What the strings' own bytes must sum to: the entry's checksum, less that of the lengths.

    Where the lengths are damaged the check is of the whole entry, and fails.
    """
    whole = crc32c.unmask(masked)
    if not extent.length:
        return Check(name, "crc32c", (extent,), 0)
    try:
        lengths, pos, head = _lengths(extent, count, name)
    except CorruptError:
        return Check(name, "crc32c", (extent,), whole)
    text = Extent(extent.path, extent.offset + pos, sum(lengths))
    return Check(name, "crc32c", (text,), crc32c.rest(whole, head, text.length))
