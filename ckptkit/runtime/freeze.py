"""Which parameters do not train: by canonical name, glob, module or range of layers ("encoder.layers.0-5")."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from ..errors import UsageError, one_of

_RANGE = re.compile(r"(\d+)-(\d+)")


def frozen(names: Iterable[str], selectors: str | Sequence[str] | None) -> frozenset[str]:
    """The names that any selector means. UsageError for a selector that means none of them."""
    every = list(names)
    if not selectors:
        return frozenset()
    out: set[str] = set()
    for selector in [selectors] if isinstance(selectors, str) else selectors:
        found = {n for n in every for s in _expand(selector) if _means(s, n)}
        if not found:
            tops = sorted({n.split(".")[0] for n in every})
            raise UsageError(f"freeze: {selector!r} is no parameter, module or range of layers here", hint=one_of(selector, tops))
        out |= found
    return frozenset(out)


def _expand(selector: str) -> list[str]:
    """ "encoder.layers.0-2" as its three layers."""
    m = _RANGE.search(selector)
    if m is None or int(m[2]) - int(m[1]) > 10_000:
        return [selector]
    return [e for i in range(int(m[1]), int(m[2]) + 1) for e in _expand(f"{selector[: m.start()]}{i}{selector[m.end() :]}")]


def _means(selector: str, name: str) -> bool:
    return name == selector or name.startswith(selector + ".") or fnmatchcase(name, selector)
