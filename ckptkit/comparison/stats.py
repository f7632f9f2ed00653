"""Minimum, maximum, mean, deviation, norm, NaN, Inf and zeros of a stored tensor, streamed in bounded chunks.

Policy: the bytes are read where they lie, a chunk at a time into float64, and the chunks' results put together by Chan's
formulas, so that the figures are those of the whole array in float64 (about 1e-12 relative) at a memory that does not
grow with the tensor. Minimum, maximum, mean, deviation and norm are those of the finite elements; the others are
counted. The deviation is the population's. Imports numpy.

Source: Chan, Golub, LeVeque, "Updating Formulae and a Pairwise Algorithm for Computing Sample Variances", 1979.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from math import sqrt

from .._typing import TYPE_CHECKING, NamedTuple
from ..containers import Checkpoint
from ..errors import CorruptError
from ..support.arrays import numpy_dtype
from ..support.files import memory
from ..tensors import DTYPES, StoredTensor

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

ELEMENTS = 1 << 17  # of a chunk: 1 MiB of float64


class Stats(NamedTuple):
    """Figures of one tensor. Those of the finite elements are None where there is no finite element."""

    elements: int
    minimum: float | None
    maximum: float | None
    mean: float | None
    deviation: float | None
    norm: float | None
    nan: int
    inf: int
    zeros: int


def tensor_stats(checkpoint: Checkpoint, tensor: StoredTensor) -> Stats | None:
    """The figures of one stored tensor; None for strings, complex numbers and elements narrower than a byte.

    Raises CorruptError where the file ends before the tensor does.
    """
    dtype = DTYPES[tensor.spec.dtype]
    if dtype.kind not in ("float", "int", "uint", "bool") or dtype.numpy is None:
        return None
    total = _Running()
    for chunk, times in _chunks(checkpoint, tensor):
        total.add(chunk, times)
    return total.result(whole=dtype.kind != "float")


class _Running:
    """What is known so far: counts, the extremes, and Chan's (n, mean, sum of squared differences)."""

    def __init__(self) -> None:
        self.count = self.n = self.nan = self.inf = self.zeros = 0
        self.low: float | None = None
        self.high: float | None = None
        self.mean = self.m2 = 0.0
        self.sums: list[float] = []
        self.squares: list[float] = []

    def add(self, chunk: NDArray[np.generic], times: int) -> None:
        """Take in a flat array that occurs `times` times."""
        import numpy as np

        x: NDArray[np.float64] = chunk.astype(np.float64)
        self.count += x.size * times
        self.zeros += (x.size - int(np.count_nonzero(x))) * times
        if chunk.dtype.kind not in "iub":
            finite = np.isfinite(x)
            n = int(np.count_nonzero(finite))
            if n < x.size:
                nan = int(np.count_nonzero(np.isnan(x)))
                self.nan += nan * times
                self.inf += (x.size - n - nan) * times
                chunk = x = x[finite]
        if not x.size:
            return
        extremes = x if chunk.dtype.kind not in "iub" else chunk  # 64-bit integers are exact as they stand
        low, high = extremes.min().item(), extremes.max().item()
        self.low = low if self.low is None else min(self.low, low)
        self.high = high if self.high is None else max(self.high, high)
        with np.errstate(over="ignore"):
            self.sums.append(float(x.sum()) * times)
            mean = self.sums[-1] / times / x.size
            self.squares.append(float(np.square(x).sum()) * times)
            m2 = float(np.square(x - mean).sum()) * times
        n, new = x.size * times, self.n + x.size * times
        delta = mean - self.mean
        self.mean += delta * (n / new)
        self.m2 += m2 + delta * delta * (self.n / new * n)
        self.n = new

    def result(self, *, whole: bool) -> Stats:
        from math import fsum

        if not self.n:
            return Stats(self.count, None, None, None, None, None, self.nan, self.inf, self.zeros)
        low, high = (int(v) if whole and v is not None else v for v in (self.low, self.high))
        mean = fsum(self.sums) / self.n
        return Stats(self.count, low, high, mean, sqrt(self.m2 / self.n), sqrt(fsum(self.squares)), self.nan, self.inf, self.zeros)


# --- reading -------------------------------------------------------------------------------------------------------


def _chunks(checkpoint: Checkpoint, t: StoredTensor) -> Iterator[tuple[NDArray[np.generic], int]]:
    """Flat arrays that together are the elements in some order, each with how many times it occurs."""
    import numpy as np

    dtype = numpy_dtype(t.spec.dtype)
    width = dtype.itemsize
    if t.read is not None:
        raw = t.read()
        assert isinstance(raw, bytes), t.name
        whole = np.frombuffer(raw, dtype)
        for i in range(0, len(whole), ELEMENTS):
            yield whole[i : i + ELEMENTS], 1
    elif t.strides is not None:
        yield from _strided(checkpoint, t, dtype)
    else:
        buffer = memory(ELEMENTS * width)
        held = 0  # bytes in the buffer: extents may end inside a chunk, or inside an element
        plain = t.boxes and all(b.strides is None for b in t.boxes)
        for e in [b.extent for b in t.boxes] if plain else t.extents:
            at, end = e.offset, e.offset + e.length
            while at < end:
                n = _fill(checkpoint.fd(e.path), buffer[held : held + end - at], at, e.path)
                at, held = at + n, held + n
                if held == len(buffer):
                    yield np.frombuffer(buffer, dtype), 1
                    held = 0
        if held:
            yield np.frombuffer(buffer[: held - held % width], dtype), 1


def _fill(fd: int, into: memoryview, at: int, path: str) -> int:
    """Fill `into` from the file; its length. CorruptError if the file ends before."""
    done = 0
    while done < len(into):
        n = os.preadv(fd, [into[done:]], at + done)
        if not n:
            raise CorruptError(f"ends at byte {at + done:,}, {len(into) - done:,} bytes short", path=path)
        done += n
    return done


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
    fd = checkpoint.fd(extent.path)
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
            _fill(fd, part, extent.offset + (start + first * stride) * dtype.itemsize, extent.path)
            dims = [(stride, n), *inner]
            view = as_strided(np.frombuffer(part, dtype), [n for _, n in dims], [s * dtype.itemsize for s, _ in dims], writeable=False)
            yield view.reshape(-1)

    for block in walk(0, 0):
        yield block, times
