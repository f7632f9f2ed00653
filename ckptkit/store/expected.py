"""The bytes of objects that a piece of work is known to need: fetched together and exactly, and forgotten with it.

Policy: nothing is fetched that the work does not ask for but small gaps; no byte twice, as long as all of it fits the memory allowed. What
does not fit comes block by block, in the order in which it is asked for.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from typing import Any

from ..errors import CheckpointError

GAP = 64 << 10  # bytes between two runs up to which they are one request
PART = 4 << 20  # bytes of a request
Spans = Mapping[str, Sequence[tuple[int, int]]]  # address -> (from, to) of each run


class Expected:
    """The runs that `spans` names, of objects that `fetch` reads; at most `most` bytes of them at once."""

    def __init__(self, blobs: Mapping[str, Any], spans: Spans, most: int) -> None:
        self._blobs = blobs
        self._most = max(most, PART)
        self._runs = {path: merged(runs) for path, runs in spans.items()}
        self._held: dict[str, list[tuple[int, memoryview]]] = {}
        self.total = sum(b - a for runs in self._runs.values() for a, b in runs)
        self.whole = self.total <= self._most
        if self.whole:
            self._fetch([(path, a, b) for path, runs in self._runs.items() for a, b in runs])

    def _fetch(self, wanted: list[tuple[str, int, int]]) -> None:
        """Read runs, all requests at once."""
        coming: list[tuple[memoryview, Future[memoryview]]] = []
        for path, a, b in wanted:
            made: Any = bytearray(b - a)
            data = memoryview(made)
            self._held.setdefault(path, []).append((a, data))
            for at in range(a, b, PART):
                n = min(PART, b - at)
                coming.append((data[at - a : at - a + n], self._blobs[path].later(at, n)))
        failure: CheckpointError | None = None
        for view, future in coming:
            try:
                view[:] = future.result()
            except CheckpointError as e:
                failure = failure or e
        for held in self._held.values():
            held.sort(key=lambda x: x[0])
        if failure is not None:
            raise failure

    def read(self, path: str, at: int, into: memoryview) -> bool:
        """Fill `into` from what was expected; False where that is not part of it."""
        found = self._find(path, at, len(into))
        if found is None and not self.whole:
            runs = self._runs.get(path, ())
            k = bisect_right(runs, (at, 1 << 62)) - 1
            if k < 0 or at + len(into) > runs[k][1]:
                return False
            self._held.pop(path, None)
            share = self._most // max(1, len(self._runs))
            self._fetch([(path, at, min(runs[k][1], at + max(len(into), share)))])
            found = self._find(path, at, len(into))
        if found is None:
            return False
        into[:] = found
        return True

    def _find(self, path: str, at: int, n: int) -> memoryview | None:
        held = self._held.get(path, [])
        k = bisect_right(held, at, key=lambda x: x[0]) - 1
        if k < 0:
            return None
        start, data = held[k]
        return data[at - start : at - start + n] if at + n <= start + len(data) else None


def merged(runs: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """The runs in order, those that touch or nearly touch as one."""
    out: list[tuple[int, int]] = []
    for a, b in sorted(runs):
        if out and a - out[-1][1] <= GAP:
            out[-1] = out[-1][0], max(out[-1][1], b)
        else:
            out.append((a, b))
    return out
