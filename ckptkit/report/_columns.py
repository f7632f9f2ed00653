"""Plain columns. Importing tabulate takes longer than inspecting a checkpoint, and a twentieth of what comparing two large ones does."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def columns(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines with the cells of a column under one another; a heading that begins with # is of a column set to the right."""
    right = [h.startswith("#") for h in headings]
    table = [[h.lstrip("#") for h in headings], *rows]
    # the last column, and a line of one long cell, take the room they need
    widths = [max((len(r[k]) for r in table if any(r[k + 1 :])), default=0) for k in range(len(headings))]
    widths[-1] = max(len(r[-1]) for r in table) if right[-1] else 0
    lines = []
    for r in table:
        cells = [c.rjust(w) if to_right else c.ljust(w) for c, w, to_right in zip(r, widths, right, strict=True)]
        lines.append("  ".join(cells).rstrip())
    return lines
