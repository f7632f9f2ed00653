"""Plain columns. Importing tabulate takes longer than inspecting a checkpoint, and a twentieth of what comparing two large ones does."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..support import terminal

Table = tuple[Sequence[str], list[Sequence[str]]]  # headings, rows
_LEAST = 18  # columns that a text keeps


def shape_words(shape: Sequence[int]) -> str:
    """ "[30522, 768]"; "scalar" of none."""
    return str(list(shape)) if shape else "scalar"


def columns(headings: Sequence[str], rows: Iterable[Sequence[str]], margin: int = 0) -> list[str]:
    """Lines with the cells of a column under one another; a heading that begins with # is of a column set to the right.

    On a terminal they fit its width, less a `margin` that goes before each: texts are shortened with an ellipsis, the longest first, and
    where that is not enough the last columns are left out, which a line below says.
    """
    right = [h.startswith("#") for h in headings]
    table = [[h.lstrip("#") for h in headings], *rows]
    most = terminal.width()
    left_out = 0
    if most is not None:
        table, right, left_out = _within(table, right, most - margin)
    # the last column, and a line of one long cell, take the room they need
    widths = [max((len(r[k]) for r in table if any(r[k + 1 :])), default=0) for k in range(len(right))]
    widths[-1] = max(len(r[-1]) for r in table) if right[-1] else 0
    lines = []
    for r in table:
        cells = [c.rjust(w) if to_right else c.ljust(w) for c, w, to_right in zip(r, widths, right, strict=True)]
        lines.append("  ".join(cells).rstrip())
    if any(table[0]):
        lines[0] = terminal.painted(lines[0], terminal.BOLD)
    if left_out:
        lines.append(f"({left_out} more column{'s' * (left_out > 1)}: on a wider terminal, or piped)")
    return lines


def _short(text: str, most: int) -> str:
    """A cell in at most so many columns: of a dotted name the first parts become letters, since their ends tell names apart; of a sentence
    the end is left out."""
    if len(text) <= most:
        return text
    indent = text[: len(text) - len(text.lstrip(" "))]
    if "." in text.strip(".") and not any(c in text.strip() for c in " /"):
        return indent + terminal.abbreviated(text.strip(), most - len(indent))
    return terminal.shortened(text, most, end=text.strip().count(" ") >= 3)


def _within(table: list[Sequence[str]], right: list[bool], most: int) -> tuple[list[Sequence[str]], list[bool], int]:
    """A table whose lines are at most so many columns wide, and how many of its columns were left out for that."""
    count = len(right)
    while True:
        widths = [max((len(r[k]) for r in table if k == count - 1 or any(r[k + 1 : count])), default=0) for k in range(count)]
        over = sum(widths) + 2 * (count - 1) - most
        room = sum(max(0, w - _LEAST) for w, to_right in zip(widths, right, strict=False) if not to_right)
        if over <= room or count <= 2:
            break
        count -= 1
    least = _LEAST if over <= room else 4
    while over > 0:
        widest = max((k for k in range(count) if not right[k]), key=lambda k: widths[k], default=-1)
        if widest < 0 or widths[widest] <= least:
            break
        less = max((w for k, w in enumerate(widths) if not right[k] and w < widths[widest]), default=0)
        to = max(least, widths[widest] - over, less - 1)
        over -= widths[widest] - to
        widths[widest] = to
    starts = [sum(widths[:k]) + 2 * k for k in range(count)]
    out: list[Sequence[str]] = []
    for r in table:
        last = max((k for k in range(count) if r[k]), default=0)
        out.append([_short(r[k], widths[k] if k < last or right[k] else most - starts[k]) for k in range(count)])
    return out, right[:count], len(right) - count
