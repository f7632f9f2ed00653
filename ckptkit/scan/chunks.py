"""The elements of a tensor in bounded chunks, however they lie: packed, compressed, in pieces, in views with gaps. Imports numpy."""

from __future__ import annotations

from collections.abc import Iterator

from .._typing import TYPE_CHECKING
from ..containers import Checkpoint, Packed
from ..support.arrays import numpy_dtype
from ..support.files import memory
from ..tensors import StoredTensor

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ..store import Blob

ELEMENTS = 1 << 17  # of a chunk


def chunks(checkpoint: Checkpoint, t: StoredTensor, *, ordered: bool) -> Iterator[tuple[NDArray[np.generic], int]]:
    """Flat arrays that together are the elements, each with how many times it occurs; in row-major order, or in any. Each is good until
    the next. Raises CorruptError where the file ends before the tensor does.
    """
    import numpy as np

    dtype = numpy_dtype(t.spec.dtype)
    width = dtype.itemsize
    if t.read is not None:
        yield from ((x, 1) for x in _unpacked(t, dtype))
    elif t.strides is not None:
        yield from _strided(checkpoint, t, dtype)
    else:
        buffer = memory(ELEMENTS * width)
        held = 0  # bytes in the buffer: extents may end inside a chunk, or inside an element
        plain = not ordered and t.boxes and all(b.strides is None for b in t.boxes)
        for e in [b.extent for b in t.boxes] if plain else t.extents:
            at, end = e.offset, e.offset + e.length
            while at < end:
                n = _fill(checkpoint.blob(e.path), buffer[held : held + end - at], at)
                at, held = at + n, held + n
                if held == len(buffer):
                    yield np.frombuffer(buffer, dtype), 1
                    held = 0
        if held:
            yield np.frombuffer(buffer[: held - held % width], dtype), 1


def _unpacked(t: StoredTensor, dtype: np.dtype[np.generic]) -> Iterator[NDArray[np.generic]]:
    """What `read` gives, without a copy of the whole where it comes in pieces."""
    import numpy as np

    held = bytearray()
    least = ELEMENTS * dtype.itemsize
    assert t.read is not None
    for raw in t.read.pieces() if isinstance(t.read, Packed) else [t.read()]:
        assert isinstance(raw, (bytes, bytearray, memoryview)), t.name
        if not held and len(raw) >= least and len(raw) % dtype.itemsize == 0:
            whole = np.frombuffer(raw, dtype)
            yield from (whole[i : i + ELEMENTS] for i in range(0, len(whole), ELEMENTS))
            continue
        held += raw
        if len(held) >= least:
            n = len(held) // dtype.itemsize * dtype.itemsize
            x = np.frombuffer(bytes(held[:n]), dtype)
            held = held[n:]
            yield from (x[i : i + ELEMENTS] for i in range(0, len(x), ELEMENTS))
    if held:
        yield np.frombuffer(bytes(held), dtype, len(held) // dtype.itemsize)


def _fill(blob: Blob, into: memoryview, at: int) -> int:
    """Fill `into` from the file; its length. CorruptError if the file ends before."""
    blob.read(at, into)
    return len(into)


def _strided(checkpoint: Checkpoint, t: StoredTensor, dtype: np.dtype[np.generic]) -> Iterator[tuple[NDArray[np.generic], int]]:
    """The elements of a view: blocks of its dimensions, the longest step first, whose span of the file fits a chunk."""
    from numpy.lib.stride_tricks import as_strided

    assert t.strides is not None
    import numpy as np

    if not t.spec.numel:
        return
    times = 1
    steps: list[tuple[int, int]] = []  # (stride, size)
    for size, stride in zip(t.spec.shape, t.strides, strict=True):
        if stride == 0:
            times *= size
        elif size > 1:
            steps.append((stride, size))
    steps.sort(reverse=True)
    (extent,) = t.extents
    blob = checkpoint.blob(extent.path)
    spans = [1 + sum(s * (n - 1) for s, n in steps[i:]) for i in range(len(steps) + 1)]
    depth = next(i for i, span in enumerate(spans) if span <= ELEMENTS)
    # the dimension before `depth` is taken some rows at a time, those before it one index at a time
    rows = max(1, 1 + (ELEMENTS - spans[depth]) // steps[depth - 1][0]) if depth else 1
    buffer = memory(ELEMENTS * dtype.itemsize)

    def walk(level: int, start: int) -> Iterator[NDArray[np.generic]]:
        if level + 1 < depth:
            stride, size = steps[level]
            for i in range(size):
                yield from walk(level + 1, start + i * stride)
            return
        outer, inner = steps[level:depth], steps[depth:]
        stride, size = outer[0] if outer else (1, 1)
        for first in range(0, size, rows):
            n = min(rows, size - first)
            part = buffer[: (spans[depth] + stride * (n - 1)) * dtype.itemsize]
            _fill(blob, part, extent.offset + (start + first * stride) * dtype.itemsize)
            dims = [(stride, n), *inner]
            view = as_strided(np.frombuffer(part, dtype), [n for _, n in dims], [s * dtype.itemsize for s, _ in dims], writeable=False)
            yield np.ascontiguousarray(view.reshape(-1))

    for block in walk(0, 0):
        yield block, times
