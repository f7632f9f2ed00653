"""Reports, locks and baselines: small outputs that are one text each.

Policy: the rules of a target hold for them. The text is written into a file beside the one that is named, synced, and renamed over it, so
that an older one is whole until the new one is. What is named is never an input nor any other checkpoint, and no link is followed. Devices
and pipes (/dev/stdout, >(command)) are written as they come.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from contextlib import suppress

from ..errors import CheckpointError, UsageError
from ..support.files import write_error
from . import leftovers
from .replaceable import own_input

_OPEN = ("/dev/stdout", "/dev/stderr", "/dev/fd/", "/proc/self/fd/")  # links to what is open already


def check_output(path: str, inputs: Iterable[str]) -> None:
    """Refuse a place for a report that must not be written over. Raises UsageError."""
    full = os.path.abspath(path)
    if full.startswith(_OPEN):
        return
    try:
        mode = os.lstat(full).st_mode
    except OSError:
        return
    if stat.S_ISLNK(mode):
        with suppress(OSError):
            if not stat.S_ISREG(os.stat(full).st_mode) and not stat.S_ISDIR(os.stat(full).st_mode):
                return
        raise UsageError("is a link, which is neither followed nor replaced", path=path, hint="name the file itself")
    if stat.S_ISDIR(mode):
        raise UsageError("is a directory", path=path, hint="name a file")
    if stat.S_ISREG(mode):
        mine = own_input(full, tuple(inputs))
        if mine is not None:
            raise UsageError("is an input of this command: not written over", path=path, hint="name another file")
        if _is_checkpoint(full):
            raise UsageError("is a checkpoint: not written over", path=path, hint="name another file")


def write_output(path: str, text: str) -> None:
    """Write a text to `path`, which appears whole or stays as it is. Raises CheckpointError that names it."""
    data = text.encode("utf-8", "backslashreplace")
    full = os.path.abspath(path)
    try:
        mode = os.lstat(full).st_mode
    except OSError:
        mode = stat.S_IFREG | 0o666
    try:
        if full.startswith(_OPEN) or not stat.S_ISREG(mode):
            _write(os.open(full, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NOCTTY), data)
        else:
            _replace(full, data, mode & 0o666)
    except OSError as e:
        raise write_error(e, path) from None


def _replace(full: str, data: bytes, mode: int) -> None:
    """Write beside `full` and rename; nothing is left of it otherwise."""
    folder, name = os.path.split(full)
    beside = os.path.join(folder, f".{os.fsdecode(os.fsencode(name)[:150])}.ckptkit-{os.urandom(4).hex()}")

    def remove() -> None:
        with suppress(FileNotFoundError):
            os.unlink(beside)

    leftovers.keep(beside, remove)
    try:
        fd = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
        _write(fd, data, sync=True)
        os.replace(beside, full)
    except BaseException:
        remove()
        raise
    finally:
        leftovers.gone(beside)


def _write(fd: int, data: bytes, *, sync: bool = False) -> None:
    """Write all of it and close."""
    try:
        done = 0
        while done < len(data):
            done += os.write(fd, memoryview(data)[done:])
        if sync:
            os.fsync(fd)
    finally:
        os.close(fd)


def _is_checkpoint(path: str) -> bool:
    """Whether some container knows these bytes. A report is text, which none does."""
    from ..containers import locate

    try:
        locate(path)
    except CheckpointError:
        return False
    return True
