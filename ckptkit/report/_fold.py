"""Tensor names as a tree in which equal siblings that differ in a number are one: `24 x encoder.layers.{0...23}`.

Policy: two siblings are equal if everything below them is: names, dtypes, shapes, roles. One that deviates stands apart.
Names are split at "." and "/", which stay with the part before them, so that joining the parts gives the name again.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from .._typing import Any, NamedTuple
from ..errors import printable
from ..support.columns import layered, sorts
from ..support.name_text import braced, natural, split_last_number
from ..verbs.inspected_rows import TensorRow

_PART = re.compile(r"[^./]*[./]|[^./]+$")
_DEEPEST = 40  # parts of a name; the rest of a longer one is one part


class Leaf(NamedTuple):
    """A tensor at its place in the tree, or the part of one that a fused tensor holds."""

    row: TensorRow
    elements: int
    nbytes: int
    tensors: int


class Node(NamedTuple):
    """A part of a name, with what is below it. `members` siblings are the same but for `numbers`; sums are of them all."""

    part: str
    label: str  # as `part`, the number collapsed
    members: int
    leaf: Leaf | None
    children: tuple[Node, ...]
    tensors: int
    parameters: int
    nbytes: int


Trie = dict[Any, Any]  # part -> Trie; None -> TensorRow or Leaf


def by_tensor(rows: Iterable[TensorRow]) -> tuple[Node, ...]:
    """The tree of stored tensors, each under its first canonical name, or its own.

    Layers are compared whole first, by what follows their number in the names, so that only the first of equal ones
    gets into the tree.
    """
    every = list(rows)
    same, firsts, _ = sorts(every, 2, 4, 5, 7, 8, 9, 10)  # the fields of `_kind`
    of: dict[object, int] = {}
    kinds = [of.setdefault(_kind(row), len(of)) for row in firsts]
    names = [row[1][0] if row[1] else row[0] for row in every]
    others, found = layered(names, list(map(kinds.__getitem__, same)), whole=False)
    kept: list[tuple[str, TensorRow | Leaf]] = [(names[i], every[i]) for i in others]
    runs: dict[str, list[int]] = {}
    for head, tail, groups in found:
        for numbers, places, _ in groups:
            runs[f"{head}{min(numbers)}{tail}"] = numbers
            kept += [(names[i], every[i]) for i in places]
    return _build(kept, runs)


def by_parameter(rows: Iterable[TensorRow], sizes: dict[str, tuple[int, ...]]) -> tuple[Node, ...]:
    """The tree of canonical parameters, a fused tensor's parts apart. `sizes` has the elements of each part by stored name."""
    entries: list[tuple[str, TensorRow | Leaf]] = []
    for row in rows:
        shares = sizes.get(row.name)
        if shares is None:
            entries.append((row.canonical[0] if row.canonical else row.name, row))
            continue
        total = sum(shares) or 1
        for i, (name, n) in enumerate(zip(row.canonical, shares, strict=True)):
            entries.append((name, Leaf(row, n if row.counted else 0, row.nbytes * n // total, int(i == 0))))
    return _build(entries, {})


def _padded(digits: str) -> int:
    """How many digits a number with leading zeros has; 0 without them."""
    return len(digits) if len(digits) > 1 and digits[0] == "0" else 0


def _kind(row: TensorRow) -> object:
    """Equal for rows that are shown alike but for their names."""
    return (row.dtype, row.shape, row.role, row.counted, row.nbytes, row.role == "derived" and row.note, row.templates[1:])


def _leaf(held: TensorRow | Leaf | None) -> Leaf | None:
    return Leaf(held, held.elements if held.counted else 0, held.nbytes, 1) if isinstance(held, TensorRow) else held


def _build(entries: Iterable[tuple[str, TensorRow | Leaf]], runs: dict[str, list[int]]) -> tuple[Node, ...]:
    root: Trie = {}
    inside: dict[str, Trie] = {}  # everything up to the last separator -> its level
    for name, leaf in entries:
        cut = max(name.rfind(".", 0, -1), name.rfind("/", 0, -1)) + 1
        level = inside.get(name[:cut])
        if level is None:
            level = root
            parts: Sequence[str] = _PART.findall(name[:cut])
            if len(parts) > _DEEPEST:
                parts = [*parts[:_DEEPEST], "".join(parts[_DEEPEST:])]
            for part in parts:
                level = level.setdefault(part, {})
            inside[name[:cut]] = level
        last = name[cut:]
        if last not in level:
            level[last] = {None: leaf}
            continue
        at = level[last]
        while None in at:  # a second stored name of one parameter
            at = at.setdefault(" (again)", {})
        at[None] = leaf
    return _nodes(root, "", _Shapes(), runs)


class _Shapes:
    """Numbers for levels: equal for those that are equal in everything that is shown."""

    def __init__(self) -> None:
        self.known: dict[object, int] = {}
        self.of: dict[int, int] = {}  # id of a level with parts in it -> its number

    def number(self, level: Trie) -> int:
        held = level.get(None)
        if held is None:
            what: object = None
        elif type(held) is TensorRow:
            what = _kind(held)
            if len(level) == 1:
                return self.known.setdefault(what, len(self.known))
        else:
            what = (held.row.dtype, held.row.shape, held.row.role, *held[1:], held.row.templates)
        found = self.of.get(id(level))
        if found is None:
            below = frozenset([(p, self.number(sub)) for p, sub in level.items() if p is not None])
            found = self.of[id(level)] = self.known.setdefault((what, below), len(self.known))
        return found


def _nodes(level: Trie, before: str, shapes: _Shapes, runs: dict[str, list[int]]) -> tuple[Node, ...]:
    """The nodes of a level in natural order, equal siblings as one. Levels that are equal share theirs.

    `before` is the name so far; `runs` has, by name so far, the numbers of the layers that one stands for already.
    """
    groups: dict[tuple[str, str, int, int], list[tuple[int, str]]] = {}
    for part, below in level.items():
        if part is not None:
            head, digits, tail = split_last_number(part)
            groups.setdefault((head, tail, _padded(digits), shapes.number(below)), []).append((int(digits or 0), part))
    nodes = []
    for (head, tail, width, _), members in groups.items():
        members.sort()
        part = members[0][1]
        numbers = [n for number, p in members for n in runs.get(before + p, (number,))]
        k = len(numbers)
        label = part if k == 1 else head + braced(numbers, width) + tail
        leaf = _leaf(level[part].get(None))
        children = _nodes(level[part], before + part, shapes, runs)
        own = (leaf.tensors, leaf.elements, leaf.nbytes) if leaf is not None else (0, 0, 0)
        tensors = k * (own[0] + sum(c.tensors for c in children))
        parameters = k * (own[1] + sum(c.parameters for c in children))
        nodes.append(Node(part, label, k, leaf, children, tensors, parameters, k * (own[2] + sum(c.nbytes for c in children))))
    nodes.sort(key=lambda node: natural(node.part))
    return tuple(nodes)


def stored_as(row: TensorRow) -> str:
    """The stored name with the numbers of its layer as {layer}."""
    if not row.at:
        return printable(row.name)
    name, variable, number = row.name.partition("/vars/")  # Keras 3 numbers a layer's variables after it, and the first layer has no number
    pieces = re.split(r"([0-9]+)", name)
    for placeholder, value in row.at:
        for i in range(1, len(pieces), 2):
            if pieces[i] == str(value):
                pieces[i] = "{" + placeholder + "}"
                break
    return printable("".join(pieces) + variable + number)
