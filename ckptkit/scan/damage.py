"""What is said of checksums that do not hold: which, where, and the tensors that lie there."""

from __future__ import annotations

import os
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from operator import itemgetter

from ..errors import printable
from ..findings import Finding
from ..support.name_text import collapse
from ..tensors import Check, Extent, StoredTensor

Place = tuple[int, int, str]  # from, to, and what lies there


def damaged(wrong: Sequence[tuple[Check, int | None]], tensors: Mapping[str, StoredTensor]) -> list[Finding]:
    """The findings of checksums that do not hold, each with what the bytes gave: None where the file ends before they do."""
    lying = _Lying({e.path for check, _ in wrong for e in check.extents}, tensors.values())
    return [_finding(check, got, [n for n in lying.within(check.extents) if n != check.where]) for check, got in wrong]


def _finding(check: Check, got: int | None, names: Sequence[str]) -> Finding:
    where = check.extents[0] if check.extents else None
    place = f" (bytes {where.offset} to {where.offset + where.length} of {os.path.basename(where.path)})" if where else ""
    said = "ends too early" if got is None else f"{check.kind} is {got:08x}, the file says {check.expected:08x}"
    whose = f": {collapse(names, 3)}" if names else ""
    return Finding("error", "checksum", check.where, printable(f"damaged: {said}{place}{whose}", 1000), "download or copy it again")


class _Lying:
    """The tensors of some files by their places, so that as many checksums as there are tensors may be wrong."""

    def __init__(self, paths: Iterable[str], tensors: Iterable[StoredTensor]) -> None:
        places: dict[str, list[Place]] = {p: [] for p in paths}
        for t in tensors if places else ():
            for e in [b.extent for b in t.boxes] or t.extents:  # in pieces, not run by run
                if e.length and e.path in places:
                    places[e.path].append((e.offset, e.offset + e.length, t.name))
        self._places = {p: sorted(held) for p, held in places.items()}
        self._ends = {p: list(accumulate((end for _, end, _ in held), max)) for p, held in self._places.items()}

    def within(self, extents: Iterable[Extent]) -> list[str]:
        """The names of those that have a byte of `extents`, in their order there."""
        return list(dict.fromkeys(n for e in extents for n in self._of(e) if e.length))

    def _of(self, e: Extent) -> Iterator[str]:
        held, ends = self._places[e.path], self._ends[e.path]
        i = bisect_left(held, e.offset + e.length, key=itemgetter(0))
        found = []
        while i and ends[i - 1] > e.offset:  # none further on reaches here
            i -= 1
            if held[i][1] > e.offset:
                found.append(held[i][2])
        yield from reversed(found)
