"""One object of a store, open for reading: small pieces are kept, what is read forwards comes ahead of its reader.

Policy: as few bytes as what is asked for needs, as few requests as that allows: a small object is fetched whole, an end with all that a
zip may have there, and more at once the further somebody reads on.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager

from .._typing import TYPE_CHECKING, Any, Protocol
from ..errors import CorruptError
from .interface import Entry
from .pages import Pages
from .pieces import LARGE, Kept

if TYPE_CHECKING:
    import mmap

TAIL = 66 << 10  # bytes of the end of an object that are read together: where a zip may have its directory
HEAD, SMALL = 1 << 16, 1 << 17  # bytes of the beginning that are read together; of an object that is read whole
LEAST, AHEAD, MOST = 1 << 12, 1 << 18, 8 << 20  # bytes of a request: the fewest, what a first forward read takes, the most
PART = 4 << 20  # bytes from which on a read is split over several requests


class Fetching(Protocol):
    """What a blob needs of its tree."""

    kept: Kept

    def fetch(self, name: str, entry: Entry, at: int, n: int) -> bytes: ...
    def fetch_view(self, name: str, entry: Entry, at: int, n: int) -> memoryview: ...
    def fetch_into(self, name: str, entry: Entry, at: int, into: memoryview) -> None: ...
    def warm(self, wanted: Sequence[tuple[str, int, int]]) -> None: ...
    def ahead(self) -> dict[str, Ahead]: ...
    def label(self, name: str) -> str: ...
    def pool(self) -> ThreadPoolExecutor: ...


class RemoteBlob:
    """One object, open for reading, as it was when it was opened."""

    __slots__ = ("_entry", "_key", "_last", "_tree", "name")

    def __init__(self, tree: Fetching, name: str, entry: Entry) -> None:
        self._tree, self.name, self._entry = tree, name, entry
        self._key = name, entry.tag
        self._last = -1  # where the last request for a small piece ended

    @property
    def size(self) -> int:
        """Bytes."""
        return self._entry.size

    @property
    def tag(self) -> str:
        """The object's tag, which every read holds."""
        return self._entry.tag

    def pread(self, n: int, at: int) -> bytes:
        """At most `n` bytes from `at` on: fewer only where the object ends."""
        tree, size = self._tree, self._entry.size
        n = min(n, size - at)
        if n <= 0:
            return b""
        have, count = tree.kept.get(self._key, at, n)
        if count == n:
            return have
        start, left = at + count, n - count
        if left >= LARGE:
            return have + b"".join(_fetch_split(tree, self.name, self._entry, start, left))
        more = self._more(start, left, count)
        first = 0 if size <= SMALL else size - TAIL if start >= size - TAIL and not count else start
        data = tree.fetch(self.name, self._entry, first, more)
        tree.kept.add(self._key, first, data)
        return have + data[start - first : start - first + left]

    def _more(self, start: int, left: int, count: int) -> int:
        """How much to ask for where `left` bytes are needed: all of a small object, all of the end, more the further it is read on."""
        size = self._entry.size
        if size <= SMALL:
            return size
        if not start:
            least = HEAD
        elif start >= size - TAIL:
            return size - start if count else TAIL  # from where it begins
        else:
            least = LEAST if self._last < 0 or start != self._last else min(LARGE, max(2 * left, 1 << 16))
        more = min(max(left, least), size - start)
        self._last = start + more
        return more

    def readinto(self, into: memoryview, at: int) -> int:
        """Fill `into` from `at` on as far as one read goes; how many bytes, 0 at the end."""
        n = min(len(into), self._entry.size - at)
        if n <= 0:
            return 0
        kept, count = self._tree.kept.get(self._key, at, n)
        have: bytes | memoryview = kept
        if not count:
            ahead = self._tree.ahead()
            found = ahead.pop(self.name, None)
            if found is None or found.entry != self._entry:
                while len(ahead) >= 3:
                    ahead.pop(next(iter(ahead)))
                found = Ahead(self._tree, self.name, self._entry)
            ahead[self.name] = found  # the newest last
            have = found.read(at, n)
            count = len(have)
        into[:count] = have
        return count

    def read(self, at: int, into: memoryview) -> None:
        """Fill all of `into`; CorruptError where the object ends before."""
        done = 0
        while done < len(into):
            n = self.readinto(into[done:], at + done)
            if not n:
                raise CorruptError(f"ends at byte {at + done:,}, {len(into) - done:,} bytes short", path=self._tree.label(self.name))
            done += n

    def read_many(self, wanted: Sequence[tuple[int, int]]) -> list[bytes]:
        """The bytes of each (offset, length), fetched together."""
        self._tree.warm([(self.name, at, n) for at, n in wanted])
        return [self.pread(n, at) for at, n in wanted]

    def kept(self, at: int, n: int) -> bytes:
        """`n` bytes from `at` on, if they need no request; else nothing."""
        have, count = self._tree.kept.get(self._key, at, n)
        return have if count == n else b""

    def later(self, at: int, n: int) -> Future[memoryview]:
        """One request for `n` bytes from `at` on, under way."""
        self._holds(at + n)
        return self._tree.pool().submit(self._tree.fetch_view, self.name, self._entry, at, n)

    def fill(self, at: int, into: memoryview) -> Future[None]:
        """One request for what fills `into`, from `at` on, under way."""
        self._holds(at + len(into))
        return self._tree.pool().submit(self._tree.fetch_into, self.name, self._entry, at, into)

    def _holds(self, end: int) -> None:
        if end > self._entry.size:
            raise CorruptError(f"ends at byte {self._entry.size:,}, {end - self._entry.size:,} short", path=self._tree.label(self.name))

    def mapped(self, *, flat: bool = False) -> AbstractContextManager[Any]:
        """The whole object by index and slice, read where it is asked for; `flat`: as memory, all of it read."""
        if flat:
            return self._spooled(write=False)
        return Pages(self)

    def copied(self) -> mmap.mmap:
        """The whole object as mapped memory that may be written to. All of it is read, into a file that has no name."""
        return self._spooled(write=True)

    def _spooled(self, *, write: bool) -> mmap.mmap:
        import mmap
        from tempfile import TemporaryFile

        with TemporaryFile() as file:
            os.ftruncate(file.fileno(), self.size)
            buffer, at = memoryview(bytearray(MOST)), 0
            while at < self.size:
                n = self.readinto(buffer[: min(MOST, self.size - at)], at)
                os.pwrite(file.fileno(), buffer[:n], at)
                at += n
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY if write else mmap.ACCESS_READ)

    def close(self) -> None:
        """Nothing is held open."""


def _fetch_split(tree: Fetching, name: str, entry: Entry, at: int, n: int) -> list[bytes]:
    """`n` bytes by several requests at once."""
    steps = range(at, at + n, PART)
    if len(steps) == 1:
        return [tree.fetch(name, entry, at, n)]
    return [f.result() for f in [tree.pool().submit(tree.fetch, name, entry, s, min(PART, at + n - s)) for s in steps]]


class Ahead:
    """One object that a thread reads forwards: what comes next is on its way while this is used, more of it the longer that goes on."""

    def __init__(self, tree: Fetching, name: str, entry: Entry) -> None:
        self.tree, self.name, self.entry = tree, name, entry
        self.start, self.data = 0, memoryview(b"")
        self.after = -1  # where the last request ended
        self.coming: list[tuple[int, int, Future[bytes]]] = []  # offset, length

    def read(self, at: int, n: int) -> memoryview:
        """At most `n` bytes from `at` on, at least one."""
        if self.coming and self.coming[0][0] <= at < self.coming[-1][0] + self.coming[-1][1]:
            while self.coming[0][0] + self.coming[0][1] <= at:
                self.coming.pop(0)
            if not self._here(at):
                self.start, _, later = self.coming.pop(0)
                self.data = memoryview(later.result())
                self._go_on()
        elif not self._here(at):
            forwards = at == self.after
            self.coming.clear()
            length = min(max(n, AHEAD if forwards else 0), MOST, self.entry.size - at)
            self.start = at
            self.data = memoryview(b"".join(_fetch_split(self.tree, self.name, self.entry, at, length)))
            self.after = at + length
            if forwards:
                self._go_on()
        return self.data[at - self.start : at - self.start + n]

    def _here(self, at: int) -> bool:
        return self.start <= at < self.start + len(self.data)

    def _go_on(self) -> None:
        """Ask for what follows, twice what there is now, in requests of at most PART."""
        ends = self.coming[-1][0] + self.coming[-1][1] if self.coming else self.start + len(self.data)
        goal = min(self.start + len(self.data) + min(max(2 * len(self.data), AHEAD), MOST), self.entry.size)
        submit: Callable[..., Future[bytes]] = self.tree.pool().submit
        while ends < goal:
            n = min(PART, goal - ends)
            self.coming.append((ends, n, submit(self.tree.fetch, self.name, self.entry, ends, n)))
            ends += n
        self.after = ends
