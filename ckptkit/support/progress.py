"""One line on stderr while bytes move: what is done, how many, how fast, how long still. Nothing unless stderr is a terminal.

Policy: what works is given a callable of (bytes done, bytes in all), which any function can be; a `Progress` also has a `phase`, which
`phase()` tells it. The line fits the terminal: what it can do without is left out first.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from types import TracebackType

from .._typing import TYPE_CHECKING
from ..errors import CancelledError

if TYPE_CHECKING:
    from typing import TextIO

INTERVAL = 0.1  # seconds between two drawings


def human_bytes(n: float) -> str:
    """1.3 GB, 44.0 MB, 512 B: decimal units, as disks and downloads count."""
    for unit in ("B", "kB", "MB", "GB"):
        if n < 999.5:
            return f"{n:.0f} {unit}" if unit == "B" else f"{n:.1f} {unit}"
        n /= 1000
    return f"{n:.1f} TB"


def human_seconds(s: float) -> str:
    """59 s, 3:07, 1:02:03."""
    t = round(s)
    if t < 60:
        return f"{t} s"
    if t < 3600:
        return f"{t // 60}:{t % 60:02}"
    return f"{t // 3600}:{t // 60 % 60:02}:{t % 60:02}"


def phase(progress: object, what: str) -> None:
    """Say what is done from now on, if `progress` is one that shows it."""
    told = getattr(progress, "phase", None)
    if told is not None:
        told(what)


def turn(progress: object, number: int, of: int) -> None:
    """Say which of several checkpoints is looked at from now on, if `progress` is one that shows it."""
    told = getattr(progress, "turn", None)
    if told is not None and of > 1:
        told(number, of)


class Watch:
    """Who is told how far something is, and asked whether it is to go on. Called by several threads."""

    def __init__(
        self, progress: Callable[[int, int], object] | None = None, cancelled: Callable[[], bool] | None = None, *, total: int = 0
    ) -> None:
        import threading

        self._progress, self._cancelled = progress, cancelled
        self._done, self.total = 0, total
        self._lock = threading.Lock()

    def __call__(self, nbytes: int) -> None:
        """So many further bytes are done. Raises CancelledError."""
        if self._cancelled is not None and self._cancelled():
            raise CancelledError("cancelled")
        if self._progress is not None:
            with self._lock:
                self._done += nbytes
                self._progress(min(self._done, self.total), self.total)


class Progress:
    """A callable (done, total) that draws a line, at most ten times a second; leaving its `with` clears it.

    >>> with Progress("convert", "writing", quiet=True) as progress:
    ...     progress(10, 100)
    """

    def __init__(
        self,
        verb: str = "",
        what: str = "",
        *,
        quiet: bool = False,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stream = sys.stderr if stream is None else stream
        try:
            terminal = self._stream is not None and self._stream.isatty()
        except ValueError:  # a closed stream
            terminal = False
        self.active = terminal and not quiet
        self._verb, self._what, self._turn = verb, what, ""
        self._clock = clock
        self._start = clock()
        self._last = float("-inf")
        self._width = 0

    def __call__(self, done: int, total: int) -> None:
        if not self.active:
            return
        now = self._clock()
        if now - self._last < INTERVAL:
            return
        self._last = now
        self._draw(self._line(done, total, now - self._start))

    def phase(self, what: str) -> None:
        """Show what is done from now on; rate and time left are of that."""
        self._what = what
        self._start = self._clock()
        self._last = float("-inf")
        if self.active:
            self._draw(self._line(0, 0, 0.0))

    def turn(self, number: int, of: int) -> None:
        """Show that this is the `number`th of so many."""
        self._turn = f"{number:,} of {of:,}"
        if self.active:
            self._draw(self._line(0, 0, 0.0))

    def _line(self, done: int, total: int, seconds: float) -> str:
        """Verb and phase, how much, share, rate and time left; where there is little room the share and the time left."""
        room = columns(self._stream) - 1
        head = ": ".join(t for t in (self._verb, self._turn, self._what) if t)
        parts = parts_of(done, total, seconds) if total or done else []
        for dropped in ("", "rate", "amount", "left"):
            parts = [p for p in parts if p[0] != dropped]
            line = "  ".join([*([head] if head else []), *(text for _, text in parts)])
            if len(line) <= room:
                break
        return line[:room]

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self.clear()

    def clear(self) -> None:
        """Wipe the line, so that what is printed next starts clean."""
        if self._width:
            self._draw("")
            self._width = 0

    def _draw(self, line: str) -> None:
        try:
            self._stream.write("\r" + line + " " * (self._width - len(line)) + ("\r" if not line else ""))
            self._stream.flush()
        except (OSError, ValueError):  # the terminal has gone: the work goes on
            self.active = False
        self._width = len(line)


def columns(stream: TextIO) -> int:
    """How wide the terminal is that a stream is; 80 where it does not say."""
    try:
        return os.get_terminal_size(stream.fileno()).columns or 80
    except (OSError, ValueError, AttributeError):
        return 80


def parts_of(done: int, total: int, seconds: float) -> list[tuple[str, str]]:
    """("amount", "44.0 MB of 440.0 MB"), ("share", "10%"), ("rate", "1.2 GB/s"), ("left", "1 s left"); the rate and the time left once
    there is something to go by."""
    parts = [("amount", f"{human_bytes(done)} of {human_bytes(total)}")]
    if total:
        parts.append(("share", f"{100 * done // total}%"))
    if done > 0 and seconds >= 0.2:
        rate = done / seconds
        parts.append(("rate", f"{human_bytes(rate)}/s"))
        if done < total:
            parts.append(("left", f"{human_seconds((total - done) / rate)} left"))
    return parts


def describe(done: int, total: int, seconds: float) -> str:
    """`44.0 MB of 440.0 MB  10%  1.2 GB/s  1 s left`"""
    return "  ".join(text for _, text in parts_of(done, total, seconds))
