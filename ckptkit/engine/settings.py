"""What the workers of a run share, and what they say was written."""

from __future__ import annotations

from collections.abc import Callable

from .._typing import NamedTuple
from ..support.files import Checksum
from .sources import Flat, Unpacker

Written = tuple[int, int, int, int, str]  # (file, offset, length, checksum, name)


class Settings(NamedTuple):
    """What all workers share."""

    paths: tuple[str, ...]  # of the staged files
    sources: tuple[Flat, ...]
    dtypes: tuple[str, ...]  # of the sources
    checksum: Checksum | None  # to be run along every write
    by_slot: bool  # whether every slot needs a checksum of its own
    writeback: Callable[[int, int, int], object] | None  # to begin writing to disk early
    clip: bool  # what to do with values too large for a type
    stop: list[bool]
    note: Callable[[int, int, int, list[Written], dict[str, int], dict[str, int]], None] | None = None  # told of every job done
    keep: bool = True  # whether it is kept what was written, to be read back
    unpacker: Unpacker | None = None  # of encoded sources
    behind: Callable[[int, int, list[int]], list[bytes]] | None = None  # what stands behind neighbours (see `Behind`)
    ahead: int = 0  # bytes of a job's objects that a worker may hold, where sources lie in stores
