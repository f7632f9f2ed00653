"""Tensor names for people: natural order, and runs of numbers collapsed ("layer.{12...23}.*")."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from .._typing import Any

_PARTS = re.compile(r"([0-9]+)")


def natural(name: str) -> list[Any]:
    """A sort key that puts h.2 before h.10: text and numbers in turn."""
    parts: list[Any] = _PARTS.split(name)
    parts[1::2] = map(int, parts[1::2])
    return parts


def split_last_number(part: str) -> tuple[str, str, str]:
    """("layer_", "12", "") of "layer_12"; (part, "", "") where there is no number."""
    end = len(part)
    while end and not ("0" <= part[end - 1] <= "9"):
        end -= 1
    start = end
    while start and "0" <= part[start - 1] <= "9":
        start -= 1
    return part[:start], part[start:end], part[end:]


def counted(n: int, name: str) -> str:
    """ "1 layer", "2 inner groups" of a count's name."""
    return f"{n} {(name.removesuffix('s') if n == 1 else name).replace('_', ' ')}"


def ranges(numbers: Iterable[int], width: int = 0) -> str:
    """ "0-4, 6-11" of a set of numbers, each in at least `width` digits."""
    return ", ".join(f"{r.start:0{width}}{f'-{r.stop - 1:0{width}}' if r.stop - r.start > 1 else ''}" for r in runs(numbers))


def runs(numbers: Iterable[int]) -> list[range]:
    """The runs of numbers one after another in a set of them. A `range` is never spelled out: its length may come from a hostile file."""
    if isinstance(numbers, range):
        return [numbers] if numbers else []
    ns = sorted(set(numbers))
    if not ns:
        return []
    starts = [i for i, n in enumerate(ns) if not i or n != ns[i - 1] + 1]
    return [range(ns[i], ns[j - 1] + 1) for i, j in zip(starts, [*starts[1:], len(ns)], strict=True)]


def gaps(numbers: Iterable[int]) -> list[range]:
    """What lacks between 0 and the largest of the numbers, as runs."""
    there = runs(numbers)
    return [r for r in (range(a.stop, b.start) for a, b in zip([range(0), *there], there, strict=False)) if r]


def braced(numbers: Iterable[int], width: int = 0) -> str:
    """ "{12...23}" of a run of numbers, "{0...4,6}" of a broken one, "7" of a single one."""
    ns = sorted(set(numbers))
    if len(ns) == 1:
        return f"{ns[0]:0{width}}"
    return "{" + ranges(ns, width).replace(", ", ",").replace("-", "...") + "}"


def collapse(names: Sequence[str], limit: int = 8) -> str:
    """`names` as a short list of patterns whose first number is collapsed, the tails merged to `*` where there are many."""
    groups: dict[tuple[str, str], set[str]] = {}
    order: list[tuple[str, str]] = []
    for name in names:
        parts = _PARTS.split(name, maxsplit=1)
        if len(parts) == 3 and len(parts[1]) < 10:
            key = (parts[0], parts[2])
            if key not in groups:
                order.append(key)
            groups.setdefault(key, set()).add(parts[1])
        else:
            order.append((name, ""))
            groups[(name, "")] = set()
    heads: dict[tuple[str, tuple[int, ...], int], list[str]] = {}
    for head, tail in order:
        written = groups[head, tail]
        width = max((len(n) for n in written if n[0] == "0" and len(n) > 1), default=0)
        heads.setdefault((head, tuple(sorted(map(int, written))), width), []).append(tail)
    out = []
    for (head, numbers, width), tails in heads.items():
        if not numbers:
            out.append(head)
        elif len(tails) > 3:
            out.append(f"{head}{braced(numbers, width)}{_common(tails)}*")
        else:
            out += [f"{head}{braced(numbers, width)}{t}" for t in tails]
    if len(out) > limit:
        out = [*out[: limit - 1], f"and {len(out) - limit + 1} more"]
    return ", ".join(out)


def _common(tails: Sequence[str]) -> str:
    """The characters with which all tails begin, up to the last separator."""
    first, last = min(tails), max(tails)
    n = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
    common = first[:n]
    cut = max(common.rfind("."), common.rfind("/"))
    return common[: cut + 1]


def meant(glob: str, names: Iterable[str]) -> str:
    """The hint for a glob that no name fits: the name, or the part of names, that was probably meant; else parts that there are."""
    from ..errors import one_of

    every = list(names)
    parts = dict.fromkeys(p for n in every for p in re.split(r"[./]", n) if p and not p.isdigit())
    return one_of(glob.strip("*?"), [*parts, *every], most=8) if every else ""
