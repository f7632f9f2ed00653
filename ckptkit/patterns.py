"""Stored names as patterns: every run of digits is a "#". 20,000 names have a few dozen patterns, which is what recognising goes by."""

from __future__ import annotations

import re
from collections.abc import Iterable

_NUMBERS = re.compile(r"([0-9]+)")
_TO_MARKS = str.maketrans("0123456789", "##########")


def pattern_of_text(text: str) -> str:
    """A name, or many joined, with every run of digits as "#"."""
    text = text.translate(_TO_MARKS)
    while "##" in text:
        text = text.replace("##", "#")
    return text


def reduce_name(name: str) -> tuple[str, tuple[str, ...]]:
    """A stored name as a pattern and its numbers: ("layer.#.bias", ("12",))."""
    parts = _NUMBERS.split(name)
    return ("#".join(parts[::2]), tuple(parts[1::2])) if len(parts) > 1 else (name, ())


def patterns_of(names: Iterable[str]) -> list[str]:
    """The pattern of each name. All at once: 20,000 are three times as quick as one by one."""
    every = list(names)
    patterns = pattern_of_text("\n".join(every)).split("\n")
    return patterns if len(patterns) == len(every) else [pattern_of_text(n) for n in every]


def reduce_names(names: Iterable[str]) -> dict[str, str]:
    """Every stored name with its pattern."""
    every = list(names)
    return dict(zip(every, patterns_of(every), strict=True))


def tally(patterns: Iterable[str]) -> dict[str, int]:
    """How often each is there, in the order in which they are met."""
    out: dict[str, int] = {}
    for p in patterns:
        out[p] = out.get(p, 0) + 1
    return out


def stem(pattern: str) -> str:
    """The first part of a pattern: "bert" of "bert/pooler/dense/kernel", "h#" of "h#.ln.weight"."""
    return pattern.partition("/")[0].partition(".")[0]
