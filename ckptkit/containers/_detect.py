"""Which container a path is of: bytes decide, names only say what was probably meant when nothing fits."""

from __future__ import annotations

import os
import re

from .. import store
from ..errors import NotFoundError
from ._discovery import each, known
from ._foreign import of_file
from ._interface import Container
from ._shard_names import is_index, of_index, whole_file


def locate(path: str) -> tuple[Container, str]:
    """The container of `path` and the file it opens: a file, a TF prefix, or a directory that holds a checkpoint.

    Bytes decide; the suffix only says what was probably meant when nothing fits.
    """
    path = os.fspath(path)
    if store.is_folder(path):
        from ._folder import choose

        return choose(path)
    if not store.lexists(path):
        for c in each("tf_bundle" if store.exists(path + ".index") else ""):  # saves loading the others, 2 ms
            target = c.prefix(path)
            if target is not None:
                return c, target
        unwritten = _unwritten_index(path)
        if unwritten is not None:
            return unwritten, path
        scheme, mark, _ = path.partition("://")
        if mark and scheme.isalnum() and not store.is_url(path):
            hint = "those begin with s3://, gs://, az://, https:// or hf://; else name a copy on a disk"
            raise NotFoundError("this is an address of a kind that is not read", path=path, hint=hint)
        raise NotFoundError("no such file, directory or TensorFlow prefix", path=path, hint=_neighbours(path))
    return of_file(path), path


def _unwritten_index(path: str) -> Container | None:
    """The container of shards whose index is not there, named by it."""
    folder, base = os.path.split(path)
    if not is_index(base) or not store.is_folder(folder or "."):
        return None
    ext = os.path.splitext(whole_file(base))[1]
    return next((k.load() for k in known() if ext in k.suffixes), None) if of_index(base, store.listdir(folder or ".")) else None


def _neighbours(path: str) -> str:
    scheme, colon, rest = path.partition(":/")
    if colon and rest[:1] != "/" and scheme.isalnum() and store.is_url(f"{scheme}://"):
        return f"is {scheme}://{rest.lstrip('/')} meant? Give an address as text: a Path makes one slash of two"
    parent, name = os.path.split(path)
    if store.is_url(path) and re.search("%[0-9A-Fa-f]{2}", path):
        from urllib.parse import unquote

        return f"is {unquote(path)} meant? Names stand as they are in an address, not escaped"
    try:
        names = store.listdir(parent or ".")
    except OSError:
        return f"there is no directory {parent!r} either"
    from difflib import get_close_matches

    close = get_close_matches(name, names, 3, 0.6)
    return f"did you mean {' or '.join(close)}?" if close else "check the path"
