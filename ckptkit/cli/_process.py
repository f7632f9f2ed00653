"""What the process around a command is: its three streams, and the signals that tell it to end.

Policy: SIGTERM, SIGHUP and SIGXCPU end a command as Ctrl-C does: what it has made beside a target goes, or is named. A signal that whoever
started the program has it ignore (nohup) stays ignored. A standard stream that is closed is opened onto nothing before any other file is:
else the next file, perhaps a target, would get its number and everything that is printed.
"""

from __future__ import annotations

import _signal as signal  # type: ignore[import-not-found]  # what `signal` wraps in enums, which take 2 ms to make
import os
import sys
from contextlib import suppress

from .._typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import FrameType

ENDING = ("SIGTERM", "SIGHUP", "SIGXCPU")


_arrived: list[BaseException] = []  # the signals that have come
_again: list[object] = []  # one that got lost is to be sent again, until it is raised where it gets out
_unanswered: list[object] = []  # it has been sent again, and has not come yet


class Ended(BaseException):
    """A signal told the program to end. No Exception: nothing on the way may take it for one of its own."""

    def __init__(self, name: str, number: int) -> None:
        super().__init__(name)
        self.name, self.number = name, number


def open_streams() -> None:
    """Open what is closed of stdin, stdout and stderr onto nothing."""
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            nowhere = os.open(os.devnull, os.O_RDWR)
            if nowhere != fd:  # the lowest number that is free, which this is
                os.dup2(nowhere, fd)
                os.close(nowhere)
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8", errors="backslashreplace"))  # noqa: SIM115  as long as the program


def catch_signals() -> dict[str, object]:
    """Have the signals that end a program raise Ended; what they did before, for `restore_signals`."""

    def end(number: int, frame: FrameType | None) -> None:
        _arrive(Ended(next(n for n in ENDING if getattr(signal, n, None) == number), number), frame)

    def interrupt(_number: int, frame: FrameType | None) -> None:
        _arrive(KeyboardInterrupt(), frame)

    before: dict[str, object] = {}
    sys.unraisablehook = _once_more
    for name in ENDING:
        number = getattr(signal, name, None)
        with suppress(ValueError):  # not the main thread: whoever runs it there catches what he wants
            if number is not None and signal.getsignal(number) == signal.SIG_DFL:
                signal.signal(number, end)
                before[name] = signal.SIG_DFL
    with suppress(ValueError):
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, interrupt)
            before["SIGINT"] = signal.default_int_handler
    return before


def _arrive(e: BaseException, frame: FrameType | None) -> None:
    """Raise a signal's exception; only note it while `_once_more` runs, out of which none gets."""
    _arrived.append(e)
    while frame is not None and frame.f_code is not _once_more.__code__:
        frame = frame.f_back
    if frame is None:
        _again.clear()
    _unanswered.clear()
    if frame is None:
        raise e


def raise_arrived() -> None:
    """Raise the last signal that has come, if there was one: code in C (numpy, while it is imported) may have taken it for an error of its
    own, and raised another instead."""
    if _arrived:
        raise _arrived[-1] from None


def _once_more(lost: sys.UnraisableHookArgs) -> None:
    """A signal that came while Python ran a callback of its own (an import's, a weak reference's), where no exception gets out: it is sent
    again when that is over."""
    e = lost.exc_value
    if not isinstance(e, (Ended, KeyboardInterrupt)):
        sys.__unraisablehook__(lost)
        return
    import threading

    number, token = e.number if isinstance(e, Ended) else signal.SIGINT, object()
    _again.append(token)
    threading.Thread(target=_send, args=(number, token), daemon=True).start()


def _send(number: int, token: object) -> None:
    """Send a signal again until it is raised, which it is not where it comes while `_once_more` still runs. Never twice before it has come:
    what it ends would be interrupted once more."""
    import time

    while True:
        time.sleep(0.005)
        if token not in _again:
            return
        _unanswered.append(token)
        os.kill(os.getpid(), number)
        while _unanswered:
            time.sleep(0.005)


def restore_signals(before: dict[str, object]) -> None:
    """The command is over and nothing is in the making: signals do what they did."""
    _again.clear()
    sys.unraisablehook = sys.__unraisablehook__
    for name, handler in before.items():
        signal.signal(getattr(signal, name), handler)


def ignore_signals() -> None:
    """Let nothing interrupt the tidying up, which is short."""
    for name in (*ENDING, "SIGINT"):
        with suppress(ValueError, AttributeError):
            signal.signal(getattr(signal, name), signal.SIG_IGN)


def tidy() -> str:
    """Remove what the command has made beside its targets; the end of a message that says so, or names what could not be removed."""
    ignore_signals()
    leftovers = sys.modules.get("ckptkit.engine.leftovers")  # not imported: nothing was made
    left = leftovers.sweep() if leftovers is not None else []
    if left:
        from ..errors import printable

        return f"; left behind: {', '.join(printable(p) for p in left)}. Hint: the next run with the same target takes it up, or remove it"
    return "; nothing was left behind"


def drop_output() -> None:
    """Let what is still in the buffers of stdout and stderr go nowhere, for whoever read them has gone."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            with suppress(OSError, ValueError):
                os.dup2(nowhere, stream.fileno())
