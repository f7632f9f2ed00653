"""What a target holds besides its tensors' bytes, put into its files: headers and directories, copied files, texts."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import add

from .._typing import Any
from ..containers import FileLayout, Part
from ..errors import NotFoundError
from ..store.files import Files
from ..support.files import CHUNK, memory, preallocate, write_error
from ..support.rows import Rows
from .copies import APART
from .replaceable import current_stamp, private
from .staging import Stage


def create(path: str, size: int, stage: Stage, mode: int | None = None) -> None:
    """A new file of `size` bytes, its blocks reserved where the file system can. `mode`: the most it may permit, else the target's."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, stage.mode if mode is None else mode)
    except OSError as e:
        raise write_error(e, stage.label(path)) from None
    try:
        preallocate(fd, size, stage.label(path))
    finally:
        os.close(fd)


Finish = Callable[[FileLayout, Mapping[str, int]], Iterable[Part | Rows]]
Behind = Callable[[int, int, Sequence[int]], list[bytes]]  # (file, place of the first among its tensors, checksums of neighbours)


class Finisher:
    """The `finish` of a container, in rows where it has them (`finish_rows`). `behind`: of a container that can say it, what makes what
    stands behind neighbouring tensors; `rest` then gives all else."""

    def __init__(self, container: Any) -> None:
        self._finish: Finish = getattr(container, "finish_rows", container.finish)
        self.behind: Callable[[FileLayout], Behind] | None = getattr(container, "behind", None)
        self.rest: Finish = getattr(container, "finish_rest", self._finish)

    def __call__(self, layout: FileLayout, crcs: Mapping[str, int]) -> Iterable[Part | Rows]:
        return self._finish(layout, crcs)


def finisher(container: Any) -> Finish:
    """The Finisher of a container."""
    return Finisher(container)


def write_parts(files: Files, paths: tuple[str, ...], parts: Iterable[Part | Rows]) -> int:
    """Write headers and the like; their bytes. Those that lie close together in their order are put in place in memory and written as
    one."""
    total, group, file = 0, ([], []), -1  # type: int, tuple[list[int], list[bytes]], int
    for p in parts:
        if isinstance(p, Rows):
            total += _write_rows(files, paths[p.file], p.offsets, p.contents)
            continue
        if group[0] and p.file != file:
            total += _write_rows(files, paths[file], *group)
            group = [], []
        file = p.file
        group[0].append(p.offset)
        group[1].append(p.data)
    return total + (_write_rows(files, paths[file], *group) if group[0] else 0)


def _write_rows(files: Files, path: str, offsets: Sequence[int], contents: Sequence[bytes]) -> int:
    """Write parts of one file; their bytes."""
    buffer = memoryview(b"")
    ends = list(map(add, offsets, map(len, contents)))
    first = 0
    while first < len(offsets):
        start, last = offsets[first], first  # of those that are written together
        while last + 1 < len(offsets) and ends[last] <= offsets[last + 1] <= ends[last] + APART and ends[last] - start <= CHUNK - APART:
            last += 1
        if last - first < 3 or ends[last] - start > CHUNK:
            for at, data in zip(offsets[first : last + 1], contents[first : last + 1], strict=True):
                files.write(path, at, data)
        else:
            buffer = buffer or memory(CHUNK)
            span = buffer[: ends[last] - start]
            files.read_there(path, start, span)
            for at, end, data in zip(offsets[first : last + 1], ends[first : last + 1], contents[first : last + 1], strict=True):
                span[at - start : end - start] = data
            files.write(path, start, span)
        first = last + 1
    return sum(map(len, contents))


def copy_file(source: str, path: str, stage: Stage) -> int:
    """Copy a file's content (links followed), for no more eyes than before; its size."""
    files = Files(stage.label)
    try:
        found = current_stamp(source)
        if found is None:
            raise NotFoundError("was to be copied along and is no readable file", path=source)
        create(path, 0, stage, private([source]))
        size = found[0]
        done = files.copy_range(source, 0, path, 0, size)
        buffer = memory(min(CHUNK, size - done))
        while done < size:
            part = buffer[: size - done]
            files.read(source, done, part)
            files.write(path, done, part)
            done += len(part)
        return done
    finally:
        files.close()


def write_text(path: str, text: str, stage: Stage) -> int:
    """A new file with a text; its bytes."""
    data = text.encode("utf-8", "backslashreplace")  # half a surrogate pair, of a file name that is no UTF-8, as JSON writes it
    create(path, 0, stage)
    files = Files(stage.label)
    try:
        if data:
            files.write(path, 0, data)
    finally:
        files.close()
    return len(data)


def flush(path: str, stage: Stage) -> None:
    """Wait until the disk has a file."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    except OSError as e:
        raise write_error(e, stage.label(path)) from None
    finally:
        os.close(fd)
