"""The bytes of a whole object by index and slice, as mapped memory gives those of a file: fetched where they are asked for, and kept."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType

from .._typing import Any, Protocol

PAGE = 1 << 12
HEAD = 512  # bytes from a place on that are fetched where it is expected: its page has them as a rule
LARGE = 1 << 20  # bytes of a slice from which on it is a view


class Paged(Protocol):
    """What is read a page at a time."""

    @property
    def size(self) -> int: ...

    def pread(self, n: int, at: int) -> bytes: ...
    def read_many(self, wanted: Sequence[tuple[int, int]]) -> list[bytes]: ...
    def kept(self, at: int, n: int) -> bytes: ...


class Pages:
    """What a parser indexes. `begin` and the length may be those of a part of the object."""

    def __init__(self, blob: Paged, begin: int = 0, length: int | None = None) -> None:
        self._blob, self._begin = blob, begin
        self._length = blob.size - begin if length is None else length
        self._page = -1, b""
        self._expected = False

    def expect(self, places: Sequence[int]) -> None:
        """Fetch what begins at each of several places, together."""
        self._expected = True
        end, wanted = self._begin + self._length, []
        for start in dict.fromkeys(p // PAGE * PAGE for at in sorted(places) for p in (at, at + HEAD) if at >= 0 and p < self._length):
            wanted.append((self._begin + start, min(PAGE, end - self._begin - start)))
        self._blob.read_many(wanted)

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, key: int | slice) -> int | bytes:  # one byte as a number, as bytes give it
        if isinstance(key, int):
            at = key + self._length if key < 0 else key
            if not 0 <= at < self._length:
                raise IndexError("index out of range")
            return self.take(at, 1)[0]
        start, stop, step = key.indices(self._length)
        data = self.take(start, max(0, stop - start))
        return data if step == 1 else data[::step]

    def take(self, at: int, n: int) -> bytes:
        """`n` bytes from `at` on."""
        number, page = self._page
        if number >= 0 and number <= at and at + n <= number + len(page):
            return page[at - number : at - number + n]
        kept = self._blob.kept(self._begin + at, n) if self._expected else b""
        if kept:
            return kept
        if n > PAGE:
            return self._blob.pread(n, self._begin + at)
        start = at // PAGE * PAGE
        page = self._blob.pread(min(2 * PAGE, self._length - start), self._begin + start)
        self._page = start, page
        return page[at - start : at - start + n]

    def find(self, what: bytes, start: int = 0, end: int | None = None) -> int:
        """The first place of `what`, or -1."""
        stop = self._length if end is None else min(end, self._length)
        at = start
        while at < stop:
            run = self.take(at, min(1 << 18, stop - at))
            k = run.find(what)
            if k >= 0:
                return at + k
            if at + len(run) >= stop:
                break
            at += max(1, len(run) - len(what) + 1)
        return -1

    def __enter__(self) -> Pages:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self._page = -1, b""

    def close(self) -> None:
        """Nothing is held."""
        self._page = -1, b""

    def view(self) -> PageView:
        """What stands for a memoryview of it."""
        return PageView(self, 0, self._length)


class PageView:
    """Pages as a memoryview is: slices copy nothing that is large, `tobytes` does."""

    def __init__(self, pages: Pages, start: int, stop: int) -> None:
        self._pages, self._start, self._stop = pages, start, max(start, stop)

    def __len__(self) -> int:
        return self._stop - self._start

    def __getitem__(self, key: int | slice) -> Any:
        if isinstance(key, int):
            if not 0 <= key < len(self):
                raise IndexError("index out of range")
            return self._pages[self._start + key]
        start, stop, _ = key.indices(len(self))
        if stop - start > LARGE:
            return PageView(self._pages, self._start + start, self._start + stop)
        return memoryview(self._pages.take(self._start + start, max(0, stop - start)))

    def expect(self, places: Sequence[int]) -> None:
        """Fetch what begins at each of several places, together."""
        self._pages.expect([self._start + at for at in places if at < len(self)])

    def tobytes(self) -> bytes:
        """All of it."""
        return self._pages.take(self._start, len(self))

    def release(self) -> None:
        """Nothing is held."""

    def __enter__(self) -> PageView:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        return
