"""A numpy array as a stored tensor: its bytes as they lie, or turned where its numbers have their high byte first ('>f4').

Source: numpy/lib/format.py (fortran_order, descr). numpy reads both orders alike, so both are read here.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

from ... import store
from ...errors import CorruptError
from ...tensors import DTYPES, Extent, StoredTensor, TensorSpec
from .._interface import Packed
from .npy_header import Header

_RUN = 1 << 20  # bytes read at once


def column_strides(h: Header) -> tuple[int, ...] | None:
    """The strides of an array whose first index runs fastest; None where the last one does."""
    shape = h.spec.shape
    return tuple(prod(shape[:i]) for i in range(len(shape))) if h.fortran and len(shape) > 1 else None


def stored_array(name: str, h: Header, path: str, offset: int) -> StoredTensor:
    """The array of the header `h`, whose bytes lie in `path` from `offset` on."""
    extent = Extent(path, offset, h.spec.nbytes)
    if not h.swapped:
        return StoredTensor(name, h.spec, (extent,), column_strides(h))
    return StoredTensor(name, h.spec, read=Packed(lambda: row_major(_runs(extent), h)))


def row_major(runs: Iterator[bytes], h: Header) -> Iterator[bytes]:
    """The bytes of an array, which come in runs of any length, in little-endian row-major order."""
    if h.swapped:
        runs = _turned(runs, h.spec)
    if column_strides(h) is None:
        yield from runs
        return
    import numpy as np

    width = DTYPES[h.spec.dtype].bits // 8
    yield np.frombuffer(b"".join(runs), np.dtype(("V", width))).reshape(h.spec.shape, order="F").tobytes("C")


def _turned(runs: Iterator[bytes], spec: TensorSpec) -> Iterator[bytes]:
    """Each number's bytes the other way round; of a complex number each half's."""
    width = DTYPES[spec.dtype].bits // 8 // (2 if DTYPES[spec.dtype].kind == "complex" else 1)
    rest = b""
    for run in runs:
        raw = rest + run
        whole = len(raw) - len(raw) % width
        turned = bytearray(whole)
        for i in range(width):
            turned[i::width] = raw[width - 1 - i : whole : width]
        rest = raw[whole:]
        yield bytes(turned)


def _runs(extent: Extent) -> Iterator[bytes]:
    blob = store.open_blob(extent.path)
    try:
        at, end = extent.offset, extent.offset + extent.length
        while at < end:
            raw = blob.pread(min(_RUN, end - at), at)
            if not raw:
                raise CorruptError(f"ends at byte {at:,}, {end - at:,} bytes short", path=extent.path)
            at += len(raw)
            yield raw
    finally:
        blob.close()
