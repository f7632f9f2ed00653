"""Memory that is used again and again."""

from __future__ import annotations

import mmap
from contextlib import suppress

from ..support.files import CHUNK


class Buffer:
    """Anonymous memory that grows when asked and is then reused: pages cost far more the first time than ever after."""

    def __init__(self) -> None:
        self._map: mmap.mmap | None = None
        self.view = memoryview(b"")

    def get(self, size: int) -> memoryview:
        """At least `size` writable bytes (what they hold is left over)."""
        if len(self.view) < size:
            size = -(-size // CHUNK) * CHUNK
            self._map = None
            self.view = memoryview(b"")  # numpy views of the old one have gone with their windows: it is freed here
            self._map = mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            if size >= 4 << 20 and hasattr(mmap, "MADV_HUGEPAGE"):
                with suppress(OSError):
                    self._map.madvise(mmap.MADV_HUGEPAGE)
            self.view = memoryview(self._map)
        return self.view
