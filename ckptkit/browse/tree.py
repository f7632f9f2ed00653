"""The modules of one checkpoint or two as a tree, by canonical names where these are known.

Policy: made once from the rows of an inspection, without a level of Python per level of names; what is shown of a module is made when it
is opened. A chain of modules that hold one another alone is one line, and of very many members there are groups.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from .._typing import TYPE_CHECKING, NamedTuple
from ..errors import printable
from ..graph.places import place_of
from ..support.name_text import natural
from ..verbs.inspected_rows import TensorRow

if TYPE_CHECKING:
    from ..verbs.diff import Change, Diff

DEEPEST = 40  # parts of a name that are levels of their own
GROUP = 500  # members of a module from which on they are in groups
BESIDE = {"optimizer": "(optimizer state)", "part": "(other models)", "packing": "(parts of packed weights)"}
Path = tuple[str, ...]


class Node:
    """A module, or a tensor (with `rows`, one a side), or both. The sums are of all that is below it."""

    __slots__ = ("change", "children", "compared", "different", "elements", "key", "nbytes", "parent", "rows", "tensors")

    def __init__(self, key: str, parent: Node | None) -> None:
        self.key, self.parent = key, parent
        self.children: dict[str, Node] = {}
        self.rows: tuple[TensorRow | None, ...] = ()
        self.change: Change | None = None
        self.tensors = self.elements = self.nbytes = 0
        self.compared = self.different = 0

    @property
    def above(self) -> list[Node]:
        """The modules that it is in, the outermost first, and itself."""
        out, node = [], self
        while node.parent is not None:
            out.append(node)
            node = node.parent
        return [node, *reversed(out)]

    @property
    def path(self) -> Path:
        return tuple(n.key for n in self.above[1:])

    @property
    def name(self) -> str:
        return printable(".".join(self.path), 400)

    def below(self) -> Iterator[Node]:
        """All tensors in it and below it, in natural order."""
        todo = [self]
        while todo:
            node = todo.pop()
            if node.rows:
                yield node
            todo += [node.children[k] for k in sorted(node.children, key=_order, reverse=True)]


def _order(key: str) -> tuple[bool, object]:
    """Natural order, and what is no part of the model last."""
    return key in BESIDE.values(), natural(key)


class View(NamedTuple):
    """One line of the tree: what it says, the module or tensor, and, of a group, its members."""

    label: str
    node: Node
    members: tuple[View, ...] = ()

    @property
    def opens(self) -> bool:
        return bool(self.members or self.node.children)


def views(view: View) -> Sequence[View]:
    """What lies below a line of the tree."""
    if view.members:
        return view.members
    out = []
    for key in sorted(view.node.children, key=_order):
        node, label = view.node.children[key], key
        while len(node.children) == 1 and not node.rows:
            ((part, node),) = node.children.items()
            label += f".{part}"
        out.append(View(printable(label, 200) or "(no name)", node))
    if len(out) <= GROUP:
        return out
    groups = [tuple(out[k : k + GROUP]) for k in range(0, len(out), GROUP)]
    return [View(f"{g[0].label} … {g[-1].label}", view.node, g) for g in groups]


def leads_to(view: View, node: Node) -> bool:
    """Whether a node is the line's, or lies below it."""
    if view.members:
        return any(leads_to(m, node) for m in view.members)
    return view.node in node.above


class _Tree:
    """A tree while it is made: modules by their whole names, each before what it holds."""

    def __init__(self) -> None:
        self.root = Node("", None)
        self.modules = {"": self.root}
        self.nodes: list[Node] = []

    def leaf(self, name: str) -> Node:
        name = name.replace("/", ".")
        if name.count(".") > DEEPEST:
            parts = name.split(".", DEEPEST)
            head, key = ".".join(parts[:-1]), parts[-1]
        else:
            head, _, key = name.rpartition(".")
        return self._child(self._module(head), key)

    def _module(self, name: str) -> Node:
        found = self.modules.get(name)
        if found is None:
            missing = [name]
            while (head := missing[-1].rpartition(".")[0]) not in self.modules:
                missing.append(head)
            for whole in reversed(missing):
                head, _, key = whole.rpartition(".")
                found = self.modules[whole] = self._child(self.modules[head], key)
        assert found is not None
        return found

    def _child(self, parent: Node, key: str) -> Node:
        found = parent.children.get(key)
        if found is None:
            found = parent.children[key] = Node(key, parent)
            self.nodes.append(found)
        return found

    def summed(self) -> Node:
        for node in reversed(self.nodes):
            row = next((r for r in node.rows if r is not None), None)
            if row is not None:
                node.tensors, node.elements, node.nbytes = node.tensors + 1, node.elements + row.elements, node.nbytes + row.nbytes
            above = node.parent
            assert above is not None
            above.tensors, above.elements, above.nbytes = (
                above.tensors + node.tensors, above.elements + node.elements, above.nbytes + node.nbytes,
            )  # fmt: skip
        return self.root


def tree_of(rows: Iterable[TensorRow]) -> Node:
    """The tree of one checkpoint, a leaf for each stored tensor."""
    tree = _Tree()
    for row in rows:
        tree.leaf(_name(row)).rows = (row,)
    return tree.summed()


def tree_of_two(a: Iterable[TensorRow], b: Iterable[TensorRow]) -> Node:
    """The tree of both, a leaf for each parameter that either has."""
    tree = _Tree()
    for side, rows in enumerate((a, b)):
        for row in rows:
            if row.role not in BESIDE:
                for name in row.canonical or (row.name,):
                    leaf = tree.leaf(name)
                    leaf.rows = (row, *leaf.rows[1:]) if side == 0 else (*(leaf.rows[:1] or (None,)), row)
    for node in tree.nodes:
        if len(node.rows) == 1:
            node.rows = (*node.rows, None)
    return tree.summed()


def compared(root: Node, diff: Diff) -> None:
    """Write into a tree of two what a comparison found."""
    leaves = {n.name: n for n in root.below()}
    for change in diff.changes:
        node = leaves.get(printable(change.name.replace("/", "."), 400))
        if node is None or node.change is not None:
            continue
        node.change = change
        for n in node.above:
            n.compared += 1
            n.different += change.kind != "same"


def names_of(root: Node) -> list[tuple[str, Node]]:
    """Every tensor in its order, with the names to look for: its own and the stored ones, each on a line, in small letters."""
    return [("\n".join(dict.fromkeys([n.name, *(r.name for r in n.rows if r is not None)])).lower(), n) for n in root.below()]


def find(names: Sequence[tuple[str, Node]], words: str, most: int) -> list[Node]:
    """Tensors whose name, canonical or stored, holds every one of the words, or fits the glob; at most so many."""
    from fnmatch import translate

    wanted = words.lower().split()
    glob = re.compile(translate(words.lower().strip())) if set(words) & set("*?") else None
    out: list[Node] = []
    for text, node in names if wanted else ():
        if any(map(glob.match, text.split("\n"))) if glob is not None else all(w in text for w in wanted):
            out.append(node)
            if len(out) == most:
                break
    return out


def leaves_by_name(root: Node) -> dict[str, Node]:
    """Every tensor, by its stored name and by its own."""
    leaves = list(root.below())
    out = {n.name: n for n in leaves}
    return out | {r.name: n for n in leaves for r in n.rows if r is not None}


def _name(row: TensorRow) -> str:
    beside = BESIDE.get(row.role)
    if beside:
        return f"{beside}.{row.name}"
    if len(row.canonical) < 2:
        return row.canonical[0] if row.canonical else row.name
    place = place_of(row.name, row.templates, row.at)
    return ".".join(p for p in (place.stack, "" if place.layer is None else str(place.layer), place.module) if p)
