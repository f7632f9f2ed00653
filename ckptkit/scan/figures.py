"""The figures of one tensor as a value; percentiles and histogram from sorted numbers, or from counts by their first bits. Imports numpy.

See `statistics` for what is exact.
"""

from __future__ import annotations

from functools import cache
from math import sqrt

from .._typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from numpy.typing import NDArray

PERCENTS = (0.1, 1.0, 5.0, 25.0, 50.0, 75.0, 95.0, 99.0, 99.9)
BINS = 64
TINY = 1e-290  # of a range of numbers, in which differences may be no normal numbers
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


def nothing(elements: int, nan: int, inf: int) -> Statistics:
    return Statistics(elements, None, None, None, None, None, nan, inf, 0, None, None, (), None)


def figures(
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


def of_sorted(x: NDArray[Any], times: NDArray[Any] | None) -> tuple[tuple[float, ...], Histogram]:
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


def of_classes(seen: NDArray[Any], ends: tuple[float, float]) -> tuple[tuple[float, ...], Histogram]:
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
