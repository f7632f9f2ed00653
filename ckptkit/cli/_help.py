"""What click shows and completes: options in groups, the words of tables, one of many words named where another was meant."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import click
from click.shell_completion import CompletionItem

from .._typing import Any
from ..errors import one_of
from ..support.terminal import fitted, width

Complete = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]
GENERAL = "Any command"
_GENERAL = ("limit", "no_pager")
# arguments and options that are files, whatever they are called in a command
FILES = frozenset(("path", "paths", "a", "b", "src", "dst", "base", "adapter", "out", "target", "source", "wrapped", "plan"))


class Words(click.Choice[str]):
    """One of these words; of another, the message says which was probably meant."""

    def __init__(self, words: Sequence[str]) -> None:
        super().__init__(words)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter:
            self.fail(f"there is no {value!r}: {one_of(value, list(map(str, self.choices)), most=40)}", param, ctx)


class Grouped(click.Command):
    """A command whose help has its options by group: its own, how a source is read, what any command has."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args and not ctx.resilient_parsing and any(isinstance(p, click.Argument) and isinstance(p.type, Words) for p in self.params):
            click.echo(ctx.get_help())  # which lists the words that it takes
            ctx.exit(0)
        return super().parse_args(ctx, args)

    def get_help(self, ctx: click.Context) -> str:
        return fitted(super().get_help(ctx), width())

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        groups: dict[str, list[tuple[str, str]]] = {"Options": []}
        last: list[tuple[str, str]] = []
        for p in self.get_params(ctx):
            record = p.get_help_record(ctx)
            if record is None or isinstance(p, click.Argument):
                continue
            if is_general(p):
                last.append(record)
            else:
                groups.setdefault(getattr(p, "group", "") or "Options", []).append(record)
        for title, records in {**groups, GENERAL: last}.items():
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)


def is_general(p: click.Parameter) -> bool:
    """Whether any command has this option (click names its own --help otherwise from version to version)."""
    return p.name in _GENERAL or "--help" in p.opts


def completed(name: str, flags: Sequence[str], metavar: str) -> Complete | None:
    """What completes a parameter: the words of its table, or files; None where it takes a text of one's own."""
    words = next((WORDS[f] for f in flags if f in WORDS), None)
    if words is not None:
        return _words(words)
    if (not flags and name in FILES) or metavar.rstrip(".") in ("FILE", "PATH", "DIR", "BASE", "FILE|N", "PLACE"):
        return lambda ctx, param, incomplete: [CompletionItem(incomplete, type="file")]
    return None


def _words(words: Callable[[], Iterable[str]]) -> Complete:
    return lambda ctx, param, incomplete: [CompletionItem(w) for w in words() if w.startswith(incomplete)]


def _dialects() -> list[str]:
    from ..arch import architectures

    return sorted({n for a in architectures().values() for d in a.dialects.values() for n in (d.name, d.alias) if n})


def _targets() -> list[str]:
    from ..runtime.export import FORMS

    return sorted({*_dialects(), *_containers(), *FORMS})


def _containers() -> list[str]:
    from ..containers import containers

    return list(containers())


def _architectures() -> list[str]:
    from ..arch import architectures

    return list(architectures())


def _dtypes() -> list[str]:
    from ..tensors import DTYPES

    return [d.numpy for d in DTYPES.values() if d.kind == "float" and d.numpy]


def _rules() -> list[str]:
    from ..rules import RULES

    return list(RULES)


def _quantizations() -> list[str]:
    from ..packing import packings

    return sorted({n for p in packings().values() for n in getattr(p, "QUANTIZERS", {})})


def _groups() -> list[str]:
    from ..arch import architectures

    return sorted({p.group for a in architectures().values() for p in a.params.values()} - {"core"})


def _expected() -> list[str]:
    from ..rules.expectations import WORDS as others

    return [f"{w}=" for w in (*others, "layers", "hidden", "heads", "vocab", "positions", "intermediate", "parameters", "tensors")]


def _given() -> list[str]:
    usual = ("heads", "kv_heads", "head_dim", "layers", "hidden", "intermediate", "experts", "labels", "positions", "vocab")
    return [f"{n}=" for n in usual]


def _parts() -> list[str]:
    from ..arch import architectures

    return sorted({d.part for a in architectures().values() for d in a.dialects.values() if d.part} | {"text"})


def _reports() -> list[str]:
    from ..report.forms import forms

    return [f"{n}=" for n in forms("checked")]


def _engines() -> list[str]:
    from ..verbs.verify import ENGINES

    return [*ENGINES, ",".join(ENGINES), ",".join(reversed(ENGINES))]


def _limits() -> list[str]:
    from ..limits import Limits

    return [f"{n}=" for n in Limits._fields]


WORDS: dict[str, Callable[[], Iterable[str]]] = {
    "--to": _targets, "--container": _containers, "--source-container": _containers, "--container-a": _containers,
    "--container-b": _containers, "--dialect": _dialects, "--dialect-a": _dialects, "--dialect-b": _dialects,
    "--architecture": _architectures, "--dtype": _dtypes, "--select": _rules, "--ignore": _rules, "--quantize": _quantizations,
    "--add": _groups, "--expect": _expected, "--limit": _limits, "--against": lambda: ("transformers",),
    "--base-container": _containers, "--set": _given, "--part": _parts, "--report": _reports, "--engines": _engines,
    "--on": lambda: ("local:", "ray", "ray://", "dask://"),
}  # fmt: skip
