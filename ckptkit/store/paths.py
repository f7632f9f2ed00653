"""What is at a place, and its bytes: one function for each question that is asked of the file system, for paths and for addresses.

Policy: a path goes to the operating system at once, through descriptors that are read with `pread`; `Tree`s and their library are
imported for an address only. Whether a text is an address is decided by how it begins (`support.urls`), never by what is there.
What a listing says of an address is kept for a few seconds (`recent`), so that one command lists a folder once.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence

from .._typing import TYPE_CHECKING, Any
from ..errors import NotFoundError
from ..limits import LIMITS
from ..support import links, strict_json
from ..support.open_file import open_fd
from ..support.urls import is_url as is_url
from .local_blob import LocalBlob

if TYPE_CHECKING:
    from .interface import Blob, Entry, Tree


def view_of(data: Any) -> Any:
    """A view of what `mapped` gave whose slices copy nothing: a memoryview, or what stands for one of pages."""
    return data.view() if hasattr(data, "view") else memoryview(data)


def give_back(data: Any) -> None:
    """Have mapped memory of many pages forget those that were read, where the system can: they are read again if they are wanted."""
    import mmap

    if isinstance(data, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED") and len(data) > 64 << 20:
        data.madvise(mmap.MADV_DONTNEED)


def open_blob(path: str, tag: str | None = None) -> Blob:
    """The file or object at `path`, open for reading; of an object that must still have `tag`, where one is given.

    Close it. Raises NotFoundError, CheckpointError.
    """
    if is_url(path):
        tree, name = _tree(path)
        return tree.blob(name, tag)
    return LocalBlob(open_fd(path), path)


def _tree(path: str) -> tuple[Tree, str]:
    from .trees import tree_of

    return tree_of(path)


def _entry(path: str) -> Entry | None:
    """What an address names; None for nothing."""
    from .trees import look

    return look(path)


def is_file(path: str) -> bool:
    """Whether `path` is a regular file (a link to one is one), or an object."""
    if is_url(path):
        found = _entry(path)
        return found is not None and found.size >= 0
    return os.path.isfile(path)


def is_folder(path: str) -> bool:
    """Whether `path` is a directory, or a prefix of objects."""
    if is_url(path):
        found = _entry(path)
        return found is not None and found.size < 0
    return os.path.isdir(path)


def exists(path: str) -> bool:
    """Whether there is anything at `path`; a link to nothing is nothing."""
    return _entry(path) is not None if is_url(path) else os.path.exists(path)


def lexists(path: str) -> bool:
    """Whether there is anything at `path`; a link to nothing is something."""
    return _entry(path) is not None if is_url(path) else os.path.lexists(path)


def is_link(path: str) -> bool:
    """Whether `path` is a symbolic link. Stores have none."""
    return not is_url(path) and os.path.islink(path)


def read_link(path: str) -> str:
    """Where a link leads, as it says."""
    return os.readlink(path)


def leads_out(path: str, folder: str) -> str | None:
    """Where `path`, which lies in a checkpoint's `folder`, really lies if that is outside of what belongs to the checkpoint; else None."""
    return None if is_url(path) else links.leads_out(path, folder)


def listdir(path: str) -> list[str]:
    """The names in a folder. Raises OSError, as the system does, or CheckpointError."""
    if not is_url(path):
        return os.listdir(path)
    tree, name = _tree(path)
    return list(tree.list(name))


def entries(path: str) -> Iterator[tuple[str, bool, bool]]:
    """(name, whether it is a folder and no link, whether it is a regular file and no link) of what a folder holds."""
    if is_url(path):
        tree, name = _tree(path)
        yield from ((n, e.size < 0, e.size >= 0) for n, e in tree.list(name).items())
        return
    with os.scandir(path) as found:
        for e in found:
            yield e.name, e.is_dir(follow_symlinks=False), e.is_file(follow_symlinks=False)


def walk(path: str) -> Iterator[tuple[str, list[str]]]:
    """(folder, the names of its files) of a folder and of all below it."""
    if not is_url(path):
        for at, _, files in os.walk(path):
            yield at, files
        return
    found = list(entries(path))
    yield path, [n for n, _, is_one in found if is_one]
    for n, is_below, _ in found:
        if is_below:
            yield from walk(f"{path.rstrip('/')}/{n}")


def file_size(path: str) -> int:
    """The bytes of a file or object. Raises OSError, as the system does, or NotFoundError."""
    if not is_url(path):
        return os.stat(path).st_size
    found = _entry(path)
    if found is None or found.size < 0:
        raise NotFoundError("no such object", path=path)
    return found.size


def stamp(path: str) -> tuple[int, int | str]:
    """(bytes, what changes when the content does): of a file the time of its last change in nanoseconds, of an object its tag."""
    if not is_url(path):
        s = os.stat(path)
        return s.st_size, s.st_mtime_ns
    found = _entry(path)
    if found is None or found.size < 0:
        raise NotFoundError("no such object", path=path)
    return found.size, found.tag


def same_file(a: str, b: str) -> bool:
    """Whether two places are one."""
    if is_url(a) or is_url(b):
        return a.rstrip("/") == b.rstrip("/")
    return os.path.samefile(a, b)


def absolute(path: str) -> str:
    """The path from the root on; an address stays."""
    return path.rstrip("/") if is_url(path) else os.path.abspath(path)


def normal(path: str) -> str:
    """The path without `.` and `..`; an address has none that mean anything."""
    return path if is_url(path) else os.path.normpath(path)


def relative(path: str, folder: str) -> str:
    """`path` as it is said from `folder`."""
    if is_url(path) or is_url(folder):
        inside = folder.rstrip("/") + "/"
        return path[len(inside) :] if path.startswith(inside) else path
    return os.path.relpath(path, folder)


def pin(paths: Iterable[str]) -> tuple[object, ...]:
    """As long as what this gives is kept, the objects among `paths` are read as they are now, or not at all."""
    there = [p for p in paths if is_url(p)]
    if not there:
        return ()
    from .trees import pin

    return tuple(map(pin, there))


def prepare(path: str) -> None:
    """Fetch together what reading the checkpoint at an address will ask for first. Nothing of a path."""
    if is_url(path):
        from .trees import prepare

        prepare(path)


def warm(wanted: Sequence[tuple[str, int, int]]) -> None:
    """Fetch (place, offset, length) of many objects together, for the reads that follow. Nothing of paths."""
    there = [w for w in wanted if is_url(w[0])]
    if there:
        from .trees import warm

        warm(there)


def read_bytes(path: str, limit: str = "json_bytes") -> bytes:
    """A whole file or object, at most as large as the named limit. Raises CheckpointError, never OSError."""
    if not is_url(path):
        return strict_json.read_bytes(path, limit)
    blob = open_blob(path)
    try:
        size = LIMITS.check(limit, blob.size, "the size of the object", path)
        return blob.pread(size, 0)
    finally:
        blob.close()


def read_json(path: str) -> object:
    """The value of a JSON file, by the rules of `strict_json.loads`. Raises CheckpointError."""
    if not is_url(path):
        return strict_json.read_json(path)
    return strict_json.loads(read_bytes(path), what="the file", path=path)


