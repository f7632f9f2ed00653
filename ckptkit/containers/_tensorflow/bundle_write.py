"""The entries of a tensor bundle that is written, as columns where they are alike: there may be 90,000."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import accumulate, repeat
from struct import pack

from ..._typing import Any
from ...errors import CheckpointError, UnsupportedError
from ...support import crc32c
from ...support.protobuf import encode_varint
from ...tensors import DTYPES, TensorSpec
from .._interface import Slot
from .bundle_entry import Raw, encode_entry, kind_of

_MANY = 64  # tensors from which they are looked at by columns
_new = tuple.__new__  # a named tuple without its argument handling


def alike(tensors: Sequence[tuple[str, TensorSpec]]) -> tuple[list[list[object]], dict[str, Slot], list[int]] | None:
    """The entries, slots and the size of one data file, by columns; None where a tensor is text, or cannot be written."""
    names, specs = zip(*tensors, strict=True) if len(tensors) >= _MANY else ((), ())
    kinds = {spec: (DTYPES[spec[0]].tensorflow, spec.nbytes, spec[0]) for spec in set(specs)}
    if not names or any(number is None or dtype == "STRING" for number, _, dtype in kinds.values()):
        return None
    if min(names) < "\1" or not all(map(str.isprintable, names)):
        return None
    held = list(map(kinds.__getitem__, specs))
    sizes = [nbytes for _, nbytes, _ in held]
    offsets = list(accumulate(sizes, initial=0))
    slots = dict(zip(names, map(partial(_new, Slot), zip(repeat(0), offsets, sizes, strict=False)), strict=True))
    numbers = [number for number, _, _ in held]
    shapes = map(list, [spec[1] for spec in specs])
    columns = zip(names, numbers, shapes, repeat(0), offsets, sizes, repeat(None), names, strict=False)
    return list(map(list, columns)), slots, [offsets[-1]]


def key(name: str) -> bytes:
    """A name as a key of the index. UnsupportedError where it cannot be one."""
    try:
        raw = name.encode()
    except UnicodeEncodeError:
        raise UnsupportedError(f"the name {name!r} cannot be written as UTF-8") from None
    if raw[:1] in (b"", b"\0"):
        raise UnsupportedError(f"a TensorFlow bundle cannot hold a tensor called {name!r}")
    return raw


def kind(spec: TensorSpec, name: str) -> int:
    """The DataType of a tensor. UnsupportedError where TensorFlow has none."""
    number = DTYPES[spec.dtype].tensorflow
    if number is None:
        raise UnsupportedError(f"{name!r} is {spec.dtype}, which TensorFlow does not have")
    return number


def items(entries: Sequence[Sequence[Any]], crcs: Mapping[str, int]) -> list[tuple[bytes, bytes]]:
    """(key, BundleEntryProto) of each entry of `layout`, sorted, given the checksum of every slot's bytes."""
    names, numbers, shapes, shards, offsets, sizes, known, keys = zip(*entries, strict=True) if entries else ((),) * 8
    sums = [c if c is not None else crcs.get(n, None if size else 0) for n, c, size in zip(names, known, sizes, strict=True)]
    if None in sums:
        raise CheckpointError(f"the checksum of {names[sums.index(None)]!r} is not known")
    masked = [crc32c.mask(c) for c in sums if c is not None]
    kinds = list(zip(numbers, map(tuple, shapes), shards, sizes, strict=True))
    around = {kind: _around(*kind) for kind in set(kinds)}
    raw = pack(f"<{len(masked)}I", *masked)
    ends = [raw[i : i + 4] for i in range(0, len(raw), 4)]
    out = []
    for name, (before, after), offset, end, crc, kind in zip(
        keys, map(around.__getitem__, kinds), offsets, ends, masked, kinds, strict=True
    ):
        if after and crc:
            value = before + (b"\x20" + encode_varint(offset) if offset else b"") + after + end
        else:
            number, shape, shard, size = kind
            value = encode_entry(_new(Raw, (kind_of(number, shape), shard, offset, size, crc, ())))
        out.append((name.encode(), value))
    out.sort()
    return out


def _around(number: int, shape: tuple[int, ...], shard: int, size: int) -> tuple[bytes, bytes]:
    """What stands before the offset and between it and the checksum in an entry; the second is empty where the size is not usual."""
    kind = kind_of(number, shape)
    whole = encode_entry(_new(Raw, (kind, shard, 0, kind.nbytes, 1, ())))
    return whole[: -4 - len(kind.usual)], kind.usual if size == kind.nbytes else b""
