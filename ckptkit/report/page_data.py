"""What a page's script draws: a column for each figure, a place in it for each tensor. JSON data.

Policy: 20,000 tensors are to stay under 6 MB. Words that many tensors share are numbers into a list, figures have five digits (four where
there are many tensors), what nearly no tensor has (NaN, zeros) is kept by place, and of many tensors the histograms are
strings of 32 letters, each the height of a bar in 62 steps.
"""

from __future__ import annotations

from collections.abc import Sequence

from .._typing import TYPE_CHECKING, Any
from ..graph.places import Place, by_name
from ..scan.figures import PERCENTS, Histogram, Statistics
from ..support.name_text import natural

if TYPE_CHECKING:
    from ..verbs.diff import Change, Diff
    from ..verbs.measure import Measurement

MANY = 2000  # tensors from which figures are shorter
LETTERS = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
MAPPED = ("param", "tied", "repeat", "unexplained")  # roles that have a cell in a map
P1, P50, P99 = (PERCENTS.index(p) for p in (1.0, 50.0, 99.0))


class _Words:
    """Words in the order that they came, and a number for each."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}

    def number(self, word: str) -> int:
        return self.numbers.setdefault(word, len(self.numbers))


class _Shared:
    """The words of all tensors that many share."""

    def __init__(self) -> None:
        self.of = {k: _Words() for k in ("stack", "module", "dtype", "role")}

    def columns(self, rows: Sequence[tuple[Place, str, str]]) -> dict[str, list[Any]]:
        return {
            "stack": [self.of["stack"].number(p.stack) for p, _, _ in rows],
            "layer": [p.layer for p, _, _ in rows],
            "module": [self.of["module"].number(p.module) for p, _, _ in rows],
            "dtype": [self.of["dtype"].number(d) for _, d, _ in rows],
            "role": [self.of["role"].number(r) for _, _, r in rows],
        }

    def lists(self) -> dict[str, list[str]]:
        return {k: list(words.numbers) for k, words in self.of.items()}


def _rounded(value: float | None, digits: int) -> float | int | None:
    if value is None or value - value != 0:
        return None
    if isinstance(value, int) and abs(value) < 10**digits:
        return value
    rounded = float(f"{value:.{digits}g}")
    return rounded if rounded - rounded == 0 else value  # the largest numbers are not rounded up


def columns_of(m: Measurement) -> dict[str, Any]:
    """The columns of one checkpoint's tensors."""
    rows = m.tensors
    digits = 5 if len(rows) <= MANY else 4
    shared = _Shared()
    columns: dict[str, Any] = {"name": [r.name for r in rows], **shared.columns([(r.place, r.dtype, r.role) for r in rows])}
    columns |= {"shape": [list(r.shape) for r in rows], "bytes": [r.nbytes for r in rows], "map": [int(r.role in MAPPED) for r in rows]}
    stats = [r.statistics for r in rows]
    for name in ("minimum", "maximum", "mean", "deviation", "rms", "largest"):
        columns[name] = [None if s is None else _rounded(getattr(s, name), digits) for s in stats]
    for name in ("nan", "inf", "zeros"):
        columns[name] = {str(i): getattr(s, name) for i, s in enumerate(stats) if s is not None and getattr(s, name)}
    for name, at in (("p1", P1), ("p50", P50), ("p99", P99)):
        columns[name] = [None if s is None or not s.percentiles else _rounded(s.percentiles[at], digits) for s in stats]
    columns |= _histograms(stats, digits, many=len(rows) > MANY)
    return {"kind": "one", "words": shared.lists(), "t": columns}


def _histograms(stats: Sequence[Statistics | None], digits: int, *, many: bool) -> dict[str, Any]:
    held = [s.histogram if s is not None else None for s in stats]
    return {
        "histogram": [None if h is None else _letters(h) if many else list(h.counts) for h in held],
        "low": [None if h is None else _rounded(h.low, digits) for h in held],
        "high": [None if h is None else _rounded(h.high, digits) for h in held],
        "outside": {str(i): [h.below, h.above] for i, h in enumerate(held) if h is not None and (h.below or h.above)},
    }


def _letters(h: Histogram) -> str:
    step = 2 if len(h.counts) > 1 else 1
    counts = [sum(h.counts[k : k + step]) for k in range(0, len(h.counts), step)]
    most = max(max(counts), 1)
    return "".join(LETTERS[-(-n * 61 // most)] for n in counts)


def columns_of_change(d: Diff) -> dict[str, Any]:
    """The columns of what changed from A to B, a parameter each."""
    changes = sorted(d.changes, key=lambda c: natural(c.name))
    digits = 5 if len(changes) <= MANY else 4
    shared = _Shared()
    columns: dict[str, Any] = {
        "name": [c.name for c in changes],
        **shared.columns([(by_name(c.name), _types(c), c.kind) for c in changes]),
        "shape": [list(c.item.spec.shape) for c in changes],
        "map": [1] * len(changes),
        "bytes": [c.item.spec.nbytes for c in changes],
        "relative": [_figure(c, min(c.relative, 1e9), digits) for c in changes],
        "turn": [_figure(c, 1 - c.cosine, digits) for c in changes],
        "changed": [_figure(c, c.changed / max(1, c.item.spec.numel), digits) for c in changes],
        "nan": {str(i): 1 for i, c in enumerate(changes) if c.largest == float("inf")},
        "far": [_figure(c, c.largest, digits) for c in changes],
    }
    return {"kind": "two", "words": shared.lists(), "t": columns}


def _types(c: Change) -> str:
    kinds = dict.fromkeys(i.spec.dtype for i in (c.a, c.b) if i is not None)
    return " to ".join(kinds)


def _figure(c: Change, value: float, digits: int) -> float | int | None:
    """A figure of a change; None where there was nothing to compare."""
    return _rounded(value, digits) if c.kind in ("same", "changed", "retyped") else None
