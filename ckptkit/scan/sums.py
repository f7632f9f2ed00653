"""Checksums of many short runs: held against the bytes of one read for as many as lie in it.

A PyTorch file, or a TensorFlow bundle, of 90,000 tensors has as many checksums; a job for each takes ten times as long as the sums.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from itertools import islice
from operator import add, itemgetter

from .._typing import NamedTuple
from ..support.files import checksum
from ..tensors import Check

SHORT = 256 << 10  # bytes of a run that is read with its neighbours
APART = 16 << 10  # bytes between two runs up to which both are read at once


class Sums(NamedTuple):
    """Checksums of one kind, each of one run of the bytes [start, stop) of a file."""

    path: str
    start: int
    stop: int
    kind: str
    checks: list[Check]

    @property
    def size(self) -> int:
        """Bytes that are read."""
        return self.stop - self.start


def together(checks: Sequence[Check], piece: int) -> tuple[list[Sums], list[Check]]:
    """Those of one short run each, by reads of at most `piece` bytes; and the others."""
    most = min(SHORT, piece)
    extents = [c[2] for c in checks]
    if set(map(len, extents)) == {1} and all(0 < e[0][2] <= most for e in extents):
        short, others = list(checks), []
    else:
        short = [c for c in checks if len(c[2]) == 1 and 0 < c[2][0][2] <= most]
        others = [c for c in checks if len(c[2]) != 1 or not 0 < c[2][0][2] <= most]
    short.sort(key=itemgetter(2))
    paths, starts, lengths = zip(*[c[2][0] for c in short], strict=True) if short else ((), (), ())
    kinds = [c[1] for c in short]
    both = zip(map(add, starts, lengths), islice(starts, 1, None))  # noqa: B905
    apart = [i for i, (stop, start) in enumerate(both, 1) if start - stop > APART]
    if len(set(kinds)) > 1 or len(set(paths)) > 1:
        rest = zip(kinds, kinds[1:], paths, paths[1:])  # noqa: B905
        apart = sorted({*apart, *(i for i, (k, m, p, q) in enumerate(rest, 1) if k != m or p != q)})
    room = piece - max(lengths, default=0)
    out, i = [], 0
    for last in [*apart, len(short)] if short else []:
        while i < last:
            j = max(i + 1, bisect_left(starts, starts[i] + room + 1, i, last))
            stop = max(map(add, starts[i:j], lengths[i:j]))
            out.append(Sums(paths[i], starts[i], stop, kinds[i], short[i:j]))
            i = j
    return out, others


def wrong_ones(sums: Sums, data: memoryview) -> list[tuple[Check, int | None]]:
    """Those that do not hold, each with what its bytes give: None where `data`, the bytes from `start` on, end before they do."""
    step, start, have = checksum(sums.kind), sums.start, len(data)
    out: list[tuple[Check, int | None]] = []
    for check in sums.checks:
        _, at, length = check[2][0]
        low = at - start
        if low + length > have:
            out.append((check, None))
        elif (found := step(data[low : low + length], 0)) != check[3]:
            out.append((check, found))
    return out
