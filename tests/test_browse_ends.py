"""`ckptkit browse` ends when it is told to, and when its terminal is gone."""

from __future__ import annotations

import os
import pty
import select
import signal
import sys
import time

import oracles
import pytest

pytest.importorskip("textual")

MODEL = str(oracles.FIXTURES / "made" / "roberta-large-shaped")


def browsing(*, ignored: bool = False) -> tuple[int, int]:
    """(process, its terminal) of a browser that has drawn its tree. `ignored`: as under nohup."""
    pid, master = pty.fork()
    if pid == 0:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # whoever runs this may ignore either
        signal.signal(signal.SIGHUP, signal.SIG_IGN if ignored else signal.SIG_DFL)
        os.environ.update(TERM="xterm-256color", LINES="24", COLUMNS="80")
        os.execv(sys.executable, [sys.executable, "-m", "ckptkit", "browse", MODEL])
    seen, until = b"", time.monotonic() + 60
    while b"Findings" not in seen and time.monotonic() < until:
        if select.select([master], [], [], 0.2)[0]:
            seen += os.read(master, 65536)
    assert b"Findings" in seen, seen[-500:]
    return pid, master


def status(pid: int, seconds: float, drain: int | None = None) -> int | None:
    """The exit status, or None where the process has not ended by then (it is killed)."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        done, how = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(how)
        if drain is not None and select.select([drain], [], [], 0.05)[0]:
            try:
                os.read(drain, 65536)
            except OSError:
                drain = None
        time.sleep(0.05)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return None


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it(number: signal.Signals) -> None:
    pid, master = browsing()
    try:
        os.kill(pid, number)
        assert status(pid, 30, master) == 128 + number
    finally:
        os.close(master)


@pytest.mark.parametrize("ignored", [False, True])
def test_it_does_not_outlive_its_terminal(ignored: bool) -> None:
    pid, master = browsing(ignored=ignored)
    os.close(master)
    assert status(pid, 30) is not None
