"""The entries of a tensor bundle that is written, as columns where they are alike: there may be 90,000."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate

from ..._typing import Any
from ...errors import CheckpointError, UnsupportedError
from ...support import crc32c
from ...support.columns import compiled, words
from ...support.protobuf import encode_varint
from ...tensors import DTYPES, TensorSpec
from .._slots import Slots
from .bundle_entry import Raw, encode_entry, kind_of

_MANY = 64  # tensors from which they are looked at by columns
_new = tuple.__new__  # a named tuple without its argument handling


def alike(tensors: Sequence[tuple[str, TensorSpec]]) -> tuple[list[list[Any]], Slots, list[int]] | None:
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
    slots = Slots(names, [0] * len(names), offsets[:-1], sizes)
    numbers = [number for number, _, _ in held]
    shapes = {spec: list(spec[1]) for spec in kinds}
    n = len(names)
    columns: list[list[Any]] = [
        slots.names, numbers, list(map(shapes.__getitem__, specs)), [0] * n, slots.offsets, sizes, [None] * n, slots.names,
    ]  # fmt: skip
    return columns, slots, [offsets[-1]]


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


def items(entries: Sequence[Sequence[Any]], crcs: Mapping[str, int]) -> tuple[list[bytes], list[bytes]]:
    """The keys, sorted, and the BundleEntryProtos of the entries of `layout`, given the checksum of every slot's bytes."""
    names, numbers, shapes, shards, offsets, sizes, known, keys = entries
    sums: list[Any] = list(map(crcs.get, names))
    if known.count(None) < len(known):
        sums = [found if c is None else c for found, c in zip(sums, known, strict=True)]
    if None in sums:
        sums = [0 if c is None and not size else c for c, size in zip(sums, sizes, strict=True)]
        if None in sums:
            raise CheckpointError(f"the checksum of {names[sums.index(None)]!r} is not known")
    kinds = list(zip(numbers, map(tuple, shapes), shards, sizes, strict=True))
    around = {kind: _around(*kind) for kind in set(kinds)}
    heads, ends = [around[kind][0] for kind in kinds], [around[kind][1] for kind in kinds]
    found = protos(heads, ends, list(offsets), sums)
    for i in [i for i, value in enumerate(found) if value is None] if None in found else ():
        number, shape, shard, size = kinds[i]
        found[i] = encode_entry(_new(Raw, (kind_of(number, shape), shard, offsets[i], size, crc32c.mask(sums[i]), ())))
    raw = list(map(str.encode, keys))
    order = sorted(range(len(raw)), key=raw.__getitem__)
    return [raw[i] for i in order], [found[i] for i in order]


def protos(heads: list[bytes], tails: list[bytes], offsets: list[int], sums: list[int]) -> list[Any]:
    """Each head, the offset, the tail and the masked checksum; None for one without a tail, or whose masked checksum is 0, which is left
    out."""
    native = compiled()
    if native is not None:
        made: list[Any] = native.protos(heads, tails, offsets, sums)
        return made
    masked = list(map(crc32c.mask, sums))
    return [
        head + (b"\x20" + encode_varint(offset) if offset else b"") + tail + end if tail and crc else None
        for head, tail, offset, crc, end in zip(heads, tails, offsets, masked, words(masked), strict=True)
    ]


def _around(number: int, shape: tuple[int, ...], shard: int, size: int) -> tuple[bytes, bytes]:
    """What stands before the offset and between it and the checksum in an entry; the second is empty where the size is not usual."""
    kind = kind_of(number, shape)
    whole = encode_entry(_new(Raw, (kind, shard, 0, kind.nbytes, 1, ())))
    return whole[: -4 - len(kind.usual)], kind.usual if size == kind.nbytes else b""
