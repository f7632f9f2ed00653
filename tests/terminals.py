"""A command run in a terminal of a given size: a pty of its own."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import sys
import termios

COMMAND = [sys.executable, "-m", "ckptkit"]
COLOUR = re.compile(r"\x1b\[[0-9;]*m")
UNSET = ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "CLICOLOR", "PAGER")


def on_terminal(*words: object, columns: int = 80, rows: int = 24, **env: str) -> tuple[str, int]:
    """What a command writes to a terminal of this size, and its status."""
    pid, fd = pty.fork()
    if pid == 0:
        kept = {k: v for k, v in os.environ.items() if k not in UNSET}
        os.execve(sys.executable, [*COMMAND, *map(str, words)], {**kept, "TERM": "xterm", "LANG": "C.UTF-8", "PAGER": "cat", **env})
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    out = b""
    while True:
        try:
            more = os.read(fd, 65536)
        except OSError:
            break
        if not more:
            break
        out += more
    os.close(fd)
    return out.decode().replace("\r\n", "\n"), os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
