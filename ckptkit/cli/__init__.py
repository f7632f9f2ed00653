"""The command line: thin commands, one file each, found by being in this folder.

stdout is data, stderr is progress and messages. An error is one line with a hint and an exit status, never a traceback:
0 fine, 1 findings or differences, 2 usage or unreadable, 3 could not be decided.

A command is a declaration called `command` (`_declare`). Importing click takes longer than inspecting a checkpoint: a plain
command line is parsed from the command's declaration, and whatever is not plain (help, completion, a mistake) goes to the click
command that the same declaration makes.
"""

from __future__ import annotations

import gc
import os
import sys
from importlib import import_module

from .._typing import TYPE_CHECKING, NoReturn
from ..errors import EXIT_USAGE, CheckpointError, inert, printable
from ..support.terminal import RED, fitted, painted, width
from ._modules import module_of
from ._process import Ended, catch_signals, drop_output, open_streams, raise_arrived, restore_signals, tidy

if TYPE_CHECKING:
    from ._declare import Command
    from ._group import cli as cli


LONG = ("browse", "convert", "fix", "summary", "verify")  # commands that run long, or frameworks, whose objects go round in circles


def __getattr__(name: str) -> object:
    if name == "cli":
        from ._group import cli

        return cli
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def fail(message: str, status: int) -> NoReturn:
    """One line on stderr (on a terminal broken between words), and the exit status, whether or not somebody reads either stream."""
    try:
        sys.stdout.flush() if not sys.stdout.closed else None
        print(fitted(f"{painted('error:', RED, sys.stderr)} {inert(message)}", width(sys.stderr)), file=sys.stderr)
    except OSError:
        pass
    drop_output()
    sys.exit(status)


def _run() -> object:
    """Run the command of sys.argv and give its status."""
    stem = module_of(sys.argv[1]) if len(sys.argv) > 1 and "_CKPTKIT_COMPLETE" not in os.environ else None
    if stem is not None:
        if stem in LONG:
            gc.set_threshold(50_000)  # the usual 700 looks through every module's objects dozens of times while they are made
        else:
            gc.disable()  # the program ends before there are cycles to speak of, and looking for them costs a twentieth of its time
        command: Command = import_module(f"{__name__}.{stem}").command
        values = command.parse(sys.argv[2:])
        if values is not None:
            return command.run(**values)
    return _with_click()


def _one_line(message: str) -> str:
    """A message of click's, which sets lists in lines of their own."""
    return " ".join(message.split())


def _with_click() -> object:
    import click

    from ._group import cli

    sys.argv[1:] = [
        "--check-reference" if word == "--check=reference" else word for word in sys.argv[1:]
    ]  # a flag, though it looks like a value
    try:
        return cli.main(prog_name="ckptkit" if sys.argv[0].endswith("__main__.py") else None, standalone_mode=False)
    except click.exceptions.Exit as e:
        sys.exit(e.exit_code)
    except click.UsageError as e:
        hint = f" Hint: {e.ctx.command_path} --help" if e.ctx is not None else ""
        fail(f"{printable(_one_line(e.format_message()), 1000)}{hint}", EXIT_USAGE)
    except click.ClickException as e:
        fail(printable(_one_line(e.format_message()), 1000), EXIT_USAGE)
    except click.Abort:
        fail("interrupted", 130)


def main() -> NoReturn:
    """The console script. Every way a command can end becomes an exit status."""
    os.environ.setdefault(
        "OPENBLAS_NUM_THREADS", "1"
    )  # before numpy is imported: nothing here multiplies with it, and its threads cost time and memory
    open_streams()
    try:
        before = catch_signals()
        try:
            _main()
        except (Ended, KeyboardInterrupt):
            raise
        except BaseException:
            restore_signals(before)
            raise
    except Ended as e:
        fail(f"ended by {e.name}{_tidied()}", 128 + e.number)
    except KeyboardInterrupt:
        said = _tidied()
        fail("interrupted" + (said if "left behind:" in said else ""), 130)


def _tidied() -> str:
    """`tidy`, whatever comes before it has seen to it that nothing comes."""
    while True:
        try:
            return tidy()
        except (Ended, KeyboardInterrupt):
            continue


def program() -> NoReturn:
    """The console script: `main`. Where nothing is left to do but to take apart what was made, the process ends without it, which is a
    twentieth of an inspection: no thread was started, and nobody has asked to be called."""
    try:
        main()
    except SystemExit as e:
        import atexit

        if "threading" in sys.modules or atexit._ncallbacks() or not (e.code is None or isinstance(e.code, int)):
            raise
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        except (OSError, ValueError):  # which Python says in its own way
            raise e from None
        os._exit((e.code or 0) & 0xFF)


def _main() -> NoReturn:
    try:
        try:
            status = _run()
        except Exception:
            raise_arrived()
            raise
        sys.stdout.flush()
        sys.exit(status if isinstance(status, int) else 0)
    except CheckpointError as e:
        fail(str(e), e.exit_code)
    except BrokenPipeError:
        drop_output()
        sys.exit(EXIT_USAGE)
    except MemoryError:
        fail("out of memory. Hint: --max-memory bounds a conversion's buffers", EXIT_USAGE)
    except RecursionError:
        fail("nested too deeply", EXIT_USAGE)
    except OSError as e:
        fail(f"{printable(e.filename) + ': ' if e.filename else ''}{e.strerror or type(e).__name__}", EXIT_USAGE)
