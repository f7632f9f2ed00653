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
from math import fsum, sqrt

from .._typing import TYPE_CHECKING, Any, NamedTuple, Protocol
from ..support.arrays import numpy_dtype
from ..support.kernels import kernels
from ..tensors import DTYPES, TensorSpec

if TYPE_CHECKING:
    from types import ModuleType

    import numpy as np
    from numpy.typing import NDArray

PERCENTS = (0.1, 1.0, 5.0, 25.0, 50.0, 75.0, 95.0, 99.0, 99.9)
BINS = 64
BLOCK = 1 << 16  # elements at once: their float64 stay in the second cache
TINY = 1e-290  # of a range of numbers, in which differences may be no normal numbers
SMALL = 1 << 16  # elements of a tensor that is held until it is complete, and sorted
PATTERNS = 1 << 16
FIRST = 14  # bits of a float32 that wider values are counted by: sign, exponent, five of the fraction
CLASSES = 1 << FIRST


class Histogram(NamedTuple):
    """How many elements lie in each of the equal bins from `low` to `high` (the last one holds `high`), and outside of them."""

    low: float
    high: float
    counts: tuple[int, ...]
    below: int
    above: int


class Statistics(NamedTuple):
    """Figures of one tensor. Those of the finite elements are None, and there are no percentiles, where there is no finite element."""

    elements: int  # that were looked at: all of them, unless the pass was sampled
    minimum: float | None
    maximum: float | None
    mean: float | None
    deviation: float | None
    norm: float | None  # the Euclidean one; of what was looked at
    nan: int
    inf: int
    zeros: int
    rms: float | None
    largest: float | None  # of the absolute values
    percentiles: tuple[float, ...]  # at PERCENTS
    histogram: Histogram | None

    @property
    def median(self) -> float | None:
        return self.percentiles[PERCENTS.index(50.0)] if self.percentiles else None

    def plain(self) -> dict[str, object]:
        """The same as JSON data."""
        out: dict[str, object] = {k: v if v is None or v - v == 0 else None for k, v in zip(self._fields[:11], self[:11], strict=True)}
        out["percentiles"] = {f"{p:g}": v for p, v in zip(PERCENTS, self.percentiles, strict=False)}
        out["histogram"] = None if self.histogram is None else {**self.histogram._asdict(), "counts": list(self.histogram.counts)}
        return out


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
                return _nothing(self.count, nan, inf)
            mean = mean_of(x)
            off = x - mean
            m2 = float(np.dot(off, off))
        x.sort()
        whole_numbers = stored.dtype.kind in "iu"
        low, high = (int(stored.min()), int(stored.max())) if whole_numbers else (float(x[0]), float(x[-1]))
        return _figures(self.count, (nan, inf, zeros), (low, high), (len(x), mean, m2), *_of_sorted(x, None))


def mean_of(x: NDArray[Any]) -> float:
    """The mean of finite numbers, also where their sum is none."""
    import numpy as np

    with np.errstate(over="ignore", invalid="ignore"):  # partial sums may be infinities of both signs
        total = float(x.sum())
    return total / len(x) if total - total == 0 else float((x / len(x)).sum())


def _nothing(elements: int, nan: int, inf: int) -> Statistics:
    return Statistics(elements, None, None, None, None, None, nan, inf, 0, None, None, (), None)


def _figures(
    elements: int,
    counts: tuple[int, int, int],
    ends: tuple[float, float],
    moments: tuple[int, float, float],
    percentiles: tuple[float, ...],
    histogram: Histogram,
) -> Statistics:
    (nan, inf, zeros), (low, high), (n, mean, m2) = counts, ends, moments
    variance = max(m2, 0.0) / n
    rms, mean = sqrt(variance + mean * mean), min(max(mean, low), high)
    return Statistics(
        elements, low, high, mean, sqrt(variance), rms * sqrt(n), nan, inf, zeros, rms, max(abs(low), abs(high)), percentiles, histogram
    )


def _range(low: float, high: float, inner: tuple[float, float]) -> tuple[float, float]:
    """From where to where a histogram goes: over everything, or, where few elements lie far out, what holds nearly all of the others."""
    a, b = inner
    wide = b - a
    return (low if low >= a - wide else a - wide / 4), (high if high <= b + wide else b + wide / 4)


def _of_sorted(x: NDArray[Any], times: NDArray[Any] | None) -> tuple[tuple[float, ...], Histogram]:
    """Percentiles (between two elements in proportion) and histogram of sorted numbers, each of which occurs `times` times."""
    import numpy as np

    upto = np.arange(1, len(x) + 1) if times is None else np.cumsum(times)
    n = int(upto[-1])
    ranks = np.array(PERCENTS) / 100 * (n - 1)
    first = np.floor(ranks)
    a, b = x[np.searchsorted(upto, first, "right")], x[np.searchsorted(upto, np.minimum(first + 1, n - 1), "right")]
    with np.errstate(over="ignore", invalid="ignore"):
        apart = b - a
        at = np.where(np.isfinite(apart), a + apart * (ranks - first), a * (1 - (ranks - first)) + b * (ranks - first))
    percentiles = tuple(at.tolist())
    low, high = _range(float(x[0]), float(x[-1]), (percentiles[0], percentiles[-1]))
    if not low < high or (high - low) / BINS == 0 or high - low == float("inf"):
        return percentiles, Histogram(low, high, (n,), 0, 0)
    before = np.concatenate(([0], upto))
    edges = np.linspace(low, high, BINS + 1)
    cut = before[np.concatenate((np.searchsorted(x, edges[:-1], "left"), [np.searchsorted(x, edges[-1], "right")]))]
    return percentiles, Histogram(low, high, tuple(np.diff(cut).tolist()), int(cut[0]), n - int(cut[-1]))


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
            return _nothing(self.count, nan, inf)
        x, times = means[order], self._seen[order]
        n = int(times.sum())
        mean = fsum((x * times).tolist()) / n
        m2 = float(np.dot(np.square(x - mean), times.astype(np.float64)))
        whole = DTYPES[self._dtype].kind in ("int", "uint", "bool")
        low, high = (int(x[0]), int(x[-1])) if whole else (float(x[0]), float(x[-1]))
        return _figures(self.count, (nan, inf, zeros), (low, high), (n, mean, m2), *_of_sorted(x, times))


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
            return _nothing(self.count, self._nan, self._inf)
        whole = _joined(sorted(self._parts))
        percentiles, histogram = _of_classes(self._seen, self._ends)
        counts = self._nan, self._inf, self._zeros
        return _figures(self.count, counts, self._ends, (whole.n, whole.mean, whole.m2), percentiles, histogram)


def _joined(parts: list[_Part]) -> _Part:
    """The moments of several runs together."""
    n, mean, m2 = parts[0].n, parts[0].mean, parts[0].m2
    for p in parts[1:]:
        off, both = p.mean - mean, n + p.n
        mean += off * (p.n / both)
        m2 += p.m2 + off * off * (n / both * p.n)
        n = both
    return _Part(parts[0].start, n, fsum(p.mean * (p.n / n) for p in parts), m2)


@cache
def _borders() -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """The first bits of a float32 in the order of their numbers, and from where to where the numbers go that begin with them."""
    import numpy as np

    half = np.arange(CLASSES // 2, dtype=np.uint32)
    with np.errstate(all="ignore"):
        near = (half << np.uint32(32 - FIRST)).view(np.float32).astype(np.float64)
        far = np.append(near[1:], np.nan)
    near, far = (np.where(np.isfinite(v), v, np.inf) for v in (near, far))
    order = np.concatenate((half[::-1] + CLASSES // 2, half))
    return order.astype(np.intp), np.concatenate((-far[::-1], near)), np.concatenate((-near[::-1], far))


def _of_classes(seen: NDArray[Any], ends: tuple[float, float]) -> tuple[tuple[float, ...], Histogram]:
    """Percentiles and histogram of numbers that lie evenly between the borders of their classes, and between the ends."""
    import numpy as np

    order, near, far = _borders()
    held = seen[order] > 0
    times = seen[order][held]
    low, high = float(ends[0]), float(ends[1])
    a, b = np.clip(near[held], low, high), np.clip(far[held], low, high)
    upto = np.cumsum(times)
    n = int(upto[-1])
    ranks = np.array(PERCENTS) / 100 * (n - 1)
    i = np.searchsorted(upto, ranks, "right")
    share = (ranks - (upto[i] - times[i]) + 0.5) / times[i]
    percentiles = tuple((a[i] + (b[i] - a[i]) * np.clip(share, 0, 1)).tolist())
    left, right = _range(low, high, (percentiles[0], percentiles[-1]))
    if not left < right or (right - left) / BINS == 0 or right - left == float("inf"):
        return percentiles, Histogram(left, right, (n,), 0, 0)
    edges = np.linspace(left, right, BINS + 1)
    borders = np.stack((a, b), 1).reshape(-1)
    if right - left < TINY:  # else the slope between two borders may be none
        borders, edges = (np.clip(v, left, right) / TINY for v in (borders, edges))
    cut = np.rint(np.interp(edges, borders, np.stack((upto - times, upto), 1).reshape(-1))).astype(np.int64)
    if left == low:
        cut[0] = 0
    if right == high:
        cut[-1] = n
    return percentiles, Histogram(left, right, tuple(np.diff(cut).tolist()), int(cut[0]), n - int(cut[-1]))
