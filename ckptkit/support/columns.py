"""Runs of like entries by columns: what is compiled of it (`_columns.c`), where the installation has that, and the way without.

`CKPTKIT_NO_NATIVE=1` in the environment leaves the compiled part out.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cache
from itertools import chain, repeat
from operator import add

from .._typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import ModuleType

Column = bytes | list[bytes] | list[str] | tuple[str, list[int]] | tuple[str, list[bytes] | list[str]] | tuple[str, int, int]


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
    format with a list: "I" puts numbers in 32 bits, little-endian, "d" as digits, "L" puts bytes or text behind their length in 32 bits.
    ("+", first, step) is numbers in 32 bits, too.
    """
    native = compiled()
    if native is not None:
        woven: bytes = native.weave(list(columns), count)
        return woven
    rows = zip(*[repeat(c, count) if isinstance(c, bytes) else _items(c, count) for c in columns], strict=True)
    return b"".join(chain.from_iterable(rows))


def scatter(
    memory: memoryview, base: int, offsets: Sequence[int], held: memoryview, start: int, starts: Sequence[int], lengths: Sequence[int]
) -> None:
    """Copy many short runs: the bytes of `held`, which is what lies from `start` on, at `starts` to `offsets` of `memory`, which begins at
    `base`. Raises ValueError for a run that is not within both."""
    native = compiled()
    if native is not None:
        native.scatter(memory, base, list(offsets), held, start, list(starts), list(lengths))
        return
    for to, at, n in zip(offsets, starts, lengths, strict=True):
        if not (base <= to and to - base + n <= len(memory) and start <= at and at - start + n <= len(held)) or n < 0:
            raise ValueError("a run that is not within both")
        memory[to - base : to - base + n] = held[at - start : at - start + n]


def _items(column: Any, count: int) -> list[bytes]:
    """The bytes of each item."""
    if not isinstance(column, tuple):
        return [item.encode() if isinstance(item, str) else item for item in column]
    if column[0] == "+":
        return words(range(column[1], column[1] + count * column[2], column[2])) if column[2] else words([column[1]] * count)
    if column[0] == "L":
        raw = _items(column[1], count)
        return list(map(add, words(list(map(len, raw))), raw))
    return words(column[1]) if column[0] == "I" else [str(n).encode() for n in column[1]]


def words(numbers: Sequence[int]) -> list[bytes]:
    """Each number in 32 bits, little-endian."""
    from struct import pack

    raw = pack(f"<{len(numbers)}I", *numbers)
    return [raw[i : i + 4] for i in range(0, len(raw), 4)]
