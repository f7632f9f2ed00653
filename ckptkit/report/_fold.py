"""Tensor names as a tree in which equal siblings that differ in a number are one: `24 x encoder.layers.{0...23}`.

Policy: two siblings are equal if everything below them is: names, dtypes, shapes, roles. One that deviates stands apart.
Names are split at "." and "/", which stay with the part before them, so that joining the parts gives the name again.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from .._typing import Any, NamedTuple
from ..errors import printable
from ..inspection import TensorRow
from ..names import braced, natural, split_last_number

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


Trie = dict[Any, Any]  # part -> Trie; None -> Leaf


def by_tensor(rows: Iterable[TensorRow]) -> tuple[Node, ...]:
    """The tree of stored tensors, each under its first canonical name, or its own."""
    return _build((row.canonical[0] if row.canonical else row.name, _whole(row)) for row in rows)


def by_parameter(rows: Iterable[TensorRow], sizes: dict[str, tuple[int, ...]]) -> tuple[Node, ...]:
    """The tree of canonical parameters, a fused tensor's parts apart. `sizes` has the elements of each part by stored name."""
    entries = []
    for row in rows:
        shares = sizes.get(row.name)
        if shares is None:
            entries.append((row.canonical[0] if row.canonical else row.name, _whole(row)))
            continue
        total = sum(shares) or 1
        for i, (name, n) in enumerate(zip(row.canonical, shares, strict=True)):
            entries.append((name, Leaf(row, n if row.counted else 0, row.nbytes * n // total, int(i == 0))))
    return _build(entries)


def _whole(row: TensorRow) -> Leaf:
    return Leaf(row, row.elements if row.counted else 0, row.nbytes, 1)


def _build(entries: Iterable[tuple[str, Leaf]]) -> tuple[Node, ...]:
    root: Trie = {}
    for name, leaf in entries:
        parts: Sequence[str] = _PART.findall(name)
        if len(parts) > _DEEPEST:
            parts = [*parts[:_DEEPEST], "".join(parts[_DEEPEST:])]
        at = root
        for part in parts:
            below = at.get(part)
            if below is None:
                below = at[part] = {}
            at = below
        while None in at:  # a second stored name of one parameter
            at = at.setdefault(" (again)", {})
        at[None] = leaf
    return _fold(root, {})[0]


def _fold(trie: Trie, seen: dict[object, int]) -> tuple[tuple[Node, ...], int]:
    """The nodes of one level and the number of its shape: equal for levels that are equal."""
    groups: dict[tuple[str, str | None, int], list[tuple[int, Node]]] = {}
    shape = []
    for part, below in trie.items():
        if part is None:
            continue
        children, inner = _fold(below, seen)
        leaf: Leaf | None = below.get(None)
        if leaf is None:
            mine: object = inner
        else:
            row = leaf.row
            mine = (inner, row.dtype, row.shape, row.role, row.note if row.role == "derived" else "", row.templates[1:], row.counted)
        number = seen.setdefault(mine, len(seen))
        shape.append((part, number))
        head, n, tail = split_last_number(part)
        tensors = sum(c.tensors for c in children)
        parameters = sum(c.parameters for c in children)
        nbytes = sum(c.nbytes for c in children)
        if leaf is not None:
            tensors, parameters, nbytes = tensors + leaf.tensors, parameters + leaf.elements, nbytes + leaf.nbytes
        node = Node(part, part, 1, leaf, children, tensors, parameters, nbytes)
        groups.setdefault((head, None if n is None else tail, number), []).append((n or 0, node))
    nodes = []
    for (head, end, _), members in groups.items():
        first = members[0][1]
        if end is not None and len(members) > 1:
            members.sort(key=lambda m: m[0])
            k, first = len(members), members[0][1]
            label = head + braced(n for n, _ in members) + end
            first = Node(first.part, label, k, first.leaf, first.children, k * first.tensors, k * first.parameters, k * first.nbytes)
        nodes.append(first)
    nodes.sort(key=lambda node: natural(node.part))
    shape.sort()
    return tuple(nodes), seen.setdefault(("level", *shape), len(seen))


def stored_as(row: TensorRow) -> str:
    """The stored name with the numbers of its layer as {layer}."""
    if not row.at:
        return printable(row.name)
    pieces = re.split(r"([0-9]+)", row.name)
    for placeholder, value in row.at:
        for i in range(1, len(pieces), 2):
            if pieces[i] == str(value):
                pieces[i] = "{" + placeholder + "}"
                break
    return printable("".join(pieces))
