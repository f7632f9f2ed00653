"""A file of this machine, open for reading."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import AbstractContextManager

from .._typing import TYPE_CHECKING, Any
from ..errors import CorruptError

if TYPE_CHECKING:
    import mmap


class LocalBlob:
    """A file of this machine, open for reading; only ever read with pread. `fd` is its descriptor."""

    __slots__ = ("fd", "name")

    def __init__(self, fd: int, name: str) -> None:
        self.fd, self.name = fd, name

    @property
    def size(self) -> int:
        """Bytes, as the file is now."""
        return os.fstat(self.fd).st_size

    @property
    def tag(self) -> str:
        """What changes when the file does: when it was last written, to the nanosecond."""
        return str(os.fstat(self.fd).st_mtime_ns)

    def pread(self, n: int, at: int) -> bytes:
        """At most `n` bytes from `at` on: fewer only where the file ends."""
        return os.pread(self.fd, n, at)

    def readinto(self, into: memoryview, at: int) -> int:
        """Fill `into` from `at` on as far as one read goes; how many bytes, 0 at the end."""
        return os.preadv(self.fd, (into,), at)

    def read(self, at: int, into: memoryview) -> None:
        """Fill all of `into`; CorruptError where the file ends before."""
        done = 0
        while done < len(into):
            n = os.preadv(self.fd, (into[done:],), at + done)
            if not n:
                raise CorruptError(f"ends at byte {at + done:,}, {len(into) - done:,} bytes short", path=self.name)
            done += n

    def read_many(self, wanted: Sequence[tuple[int, int]]) -> list[bytes]:
        """The bytes of each (offset, length)."""
        return [os.pread(self.fd, n, at) for at, n in wanted]

    def mapped(self, *, flat: bool = False) -> AbstractContextManager[Any]:
        """The whole file as mapped memory (`mmap`), to be used in a `with`. The file is not empty."""
        import mmap

        return mmap.mmap(self.fd, 0, access=mmap.ACCESS_READ)

    def copied(self) -> mmap.mmap:
        """The whole file as mapped memory that may be written to: what is written stays in memory (copy on write)."""
        import mmap

        return mmap.mmap(self.fd, 0, access=mmap.ACCESS_COPY)

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self.fd)
