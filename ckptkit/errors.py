"""What goes wrong, as values of one family.

Policy: every message is one line and says what is wrong, where, and (in `hint`) what to do; a kind of error with one usual way
out has it as `advice`, which is the hint for a file where none is given. Text that came from a file is made printable before it gets
into a message, so that nothing in a checkpoint reaches a terminal raw.
"""

from __future__ import annotations

from collections.abc import Iterable

PIPE = "pipes, sockets, devices and directories are never read as one: name a file"
UNREADABLE = "see who may read it, where a link of it leads, and whether its disk is well"
EXIT_OK, EXIT_FINDINGS, EXIT_USAGE, EXIT_UNDECIDED = 0, 1, 2, 3


def printable(text: object, limit: int = 400) -> str:
    """`text` on one line without control characters, bidirectional overrides or lone surrogates; cut at `limit`."""
    s = str(text)
    if len(s) > limit:
        s = s[: limit - 3] + "..."
    if s.isascii() and s.isprintable():
        return s
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in s)


def inert(text: str, *, commands: bool = False, sign: str = "\\u0023") -> str:
    """`text` without what the runner of a CI job takes for a command: `::` where a line begins (GitHub; blanks before it do not count),
    `##[` (GitHub), `##vso[` (Azure), `##teamcity[` anywhere.

    One character of each becomes an escape, which JSON reads as before; `sign` is that of #. With `commands` lines may begin with `::`:
    they are ours. Sources: actions/runner ActionCommand.cs, microsoft/azure-pipelines-agent Command.cs.
    """
    if "##" in text:
        import re

        text = re.sub(r"#(?=#[\w.-]*\[)", lambda _: sign, text)
    if "::" in text and not commands:
        lines = text.split("\n")
        for k, line in enumerate(lines):
            if (bare := line.lstrip()).startswith("::"):
                lines[k] = line[: len(line) - len(bare)] + "\\u003a" + bare[1:]
        text = "\n".join(lines)
    return text


def one_of(word: object, known: Iterable[str], see: str = "", most: int = 16) -> str:
    """The hint for a word that is none of `known`: the one that is probably meant, else what there is (`see` is where all are listed)."""
    from difflib import get_close_matches

    words = list(dict.fromkeys(known))
    said = str(word)[:200].lower()
    folded = {w.lower(): w for w in reversed(words)}
    close = get_close_matches(said, list(folded), 1, 0.6) or [w for w in sorted(folded) if len(said) > 1 and w.startswith(said[:4])][:1]
    if close:
        return f"did you mean {folded[close[0]]!r}?"
    listed = ", ".join(words[:most]) + (", ..." if len(words) > most else "")
    return f"one of {listed}{f'; {see}' if see else ''}" if words else see


def with_extra(name: str) -> str:
    """The hint that installs an extra: from this project's repository, since the name is another project's on package indexes."""
    return f"in a clone of this repository: pip install '.[{name}]'"


class CheckpointError(Exception):
    """Something about a checkpoint that stops the work. Subclasses say which kind; all exit with status 2."""

    kind = "unreadable"
    exit_code = EXIT_USAGE
    advice: str | None = None

    def __init__(self, message: str, *, path: str | None = None, hint: str | None = None) -> None:
        self.message = printable(message, 1000)
        self.path = None if path is None else printable(path)
        self.hint = printable(hint, 1000) if hint else self.advice if path else None
        super().__init__(self.message)

    def __str__(self) -> str:
        where = f"{self.path}: " if self.path else ""
        stop = "" if self.message.endswith((".", "?", "!")) else "."
        hint = f"{stop} Hint: {self.hint}" if self.hint else ""
        return f"{where}{self.message}{hint}"

    def __reduce__(self) -> tuple[object, ...]:
        """Made again without `__init__`, which takes other arguments in some of the family."""
        return _again, (type(self), self.args, self.__dict__)


def _again(kind: type[CheckpointError], args: tuple[object, ...], state: dict[str, object]) -> CheckpointError:
    """An error as it was pickled."""
    error = kind.__new__(kind, *args)
    error.__dict__.update(state)
    return error


class NotFoundError(CheckpointError):
    """There is no such file, or no checkpoint in that directory."""

    kind = "not-found"
    advice = "check the path"


class UnknownNameError(NotFoundError, KeyError):
    """A checkpoint has nothing of this name. A KeyError too, as mappings raise."""

    kind = "unknown-name"
    __str__ = CheckpointError.__str__


class UnknownFormatError(CheckpointError):
    """No container recognises the bytes."""

    kind = "unknown-format"


class CorruptError(CheckpointError):
    """The bytes break the rules of their own format, or are damaged or cut short."""

    kind = "corrupt"
    advice = "get the file again, or have it written again; nothing of it was used"


class UnsafeError(CheckpointError):
    """Reading would need something this tool never does, such as calling code named by the file."""

    kind = "unsafe"
    advice = "where you trust who made it, load it with its own library and save the weights alone"


class UnsupportedError(CheckpointError):
    """A valid thing that this version cannot read or write."""

    kind = "unsupported"
    advice = "load it with the library that wrote it and save the weights in another form"


class LimitError(CheckpointError):
    """A declared size or count is over a limit of `ckptkit.limits.Limits`; the message names the limit."""

    kind = "limit"
    advice = "where the file is trusted: --limit NAME=N"


class UsageError(CheckpointError):
    """A wrong or missing option, a target that exists, something asked for that there is not."""

    kind = "usage"


class CancelledError(CheckpointError):
    """Whoever asked for the work has called it off."""

    kind = "cancelled"


class LoadError(CheckpointError):
    """A library that does not load a checkpoint, with what it says."""

    kind = "load"


class FindingsError(CheckpointError):
    """A checkpoint with error findings that was not to be used with them; `findings` holds them."""

    kind = "findings"
    exit_code = EXIT_FINDINGS

    def __init__(self, message: str, findings: tuple[object, ...], *, path: str | None = None, hint: str | None = None) -> None:
        super().__init__(message, path=path, hint=hint)
        self.findings = findings


class UndecidedError(CheckpointError):
    """A question that the tensors and the configuration do not answer and that is never guessed."""

    kind = "undecided"
    exit_code = EXIT_UNDECIDED
