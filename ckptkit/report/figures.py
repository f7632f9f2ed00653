"""The figures of an inspection's tensors: as CSV, as JSON lines, as a histogram on a terminal; and what using the model takes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from .._typing import TYPE_CHECKING
from ..errors import printable
from ..graph.places import place_of
from ..support.progress import human_bytes
from ..support.terminal import abbreviated
from ..verbs.inspect import Inspection
from ..verbs.inspected_rows import TensorRow
from ._columns import Table, shape_words

if TYPE_CHECKING:
    from ..verbs.memory import Memory

STATS = ("minimum", "maximum", "mean", "deviation", "norm", "nan", "inf", "zeros")
EVERY = ("minimum", "maximum", "mean", "deviation", "norm", "rms", "largest", "nan", "inf", "zeros")
LEAST_NAME = 26  # columns that a name keeps where a table is too wide
WIDTH = 50  # characters of the longest bar
EIGHTHS = " ▏▎▍▌▋▊▉█"


def figure(value: float | None) -> str:
    """A figure in a column; "-" for none, "overflow" for one (of finite elements) that is beyond float64."""
    if value is None or isinstance(value, int):
        return "-" if value is None else f"{value:,}"
    return f"{value:.6g}" if value - value == 0 else "overflow"


def fitting(i: Inspection, full: Table, most: int) -> Table:
    """The table of every tensor and its figures within so many columns of a terminal: `full` if it fits, else one name a tensor,
    abbreviated if need be, and as many of the figures as there is room for; a last row says how many columns are left out."""
    headings, rows = full
    widths = [max(len(h.lstrip("#")), *(len(r[k]) for r in rows)) if rows else len(h) for k, h in enumerate(headings)]
    if sum(widths) + 2 * (len(widths) - 1) <= most:
        return full
    kept = i.sorted()
    names = [_one_name(row) for row in kept]
    cells: dict[str, list[str]] = {"#shape": [shape_words(row.shape) for row in kept], "dtype": [row.dtype for row in kept]}
    cells |= {f"#{s}": ["" if row.stats is None else short_figure(getattr(row.stats, s)) for row in kept] for s in STATS}
    bad = [f"#{s}" for s in ("nan", "inf") if any(row.stats is not None and getattr(row.stats, s) for row in kept)]
    worth = dict.fromkeys([*bad, "#deviation", "#minimum", "#maximum", "#mean", "#shape", "dtype", *cells])
    taken: list[str] = []
    room = most - min(max(map(len, names), default=0), LEAST_NAME)
    for heading in worth:
        need = 2 + max(len(heading.lstrip("#")), *map(len, cells[heading]))
        if need <= room:
            taken.append(heading)
            room -= need
    shown = [h for h in ("dtype", "#shape", *(f"#{s}" for s in STATS)) if h in taken]
    longest = room + min(max(map(len, names), default=0), LEAST_NAME)
    table: list[Sequence[str]] = [
        (abbreviated(name, longest), *(cells[h][k] for h in shown)) for k, name in enumerate(names)
    ]
    missing = len(headings) - 1 - len(shown)
    if missing:
        table.append((f"({missing} more columns: on a wider terminal, or piped)", *[""] * len(shown)))
    return ("parameter" if i.architecture else "tensor", *shown), table


def _one_name(row: TensorRow) -> str:
    """The name of what a tensor holds, or its own."""
    first = row.canonical[0] if row.canonical else row.name
    return printable(first + (f" + {len(row.canonical) - 1} more" if len(row.canonical) > 1 else ""))


def short_figure(value: float | None) -> str:
    """A figure in few characters: three digits."""
    return "-" if value is None else f"{value:,}" if isinstance(value, int) else f"{value:.3g}"


def inspection_csv(i: Inspection) -> str:
    """A line for each tensor, headings first: what it is, where it stands, and its figures if the weights were read."""
    import csv
    import io

    stats = any(row.stats is not None for row in i.tensors)
    out = io.StringIO()
    write = csv.writer(out, lineterminator="\n").writerow
    heads = ["name", "parameter", "stack", "layer", "module", "role", "dtype", "shape", "elements", "bytes"]
    write([*heads, *((*EVERY, *_percents()) if stats else ())])
    for row in i.sorted():
        place = place_of(row.name, row.templates, row.at)
        cells: list[object] = [row.name, " ".join(row.canonical), place.stack, place.layer, place.module, row.role, row.dtype]
        cells += ["x".join(map(str, row.shape)), row.elements, row.nbytes]
        if stats and row.stats is not None:
            percentiles = row.stats.percentiles or ("",) * len(_percents())
            cells += [*(getattr(row.stats, name) for name in EVERY), *percentiles]
        write(["" if c is None else c for c in cells])
    return out.getvalue().rstrip("\n")


def _percents() -> list[str]:
    from ..scan.figures import PERCENTS

    return [f"p{p:g}" for p in PERCENTS]


def inspection_jsonl(i: Inspection) -> str:
    """A JSON object a line for each tensor."""
    from ..verbs.inspected_json import tensor_json

    lines = []
    for row in i.sorted():
        place = place_of(row.name, row.templates, row.at)
        lines.append(json.dumps({**tensor_json(row), "place": place._asdict()}))
    return "\n".join(lines)


def drawn(row: TensorRow) -> Iterator[str]:
    """The histogram of a tensor, half its bins, a line each."""
    h = row.stats.histogram if row.stats is not None else None
    yield ""
    if h is None or row.stats is None:
        yield f"  {printable(row.name)}: no finite number"
        return
    yield f"  {printable(row.name)}  {row.dtype} {shape_words(row.shape)}, {row.stats.elements:,} elements"
    step = 2 if len(h.counts) > 1 else 1
    counts = [sum(h.counts[k : k + step]) for k in range(0, len(h.counts), step)]
    width, most = (h.high - h.low) / len(counts), max(counts)
    edges = [f"{h.low + k * width:.4g}" for k in range(len(counts))]
    room = max(map(len, edges))
    if h.below:
        yield f"    {'below':>{room}}  {h.below:,}"
    for edge, n in zip(edges, counts, strict=True):
        yield f"    {edge:>{room}}  {_bar(n, most):<{WIDTH}}  {n:,}".rstrip()
    if h.above:
        yield f"    {'above':>{room}}  {h.above:,}"
    for n, what in ((row.stats.nan, "NaN"), (row.stats.inf, "Inf")):
        if n:
            yield f"    {what:>{room}}  {n:,}"


def _bar(n: int, most: int) -> str:
    eighths = -(-n * WIDTH * 8 // most) if most else 0
    return "█" * (eighths // 8) + EIGHTHS[eighths % 8].strip()


def memory_tables(m: Memory) -> list[tuple[str, Table]]:
    """What using the model takes, with its parts: estimates, which is said."""
    weights = [(what, human_bytes(n), parts) for what, n, parts in m.weights]
    training = [(what, human_bytes(n), parts) for what, n, parts in m.training]
    out: list[tuple[str, Table]] = [
        ("memory of the weights (estimates)", (("weights", "#memory", "parts"), [tuple(r) for r in weights])),
        ("memory of training (estimates)", (("training", "#memory", "parts"), [tuple(r) for r in training])),
    ]
    if m.cache:
        rows = [(what, human_bytes(n), parts) for what, n, parts in m.cache]
        out.append(("memory of the cache (estimates)", (("cache of keys and values", "#memory", "parts"), [tuple(r) for r in rows])))
    out.append(("notes", (("notes",), [(note,) for note in m.notes])))
    return out
