"""The terminal that stdout or stderr is: how wide and high, and whether it takes colours.

Policy: what is piped is never cut, wrapped or coloured, unless colours are forced. NO_COLOR wins over all, FORCE_COLOR and
CLICOLOR_FORCE over what the stream is, CLICOLOR=0 is as good as NO_COLOR. Sources: no-color.org, force-color.org, bixense.com/clicolors.
"""

from __future__ import annotations

import os
import sys

from .._typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import TextIO

NARROWEST = 40  # columns that are taken for granted
BOLD, DIM, RED, YELLOW, GREEN, CYAN = "1", "2", "31;1", "33", "32", "36"


def is_terminal(stream: TextIO | None = None) -> bool:
    """Whether a stream (stdout) is a terminal."""
    stream = sys.stdout if stream is None else stream
    try:
        return stream is not None and stream.isatty()
    except ValueError:  # closed
        return False


def size(stream: TextIO | None = None) -> tuple[int, int] | None:
    """(columns, rows) of the terminal that a stream (stdout) is, as COLUMNS and LINES say or as it says itself; None where it is none."""
    if not is_terminal(stream):
        return None
    try:
        columns, rows = os.get_terminal_size((sys.stdout if stream is None else stream).fileno())
    except (OSError, ValueError):
        columns, rows = 80, 24
    said = [os.environ.get(n, "") for n in ("COLUMNS", "LINES")]
    columns, rows = (int(s) if s.isdecimal() and 0 < int(s) < 10_000 else n for s, n in zip(said, (columns, rows), strict=True))
    return max(columns or 80, NARROWEST), rows or 24


def width(stream: TextIO | None = None) -> int | None:
    """The columns that a line may take; None where the stream (stdout) is no terminal, and a line may take as many as it needs."""
    found = size(stream)
    return found[0] if found is not None else None


def colours(stream: TextIO | None = None) -> bool:
    """Whether a stream (stdout) takes colours."""
    env = os.environ
    if env.get("NO_COLOR") or env.get("CLICOLOR") == "0":
        return False
    if env.get("FORCE_COLOR", "0") not in ("", "0", "false") or env.get("CLICOLOR_FORCE", "0") not in ("", "0"):
        return True
    return is_terminal(stream) and env.get("TERM") != "dumb"


def painted(text: str, colour: str, stream: TextIO | None = None) -> str:
    """`text` in a colour, if the stream takes any."""
    return f"\x1b[{colour}m{text}\x1b[0m" if text and colours(stream) else text


def length(text: str) -> int:
    """The columns that a text takes, without what only sets colours."""
    if "\x1b" not in text:
        return len(text)
    import re

    return len(re.sub(r"\x1b\[[0-9;]*m", "", text))


def shortened(text: str, most: int, *, end: bool = False) -> str:
    """`text` in at most so many columns, with an ellipsis in its middle (names differ at both ends), or at its `end`."""
    if len(text) <= most:
        return text
    encoding = getattr(sys.stdout, "encoding", None) or getattr(sys.__stdout__, "encoding", None) or ""
    dots = "…" if "utf" in encoding.lower() else "~"
    if most < 8 or end:
        return text[: max(0, most - 1)] + dots
    tail = (most - 1) // 2
    return text[: most - 1 - tail] + dots + text[len(text) - tail :]


def abbreviated(name: str, most: int) -> str:
    """A dotted name in at most so many columns: its first parts become their first letters, numbers stay, and so do the braces of a
    placeholder; an ellipsis if that is not enough."""
    import re

    parts = re.split(r"([./])", name)
    for k in range(0, len(parts) - 1, 2):
        if sum(map(len, parts)) <= most:
            break
        if not parts[k].strip("{}").isdigit():
            parts[k] = f"{{{parts[k][1:2]}}}" if parts[k].startswith("{") else parts[k][:1]
    return shortened("".join(parts), most)


def fitted(text: str, most: int | None) -> str:
    """A text whose lines are at most so many columns wide, broken between words; what follows is set in under where the text of its line
    began. A word that is longer stays whole."""
    if most is None or all(length(line) <= most for line in text.split("\n")):
        return text
    out: list[str] = []
    for line in text.split("\n"):
        if length(line) <= most or not line.strip():
            out.append(line)
            continue
        margin = _margin(line)
        margin = margin if margin * 2 <= most else min(4, margin)
        words = line[_start(line) :].split(" ")
        current = line[: _start(line)] + words[0]
        for word in words[1:]:
            if length(current) + 1 + length(word) > most and current.strip():
                out.append(current.rstrip())
                current = " " * margin + word
            else:
                current += " " + word
        out.append(current.rstrip())
    return "\n".join(out)


def _start(line: str) -> int:
    """Where the first word begins."""
    return len(line) - len(line.lstrip(" "))


def _margin(line: str) -> int:
    """Where the text of a line begins that has a word and then blanks before it: "  container     torch: ..."."""
    start = _start(line)
    gap = line.find("  ", start)
    if 0 <= gap <= start + 24:
        return length(line[: gap + _start(line[gap:])])
    return start + 2 if start else 4
