#!/usr/bin/env python3
"""Writes docs/formats.md's tables of architectures and containers from ckptkit's own; `--check` only says whether they are up to date."""

from __future__ import annotations

import sys
from pathlib import Path

from ckptkit.arch import architectures
from ckptkit.containers import containers
from ckptkit.report.catalogue import catalogue

PAGE = Path(__file__).resolve().parent.parent / "docs" / "formats.md"
BEGIN, END = "<!-- tables: scripts/readme_tables.py -->", "<!-- end of tables -->"


def tables() -> str:
    """Both tables as Markdown, from what `ckptkit list matrix` shows."""
    matrix = catalogue("matrix")
    lines = ["| architecture | namings (`--to`) that are read and written |", "| --- | --- |"]
    for arch in architectures().values():
        # several of one alias go by it, unless one of them has its name
        names = dict.fromkeys(
            d.alias if d.alias and d.alias not in arch.dialects and (d.part or d.name.startswith(f"{d.alias}_")) else d.name
            for d in arch.dialects.values()
        )
        lines.append(f"| {arch.title} (`{arch.name}`) | {', '.join(f'`{n}`' for n in names)} |")
    lines += [
        "",
        "| container (`--container`) | read | written | the namings whose own it is | holds the others too |",
        "| --- | --- | --- | --- | --- |",
    ]
    for c in containers().values():
        own = dict.fromkeys(f"`{e['naming']}`" for e in matrix if e[c.NAME] == "own")
        others = [e for e in matrix if e[c.NAME] != "own"]
        held = sum(e[c.NAME] == "yes" for e in others)
        word = "" if not c.WRITABLE else "yes" if held == len(others) else f"{held} of {len(others)}"
        lines.append(f"| {c.TITLE} (`{c.NAME}`) | yes | {'yes' if c.WRITABLE else 'no'} | {', '.join(own)} | {word} |")
    return "\n".join(lines)


def updated(text: str) -> str:
    """The page's text with the tables of today."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{tables()}\n\n{END}{after}"


if __name__ == "__main__":
    have = PAGE.read_text()
    if "--check" in sys.argv:
        sys.exit(0 if have == updated(have) else "docs/formats.md: the tables are not up to date; run scripts/readme_tables.py")
    PAGE.write_text(updated(have))
