"""One line on stderr while bytes move: how many, how fast, how long still. Nothing unless stderr is a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import TracebackType

from .._typing import TYPE_CHECKING

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


class Progress:
    """A callable (done, total) that draws a line, at most ten times a second; leaving its `with` clears it.

    >>> with Progress("converting", quiet=True) as progress:
    ...     progress(10, 100)
    """

    def __init__(
        self, what: str = "", *, quiet: bool = False, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._stream = sys.stderr if stream is None else stream
        try:
            terminal = self._stream is not None and self._stream.isatty()
        except ValueError:  # a closed stream
            terminal = False
        self.active = terminal and not quiet
        self._what = f"{what}  " if what else ""
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
        self._draw(self._what + describe(done, total, now - self._start))

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


def describe(done: int, total: int, seconds: float) -> str:
    """`44.0 MB of 440.0 MB  10%  1.2 GB/s  1 s left`; the rate and the time left once there is something to go by."""
    share = f"  {100 * done // total}%" if total else ""
    text = f"{human_bytes(done)} of {human_bytes(total)}{share}"
    if done > 0 and seconds >= 0.2:
        rate = done / seconds
        text += f"  {human_bytes(rate)}/s"
        if done < total:
            text += f"  {human_seconds((total - done) / rate)} left"
    return text
