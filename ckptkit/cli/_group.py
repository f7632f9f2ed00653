"""The click group: commands by file name, each imported when it is used or listed."""

from __future__ import annotations

import os
from importlib import import_module

import click

from .._version import __version__
from ..errors import UsageError, one_of
from ..support.discovery import stems
from ..support.terminal import colours
from ._declare import no_pager as only
from ._modules import module_of

# what the commands are for, in the order of the help
GROUPS = {
    "Look": ("inspect", "summary", "report", "browse", "digest", "list"),
    "Check": ("validate", "verify", "diff", "lock"),
    "Change": ("convert", "fix", "merge", "split"),
    "Many machines": ("work", "finish", "clean"),
}


class Commands(click.Group):
    """Commands by file name; a command's module is imported when it is used or listed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(stem.rstrip("_") for stem in stems(os.path.dirname(__file__)))

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        stem = module_of(name)
        command: click.Command | None = import_module(f"{__package__}.{stem}").command.click() if stem else None
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The commands by what they are for."""
        left = self.list_commands(ctx)
        groups = {**GROUPS, "More": tuple(c for c in left if not any(c in of for of in GROUPS.values()))}
        widest = max(map(len, left))
        for title, names in groups.items():
            listed = [(n, self.get_command(ctx, n)) for n in names if n in left]
            rows = [(n.ljust(widest), c.get_short_help_str(200)) for n, c in listed if c is not None]
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        known = self.list_commands(ctx)
        if args and not args[0].startswith("-") and args[0] not in known:
            raise UsageError(f"there is no command {args[0]!r}", hint=one_of(args[0], known, "ckptkit --help"))
        return super().resolve_command(ctx, args)


@click.group(cls=Commands, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, "-V", "--version", prog_name="ckptkit", message="%(prog)s %(version)s")
@click.option("--no-pager", is_flag=True, help="Print what is longer than the screen at once, instead of through PAGER.")
@click.pass_context
def cli(ctx: click.Context, no_pager: bool) -> None:
    """Inspect, validate, convert and verify model checkpoints, whatever they are stored in.

    \b
    ckptkit inspect  bert-hf/
    ckptkit validate bert-hf/ --expect layers=12
    ckptkit convert  bert_model.ckpt bert-hf/ --to hf
    ckptkit verify   bert_model.ckpt bert-hf/

    A PATH is a file, a TensorFlow prefix, or a directory that holds a checkpoint.
    Exit status: 0 fine, 1 findings or differences, 2 usage or unreadable, 3 could not be decided.
    """
    only(no_pager)
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help(), color=colours())
        ctx.exit(0)
