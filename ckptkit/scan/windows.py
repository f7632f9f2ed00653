"""Bytes of files in the order in which they are wanted, of which small ones that lie near each other are read at once."""

from __future__ import annotations

from collections.abc import Sequence

from .._typing import TYPE_CHECKING
from ..support.files import LINE, in_line, memory

if TYPE_CHECKING:
    from ..store import Blob
    from ..tensors import Extent

SMALL = 64 << 10  # bytes: what is longer is read by itself
GAP = 16 << 10  # bytes between two that are read together


def reaches(extents: Sequence[Extent]) -> list[int]:
    """Of each, up to where it may be read: its end, or that of the last of the small ones that follow it closely."""
    out = [e.offset + e.length for e in extents]
    for i in range(len(extents) - 2, -1, -1):
        here, then = extents[i], extents[i + 1]
        if here.length <= SMALL and then.length <= SMALL and 0 <= then.offset - out[i] <= GAP and here.path == then.path:
            out[i] = out[i + 1]
    return out


class Window:
    """What one thread has read last. A view of it is good until the next is asked for."""

    def __init__(self, size: int) -> None:
        """`size`: bytes that are read at once at most."""
        self._buffer, self._size = memory(size + LINE), size
        self._held, self._start, self._blob = self._buffer[:0], 0, None

    _blob: Blob | None

    def view(self, blob: Blob, at: int, length: int, reach: int = 0) -> memoryview:
        """The bytes from `at` on, `length` of them (at most the window's size) or as many as the file has. Where they are not there yet,
        it is read up to `reach`, as far as the window goes."""
        low = at - self._start
        if blob is not self._blob or low < 0 or low + length > len(self._held):
            self._held, self._start, self._blob, low = self._buffer[:0], at, blob, 0
            piece = in_line(self._buffer, at)[: min(self._size, max(length, reach - at))]
            self._held = piece[: filled(blob, piece, at)]
        return self._held[low : low + length]


def filled(blob: Blob, piece: memoryview, at: int) -> int:
    """Read into all of `piece`; how many bytes there were."""
    have = blob.readinto(piece, at)
    while 0 < have < len(piece):
        more = blob.readinto(piece[have:], at + have)
        if not more:
            break
        have += more
    return have
