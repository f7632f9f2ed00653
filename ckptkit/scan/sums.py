"""Checksums of many short runs: held against the bytes of one read for as many as lie in it.

A PyTorch file, or a TensorFlow bundle, of 90,000 tensors has as many checksums; a job for each takes ten times as long as the sums.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter

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
    short = [c for c in checks if len(c[2]) == 1 and 0 < c[2][0][2] <= most]
    if not short:
        return [], list(checks)
    others = [c for c in checks if len(c[2]) != 1 or not 0 < c[2][0][2] <= most] if len(short) < len(checks) else []
    short.sort(key=itemgetter(2))
    out: list[Sums] = []
    first, (path, start, _), kind, stop = 0, short[0][2][0], short[0][1], 0
    for i, (_, sort, ((where, at, length),), _) in enumerate(short):
        end = at + length
        if where != path or sort != kind or (at - stop > APART and i > first) or end - start > piece:
            out.append(Sums(path, start, stop, kind, short[first:i]))
            first, path, start, kind, stop = i, where, at, sort, end
        elif end > stop:
            stop = end
    out.append(Sums(path, start, stop, kind, short[first:]))
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
