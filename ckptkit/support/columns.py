"""Runs of like entries by columns: what is compiled of it (`_columns.c`), where the installation has that, and the way without.

`CKPTKIT_NO_NATIVE=1` in the environment leaves the compiled part out.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cache
from itertools import chain, repeat

from .._typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import ModuleType

Column = bytes | list[bytes] | list[str] | tuple[str, list[int]]


@cache
def compiled() -> ModuleType | None:
    """The module `ckptkit.support._columns`; None where it was not built, or is not wanted."""
    if os.environ.get("CKPTKIT_NO_NATIVE"):
        return None
    try:
        from . import _columns
    except ImportError:
        return None
    return _columns


def weave(columns: Sequence[Column], count: int) -> bytes:
    """The items of columns, row by row, `count` rows, as bytes.

    A column is bytes (the same in each row), a list of bytes or of text (as UTF-8; UnicodeEncodeError for half a surrogate pair), or a
    format with a list of numbers: "I" puts them in 32 bits, little-endian, "d" as digits.
    """
    native = compiled()
    if native is not None:
        woven: bytes = native.weave(list(columns), count)
        return woven
    return b"".join(chain.from_iterable(zip(*[repeat(c, count) if isinstance(c, bytes) else _items(c) for c in columns], strict=True)))


def _items(column: list[bytes] | list[str] | tuple[str, list[int]]) -> list[bytes]:
    """The bytes of each item."""
    if isinstance(column, tuple):
        return words(column[1]) if column[0] == "I" else [str(n).encode() for n in column[1]]
    return [item.encode() if isinstance(item, str) else item for item in column]


def words(numbers: Sequence[int]) -> list[bytes]:
    """Each number in 32 bits, little-endian."""
    from struct import pack

    raw = pack(f"<{len(numbers)}I", *numbers)
    return [raw[i : i + 4] for i in range(0, len(raw), 4)]
