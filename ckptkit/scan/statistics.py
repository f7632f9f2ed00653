"""The figures of one tensor and its histogram, from pieces in any order. Imports numpy.

Policy: what is added up is added in float64, piece by piece, and put together by Chan's formulas in the order of the tensor, so that the
figures do not depend on how many threads read it and are those of the whole array to about 1e-12. All but the counts are of the finite
elements. The deviation is the population's. Percentiles and histograms are exact for types of 8 and 16 bits, of which every pattern is
counted, and for small tensors. The values of other large ones are counted by the first 14 bits of their float32, and taken to be spread
evenly between two such numbers, which lie 1/32 apart at most: what is said of a smooth distribution is off by much less. Of
complex numbers the figures are those of their absolute values.

Source: Chan, Golub, LeVeque, "Updating Formulae and a Pairwise Algorithm for Computing Sample Variances", 1979.
"""

from __future__ import annotations

import threading
from functools import cache
from math import fsum

from .._typing import TYPE_CHECKING, Any, NamedTuple, Protocol
from ..support.arrays import numpy_dtype
from ..support.kernels import kernels
from ..tensors import DTYPES, TensorSpec
from .figures import CLASSES, FIRST, Statistics, figures, nothing, of_classes, of_sorted

if TYPE_CHECKING:
    from types import ModuleType

    import numpy as np
    from numpy.typing import NDArray

BLOCK = 1 << 16  # elements at once: their float64 stay in the second cache
SMALL = 1 << 16  # elements of a tensor that is held until it is complete, and sorted
PATTERNS = 1 << 16


class Running(Protocol):
    """What is known so far of one tensor."""

    count: int

    def take(self, x: NDArray[Any], start: int, times: int = 1) -> None:
        """Take in a flat array of its elements that begins at element `start` and occurs `times` times. It may change afterwards."""

    def add(self, other: Any) -> None:
        """Take in what another job found of the same tensor."""

    def result(self) -> Statistics: ...


def has_statistics(dtype: str) -> bool:
    """Whether the elements of a type are numbers of whole bytes."""
    d = DTYPES[dtype]
    return d.numpy is not None and d.kind in ("float", "int", "uint", "bool", "complex")


def running(spec: TensorSpec, elements: int) -> Running:
    """What takes in `elements` elements of a tensor."""
    if elements <= SMALL:
        return _Small(spec.dtype)
    return _Narrow(spec.dtype) if DTYPES[spec.dtype].bits <= 16 else _Wide(spec.dtype)


def decoded(dtype: str, x: NDArray[Any]) -> NDArray[Any]:
    """Elements as numbers that have an order: truth values as 0 and 1, complex ones as their absolute values."""
    import numpy as np

    kind = DTYPES[dtype].kind
    if kind == "bool":
        truth: NDArray[Any] = x.view(np.uint8) != 0
        return truth.view(np.uint8)
    if kind == "complex":
        with np.errstate(all="ignore"):
            size: NDArray[Any] = np.abs(x)
        return size
    return x


# --- small tensors: held until they are complete --------------------------------------------------------------------


class _Small:
    __slots__ = ("_dtype", "_parts", "count")

    def __init__(self, dtype: str) -> None:
        self._dtype, self.count = dtype, 0
        self._parts: list[tuple[int, NDArray[Any], int]] = []

    def take(self, x: NDArray[Any], start: int, times: int = 1) -> None:
        self._parts.append((start, x.copy(), times))
        self.count += len(x) * times

    def add(self, other: _Small) -> None:
        self._parts += other._parts
        self.count += other.count

    def result(self) -> Statistics:
        import numpy as np

        self._parts.sort(key=lambda part: part[0])
        whole = np.concatenate([x for _, x, times in self._parts for _ in range(times)]) if self._parts else np.empty(0)
        stored = decoded(self._dtype, whole)
        nan = inf = 0
        with np.errstate(all="ignore"):
            x: NDArray[Any] = stored.astype(np.float64)
            zeros = len(x) - int(np.count_nonzero(x))
            total = float(x.sum())
            if total - total != 0:
                finite = np.isfinite(x)
                nan = int(np.count_nonzero(np.isnan(x)))
                inf = len(x) - nan - int(np.count_nonzero(finite))
                x = x[finite]
            if not len(x):
                return nothing(self.count, nan, inf)
            mean = mean_of(x)
            off = x - mean
            m2 = float(np.dot(off, off))
        x.sort()
        whole_numbers = stored.dtype.kind in "iu"
        low, high = (int(stored.min()), int(stored.max())) if whole_numbers else (float(x[0]), float(x[-1]))
        return figures(self.count, (nan, inf, zeros), (low, high), (len(x), mean, m2), *of_sorted(x, None))


def mean_of(x: NDArray[Any]) -> float:
    """The mean of finite numbers, also where their sum is none."""
    import numpy as np

    with np.errstate(over="ignore", invalid="ignore"):  # partial sums may be infinities of both signs
        total = float(x.sum())
    return total / len(x) if total - total == 0 else float((x / len(x)).sum())


# --- types of 8 and 16 bits: every pattern counted ------------------------------------------------------------------


@cache
def _numbers(dtype: str) -> tuple[NDArray[Any], NDArray[Any]]:
    """What each pattern of a type means, as float64; and the patterns of finite numbers in their order."""
    import numpy as np

    bits = DTYPES[dtype].bits
    patterns = np.arange(1 << bits).astype(f"<u{bits // 8}").view(numpy_dtype(dtype))
    with np.errstate(all="ignore"):
        means: NDArray[Any] = decoded(dtype, patterns).astype(np.float64)
    order = np.argsort(means, kind="stable")
    return means, order[np.isfinite(means[order])]


class _Narrow:
    __slots__ = ("_dtype", "_seen", "count")

    def __init__(self, dtype: str) -> None:
        import numpy as np

        self._dtype, self.count = dtype, 0
        self._seen = np.zeros(1 << DTYPES[dtype].bits, np.int64)

    def take(self, x: NDArray[Any], start: int, times: int = 1) -> None:
        self.count += len(x) * times
        bits = x.view(f"<u{x.dtype.itemsize}")
        native = kernels()
        if native is not None and times == 1 and bits.flags.c_contiguous:
            native.count(bits, self._seen, bits.itemsize)
            return
        if bits.itemsize == 1 and len(bits) >= PATTERNS:  # two at once: half as many to count
            pairs = _patterns(bits[: len(bits) & ~1].view("<u2")).reshape(256, 256)
            self._seen += (pairs.sum(0) + pairs.sum(1)) * times
            bits = bits[len(bits) & ~1 :]
        if len(bits):
            self._seen += _patterns(bits)[: len(self._seen)] * times

    def add(self, other: _Narrow) -> None:
        self._seen += other._seen
        self.count += other.count

    def result(self) -> Statistics:
        import numpy as np

        means, order = _numbers(self._dtype)
        nan, inf = int(self._seen[np.isnan(means)].sum()), int(self._seen[np.isinf(means)].sum())
        zeros = int(self._seen[means == 0].sum())
        order = order[self._seen[order] > 0]
        if not len(order):
            return nothing(self.count, nan, inf)
        x, times = means[order], self._seen[order]
        n = int(times.sum())
        mean = fsum((x * times).tolist()) / n
        m2 = float(np.dot(np.square(x - mean), times.astype(np.float64)))
        whole = DTYPES[self._dtype].kind in ("int", "uint", "bool")
        low, high = (int(x[0]), int(x[-1])) if whole else (float(x[0]), float(x[-1]))
        return figures(self.count, (nan, inf, zeros), (low, high), (n, mean, m2), *of_sorted(x, times))


def _patterns(bits: NDArray[Any]) -> NDArray[Any]:
    """How often each of the 65,536 patterns occurs."""
    import numpy as np

    places = _scratch()[1]
    seen = np.zeros(PATTERNS, np.int64)
    for at in range(0, len(bits), BLOCK):
        part = bits[at : at + BLOCK]
        np.copyto(places[: len(part)], part, casting="unsafe")
        seen += np.bincount(places[: len(part)], minlength=PATTERNS)
    return seen


_local = threading.local()


def _scratch() -> tuple[NDArray[np.float64], NDArray[np.intp], NDArray[np.float32]]:
    """Arrays of BLOCK elements that a thread keeps: temporary ones would cost a page fault a page."""
    import numpy as np

    kept = getattr(_local, "kept", None)
    if kept is None or len(kept[0]) != BLOCK:
        kept = _local.kept = np.empty(BLOCK, np.float64), np.empty(BLOCK, np.intp), np.empty(BLOCK, np.float32)
    made: tuple[NDArray[np.float64], NDArray[np.intp], NDArray[np.float32]] = kept
    return made


def _class_counts() -> NDArray[np.uint32]:
    """Four times the counts of CLASSES, zero, that a thread keeps."""
    import numpy as np

    kept: NDArray[np.uint32] | None = getattr(_local, "counts", None)
    if kept is None:
        kept = _local.counts = np.zeros(4 * CLASSES, np.uint32)
    return kept


# --- wider types: moments, and how often their first bits occur ---------------------------------------------------------


class _Part(NamedTuple):
    """The moments of one run of elements: where it begins, how many are finite, their mean and sum of squared differences from it."""

    start: int
    n: int
    mean: float
    m2: float


class _Wide:
    __slots__ = ("_dtype", "_ends", "_inf", "_nan", "_parts", "_seen", "_zeros", "count")

    def __init__(self, dtype: str) -> None:
        import numpy as np

        self._dtype, self.count, self._nan, self._inf, self._zeros = dtype, 0, 0, 0, 0
        self._ends: tuple[Any, Any] | None = None
        self._parts: list[_Part] = []
        self._seen = np.zeros(CLASSES, np.int64)

    def take(self, x: NDArray[Any], start: int, times: int = 1) -> None:
        self.count += len(x) * times
        native = kernels() if self._dtype == "F32" and x.flags.c_contiguous else None
        if native is not None:
            parts = self._compiled(native, x, start, times)
            if parts:
                self._parts.append(_joined(parts))
            return
        parts = [
            p
            for at in range(0, len(x), BLOCK)
            if (p := self._block(decoded(self._dtype, x[at : at + BLOCK]), start + at, times)) is not None
        ]
        if parts:
            self._parts.append(_joined(parts))

    def _compiled(self, native: ModuleType, x: NDArray[Any], start: int, times: int) -> list[_Part]:
        """The same as `_block` for each block, by a compiled loop where every element is finite."""
        import numpy as np

        parts = []
        counts = _class_counts()
        for at in range(0, len(x), BLOCK):
            block = x[at : at + BLOCK]
            tiny = int(counts[:: CLASSES // 2].sum())
            found = native.figures(block, counts)
            if found is None:
                part = self._block(block, start + at, times)
                if part is not None:
                    parts.append(part)
                continue
            low, high, total, squares = found
            if int(counts[:: CLASSES // 2].sum()) != tiny:
                self._zeros += (len(block) - int(np.count_nonzero(block))) * times
            self._extend(low, high)
            mean = total / len(block)
            square = mean * mean * len(block)
            m2 = squares - square
            if not m2 > square / 100:
                m2 = native.spread(block, mean)
            parts.append(_Part(start + at, len(block) * times, mean, m2 * times))
        seen = counts.reshape(4, CLASSES).sum(0, dtype=np.int64)
        self._seen += seen if times == 1 else seen * times
        counts[:] = 0
        return parts

    def _block(self, x: NDArray[Any], start: int, times: int) -> _Part | None:
        import numpy as np

        work, places, single = _scratch()
        wide: NDArray[Any] = work[: len(x)]
        with np.errstate(all="ignore"):
            np.copyto(wide, x, casting="unsafe")
            total = float(wide.sum())
            if total - total != 0:
                finite = np.isfinite(wide)
                nan = int(np.count_nonzero(np.isnan(wide)))
                self._nan += nan * times
                self._inf += (len(x) - nan - int(np.count_nonzero(finite))) * times
                x, wide = x[finite], wide[finite]
                if not len(x):
                    return None
            self._extend(x.min().item(), x.max().item())
            if x.dtype != np.float32:
                np.copyto(single[: len(x)], wide, casting="unsafe")
            bits = (x if x.dtype == np.float32 else single[: len(x)]).view("<u4")
            np.right_shift(bits, 32 - FIRST, out=places[: len(x)], casting="unsafe")
            seen = np.bincount(places[: len(x)], minlength=CLASSES)
            if seen[0] or seen[CLASSES // 2]:
                self._zeros += (len(x) - int(np.count_nonzero(x))) * times
            self._seen += seen if times == 1 else seen * times
            mean = mean_of(wide) if total - total != 0 else total / len(x)
            square = mean * mean * len(x)
            m2 = float(np.dot(wide, wide)) - square
            if not m2 > square / 100:  # too much of it has cancelled, or overflowed
                wide -= mean
                m2 = float(np.dot(wide, wide))
        return _Part(start, len(x) * times, mean, m2 * times)

    def _extend(self, low: float, high: float) -> None:
        self._ends = (low, high) if self._ends is None else (min(low, self._ends[0]), max(high, self._ends[1]))

    def add(self, other: _Wide) -> None:
        self.count += other.count
        self._nan += other._nan
        self._inf += other._inf
        self._zeros += other._zeros
        if other._ends is not None:
            self._extend(*other._ends)
        self._parts += other._parts
        self._seen += other._seen

    def result(self) -> Statistics:
        if self._ends is None:
            return nothing(self.count, self._nan, self._inf)
        whole = _joined(sorted(self._parts))
        percentiles, histogram = of_classes(self._seen, self._ends)
        counts = self._nan, self._inf, self._zeros
        return figures(self.count, counts, self._ends, (whole.n, whole.mean, whole.m2), percentiles, histogram)


def _joined(parts: list[_Part]) -> _Part:
    """The moments of several runs together."""
    n, mean, m2 = parts[0].n, parts[0].mean, parts[0].m2
    for p in parts[1:]:
        off, both = p.mean - mean, n + p.n
        mean += off * (p.n / both)
        m2 += p.m2 + off * off * (n / both * p.n)
        n = both
    return _Part(parts[0].start, n, fsum(p.mean * (p.n / n) for p in parts), m2)
