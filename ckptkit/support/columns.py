"""Runs of like entries by columns: what is compiled of it (`_columns.c`), where the installation has that, and the way without.

`CKPTKIT_NO_NATIVE=1` in the environment leaves the compiled part out.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cache, partial
from itertools import chain, repeat
from operator import add, itemgetter

from .._typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import ModuleType

FORM = 3  # of what is compiled, as `_columns.c` counts it: one built of an older source is left out
Column = bytes | list[bytes] | list[str] | tuple[str, list[int]] | tuple[str, list[bytes] | list[str]] | tuple[str, int, int]


@cache
def compiled() -> ModuleType | None:
    """The module `ckptkit.support._columns`; None where it was not built, or of another source, or is not wanted."""
    if os.environ.get("CKPTKIT_NO_NATIVE"):
        return None
    try:
        from . import _columns
    except ImportError:
        return None
    return _columns if getattr(_columns, "FORM", 0) == FORM else None


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


def texts(raws: Collection[bytes]) -> list[str]:
    """Each decoded; all at once where none has a line end. Raises UnicodeDecodeError of the first that is no UTF-8."""
    whole = b"\n".join(raws)
    if not raws or whole.count(b"\n") != len(raws) - 1:
        return [raw.decode() for raw in raws]
    try:
        return whole.decode().split("\n")
    except UnicodeDecodeError:
        return [raw.decode() for raw in raws]


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


# --- what many names and tensors have in common --------------------------------------------------------------------


def _items_of(items: Mapping[Any, Any] | Sequence[Any]) -> Collection[Any]:
    return items.values() if isinstance(items, dict) else items


def sorts(items: Mapping[Any, Any] | Sequence[Any], *fields: int) -> tuple[list[int], list[Any], list[int]]:
    """Items (tuples; the values of a dict) by these of their fields, by themselves without: (the number of each one's sort, the first item
    of each sort, how many are of each), sorts in the order in which they are met. It goes by identity: those of a sort are the same, those
    of two may be equal."""
    native = compiled()
    if native is not None:
        found: tuple[list[int], list[Any], list[int]] = native.sorts(items, fields)
        return found
    every = _items_of(items)
    keys: Iterable[Any] = map(id, every) if not fields else map(id, map(itemgetter(*fields), every))
    if len(fields) > 1:
        keys = (tuple(map(id, of)) for of in map(itemgetter(*fields), every))
    known: dict[Any, int] = {}
    numbers: list[int] = []
    firsts: list[Any] = []
    counts: list[int] = []
    for key, item in zip(keys, every, strict=True):
        n = known.get(key)
        if n is None:
            n = known[key] = len(firsts)
            firsts.append(item)
            counts.append(0)
        numbers.append(n)
        counts[n] += 1
    return numbers, firsts, counts


def pluck(items: Mapping[Any, Any] | Sequence[Any], *path: int, otherwise: object = None) -> list[Any]:
    """What lies at a path of indices in each item (the values of a dict); `otherwise` where it has nothing there."""
    native = compiled()
    if native is not None:
        out: list[Any] = native.pluck(items, path, otherwise)
        return out
    out = list(_items_of(items))
    for step in path:
        out = [otherwise if at is otherwise or len(at) <= step else at[step] for at in out]
    return out


def tuples(kind: type, columns: Sequence[Any], count: int) -> list[Any]:
    """Named tuples of columns, each a list, (what is the same in each,) or (numbers, a list of what each stands for). No constructor is
    called: the columns are as many as the fields, those with defaults too."""
    native = compiled()
    if native is not None:
        made: list[Any] = native.tuples(kind, list(columns), count)
        return made
    lists = [c if isinstance(c, list) else repeat(c[0], count) if len(c) == 1 else map(c[1].__getitem__, c[0]) for c in columns]
    return list(map(partial(tuple.__new__, kind), zip(*lists, strict=True)))


_WHOLE = r"(?:(?<=[./])|(?<=layer_)|(?<=block_)|(?<=layers_)|(?<=blocks_))([0-9]{1,7})(?=[./]|$)"
_FIRST = r"([^0-9]*)([0-9]+)([^0-9./]*(?:[./]|$))(.*)"

# what is before the number, what is behind it, and layers that are equal: their numbers, and of the least one the places of the names, and
# what follows in them
Group = tuple[list[int], list[int], list[str]]
LayerRun = tuple[str, str, list[Group]]


def layered(names: list[str], kinds: list[Any], *, whole: bool) -> tuple[list[int], list[LayerRun]]:
    """The layers that numbers in names make: (the places of the names without a number, the runs), in the order in which they are met.

    Two layers are equal where what follows the number in their names, and what `kinds` has of each (by identity), are the same in the same
    order. The number is the first of a name, if its component has no other and it has no zeros before it; or, `whole`, the first that is a
    component of its own, or follows "layer_", "layers_", "block_" or "blocks_".
    """
    native = compiled()
    found: tuple[list[int], list[LayerRun]] | None = native.layered(names, kinds, whole) if native is not None else None
    return _layered(names, kinds, whole=whole) if found is None else found


def _layered(names: list[str], kinds: list[Any], *, whole: bool) -> tuple[list[int], list[LayerRun]]:
    others: list[int] = []
    runs: dict[tuple[str, str], dict[int, list[tuple[str, int, int]]]] = {}
    search, match = re.compile(_WHOLE).search, re.compile(_FIRST, re.DOTALL).match
    before: tuple[str, ...] = ()  # the layer of the last name, nearly always the next one's, too
    cut = 0
    held: list[tuple[str, int, int]] = []
    for i, (name, kind) in enumerate(zip(names, kinds, strict=True)):
        if name.startswith(before):
            held.append((name[cut:], id(kind), i))
            continue
        m = search(name) if whole else match(name)
        if m is None or (not whole and m[2][0] == "0" and len(m[2]) > 1):
            others.append(i)
            continue
        head, number, tail, rest = (name[: m.start()], m[1], "", name[m.end() :]) if whole else m.groups()
        held = runs.setdefault((head, tail), {}).setdefault(int(number), [])
        held.append((rest, id(kind), i))
        end = (tail or rest)[:1] if whole else tail[-1:]
        start = head + number + (end if whole else tail)
        before, cut = (start,) if end in (".", "/") else (), len(start) - whole
    out: list[LayerRun] = []
    for (head, tail), by_number in runs.items():
        equal: dict[tuple[tuple[str, ...], tuple[int, ...]], list[int]] = {}
        for n, below in by_number.items():
            rests, of, _ = zip(*below, strict=True)
            equal.setdefault((rests, of), []).append(n)
        groups = [(numbers, [i for _, _, i in by_number[min(numbers)]], list(rests)) for (rests, _), numbers in equal.items()]
        out.append((head, tail, groups))
    return others, out
