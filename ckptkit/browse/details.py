"""What is said of a line of the tree, in lines of a given width: facts, figures, histograms; of two checkpoints side by side."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import inf, isfinite

from .._typing import TYPE_CHECKING
from ..errors import printable
from ..report.figures import short_figure
from ..support.progress import human_bytes
from ..support.terminal import abbreviated, fitted, shortened
from ..tensors import DTYPES

if TYPE_CHECKING:
    from ..scan.figures import Histogram, Statistics
    from ..verbs.diff import Change
    from ..verbs.inspected_rows import TensorRow
    from .tree import Node

FIGURES = ("minimum", "maximum", "mean", "deviation", "norm", "rms", "largest", "median", "nan", "inf", "zeros")
LEVELS = " ▁▂▃▄▅▆▇█"
HEIGHT = 6  # lines of a histogram
DECODED = "figures of the decoded values, read a tile of the packing at a time"
LISTED = 200  # tensors of a module whose figures are listed
Known = Mapping[str, "Statistics | None"]  # stored name -> its figures, so far as they were read; None: it has none


def lines_of(node: Node, known: Sequence[Known], width: int) -> list[str]:
    """All that is known of a module or a tensor; `known` are the figures, one mapping a side."""
    if node.rows:
        return [*(_one(node, known[0], width) if len(known) == 1 else _two(node, known, width))]
    return [*_module(node, known, width)]


def shape_words(shape: Sequence[int]) -> str:
    return str(list(shape)) if shape else "scalar"


def _pair(key: str, value: str, width: int) -> Iterator[str]:
    """A word and what is said of it, whole: what is longer than a line goes on below."""
    room = width - 11
    for k in range(0, max(1, len(value)), room):
        yield f"{key if k == 0 else '':<10} {value[k : k + room]}"


def _fit(text: str, width: int) -> str:
    """A line broken between words, and what is longer still shortened."""
    return "\n".join(shortened(line, width) for line in fitted(text, width).split("\n"))


def _facts(row: TensorRow) -> Iterator[tuple[str, str]]:
    """What the headers say of a tensor, but its type and size."""
    yield "stored as", printable(row.name)
    if row.canonical and len(row.canonical) > 1:
        yield "holds", ", ".join(row.canonical)
    if row.role not in ("param", "tensor"):
        yield "role", row.role + (f": {printable(row.note)}" if row.note else "")
    if row.offset is not None:
        yield "at", f"byte {row.offset:,} of {printable(row.file.rpartition('/')[2])}"


def _one(node: Node, known: Known, width: int) -> Iterator[str]:
    row = node.rows[0]
    assert row is not None
    yield shortened(node.name, width)
    elements = f"{row.elements:,} element{'s' * (row.elements != 1)}"
    yield _fit(f"{row.dtype} {shape_words(row.shape)}  {elements}  {human_bytes(row.nbytes)}", width)
    yield ""
    s = known.get(row.name)
    if s is not None:
        yield from histogram(s.histogram, width)
        yield from _beside([(name, short_figure(getattr(s, name))) for name in FIGURES], width)
        if row.packed:
            yield _fit(DECODED, width)
        yield ""
    elif row.name in known:
        codes = row.packed or (row.dtype in DTYPES and DTYPES[row.dtype].bits % 8)
        yield _fit(f"no figures: {'what its codes stand for is not known' if codes else 'its elements are no numbers'}", width)
        yield ""
    for key, value in _facts(row):
        yield from _pair(key, value, width)


def _beside(pairs: Sequence[tuple[str, str]], width: int) -> Iterator[str]:
    """Words and figures, in two columns where there is room for them."""
    cells = [f"{name:<10} {value:>10}" for name, value in pairs]
    if width < 46:
        yield from (shortened(c, width) for c in cells)
        return
    half = -(-len(cells) // 2)
    for k in range(half):
        yield "   ".join(cells[k::half])


def histogram(h: Histogram | None, width: int) -> Iterator[str]:
    """A histogram of HEIGHT lines, with its ends below it."""
    if h is None:
        yield "no finite number"
        return
    step = next(n for n in (1, 2, 4, 8, 16, 64) if len(h.counts) / n <= width or n == 64)
    counts = [sum(h.counts[k : k + step]) for k in range(0, len(h.counts), step)]
    most = max(counts) or 1
    eighths = [-(-n * HEIGHT * 8 // most) for n in counts]
    for level in range(HEIGHT - 1, -1, -1):
        yield "".join(LEVELS[max(0, min(8, e - 8 * level))] for e in eighths).rstrip()
    low, high = f"{h.low:.4g}", f"{h.high:.4g}"
    yield low + high.rjust(max(len(counts) - len(low), len(high) + 1))
    if h.below or h.above:
        yield shortened(f"outside: {h.below:,} below, {h.above:,} above", width)


def _module(node: Node, known: Sequence[Known], width: int) -> Iterator[str]:
    two = len(known) > 1
    yield shortened(node.name or "everything", width)
    yield ""
    if two:
        leaves = [n for n in node.below() if n.change is not None]
        kinds: dict[str, int] = {}
        for n in leaves:
            assert n.change is not None
            kinds[n.change.kind] = kinds.get(n.change.kind, 0) + 1
        said = ", ".join(f"{n:,} {kind}" for kind, n in kinds.items())
        yield _fit(f"parameters {said or 'not compared yet'}", width)
        changed = sorted((n for n in leaves if n.change and n.change.kind != "same"), key=lambda n: -_size(n.change))
        if changed:
            yield ""
            yield from _table(
                ("parameter", "relative", "largest"),
                [(n.name, _relative(n.change), _largest(n.change)) for n in changed[:LISTED]], width,
            )  # fmt: skip
        return
    yield _fit(f"tensors    {node.tensors:,}", width)
    yield _fit(f"elements   {node.elements:,}", width)
    yield _fit(f"bytes      {node.nbytes:,} ({human_bytes(node.nbytes)})", width)
    read = [(n, s) for n in (node.below() if known[0] else ()) for r in n.rows if r is not None and (s := known[0].get(r.name)) is not None]
    if read:
        yield ""
        rows = [
            (n.name, short_figure(s.minimum), short_figure(s.maximum), short_figure(s.deviation), f"{s.nan + s.inf:,}")
            for n, s in read[:LISTED]
        ]
        yield from _table(("parameter", "minimum", "maximum", "deviation", "not finite"), rows, width)
        if len(read) > LISTED:
            yield f"... and {len(read) - LISTED:,} more"


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> Iterator[str]:
    """Names and figures; where there is little room figures go, the last first, before names are abbreviated beyond reading."""
    count = len(headings)
    while True:
        widths = [max(len(r[k]) for r in (headings, *rows)) for k in range(1, count)]
        room = width - sum(widths) - 2 * len(widths)
        if room >= 20 or count <= 2:
            break
        count -= 1
    room = max(8, min(room, max(len(r[0]) for r in (headings, *rows))))
    for r in (headings, *rows):
        yield "  ".join([abbreviated(r[0], room).ljust(room), *(c.rjust(w) for c, w in zip(r[1:count], widths, strict=True))]).rstrip()


def _size(change: Change | None) -> float:
    """How much a change weighs in a list: what is no number any more, or is on one side alone, the most."""
    if change is None:
        return 0.0
    return change.relative if change.kind in ("changed", "retyped") and isfinite(change.largest) else inf


def _relative(change: Change | None) -> str:
    if change is None:
        return "-"
    if change.kind not in ("changed", "retyped"):
        return change.kind
    return f"{change.relative:.2e}" if isfinite(change.largest) else "not finite"


def _largest(change: Change | None) -> str:
    return f"{change.largest:.2e}" if change is not None and change.kind in ("changed", "retyped") else ""


def change_words(change: Change) -> str:
    """What became of a parameter, in a few words: "changed 3.1e-03", "same", "added"."""
    if change.kind in ("changed", "retyped") and not isfinite(change.largest):
        return f"{change.kind}: NaN or infinity"
    if change.kind == "changed":
        return f"changed {change.relative:.1e}"
    if change.kind == "retyped":
        return "rounded" if change.rounded else f"retyped {change.relative:.1e}"
    return change.kind


def _compared_facts(row: TensorRow) -> Iterator[tuple[str, str]]:
    yield "stored as", printable(row.name)
    yield "type", row.dtype
    yield "shape", shape_words(row.shape)
    yield "bytes", human_bytes(row.nbytes)


def _two(node: Node, known: Sequence[Known], width: int) -> Iterator[str]:
    """A parameter of both, side by side."""
    yield shortened(node.name, width)
    if (c := node.change) is not None:
        yield ""
        yield _fit(f"{change_words(c)}", width)
        if c.kind in ("changed", "retyped"):
            pairs = [("changed", f"{c.changed:,}"), ("largest", f"{c.largest:.3g}"), ("mean", f"{c.mean:.3g}")]
            yield from _beside([*pairs, ("relative", f"{c.relative:.3g}"), ("cosine", f"{c.cosine:.6g}")], width)
    facts = [dict(_compared_facts(r)) if r is not None else {} for r in node.rows]
    stats = [k.get(r.name) if r is not None else None for r, k in zip(node.rows, known, strict=True)]
    rows = [(key, *(f.get(key, "-") for f in facts)) for key in ("stored as", "type", "shape", "bytes")]
    rows = [("", "A", "B"), *rows]
    if any(s is not None for s in stats):
        rows += [(name, *("-" if s is None else short_figure(getattr(s, name)) for s in stats)) for name in FIGURES]
    half = max(8, (width - 12 - 2) // 2)
    yield ""
    for key, x, y in rows:
        yield f"{key:<10}  {shortened(x, half):<{half}}  {shortened(y, half)}".rstrip()[:width]
    for side, s, row in zip("AB", stats, node.rows, strict=True):
        if s is not None and row is not None:
            yield ""
            yield f"{side} (decoded values)" if row.packed else side
            yield from histogram(s.histogram, width)
