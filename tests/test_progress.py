"""The progress line: only on a terminal, throttled, cleared at the end."""

from __future__ import annotations

import io

import pytest

from ckptkit.support.progress import Progress, describe, human_bytes, human_seconds


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_nothing_is_written_where_nobody_watches() -> None:
    for stream, quiet in ((io.StringIO(), False), (Terminal(), True)):
        with Progress("x", quiet=quiet, stream=stream) as p:
            p(1, 2)
        assert stream.getvalue() == ""


def test_ten_a_second_at_most_and_cleared_at_the_end() -> None:
    now = [0.0]
    t = Terminal()
    with Progress("copying", stream=t, clock=lambda: now[0]) as p:
        for i in range(101):
            p(i * 10**7, 10**9)
            now[0] += 0.01
    lines = t.getvalue().split("\r")
    assert 9 <= len([x for x in lines if "copying" in x]) <= 11
    assert lines[-1] == "" and lines[-2].strip() == "" and len(lines[-2]) >= len(lines[-3].rstrip())


def test_a_terminal_that_goes_away_does_not_stop_the_work() -> None:
    class Gone(Terminal):
        def write(self, s: str) -> int:
            raise BrokenPipeError

    p = Progress(stream=Gone())
    p(1, 2)
    assert not p.active


@pytest.mark.parametrize(
    "args,text",
    [
        ((0, 440_000_000, 0.0), "0 B of 440.0 MB  0%"),
        ((110_000_000, 440_000_000, 0.5), "110.0 MB of 440.0 MB  25%  220.0 MB/s  2 s left"),
        ((5, 5, 1.0), "5 B of 5 B  100%  5 B/s"),
        ((0, 0, 1.0), "0 B of 0 B"),
    ],
)
def test_what_the_line_says(args: tuple[int, int, float], text: str) -> None:
    assert describe(*args) == text


def test_units() -> None:
    assert [human_bytes(n) for n in (999, 1000, 999_600, 2.5e12)] == ["999 B", "1.0 kB", "1.0 MB", "2.5 TB"]
    assert [human_seconds(s) for s in (0.4, 59, 187, 3723)] == ["0 s", "59 s", "3:07", "1:02:03"]
