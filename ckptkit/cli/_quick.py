"""Commands that must start quickly: declared once, parsed without click where the line is plain, by click where it is not.

Policy: `parse` accepts only what it is sure of (exact long options and values of the declared kinds) and understands it as
click would; of everything else it says None, and the click command made of the same declaration answers: with help,
with completion, or with the message that names the mistake.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .._typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import click


class Option(NamedTuple):
    """One option: `--include GLOB`. `kind` is value, many (repeatable) or flag; `choices` are the values it takes."""

    flag: str
    help: str
    kind: str = "value"
    metavar: str | None = None
    choices: tuple[str, ...] = ()
    default: str | None = None
    name: str = ""  # the parameter of `run`; the flag's own without one


class Quick(NamedTuple):
    """A command with one argument. `run` takes it and every option by name, and gives the exit status; its docstring is the help."""

    name: str
    argument: str
    options: tuple[Option, ...]
    run: Callable[..., int]
    choices: tuple[str, ...] = ()  # of the argument

    def parse(self, words: Sequence[str]) -> dict[str, object] | None:
        """The values of a plain command line; None where click must look at it."""
        by_flag = {o.flag: o for o in self.options}
        values: dict[str, object] = {key(o): {"flag": False, "many": ()}.get(o.kind, o.default) for o in self.options}
        argument = None
        rest = iter(words)
        for word in rest:
            if not word.startswith("-"):
                if argument is not None or not word or (self.choices and word not in self.choices):
                    return None
                argument = word
                continue
            flag, equals, text = word.partition("=")
            o = by_flag.get(flag)
            if o is None or (o.kind == "flag" and equals):
                return None
            if o.kind == "flag":
                values[key(o)] = True
                continue
            value = text if equals else next(rest, None)
            if value is None or (not equals and value.startswith("-")) or (o.choices and value not in o.choices):
                return None
            old = values[key(o)]
            values[key(o)] = (*old, value) if isinstance(old, tuple) else value
        return None if argument is None else {self.argument: argument, **values}

    def command(self) -> click.Command:
        """The same as a click command."""
        import click

        params: list[click.Parameter] = [click.Argument([self.argument], type=click.Choice(self.choices) if self.choices else None)]
        for o in self.options:
            if o.kind == "flag":
                params.append(click.Option([o.flag, key(o)], is_flag=True, help=o.help))
            else:
                params.append(
                    click.Option(
                        [o.flag, key(o)], metavar=o.metavar, multiple=o.kind == "many", type=click.Choice(o.choices) if o.choices else None,
                        default=o.default, show_default=o.default is not None, help=o.help,
                    )
                )  # fmt: skip
        return click.Command(self.name, params=params, callback=self.run, help=self.run.__doc__)


def key(o: Option) -> str:
    """The parameter that an option's value goes to."""
    return o.name or o.flag.lstrip("-").replace("-", "_")


FORMAT = Option("--format", "How to print.", choices=("text", "json", "markdown"), default="text", name="form")


def print_out(text: str) -> None:
    """`text` on stdout; characters that its encoding does not have are escaped."""
    import sys

    try:
        print(text)
    except UnicodeEncodeError:
        encoding = sys.stdout.encoding or "ascii"
        print(text.encode(encoding, "backslashreplace").decode(encoding))
