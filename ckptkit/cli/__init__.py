"""The command line: thin click commands, one file each, found by being in this folder.

stdout is data, stderr is progress and messages. An error is one line with a hint and an exit status, never a traceback:
0 fine, 1 findings or differences, 2 usage or unreadable, 3 could not be decided.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module

import click

from .. import __version__
from .._typing import NoReturn
from ..errors import EXIT_USAGE, CheckpointError, UsageError, printable


class Commands(click.Group):
    """Commands by file name; a command's module is imported when it is used or listed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        here = os.path.dirname(__file__)
        return sorted(f[:-3].rstrip("_") for f in os.listdir(here) if f.endswith(".py") and not f.startswith("_"))

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        here = os.path.dirname(__file__)
        for stem in (name, name + "_"):
            if stem.isidentifier() and not stem.startswith("_") and os.path.exists(os.path.join(here, stem + ".py")):
                command: click.Command = import_module(f"{__name__}.{stem}").command
                return command
        return None

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        known = self.list_commands(ctx)
        if args and not args[0].startswith("-") and args[0] not in known:
            from difflib import get_close_matches

            close = get_close_matches(args[0], known, 1, 0.5)
            raise UsageError(
                f"there is no command {args[0]!r}", hint=f"did you mean {close[0]!r}?" if close else f"one of {', '.join(known)}; ckptkit --help"
            )
        return super().resolve_command(ctx, args)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="ckptkit", message="%(prog)s %(version)s")
def cli() -> None:
    """Inspect, validate and convert model checkpoints: TensorFlow, PyTorch and safetensors.

    \b
    ckptkit inspect  PATH               what is in it
    ckptkit validate PATH               is it whole and right (exit status 1 if not)
    ckptkit convert  SRC DST --to hf    write it in another form, complete enough to run

    PATH is a file, a TensorFlow prefix, or a directory that holds a checkpoint.
    Exit status: 0 fine, 1 findings, 2 usage or unreadable, 3 could not be decided.
    """


def fail(message: str, status: int) -> NoReturn:
    """One line on stderr, and the exit status."""
    sys.stdout.flush() if not sys.stdout.closed else None
    print(f"error: {message}", file=sys.stderr)
    sys.exit(status)


def main() -> NoReturn:
    """The console script. Every way a command can end becomes an exit status."""
    try:
        status = cli.main(standalone_mode=False)
        sys.stdout.flush()
        sys.exit(status if isinstance(status, int) else 0)
    except CheckpointError as e:
        fail(str(e), e.exit_code)
    except click.exceptions.Exit as e:
        sys.exit(e.exit_code)
    except click.exceptions.NoArgsIsHelpError as e:
        print(e.ctx.get_help() if e.ctx else "", file=sys.stderr)
        sys.exit(EXIT_USAGE)
    except click.UsageError as e:
        hint = f" Hint: {e.ctx.command_path} --help" if e.ctx is not None else ""
        fail(f"{printable(e.format_message(), 1000)}{hint}", EXIT_USAGE)
    except click.ClickException as e:
        fail(printable(e.format_message(), 1000), EXIT_USAGE)
    except (KeyboardInterrupt, click.Abort):
        fail("interrupted", 130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what is left in the buffer goes nowhere
        sys.exit(EXIT_USAGE)
    except MemoryError:
        fail("out of memory. Hint: --max-memory bounds a conversion's buffers", EXIT_USAGE)
    except RecursionError:
        fail("nested too deeply", EXIT_USAGE)
    except OSError as e:
        fail(f"{printable(e.filename) + ': ' if e.filename else ''}{e.strerror or type(e).__name__}", EXIT_USAGE)
