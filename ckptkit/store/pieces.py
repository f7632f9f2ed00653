"""What was read of objects: runs of bytes by their offsets, bounded, the objects read longest ago dropped first."""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections.abc import Callable, Sequence

MOST = 256 << 20  # bytes kept of all objects of a tree
LARGE = 1 << 20  # a run from this size on is not kept, except where it was asked for ahead


class Pieces:
    """Runs of bytes of one object, in order, none touching another."""

    def __init__(self) -> None:
        self.starts: list[int] = []
        self.runs: list[bytes] = []
        self.total = 0

    def from_(self, at: int) -> bytes | memoryview:
        """What is kept from `at` on without a gap; nothing where `at` itself is not kept."""
        k = bisect_right(self.starts, at) - 1
        if k < 0 or at >= self.starts[k] + len(self.runs[k]):
            return b""
        return memoryview(self.runs[k])[at - self.starts[k] :] if at > self.starts[k] else self.runs[k]

    def add(self, at: int, data: bytes) -> None:
        """Keep a run; runs that it touches become one with it."""
        end = at + len(data)
        first = bisect_right(self.starts, at) - 1
        if first < 0 or self.starts[first] + len(self.runs[first]) < at:
            first += 1
        last = first
        start = at
        parts: list[bytes | memoryview] = []
        while last < len(self.starts) and self.starts[last] <= end:
            s, run = self.starts[last], self.runs[last]
            if s < start:
                parts.append(memoryview(run)[: start - s])
                start = s
            if s + len(run) > end:
                parts += [data, memoryview(run)[end - s :]]
                end = s + len(run)
                data = b""
            last += 1
        if data:
            parts.append(data)
        joined = b"".join(parts)
        self.total += len(joined) - sum(len(r) for r in self.runs[first:last])
        self.starts[first:last] = [start]
        self.runs[first:last] = [joined]


class Kept:
    """The pieces of many objects, each under its name and tag."""

    def __init__(self, load: Callable[[str, str], Sequence[tuple[int, bytes]]] | None = None) -> None:
        self._lock = threading.Lock()
        self._of: dict[tuple[str, str], Pieces] = {}
        self._total = 0
        self._load = load  # what was kept of an object before, by its name and tag: asked for once
        self._asked: set[tuple[str, str]] = set()
        self._new: set[tuple[str, str]] = set()  # of what there is more than was loaded

    def get(self, key: tuple[str, str], at: int, n: int) -> tuple[bytes, int]:
        """(at most `n` of the bytes kept from `at` on, how many there are of them)."""
        if self._load is not None and key not in self._asked:
            self._asked.add(key)
            for start, data in self._load(*key):
                self.add(key, start, data)
            self._new.discard(key)
        with self._lock:
            pieces = self._of.get(key)
            found = pieces.from_(at)[:n] if pieces is not None else b""
            return bytes(found), len(found)

    def add(self, key: tuple[str, str], at: int, data: bytes) -> None:
        """Keep a run of an object."""
        if not data:
            return
        with self._lock:
            pieces = self._of.pop(key, None) or Pieces()
            before = pieces.total
            pieces.add(at, data)
            self._of[key] = pieces  # the newest last
            self._new.add(key)
            self._total += pieces.total - before
            while self._total > MOST and len(self._of) > 1:
                self._total -= self._of.pop(next(iter(self._of))).total

    def new(self) -> dict[tuple[str, str], list[tuple[int, bytes]]]:
        """The pieces of each object of which there are more than were loaded; after this none are new."""
        with self._lock:
            there = [k for k in self._new if k in self._of]
            self._new.clear()
            return {k: list(zip(self._of[k].starts, self._of[k].runs, strict=True)) for k in there}
