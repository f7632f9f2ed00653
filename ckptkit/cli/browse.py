"""`ckptkit browse`."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import ExitStack

from .._typing import TYPE_CHECKING, NoReturn
from ..errors import UnsupportedError, UsageError, with_extra
from . import _declare as declare
from ._options import pair_options
from ._process import ENDING, Ended, tidy

if TYPE_CHECKING:
    from ..browse.app import Browser
    from ..graph.reading import Reading


@declare.command("browse", "Look around in a checkpoint in the terminal.")
@declare.argument("paths", metavar="PATH [PATH2]", nargs=-1)
@pair_options
@declare.option("--jobs", type=declare.IntRange(1), metavar="N", help="Threads that read the weights.  [default: the processors]")
def command(paths: tuple[str, ...], reading: Reading, reading_b: Reading, jobs: int | None) -> int:
    """Look at the checkpoint at PATH in the terminal: a tree of its modules, what each tensor is, figures, histograms, findings.

    Of two checkpoints the tree shows what differs, module by module, and both sides of what is chosen. Weights are read when something is
    chosen. The last line names the keys. The exit status is 0 whatever is found, 2 if it cannot be read, or where there is no terminal.

    \b
    ckptkit browse bert-hf/
    ckptkit browse base/ fine-tuned/
    """
    from ..support.terminal import colours, is_terminal

    if not 1 <= len(paths) <= 2:
        raise UsageError("browse shows one checkpoint, or two", hint="ckptkit browse PATH [PATH2]")
    if not (is_terminal() and is_terminal(sys.stdin)) or os.environ.get("TERM") == "dumb":
        raise UsageError("browse needs a terminal", hint="ckptkit inspect PATH prints what there is")
    if not colours():
        os.environ["NO_COLOR"] = "1"
    try:
        import textual  # noqa: F401
    except ImportError:
        raise UnsupportedError("browse needs Textual, which is not installed", hint=with_extra("tui")) from None
    from ..browse import app as program
    from ..graph.examine import examine
    from ..graph.examine_two import examine_two

    with ExitStack() as held:
        if len(paths) == 1:
            subjects = [held.enter_context(examine(paths[0], reading))]
        else:
            subjects = [held.enter_context(s) for s in examine_two(paths[0], paths[1], reading, reading_b)]
        app = program.Browser([program.side_of(p, s) for p, s in zip(paths, subjects, strict=True)], jobs=jobs)
        _run(app)
    if app.ended is not None:
        raise Ended(signal.Signals(app.ended).name, app.ended)
    return 0


def _run(app: Browser) -> None:
    """Run it until it ends, a signal says so, or its terminal is gone.

    asyncio takes what a handler of Python's raises for the failure of a callback, so a signal is only noted. A terminal that is gone (its
    window was closed; under nohup no signal says so) cannot be drawn to: Textual waits for it for good, so the process ends at once.
    """
    import threading

    over = threading.Event()

    def note(number: int, _frame: object) -> None:
        app.ended = number
        if _terminal_is_gone():
            _leave(number)

    def watch() -> None:
        while not over.wait(1):
            if _terminal_is_gone():
                _leave(signal.SIGHUP)

    for name in ENDING:
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, note)
    threading.Thread(target=watch, daemon=True).start()
    try:
        app.run()
    finally:
        over.set()


def _terminal_is_gone() -> bool:
    import termios

    try:
        termios.tcgetattr(0)
    except termios.error:
        return True
    return False


def _leave(number: int) -> NoReturn:
    tidy()
    os._exit(128 + number)
