"""The click group: commands by file name, each imported when it is used or listed."""

from __future__ import annotations

import os
from importlib import import_module

import click

from .._version import __version__
from ..errors import UsageError
from ..support.discovery import stems
from ._modules import module_of


class Commands(click.Group):
    """Commands by file name; a command's module is imported when it is used or listed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(stem.rstrip("_") for stem in stems(os.path.dirname(__file__)))

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        stem = module_of(name)
        command: click.Command | None = import_module(f"{__package__}.{stem}").command.click() if stem else None
        return command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        known = self.list_commands(ctx)
        if args and not args[0].startswith("-") and args[0] not in known:
            from difflib import get_close_matches

            close = get_close_matches(args[0], known, 1, 0.5)
            hint = f"did you mean {close[0]!r}?" if close else f"one of {', '.join(known)}; ckptkit --help"
            raise UsageError(f"there is no command {args[0]!r}", hint=hint)
        return super().resolve_command(ctx, args)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="ckptkit", message="%(prog)s %(version)s")
def cli() -> None:
    """Inspect, validate, convert and verify model checkpoints: TensorFlow, PyTorch and safetensors.

    \b
    ckptkit inspect  PATH               what is in it
    ckptkit validate PATH               is it whole and right (exit status 1 if not)
    ckptkit report   PATH -o page.html  a page about it: findings, heat maps, histograms
    ckptkit convert  SRC DST --to hf    write it in another form, complete enough to run
    ckptkit diff     A B                what differs, whatever each is stored in (exit status 1 if anything)
    ckptkit fix      PATH DST           repair what can be repaired without guessing
    ckptkit lock     PATH               write down what it is, for validate --lock
    ckptkit verify   A B                are they the same model (exit status 1 if not)
    ckptkit summary  PATH               its layers, shapes and parameters; --flow: how a batch goes through

    PATH is a file, a TensorFlow prefix, or a directory that holds a checkpoint.
    Exit status: 0 fine, 1 findings or differences, 2 usage or unreadable, 3 could not be decided.
    """
