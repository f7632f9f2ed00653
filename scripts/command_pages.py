"""What the commands say of themselves, as data and as pages of the site: read from the click commands, so that none differs from `--help`.

`pages()` gives every command with its usage, its text, its examples and its options by group; `markdown` makes a page of one, `overview`
the page that lists them. `scripts/manual.py` makes the manual pages of the same.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import click

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from ckptkit.cli._group import GROUPS, cli  # noqa: E402  (of this clone, installed or not)
from ckptkit.cli._help import GENERAL, is_general  # noqa: E402


class Option(NamedTuple):
    """An option: how it is written (`--to DIALECT`), and what it does."""

    written: str
    text: str


class Page(NamedTuple):
    """A command. `text` is paragraphs and blocks of examples, in their order: a tuple is a block, line by line."""

    name: str
    short: str
    usage: str
    text: tuple[str | tuple[str, ...], ...]
    options: dict[str, tuple[Option, ...]]


def _text(help: str) -> tuple[str | tuple[str, ...], ...]:
    """Paragraphs of a help text; one that click is told not to wrap (a line of \\b before it) is a block."""
    out: list[str | tuple[str, ...]] = []
    for part in re.split(r"\n\s*\n", help.strip()):
        lines = [line.strip() for line in part.split("\n")]
        if lines[0] == "\b":
            out.append(tuple(lines[1:]))
        else:
            out.append(" ".join(lines))
    return tuple(out)


def _options(command: click.Command, context: click.Context) -> dict[str, tuple[Option, ...]]:
    groups: dict[str, list[Option]] = {"Options": []}
    for p in command.get_params(context):
        record = None if isinstance(p, click.Argument) else p.get_help_record(context)
        if record is not None:
            group = GENERAL if command is not cli and is_general(p) else getattr(p, "group", "") or "Options"
            groups.setdefault(group, []).append(Option(*record))
    order = sorted(groups, key=lambda g: (g == GENERAL, g != "Options"))
    return {g: tuple(groups[g]) for g in order if groups[g]}


def page(name: str, command: click.Command) -> Page:
    """The page of one command; `name` is "" for ckptkit itself."""
    parent = click.Context(cli, info_name="ckptkit", **cli.context_settings)
    context = click.Context(command, parent=parent, info_name=name) if name else parent
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    return Page(name, command.get_short_help_str(200), usage, _text(command.help or ""), _options(command, context))


def pages() -> Iterator[Page]:
    """Every command, in the order of the help."""
    context = click.Context(cli, info_name="ckptkit")
    names = cli.list_commands(context)
    first = [n for group in GROUPS.values() for n in group if n in names]
    for name in (*first, *(n for n in names if n not in first)):
        command = cli.get_command(context, name)
        assert command is not None
        yield page(name, command)


def program() -> Page:
    """The page of `ckptkit` without a command."""
    return page("", cli)


def _plain(text: str) -> str:
    """Text in which Markdown finds nothing to interpret, but for code between backquotes."""
    return "".join(
        part if k % 2 else re.sub(r"([\\*_<>\[\]|#])", r"\\\1", part)
        for k, part in enumerate(re.split(r"(`[^`]*`)", text))
    )  # fmt: skip


def markdown(p: Page) -> str:
    """A page of the site."""
    out = [f"# ckptkit {p.name}", "", f"    {p.usage}", ""]
    for part in p.text:
        out += [*(f"    {line}" for line in part), ""] if isinstance(part, tuple) else [_plain(part), ""]
    for group, options in p.options.items():
        out += [f"## {group}", "", "| option | |", "| --- | --- |"]
        out += [f"| `{o.written.replace('|', chr(92) + '|')}` | {_plain(o.text)} |" for o in options]
        out.append("")
    return "\n".join(out)


def overview() -> str:
    """The page that lists the commands."""
    every = {p.name: p for p in pages()}
    groups = {**GROUPS, "More": tuple(n for n in every if not any(n in of for of in GROUPS.values()))}
    out = ["# Commands", "", "What `ckptkit COMMAND --help` says, made from the same declarations.", ""]
    for title, names in groups.items():
        out += [f"## {title}", "", "| command | |", "| --- | --- |"]
        out += [f"| [{n}]({n}.md) | {_plain(every[n].short)} |" for n in names if n in every]
        out.append("")
    out += ["Exit status: 0 fine, 1 findings or differences, 2 usage or unreadable, 3 could not be decided ([by command](../ci.md)).", ""]
    return "\n".join(out)
