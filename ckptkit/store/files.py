"""The files and objects that a worker of the engine reads and writes: whole reads and writes, and errors that say where.

Policy: `pread` and `pwrite` only (a mapped file that shrinks kills the process, and mapping shows up as resident memory). Every failure
leaves here as a CheckpointError that names the file and the offset. An address is read through its `Blob`, never written.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence

from .._typing import TYPE_CHECKING, Any
from ..support.files import read_error, short, write_error
from ..support.open_file import open_fd
from ..support.urls import is_url
from .paths import open_blob

if TYPE_CHECKING:
    from .coming import Coming, Spans
    from .interface import Blob

_NO_RANGE = {errno.EXDEV, errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.EPERM, errno.EBADF, errno.ETXTBSY, errno.EIO}


class Files:
    """Descriptors by path, at most `keep` open at once; one owner (a worker thread), so no locking. Sources may be objects of stores.

    `label` gives the name to show for a file of the staging area.
    """

    def __init__(self, label: Callable[[str], str] = str, keep: int = 64) -> None:
        self._fds: dict[tuple[str, bool], int] = {}
        self._blobs: dict[str, Any] = {}
        self._coming: Coming | None = None
        self._data: memoryview | None = None  # a target in memory
        self._fetched = 0  # bytes that were asked for ahead of jobs that are over
        self._keep = keep
        self.label = label

    def reader(self, path: str) -> int:
        """A descriptor to read `path` with."""
        fd = self._fds.get((path, False))
        return self._open(path, False) if fd is None else fd

    def writer(self, path: str) -> int:
        """A descriptor to read and write the existing file `path` with."""
        fd = self._fds.get((path, True))
        return self._open(path, True) if fd is None else fd

    def _open(self, path: str, write: bool) -> int:
        if len(self._fds) >= self._keep:
            os.close(self._fds.pop(next(iter(self._fds))))
        if write:
            try:
                fd = os.open(path, os.O_RDWR | getattr(os, "O_CLOEXEC", 0))
            except OSError as e:
                raise write_error(e, self.label(path)) from None
        else:
            fd = open_fd(path)
        self._fds[path, write] = fd
        return fd

    def _blob(self, url: str) -> Blob:
        """An object to read, open."""
        blob: Blob | None = self._blobs.get(url)
        if blob is None:
            blob = self._blobs[url] = open_blob(url)
        return blob

    def expect(self, jobs: Sequence[Spans], ahead: int) -> None:
        """Fetch what the next jobs will read of objects, `ahead` bytes before they do; what was expected before is forgotten."""
        self.forget()
        if any(jobs):
            from .coming import Coming

            for url in dict.fromkeys(url for spans in jobs for url in spans):
                self._blob(url)
            self._coming = Coming(self._blobs, jobs, ahead, self._data)

    def turn(self, job: int, *, forwards: bool) -> None:
        """The jobs before this one of those that were told are done; whether it reads each byte once, in their order."""
        if self._coming is not None:
            self._coming.turn(job, forwards=forwards)

    def forget(self) -> None:
        """Nothing is expected any more."""
        if self._coming is not None:
            self._coming.close()
            self._fetched += self._coming.total
            self._coming = None

    @property
    def fetched(self) -> int:
        """Bytes that were asked of stores, as was expected."""
        return self._fetched + (self._coming.total if self._coming is not None else 0)

    def _read_object(self, url: str, offset: int, into: memoryview) -> None:
        if self._coming is None or not self._coming.read(url, offset, into):
            self._blob(url).read(offset, into)

    def memory(self, path: str, offset: int, length: int) -> memoryview | None:
        """The bytes of a file that is written to in memory, to be filled in place; None for one that is not in memory."""
        return None

    def close(self) -> None:
        """Close all of them."""
        self.forget()
        self._blobs.clear()
        while self._fds:
            os.close(self._fds.popitem()[1])

    def read(self, path: str, offset: int, into: memoryview) -> None:
        """Fill `into` with the bytes from `offset` on; CorruptError if the file fails or ends before."""
        if is_url(path):
            self._read_object(path, offset, into)
            return
        fd, done, size = self.reader(path), 0, len(into)
        try:
            done = os.preadv(fd, [into], offset)
            while done < size:
                n = os.preadv(fd, [into[done:]], offset + done)
                if not n:
                    raise short(self.label(path), offset + done, size - done)
                done += n
        except OSError as e:
            raise read_error(e, self.label(path), offset + done) from None

    def read_there(self, path: str, offset: int, into: memoryview) -> None:
        """Fill `into` with what is there from `offset` on, zeros where the file has ended."""
        try:
            done = os.preadv(self.writer(path), [into], offset)
        except OSError as e:
            raise read_error(e, self.label(path), offset) from None
        into[done:] = bytes(len(into) - done)

    def read_all(self, path: str, offset: int, into: list[memoryview]) -> None:
        """Fill several pieces of memory with the bytes from `offset` on, in one call as a rule."""
        if is_url(path):
            for view in into:
                self._read_object(path, offset, view)
                offset += len(view)
            return
        try:
            done = os.preadv(self.reader(path), into, offset)
        except OSError as e:
            raise read_error(e, self.label(path), offset) from None
        if done < sum(map(len, into)):
            for view in into:
                self.read(path, offset, view)
                offset += len(view)

    def read_apart(self, path: str, offset: int, step: int, into: list[memoryview]) -> None:
        """Fill pieces of memory of one length, each from `step` bytes after the one before."""
        if is_url(path):
            for view in into:
                self._read_object(path, offset, view)
                offset += step
            return
        fd, preadv = self.reader(path), os.preadv
        try:
            for view in into:
                n = preadv(fd, (view,), offset)
                if n < len(view):
                    self.read(path, offset, view)
                offset += step
        except OSError as e:
            raise read_error(e, self.label(path), offset) from None

    def write(self, path: str, offset: int, data: memoryview | bytes) -> None:
        """Write all of `data` at `offset`."""
        fd, done = self.writer(path), 0
        try:
            done = os.pwrite(fd, data, offset)
            while done < len(data):
                n = os.pwrite(fd, memoryview(data)[done:], offset + done)
                if not n:
                    raise OSError(errno.ENOSPC, "no space")
                done += n
        except OSError as e:
            raise write_error(e, self.label(path), offset + done) from None

    def copy_range(self, source: str, source_offset: int, target: str, target_offset: int, length: int) -> int:
        """Copy in the kernel; the bytes it managed (0 to `length`): fewer where it cannot copy between these files.

        The rest is then for `read` and `write`, which also give the error its name and place.
        """
        if not hasattr(os, "copy_file_range") or is_url(source):
            return 0
        b, a, done = self.writer(target), self.reader(source), 0
        if (target, True) not in self._fds:  # closed to make room for the other: now that one is the newest, and stays
            b = self.writer(target)
        try:
            while done < length:
                n = os.copy_file_range(a, b, length - done, source_offset + done, target_offset + done)
                if not n:
                    break
                done += n
        except OSError as e:
            if e.errno not in _NO_RANGE:
                raise write_error(e, self.label(target), target_offset + done) from None
        return done


class InMemory(Files):
    """Files of which the one that is written, at `path`, is memory."""

    def __init__(self, path: str, data: memoryview, label: Callable[[str], str] = str) -> None:
        super().__init__(label)
        self._path, self._there = path, data
        self._data = data

    def memory(self, path: str, offset: int, length: int) -> memoryview | None:
        """The bytes of the file that is written."""
        return self._there[offset : offset + length] if path == self._path else None

    def read(self, path: str, offset: int, into: memoryview) -> None:
        """As of files."""
        if path == self._path:
            into[:] = self._there[offset : offset + len(into)]
        else:
            super().read(path, offset, into)

    def read_there(self, path: str, offset: int, into: memoryview) -> None:
        """As of files."""
        self.read(path, offset, into)

    def write(self, path: str, offset: int, data: memoryview | bytes) -> None:
        """As of files."""
        self._there[offset : offset + len(data)] = data

    def copy_range(self, source: str, source_offset: int, target: str, target_offset: int, length: int) -> int:
        """Nothing is copied in the kernel."""
        return 0
