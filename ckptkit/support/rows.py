"""Many small pieces of a file at once."""

from __future__ import annotations

from collections.abc import Sequence

from .._typing import NamedTuple


class Rows(NamedTuple):
    """Pieces of one file (its number) in their order: no object for each, of which there may be 90,000. Each rests on the checksum of one
    tensor."""

    file: int
    offsets: Sequence[int]
    contents: Sequence[bytes]
    needs: Sequence[str]
