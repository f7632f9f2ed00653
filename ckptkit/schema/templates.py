"""Names as templates and as patterns.

A template has placeholders ("encoder.layer.{layer}.output.bias"); `expand` makes names of it. A pattern has a "#" for every run of
digits; 20,000 stored names have a few dozen patterns, which is what recognising goes by.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import cache, lru_cache

from ..support.columns import compiled, sorts

_PLACEHOLDER = re.compile(r"\{(#?)(\w+)(?:\*(\d+))?(?:\+(\d+))?(?::(\d+))?(!?)\}")
_DIGITS = re.compile(r"[0-9]+")
_NUMBERS = re.compile(r"([0-9]+)")
_OWN = "＃"  # stands in a pattern for a "#" of the name's own: no template has it, so "layer.1#" is no layer
_TO_BLANKS = {c: " " for c in range(128) if chr(c) not in "0123456789"}
_TO_MARKS = str.maketrans("0123456789#", "##########" + _OWN)


# --- templates -----------------------------------------------------------------------------------------------------


def placeholders(template: str) -> tuple[str, ...]:
    """The placeholders of a name template, in order: ("layer",) of "encoder.layers.{layer}.norm". Counts ({#layer+4}) are none."""
    return tuple(name for count, name, *_ in _PLACEHOLDER.findall(template) if not count)


def expand(template: str, at: Mapping[str, int], counts: Mapping[str, int] = {}) -> str:
    """The exact name at one place: {layer} replaced by at["layer"], {layer:3} by it in three digits ("007").

    Where a naming numbers other things along with the layers, {layer*7+6} is that number, and {#layer*7+7} the one after the
    last layer, told by `counts` ({"layers": 12}). {group!} is not written: there is one group, 0.
    """
    text, holders = format_of(template)
    if len(holders) == 1:
        return text % at[holders[0]]
    if holders:
        return text % tuple([at[h] for h in holders])
    return _PLACEHOLDER.sub(lambda m: _number(m, at, counts), template) if "{" in template else template


@cache
def format_of(template: str) -> tuple[str, tuple[str, ...]]:
    """A template of plain placeholders as a format for the % operator, ten times as quick, and what goes into it; ("", ()) for another."""
    found = list(_PLACEHOLDER.finditer(template))
    if not found or any(any(m.group(1, 3, 4, 5, 6)) for m in found):
        return "", ()
    return _PLACEHOLDER.sub("%d", template.replace("%", "%%")), tuple(m[2] for m in found)


def _number(m: re.Match[str], at: Mapping[str, int], counts: Mapping[str, int]) -> str:
    if m[6]:
        return ""
    n = counts.get(count_name(m[2]), 0) if m[1] else at[m[2]]
    return str(n * int(m[3] or 1) + int(m[4] or 0)).zfill(int(m[5] or 0))


def pattern_of(template: str) -> str:
    """What the names of a template reduce to: "layer.#.bias"."""
    return _DIGITS.sub("#", _PLACEHOLDER.sub(lambda m: "" if m[6] else "#", template))


def single(template: str) -> tuple[str, ...]:
    """The placeholders of which a naming has one and does not write it: ("group",) of "layer{group!}/kernel"."""
    return tuple(m[2] for m in _PLACEHOLDER.finditer(template) if m[6]) if "!" in template else ()


@cache
def slot_of(slot: str) -> tuple[bool, str, int, int, int]:
    """What stands at a pattern's number: (whether it is a count, the placeholder, times, plus, digits)."""
    m = _PLACEHOLDER.fullmatch(slot)
    assert m is not None, slot
    return bool(m[1]), m[2], int(m[3] or 1), int(m[4] or 0), int(m[5] or 0)


def count_name(placeholder: str) -> str:
    """The size that counts a placeholder: "layer" -> "layers"."""
    return placeholder + "s"


# --- patterns ------------------------------------------------------------------------------------------------------


def pattern_of_text(text: str) -> str:
    """A name, or many joined, with every run of digits as "#"."""
    text = text.translate(_TO_MARKS)
    while "##" in text:
        text = text.replace("##", "#")
    return text


def reduce_name(name: str) -> tuple[str, tuple[str, ...]]:
    """A stored name as a pattern and its numbers: ("layer.#.bias", ("12",))."""
    parts = _NUMBERS.split(name.replace("#", _OWN))
    return ("#".join(parts[::2]), tuple(parts[1::2])) if len(parts) > 1 else (parts[0], ())


def patterns_of(names: Iterable[str]) -> list[str]:
    """The pattern of each name. All at once: 20,000 are three times as quick as one by one."""
    return list(_patterns(tuple(names))[0])


def distinct_patterns(names: Iterable[str]) -> dict[str, int]:
    """How many names each pattern has, patterns in the order in which they are met."""
    return dict(_patterns(tuple(names))[1])


def may_end(names: Iterable[str], ends: Iterable[str]) -> bool:
    """Whether some name may end as one of `ends`, which do not begin with a digit: by the patterns, of which there are few."""
    whole = tuple(map(pattern_of_text, ends))
    return any(p.endswith(whole) for p in _patterns(tuple(names))[1])


@lru_cache(1)  # who recognises, who counts layers and who folds all ask for those of one file
def _patterns(every: tuple[str, ...]) -> tuple[list[str], dict[str, int]]:
    native = compiled()
    found = native.patterns(every) if native is not None else None
    if found is not None:
        return found[0], dict(zip(found[1], found[2], strict=True))
    patterns = pattern_of_text("\n".join(every)).split("\n")
    if len(patterns) != len(every):
        patterns = [pattern_of_text(n) for n in every]
    few: dict[str, str] = {}
    return [few.setdefault(p, p) for p in patterns], dict(Counter(patterns))  # one text for all that are equal: they are kept


def reduce_names(names: Iterable[str]) -> dict[str, str]:
    """Every stored name with its pattern."""
    every = list(names)
    return dict(zip(every, patterns_of(every), strict=True))


def by_pattern(names: Sequence[str]) -> dict[str, list[int]]:
    """Pattern -> the places of the names that reduce to it; both in order."""
    out: dict[str, list[int]] = {}
    for i, pattern in enumerate(patterns_of(names)):
        if pattern in out:
            out[pattern].append(i)
        else:
            out[pattern] = [i]
    return out


def numbers_of(names: Sequence[str], count: int) -> list[tuple[str, ...]]:
    """The numbers of names that have `count` each, as they are written."""
    if not count:
        return [()] * len(names)
    text = "\n".join(names)
    numbers = iter(text.translate(_TO_BLANKS).split() if text.isascii() else _DIGITS.findall(text))
    return list(zip(*[numbers] * count, strict=True))


def tally(patterns: Iterable[str]) -> dict[str, int]:
    """How often each is there, in the order in which they are met."""
    _, firsts, counts = sorts(list(patterns))
    out: dict[str, int] = {}
    for pattern, n in zip(firsts, counts, strict=True):  # equal ones are nearly always one object
        out[pattern] = out.get(pattern, 0) + n
    return out


def stem(pattern: str) -> str:
    """The first part of a pattern: "bert" of "bert/pooler/dense/kernel", "h#" of "h#.ln.weight"."""
    return pattern.partition("/")[0].partition(".")[0]
