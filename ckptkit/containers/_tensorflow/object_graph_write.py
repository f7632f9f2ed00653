"""Making TensorFlow's object graph: from tensors' names, or from a graph that they once had. The reading half is `object_graph`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ...support.protobuf import encode
from .object_graph import ATTRIBUTES, KEY, SLOT, VALUE, Attribute, Node, ObjectGraph, escape, key_of, unescape


class _Builder:
    def __init__(self, nodes: list[Node]) -> None:
        self.nodes = nodes or [Node({}, [], [])]

    def has(self, path: str) -> bool:
        """Whether there is an object at a path."""
        node: int | None = 0
        for part in path.split("/") if path else ():
            node = self.nodes[node].children.get(unescape(part)) if node is not None else None
        return node is not None

    def copy(self, path: str, node: int, kept: dict[int, list[Attribute]]) -> None:
        """Another object at a path, with the attributes of `node` and of what hangs on it."""
        there = self.at(path)
        if node in kept:
            kept[there] = kept[node]
        for local, child in list(self.nodes[node].children.items()):
            self.copy(f"{path}/{escape(local)}", child, kept)

    def at(self, path: str) -> int:
        """The object at a path; made where there is none."""
        node = 0
        for part in path.split("/") if path else ():
            local = unescape(part)
            child = self.nodes[node].children.get(local)
            if child is None:
                child = self.nodes[node].children[local] = len(self.nodes)
                self.nodes.append(Node({}, [], []))
            node = child
        return node

    def tensor(self, name: str) -> tuple[int, str]:
        """The object and the attribute that a tensor's name stands for; slot variables are entered at their optimizer."""
        path, _, attribute = name.partition(ATTRIBUTES)
        variable, _, slot = path.partition(SLOT)
        if not slot:
            return self.at(path), attribute or VALUE
        optimizer, _, local = slot.rpartition("/")
        owner, original = self.nodes[self.at(optimizer)], self.at(variable)
        for v, s, node in owner.slots:
            if (v, s) == (original, unescape(local)):
                return node, attribute or VALUE
        self.nodes.append(Node({}, [], []))
        owner.slots.append((original, unescape(local), len(self.nodes) - 1))
        return len(self.nodes) - 1, attribute or VALUE


def build(
    names: Iterable[str], base: bytes = b"", *, paths: Mapping[str, str] = {}, aliases: Mapping[str, str] = {}
) -> tuple[bytes, dict[str, str]]:
    """(the object graph that holds the tensors `names`, encoded; name -> key).

    Names are attribute paths, or `paths` gives theirs; then they are the variables' own names too. `base` is a graph to go by:
    its objects stay, what it says of tensors that are not there is taken out. `aliases` are further paths of objects: "a": "b",
    "a/*": "b/*" (a has what b has, being another object) and "a": "=b" (another object whose variables have the values of b's).
    A variable is only known otherwise to objects that are there for its own sake.
    """
    graph = ObjectGraph(lambda: base, KEY)
    b = _Builder(graph.nodes if base else [])
    names = list(names)
    renamed = {n: k for k, n in graph.names()[0].items()} if base else {}
    at = {a.key: (i, a.name) for i, n in enumerate(b.nodes) for a in n.attributes} if renamed else {}
    places = {n: at[renamed[n]] if n in renamed else b.tensor(paths.get(n, n)) for n in names}
    held = {(i, a.name): a for i, n in enumerate(b.nodes) for a in n.attributes}
    keys: dict[str, str] = {}
    kept: dict[int, list[Attribute]] = {}
    variables = {node for node, _ in places.values()}
    aliases = {a: p for a, p in aliases.items() if not (b.has(p) and b.at(p) in variables) or b.has(a.rpartition("/")[0])}
    short = {b.at(p): a for a, p in aliases.items() if a.count("/") < p.count("/") and b.has(p) and b.at(p) in variables}
    for name, (node, attribute) in places.items():
        said = held.get((node, attribute))
        if said is None:
            said = Attribute(attribute, name if name in paths else "", key_of(short.get(node) or paths.get(name, name)))
        keys[name] = said.key
        kept.setdefault(node, []).append(said)
    for alias, path in aliases.items():
        whole = path.removeprefix("=")
        if not b.has(whole.removesuffix("/*").removesuffix("*")):
            continue
        if alias.endswith("*"):
            there = b.nodes[b.at(alias[:-2])].children
            for local, child in b.nodes[b.at(whole[:-2])].children.items():
                there.setdefault(local, child)
        elif path != whole:
            b.copy(alias, b.at(whole), kept)
        else:
            parent, _, local = alias.rpartition("/")
            b.nodes[b.at(parent)].children.setdefault(unescape(local), b.at(path))
    return b"".join(encode(1, _encode(n, kept.get(i, []))) for i, n in enumerate(b.nodes)), keys


def _encode(node: Node, attributes: Iterable[Attribute]) -> bytes:
    parts = [encode(1, encode(1, child) + encode(2, _raw(local))) for local, child in node.children.items()]
    parts += [encode(2, encode(1, _raw(a.name)) + encode(2, _raw(a.full_name)) + encode(3, _raw(a.key))) for a in attributes]
    parts += [encode(3, encode(1, v) + encode(2, _raw(s)) + encode(3, i)) for v, s, i in node.slots]
    return b"".join(parts) + node.rest


def _raw(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
