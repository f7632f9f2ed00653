"""Options that several commands share, and the words they take."""

from __future__ import annotations

from collections.abc import Callable

from .._typing import TYPE_CHECKING, Any, NamedTuple
from . import _declare as declare
from ._declare import Function
from ._words import parse_pairs

if TYPE_CHECKING:
    import click


def source_options(command: Function) -> Function:
    """PATH's companions: --config, --architecture, --dialect (what it is, where recognition is to be overruled)."""
    for option in (
        declare.option(
            "--part", metavar="NAME", help="Which model of a checkpoint that holds several (ELECTRA: discriminator, generator)."
        ),
        declare.option("--dialect", metavar="NAME", help="Take the names for this dialect's instead of recognising it."),
        declare.option("--architecture", metavar="NAME", help="Take it for this architecture instead of recognising it."),
        declare.option("--config", metavar="FILE", help="The model's configuration, if it is not beside the weights."),
    ):
        command = option(command)
    return command


class Form(NamedTuple):
    """A form that shows one of these things (`report.forms`). What forms there are is looked for only where it matters."""

    whats: tuple[str, ...]

    def value(self, text: str) -> str:
        from ..report.forms import shows

        if all(shows(text, what) is None for what in self.whats):
            raise ValueError(text)
        return text

    def kind(self) -> click.ParamType[Any]:
        import click

        from ..report.forms import forms

        return click.Choice(forms(*self.whats))


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
