"""Which container a path is of: bytes decide, names only say what was probably meant when nothing fits."""

from __future__ import annotations

import os

from ..errors import NotFoundError
from ._discovery import each
from ._foreign import of_file
from ._interface import Container


def locate(path: str) -> tuple[Container, str]:
    """The container of `path` and the file it opens: a file, a TF prefix, or a directory that holds a checkpoint.

    Bytes decide; the suffix only says what was probably meant when nothing fits.
    """
    path = os.fspath(path)
    if os.path.isdir(path):
        from ._folder import choose

        return choose(path)
    if not os.path.lexists(path):
        for c in each():
            target = c.prefix(path)
            if target is not None:
                return c, target
        raise NotFoundError("no such file, directory or TensorFlow prefix", path=path, hint=_neighbours(path))
    return of_file(path), path


def _neighbours(path: str) -> str:
    parent, name = os.path.split(path)
    try:
        names = os.listdir(parent or ".")
    except OSError:
        return f"there is no directory {parent!r} either"
    from difflib import get_close_matches

    close = get_close_matches(name, names, 3, 0.6)
    return f"did you mean {' or '.join(close)}?" if close else "check the path"
