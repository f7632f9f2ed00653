"""The files and objects that a worker of the engine reads and writes: whole reads and writes, and errors that say where.

Policy: `pread` and `pwrite` only (a mapped file that shrinks kills the process, and mapping shows up as resident memory). Every failure
leaves here as a CheckpointError that names the file and the offset. An address is read through its `Blob`, never written.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

from .._typing import TYPE_CHECKING, Any
from ..support.files import read_error, short, write_error
from ..support.open_file import open_fd
from ..support.urls import is_url
from .paths import open_blob

if TYPE_CHECKING:
    from .expected import Expected, Spans
    from .interface import Blob

_NO_RANGE = {errno.EXDEV, errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.EPERM, errno.EBADF, errno.ETXTBSY, errno.EIO}


class Files:
    """Descriptors by path, at most `keep` open at once; one owner (a worker thread), so no locking. Sources may be objects of stores.

    `label` gives the name to show for a file of the staging area.
    """

    def __init__(self, label: Callable[[str], str] = str, keep: int = 64) -> None:
        self._fds: dict[tuple[str, bool], int] = {}
        self._blobs: dict[str, Any] = {}
        self._expected: Expected | None = None
        self.remote_bytes = 0  # that were asked of stores
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

    def expect(self, spans: Spans, most: int) -> None:
        """Fetch what the next reads of objects will be of, at most `most` bytes at once; what was expected before is forgotten."""
        self._expected = None
        if spans:
            from .expected import Expected

            for url in spans:
                self._blob(url)
            self._expected = Expected(self._blobs, spans, most)
            self.remote_bytes += self._expected.total

    def _read_object(self, url: str, offset: int, into: memoryview) -> None:
        if self._expected is None or not self._expected.read(url, offset, into):
            self._blob(url).read(offset, into)

    def close(self) -> None:
        """Close all of them."""
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
