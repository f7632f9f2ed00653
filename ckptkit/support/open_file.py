"""Opening a file to read it: regular files only, and an error that says why not."""

from __future__ import annotations

import os
from stat import S_ISREG

from ..errors import PIPE, UNREADABLE, CheckpointError, NotFoundError


def open_fd(path: str) -> int:
    """A read-only descriptor of a regular file, or the CheckpointError that says why not. Opening a pipe would wait for its other end."""
    try:
        fd = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0))
        if S_ISREG(os.fstat(fd).st_mode):
            return fd
        os.close(fd)
        raise CheckpointError("is not a regular file", path=path, hint=PIPE)
    except FileNotFoundError:
        raise NotFoundError("no such file", path=path) from None
    except OSError as e:
        raise CheckpointError(f"cannot be read: {e.strerror}", path=path, hint=UNREADABLE) from None
