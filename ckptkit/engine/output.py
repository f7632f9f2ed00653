"""What a target holds besides its tensors' bytes, put into its files: headers and directories, copied files, texts."""

from __future__ import annotations

import os
from collections.abc import Iterable

from ..containers import Part
from ..errors import NotFoundError
from ..store.files import Files
from ..support.files import CHUNK, memory, preallocate, write_error
from .jobs import APART
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


def write_parts(files: Files, paths: tuple[str, ...], parts: Iterable[Part]) -> int:
    """Write headers and the like; their bytes. Those that lie close together in their order are put in place in memory and written as
    one."""
    buffer = memoryview(b"")
    group: list[Part] = []
    start = stop = total = 0

    def write() -> None:
        nonlocal buffer
        if len(group) < 4:
            for file, at, data, _ in group:
                files.write(paths[file], at, data)
        else:
            buffer = buffer or memory(CHUNK)
            file, span = group[0].file, buffer[: stop - start]
            files.read_there(paths[file], start, span)
            for _, at, data, _ in group:
                span[at - start : at - start + len(data)] = data
            files.write(paths[file], start, span)

    for p in parts:
        end = p.offset + len(p.data)
        total += len(p.data)
        if group and (p.file != group[0].file or not stop <= p.offset <= stop + APART or end - start > CHUNK):
            write()
            group.clear()
        if not group:
            start = p.offset
        stop = end
        group.append(p)
    write()
    return total


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
