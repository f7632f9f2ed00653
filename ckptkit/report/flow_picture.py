"""A batch on its way through a model, as a picture: SVG made of the edges of a summary. What a name holds stays text.

Policy: blocks that follow one another and differ by their number alone are one box, which says which of them are of which kind: what they
have or take in that others have not. Every box stands below all that it takes in; an edge
that passes boxes by goes along the side. Sizes are set for a font of 13 pixels; the picture has no script and no style of its own.
"""

from __future__ import annotations

from html import escape
from itertools import pairwise

from .._typing import TYPE_CHECKING, NamedTuple
from ..errors import printable
from ..schema.templates import reduce_name
from ..support.name_text import ranges

if TYPE_CHECKING:
    from ..runtime.summary import Summary

Edge = tuple[str, str, tuple[object, ...]]
HEIGHT, GAP, BETWEEN, LETTER, SMALL, LINE, KINDS = 30, 46, 64, 7.6, 6.1, 16, 6  # SMALL: a letter of a shape, of a kind


class Box(NamedTuple):
    """Where a box stands: its middle, its upper edge, its width, its height."""

    x: float
    y: float
    width: float
    height: float


def flow_svg(s: Summary) -> str:
    """The picture of a summary's flow; "" where nothing flows."""
    edges, labels, members = _merged(s.edges)
    if not edges:
        return ""
    rows = _rows(edges)
    kinds = {n: _kinds(s, found) for n, found in members.items()}
    widths = {n: max(96.0, LETTER * len(labels[n]) + 24, *(SMALL * len(line) + 24 for line in kinds[n])) for n in labels}
    shapes: dict[str, str] = {}  # of what leaves a box, once
    for a, _, shape in edges:
        shapes.setdefault(a, " x ".join(map(str, shape)))
    apart = {
        (a, b): max(BETWEEN, SMALL * len(shapes.get(a, "")) + 22 - (widths[a] + widths[b]) / 2)
        for row in rows
        for a, b in pairwise(row)
    }
    wide = [sum(widths[n] for n in row) + sum(apart[p] for p in pairwise(row)) for row in rows]
    across = max(wide)
    long = [(a, b, shape) for a, b, shape in edges if _level(rows, b) - _level(rows, a) > 1]
    lanes = {(a, b): i for i, (a, b, _) in enumerate(long)}
    total = across + 40 + 14 * len(lanes) + 90
    boxes: dict[str, Box] = {}
    y = 10
    for row, width in zip(rows, wide, strict=True):
        x = 20 + (across - width) / 2
        for n, after in zip(row, (*row[1:], ""), strict=True):
            boxes[n] = Box(x + widths[n] / 2, y, widths[n], HEIGHT + LINE * len(kinds[n]))
            x += widths[n] + apart.get((n, after), 0)
        y += GAP + HEIGHT + LINE * max(len(kinds[n]) for n in row)
    height = y + 10 - GAP
    parts = [_edge(boxes, edge, lanes, across) for edge in edges]
    for n, words in shapes.items():
        b = boxes[n]
        under = SMALL * len(printable(words, 200)) + 6
        parts.append(f'<rect class="under" x="{b.x + 5:.1f}" y="{b.y + b.height + 4}" width="{under:.1f}" height="13"/>')
        parts.append(f'<text class="shape" x="{b.x + 8:.1f}" y="{b.y + b.height + 14}">{_text(words)}</text>')
    inputs = {a for a, _, _ in edges} - {b for _, b, _ in edges}
    for n, b in boxes.items():
        kind = ' class="in"' if n in inputs or not any(a == n for a, _, _ in edges) else ""
        parts.append(f'<rect{kind} x="{b.x - b.width / 2:.1f}" y="{b.y}" width="{b.width:.1f}" height="{b.height}" rx="6"/>')
        parts.append(f'<text x="{b.x:.1f}" y="{b.y + 20}" text-anchor="middle">{_text(labels[n])}</text>')
        for i, line in enumerate(kinds[n]):
            parts.append(f'<text class="kind" x="{b.x:.1f}" y="{b.y + 20 + LINE * (i + 1)}" text-anchor="middle">{_text(line)}</text>')
    words = _text(f"How a batch goes through {s.title}")
    size = f'viewBox="0 0 {total:.0f} {height}" width="{total:.0f}" height="{height}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" class="flow" {size} role="img" aria-label="{words}">{"".join(parts)}</svg>'


def flow_file(s: Summary) -> str:
    """The same as a file of its own, with the colours that a page would give it."""
    style = (
        "<style>.flow{background:#fff;font:13px sans-serif}rect{fill:#f6f7f9;stroke:#57606a}rect.in{fill:#e4ecf4}"
        "text.kind{font-size:11px}text.shape{fill:#57606a;font-size:11px}rect.under{fill:#fff;stroke:none}"
        "path.edge{fill:none;stroke:#57606a}path.tip{fill:#57606a}</style>"
    )
    return flow_svg(s).replace(">", f">{style}", 1)


def _text(text: str) -> str:
    return escape(printable(text, 200))


def _merged(edges: tuple[Edge, ...]) -> tuple[list[Edge], dict[str, str], dict[str, list[str]]]:
    """Edges between runs of blocks in the place of their blocks; what each is called; and of which blocks it is made."""
    names = list(dict.fromkeys(n for a, b, _ in edges for n in (a, b)))
    chained = {(a, b) for a, b, _ in edges}
    group: dict[str, str] = {}
    members: dict[str, list[tuple[str, int]]] = {}
    before = ""
    for n in names:
        pattern, numbers = reduce_name(n)
        same = before and len(numbers) == 1 and reduce_name(before)[0] == pattern and (before, n) in chained
        group[n] = group[before] if same else n
        members.setdefault(group[n], []).append((pattern, int(numbers[0]) if numbers else -1))
        before = n if len(numbers) == 1 else before
    labels = {}
    for n, found in members.items():
        run = ranges({number for _, number in found})
        labels[n] = f"{found[0][0].replace('#', run)}  ({len(found)} x)" if len(found) > 1 else n
    seen: dict[tuple[str, str], tuple[object, ...]] = {}
    for a, b, shape in edges:
        if group[a] != group[b]:
            seen.setdefault((group[a], group[b]), shape)
    made = {n: [m for m in names if group[m] == n] for n in members}
    return [(a, b, shape) for (a, b), shape in seen.items()], labels, made


def _kinds(s: Summary, blocks: list[str]) -> list[str]:
    """Of blocks that are one box, which have or take in what others have not: "0-4, 6: mask of 8"; [] where all are alike."""
    if len(blocks) < 2:
        return []
    own = {r.path: {n.removeprefix(r.path + ".").partition(".")[0] for n, _ in r.params} for r in s.rows if r.path in set(blocks)}
    inside = set(blocks)
    takes = {b: {a for a, to, _ in s.edges if to == b and a not in inside} for b in blocks}
    often = set().union(*(takes[b] for b in blocks[1:]))  # without what only the first takes: the embeddings
    words = {b: own.get(b, set()) | (takes[b] & often) for b in blocks}
    common = set.intersection(*words.values())
    of: dict[tuple[str, ...], set[int]] = {}
    for b in blocks:
        of.setdefault(tuple(sorted(words[b] - common)), set()).add(int(reduce_name(b)[1][0]))
    if len(of) < 2:
        return []
    lines = [f"{ranges(numbers)}: {', '.join(w) or 'none of these'}" for w, numbers in of.items()]
    return lines if len(lines) <= KINDS else [*lines[: KINDS - 1], f"and {len(lines) - KINDS + 1} kinds more"]


def _rows(edges: list[Edge]) -> list[list[str]]:
    """The boxes of each level: below all that they take in, and no higher than what they give to needs them."""
    level: dict[str, int] = {}
    for n in dict.fromkeys(n for a, b, _ in edges for n in (a, b)):
        level[n] = 0
    for _ in level:  # the longest way from an input; edges go forwards, so that this ends
        changed = False
        for a, b, _ in edges:
            if level[b] < level[a] + 1 <= len(level):
                level[b], changed = level[a] + 1, True
        if not changed:
            break
    for n in sorted(level, key=lambda n: -level[n]):
        level[n] = min((level[b] - 1 for a, b, _ in edges if a == n), default=level[n])
    rows: list[list[str]] = [[] for _ in range(max(level.values()) + 1)]
    for n, k in level.items():
        rows[k].append(n)
    return [row for row in rows if row]


def _level(rows: list[list[str]], name: str) -> int:
    return next(i for i, row in enumerate(rows) if name in row)


def _edge(boxes: dict[str, Box], edge: Edge, lanes: dict[tuple[str, str], int], across: float) -> str:
    a, b = boxes[edge[0]], boxes[edge[1]]
    top, bottom = a.y + a.height, b.y - 5
    lane = lanes.get((edge[0], edge[1]))
    if lane is None:
        middle = (top + bottom) / 2
        line = f"M{a.x:.1f} {top}C{a.x:.1f} {middle:.1f} {b.x:.1f} {middle:.1f} {b.x:.1f} {bottom}"
        tip = b.x
    else:
        x, tip = across + 34 + 14 * lane, b.x + b.width / 2 - 12
        line = f"M{a.x:.1f} {top}V{top + 22}H{x:.1f}V{b.y - 14}H{tip:.1f}V{bottom}"
    return f'<path class="edge" d="{line}"/><path class="tip" d="M{tip - 4:.1f} {bottom}h8l-4 5z"/>'
