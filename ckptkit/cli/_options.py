"""Options that several commands share, and the words they take."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from .._typing import TYPE_CHECKING, Any, NamedTuple
from . import _declare as declare
from ._declare import Function
from ._words import parse_pairs

if TYPE_CHECKING:
    import click

SOURCE = "How a source is read"
GIVEN = "What neither tensors nor configuration say, such as heads=16. Repeatable."
Flags = dict[str, tuple[str, ...]]  # option -> what it is called in a command
_SOURCE = (
    ("--config", {"metavar": "FILE", "help": "The model's configuration, if it is not beside the weights."}),
    ("--container", {"metavar": "NAME", "help": "Read it as this container instead of recognising it."}),
    ("--architecture", {"metavar": "NAME", "help": "Take it for this architecture instead of recognising it."}),
    ("--dialect", {"metavar": "NAME", "help": "Take the names for this dialect's instead of recognising it."}),
    ("--scope", {"metavar": "STEM", "help": "The model is what lies below this stem of names (net.bert), instead of finding it."}),
    ("--part", {"metavar": "NAME", "help": "Which model of a checkpoint that holds several: discriminator, generator, text (multimodal)."}),
    ("--drop", {"metavar": "GLOB", "multiple": True, "help": "Leave out what has such a name in the file. Repeatable."}),
    ("--set", {"metavar": "NAME=VALUE", "multiple": True, "help": GIVEN}),
)  # fmt: skip


def source_options(command: Function, *, container: str = "--container") -> Function:
    """How PATH is read, where recognition is to be overruled: the same options for every command that reads a source.

    The command gets them as one value, `reading`. `container` is the flag where --container means something else.
    """
    apart = container != "--container"  # such a command has a --drop of its own, too
    flags: Flags = {name: (container if name == "--container" else name,) for name, _ in _SOURCE if not (apart and name == "--drop")}
    return _readings(command, {"reading": flags})


def source_options_beside(container: str) -> Callable[[Function], Function]:
    """`source_options` of a command whose --container is the target's."""
    return partial(source_options, container=container)


def pair_options(command: Function) -> Function:
    """How A and B are read, as `reading` and `reading_b`: what both are said once, their files' own matters for each."""
    each = ("--config", "--container", "--dialect", "--scope", "--drop")
    a: Flags = {name: (f"{name}-a", name) for name in each}  # of one checkpoint the options are called as everywhere
    b: Flags = {name: (f"{name}-b",) for name in each}
    shared: Flags = {name: (name,) for name, _ in _SOURCE if name not in a}
    return _readings(command, {"reading": a | shared, "reading_b": b | shared})


def _readings(command: Function, readings: dict[str, Flags]) -> Function:
    """`command` with options declared, and called with a Reading for each of `readings` (its fields by option: their flags)."""
    fields: dict[str, dict[str, str]] = {}  # reading -> its field -> the parameter that gives it
    flags: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {}  # parameter -> its flags, its attributes

    def wrapped(**values: Any) -> int:
        from ..graph.reading import Reading

        said = {name: values.pop(name) for name in flags}
        given = parse_given(said["given"])
        made = {r: Reading(**{f: said[p] for f, p in of.items() if f != "given"}, given=given) for r, of in fields.items()}
        return command(**made, **values)

    wrapped.__doc__ = command.__doc__
    wrapped.__dict__.update(command.__dict__)
    for r, options in readings.items():
        for name, attributes in _SOURCE:
            if name not in options:
                continue
            field = "given" if name == "--set" else name[2:]
            parameter = field if options[name] == (name,) else options[name][0][2:].replace("-", "_")
            fields.setdefault(r, {})[field] = parameter
            side = (
                {"help": f"{'A' if r == 'reading' else 'B'}: {attributes['help']}"}
                if len(readings) > 1 and options[name] != (name,)
                else {}
            )
            flags.setdefault(parameter, (options[name], {**attributes, **side}))
    made: Function = wrapped
    for parameter, (words, attributes) in reversed(flags.items()):
        made = declare.option(*words, parameter, group=SOURCE, **attributes)(made)
    return made


class Form(NamedTuple):
    """A form that shows one of these things (`report.forms`). What forms there are is looked for only where it matters."""

    whats: tuple[str, ...]

    def value(self, text: str) -> str:
        from ..report.forms import shows

        if all(shows(text, what) is None for what in self.whats):
            raise ValueError(text)
        return text

    def kind(self) -> click.ParamType[Any]:
        from ..report.forms import forms
        from ._help import Words

        return Words(forms(*self.whats))


def format_option(*whats: str, help: str = "How to print.") -> Callable[[Function], Function]:
    """--format, with the forms that show one of `whats`."""
    return declare.option("--format", "form", type=Form(whats), default="text", show_default=True, help=help)


def start_tensorflow() -> None:
    """Import TensorFlow, if it is installed, without what its libraries print to stderr when they begin: that is for our messages."""
    import os
    import sys
    from contextlib import suppress

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        with suppress(ImportError):  # who needs it says what to install
            import tensorflow

            tensorflow.config.list_logical_devices()
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def parse_given(pairs: tuple[str, ...]) -> dict[str, object]:
    """--set values: whole numbers, other numbers, true and false, words."""
    out: dict[str, object] = {}
    for key, text in parse_pairs(pairs, "--set").items():
        value: object = text
        if text.lower() in ("true", "false"):
            value = text.lower() == "true"
        else:
            for kind in (int, float):
                try:
                    value = kind(text)
                    break
                except ValueError:
                    pass
        out[key] = value
    return out
