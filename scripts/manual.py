#!/usr/bin/env python3
"""Writes the manual pages, made from the commands: `python scripts/manual.py DIR` gives DIR/ckptkit.1 and DIR/ckptkit-COMMAND.1.

    python scripts/manual.py ~/.local/share/man/man1        then: man ckptkit, man ckptkit-convert
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import command_pages
from command_pages import Page

from ckptkit import __version__

STATUS = (
    ("0", "fine"),
    ("1", "findings or differences"),
    ("2", "wrong usage, or something unreadable"),
    ("3", "could not be decided"),
)
ENVIRONMENT = (
    ("CKPTKIT_ARCH", "Files or folders with architectures of one's own. They are Python and are run: name only what you trust."),
    ("CKPTKIT_PAGER, PAGER", "What shows a text that is longer than the screen; empty or cat: nothing does."),
    ("NO_COLOR, FORCE_COLOR, CLICOLOR", "Whether there is colour."),
)


def escaped(text: str) -> str:
    """Text that roff takes as it is: no escapes, hyphens that can be copied, no line that is a request."""
    text = re.sub(r"`([^`]*)`", r"\1", text).replace("\\", r"\e").replace("-", r"\-")
    return re.sub(r"^(?=[.'])", r"\\&", text, flags=re.M)


def quoted(text: str) -> str:
    """An argument of a request."""
    return '"' + escaped(text).replace('"', r"\(dq") + '"'


def _text(page: Page) -> Iterator[str]:
    yield ".SH DESCRIPTION"
    for part in page.text:
        if isinstance(part, tuple):
            yield from (".PP", ".nf", *(escaped(line) for line in part), ".fi")
        else:
            yield from (".PP", escaped(part))


def _items(items: Iterator[tuple[str, str]]) -> Iterator[str]:
    for written, text in items:
        yield from (".TP", rf"\fB{escaped(written)}\fR", escaped(text))


def roff(page: Page, others: list[str]) -> str:
    """The manual page of a command; `others` are the names of the pages to see as well."""
    title = f"ckptkit-{page.name}" if page.name else "ckptkit"
    lines = [
        f".TH {quoted(title.upper())} 1 {quoted('')} {quoted(f'ckptkit {__version__}')} {quoted('ckptkit manual')}",
        ".SH NAME",
        rf"{escaped(title)} \- {escaped(page.short.rstrip('.'))}",
        ".SH SYNOPSIS",
        escaped(page.usage),
        *_text(page),
    ]
    for group, options in page.options.items():
        lines += [f".SH {quoted(group.upper())}", *_items((o.written, o.text) for o in options)]
    if not page.name:
        lines += [".SH COMMANDS", *_items((f"ckptkit-{p.name}(1)", p.short) for p in command_pages.pages())]
        lines += [".SH ENVIRONMENT", *_items(iter(ENVIRONMENT))]
    lines += [".SH EXIT STATUS", *_items(iter(STATUS))]
    lines += [".SH SEE ALSO", escaped(", ".join(f"{n}(1)" for n in others))]
    return "\n".join(lines) + "\n"


def manual() -> dict[str, str]:
    """Every page by the name of its file."""
    every = [command_pages.program(), *command_pages.pages()]
    names = [f"ckptkit-{p.name}".rstrip("-") for p in every]
    return {f"{n}.1": roff(p, names[1:] if n == "ckptkit" else ["ckptkit"]) for n, p in zip(names, every, strict=True)}


def main(words: list[str]) -> int:
    if len(words) != 1 or words[0].startswith("-"):
        print(__doc__, file=sys.stderr)
        return 2
    folder = Path(words[0])
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in manual().items():
        (folder / name).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
