"""Removing directories of our own: through descriptors, so that no link is ever followed, neither inside nor at the root.

Policy: what is removed is what lay in the directory that was opened, even where somebody puts a link in its place meanwhile. What cannot
be removed stays; whoever asks looks afterwards.
"""

from __future__ import annotations

import os
from contextlib import suppress

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def remove_tree(path: str, *, at: int | None = None) -> None:
    """Remove whatever is called `path` (in the directory `at`): a directory with what it holds, a link as a link, any other file."""
    try:
        fd = os.open(path, FOLDER, dir_fd=at)
    except OSError:  # a link, a file, or nothing
        with suppress(OSError):
            os.unlink(path, dir_fd=at)
        return
    try:
        empty_folder(fd)
    finally:
        os.close(fd)
    with suppress(OSError):
        os.rmdir(path, dir_fd=at)


def empty_folder(fd: int, *, keep: str = "") -> None:
    """Remove what the open directory `fd` holds, but for the entry `keep`."""
    try:
        names = os.listdir(fd)
    except OSError:
        return
    for name in names:
        if name != keep:
            try:
                os.unlink(name, dir_fd=fd)
            except OSError:  # a directory, which unlink refuses
                remove_tree(name, at=fd)
