"""click's words to declare a command with, without click: importing it takes longer than inspecting a checkpoint.

Policy: a declaration is data. `Command.parse` reads a plain command line from it (exact long options, values of the declared
kinds) and understands it as click would; of everything else it says None, and the click command made of the same declaration
answers: with help, with completion, or with the message that names the mistake.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from .._typing import TYPE_CHECKING, Any, NamedTuple
from ..errors import inert

if TYPE_CHECKING:
    import click

Function = Callable[..., int]


class Choice(NamedTuple):
    """One of these words."""

    words: Sequence[str]

    def value(self, text: str) -> str:
        if text not in self.words:
            raise ValueError(text)
        return text

    def kind(self) -> click.ParamType[Any]:
        from ._help import Words

        return Words(self.words)


class IntRange(NamedTuple):
    """A whole number of at least `least`."""

    least: int

    def value(self, text: str) -> int:
        number = int(text)
        if not text.isdigit() or number < self.least:
            raise ValueError(text)
        return number

    def kind(self) -> click.ParamType[Any]:
        import click

        return click.IntRange(self.least)


class FloatRange(NamedTuple):
    """A number of at least `least`."""

    least: float

    def value(self, text: str) -> float:
        number = float(text)
        if not number >= self.least:
            raise ValueError(text)
        return number

    def kind(self) -> click.ParamType[Any]:
        import click

        return click.FloatRange(self.least)


class Parameter(NamedTuple):
    """An argument (no `flags`) or an option. `off` is the flag that says no."""

    name: str
    flags: tuple[str, ...]
    off: str | None
    attributes: dict[str, Any]  # click's: type, multiple, is_flag, default, metavar, help, nargs, ...

    @property
    def start(self) -> object:
        """The value without its being named."""
        a = self.attributes
        if a.get("is_flag") or a.get("multiple"):
            return a.get("default", () if a.get("multiple") else False)
        return a.get("default")

    def value(self, text: str) -> object:
        """What a word means; ValueError where click must look at it."""
        kind = self.attributes.get("type")
        return text if kind is None else kind.value(text)

    def made(self) -> click.Parameter:
        """The same for click."""
        import click

        from ._help import completed

        a = dict(self.attributes)
        group = a.pop("group", "")
        if a.get("type") is not None:
            a["type"] = a["type"].kind()
        elif not a.get("is_flag") and not self.off:
            a["shell_complete"] = completed(self.name, self.flags, str(self.attributes.get("metavar", "")))
        if not self.flags:
            return click.Argument([self.name], **a)
        flags = (
            [f"{self.flags[0]}/{self.off}", *self.flags[1:]] if self.off else [f for f in self.flags if "=" not in f]
        )  # click splits there
        made = click.Option([*flags, self.name], **a)
        made.group = group  # type: ignore[attr-defined]  # which the help reads
        return made


def allow(pairs: object) -> None:
    """Put the limits of --limit in force: ("rank=100", "json_bytes=1GB"). Raises UsageError."""
    if not isinstance(pairs, (tuple, list)) or not pairs:
        return
    from ..limits import put
    from ..support.sizes import parse_size
    from ._words import parse_pairs

    put({name: parse_size(text, f"--limit {name}") or 0 for name, text in parse_pairs(tuple(pairs), "--limit", "rank=100").items()})


# every command has it
LIMIT = Parameter("limit", ("--limit",), None, {
    "metavar": "NAME=VALUE", "multiple": True, "expose_value": False, "callback": lambda _ctx, _param, value: allow(value),
    "help": "Raise a limit that a trusted file meets; the message names it (docs/security.md). Repeatable.",
})  # fmt: skip


def no_pager(chosen: object) -> None:
    """Have nothing go through a pager, if that was `chosen`."""
    if chosen:
        PAGER.used = False


NO_PAGER = Parameter("no_pager", ("--no-pager",), None, {
    "is_flag": True, "expose_value": False, "callback": lambda _ctx, _param, value: no_pager(value),
    "help": "Print what is longer than the screen at once, instead of through PAGER.",
})  # fmt: skip


class Command(NamedTuple):
    """A command: the function to call with its parameters by name, which gives the exit status; its docstring is the help. `short` is its
    line in the list of commands."""

    name: str
    parameters: tuple[Parameter, ...]
    run: Function
    short: str = ""

    def parse(self, words: Sequence[str]) -> dict[str, object] | None:
        """The values of a plain command line; None where click must look at it."""
        options = {f: p for p in self.parameters for f in (*p.flags, p.off) if f}
        values: dict[str, object] = {p.name: p.start for p in self.parameters if p.flags}
        plain: list[str] = []
        rest = iter(words)
        try:
            for word in rest:
                if word == "--":  # all that follows are arguments, whatever they begin with
                    plain += rest
                    break
                if not word.startswith("-"):
                    if not word:
                        return None
                    plain.append(word)
                    continue
                flag, equals, text = (word, "", "") if word in options else word.partition("=")
                p = options.get(flag)
                if p is None or (equals and (p.attributes.get("is_flag") or p.off or not flag.startswith("--"))):
                    return None
                if p.attributes.get("is_flag") or p.off:
                    values[p.name] = flag != p.off
                    continue
                word = text if equals else next(rest, "-")
                if not equals and word.startswith("-"):
                    return None
                value, old = p.value(word), values[p.name]
                values[p.name] = (*old, value) if isinstance(old, tuple) else value
            allow(values.pop(LIMIT.name))
            no_pager(values.pop(NO_PAGER.name))
            arguments = [p for p in self.parameters if not p.flags]
            if len(arguments) == 1 and arguments[0].attributes.get("nargs") == -1:
                return {arguments[0].name: tuple(plain), **values}
            if len(arguments) != len(plain):
                return None
            return {**{p.name: p.value(word) for p, word in zip(arguments, plain, strict=True)}, **values}
        except ValueError:
            return None

    def click(self) -> click.Command:
        """The same as a click command."""
        from ._help import Grouped

        params = [p.made() for p in self.parameters]
        return Grouped(self.name, params=params, callback=self.run, help=self.run.__doc__, short_help=self.short or None)


def argument(name: str, **attributes: Any) -> Callable[[Function], Function]:
    """Declare an argument, as click's decorator does."""
    return lambda f: _declared(f, Parameter(name.lower(), (), None, attributes))


def option(*words: str, **attributes: Any) -> Callable[[Function], Function]:
    """Declare an option, as click's decorator does: its flags and, if it is not the longest flag's, the parameter's name."""
    flags = tuple(w.partition("/")[0] for w in words if w.startswith("-"))
    off = next((w.partition("/")[2] for w in words if "/" in w), None)
    longest = max(flags, key=lambda f: len(f) - len(f.lstrip("-")))
    name = next((w for w in words if not w.startswith("-")), longest.lstrip("-").replace("-", "_"))
    return lambda f: _declared(f, Parameter(name, flags, off, attributes))


def command(name: str, short: str = "") -> Callable[[Function], Command]:
    """The command that the decorators below this one declare."""
    return lambda f: Command(name, (*reversed(f.__dict__.pop("parameters")), LIMIT, NO_PAGER), f, short)


def _declared(f: Function, p: Parameter) -> Function:
    f.__dict__.setdefault("parameters", []).append(p)
    return f


def _utf16(c: str) -> list[int]:
    """The UTF-16 units of a character."""
    raw = c.encode("utf-16-le", "surrogatepass")
    return [int.from_bytes(raw[i : i + 2], "little") for i in range(0, len(raw), 2)]


class PAGER:
    """Whether what is longer than the screen goes through a pager: --no-pager says that it does not."""

    used = True


def _paged(text: str) -> bool:
    """Show a text that is longer than the screen through the pager that PAGER names (less), and say so; False where it fits, where stdout
    is no terminal, or PAGER is empty or `cat`."""
    import os

    from ..support import terminal

    size = terminal.size()
    pager = os.environ.get("CKPTKIT_PAGER", os.environ.get("PAGER", "less"))
    if size is None or text.count("\n") + 1 < size[1] or pager.strip() in ("", "cat") or os.environ.get("TERM") in ("dumb", None):
        return False
    import shlex
    import shutil
    import subprocess

    try:
        words = shlex.split(pager)
    except ValueError:
        return False
    if not words or shutil.which(words[0]) is None:
        return False
    env = {"LESS": "FRX", "LV": "-c", **os.environ}
    sys.stdout.flush()
    with subprocess.Popen(words, stdin=subprocess.PIPE, env=env) as process:
        assert process.stdin is not None
        try:
            process.stdin.write(text.encode(sys.stdout.encoding or "utf-8", "backslashreplace") + b"\n")
            process.stdin.close()
        except OSError:  # it was left before the end
            pass
        while True:
            try:
                process.wait()
                break
            except KeyboardInterrupt:  # which is the pager's to deal with
                continue
    return True


def echo(text: str, *, err: bool = False, nl: bool = True, commands: bool = False) -> None:
    """`text` on stdout (or stderr); characters that its encoding does not have are escaped, and those that no terminal should get.

    The reports have made names from files printable; JSON may hold them as they are. So this is the last look: control characters
    above ASCII, marks of direction and the like become what JSON writes for them. So does what a CI job that prints it would obey, but
    for `commands` of our own.
    """
    stream = sys.stderr if err else sys.stdout
    if not text.isascii() and not text.replace("\n", "").isprintable():
        text = "".join(
            c if c.isprintable() or c in "\n\t\x1b" else "".join(f"\\u{u:04x}" for u in _utf16(c)) for c in text
        )  # ESC: our own colours
    text = inert(text, commands=commands)
    if not err and PAGER.used and text.count("\n") > 20 and _paged(text):
        return
    end = "\n" if nl else ""
    try:
        stream.write(text + end)
    except UnicodeEncodeError:
        encoding = stream.encoding or "ascii"
        stream.write(text.encode(encoding, "backslashreplace").decode(encoding) + end)
