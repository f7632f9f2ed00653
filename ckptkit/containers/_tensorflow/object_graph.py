"""TensorFlow's object graph: how the variables of an object-based checkpoint hang on the program's objects.

Source: tensorflow/core/protobuf/trackable_object_graph.proto; python/checkpoint/{graph_view,trackable_view,util}.py and
python/trackable/trackable_utils.py (paths, their escapes, which of several paths is the key: the first that a breadth-first
walk meets). The graph is a string tensor of the bundle. Optimizers are told by what every optimizer of TensorFlow and Keras
tracks: slot variables, an iteration counter.

A tensor's name is its attribute path, the key without "/.ATTRIBUTES/VARIABLE_VALUE". Keras 3 lists a model's weights in the
optimizer too, and TensorFlow keys them there if that way is the shorter one: they go by their path in the model.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import cached_property

from ..._typing import NamedTuple
from ...limits import LIMITS
from ...support.protobuf import BYTES, VARINT, bad, fields, signed, varint

KEY = "_CHECKPOINTABLE_OBJECT_GRAPH"
VALUE = "VARIABLE_VALUE"
ATTRIBUTES = "/.ATTRIBUTES/"
SLOT = "/.OPTIMIZER_SLOT/"
_SUFFIX = ATTRIBUTES + VALUE
ARCHIVED = "_all_variables/"  # where Keras' export keeps every variable a second time, in no order
_VALUE_FIELD = b"\x0a\x0eVARIABLE_VALUE\x12"
_ITERATIONS = frozenset(("_iterations", "iter"))
_RATES = frozenset(("_learning_rate", "learning_rate", "decay", "_variables", "_trainable_variables"))
# what names have where there may be an optimizer, whose counter may go by another name ("global_step"): a quick question before the
# graph is decoded
COUNTED = ("_iterations", "iter", "learning_rate", "decay")
HELD = "/_variables/"
_WRAPPED = frozenset(("inner_optimizer", "base_optimizer", "_optimizer"))


class Attribute(NamedTuple):
    """A SerializedTensor: its name (VARIABLE_VALUE), the variable's own name, the key that its tensor is stored under."""

    name: str
    full_name: str
    key: str


class Node(NamedTuple):
    """A TrackableObject. `rest` are its fields of no concern here (a registered saver), as they are encoded."""

    children: dict[str, int]
    attributes: list[Attribute]
    slots: list[tuple[int, str, int]]  # (variable, slot name, slot variable)
    rest: bytes = b""


def name_of(key: str) -> str:
    """The name of the tensor under a key: the attribute path."""
    return key.removesuffix(_SUFFIX)


def key_of(name: str) -> str:
    """The key of a tensor that goes by its attribute path."""
    return name if ATTRIBUTES in name else name + _SUFFIX


def escape(local: str) -> str:
    """A local name as a part of a path."""
    return local.replace(".", "..").replace("/", ".S")


def unescape(part: str) -> str:
    """The local name of a part of a path."""
    if "." not in part:
        return part
    return "".join(p.replace(".S", "/") + "." for p in part.split(".."))[:-1]


class ObjectGraph:
    """The graph of one checkpoint, decoded as far as it is asked for. Node 0 is the root."""

    def __init__(self, read: Callable[[], bytes], path: str) -> None:
        self._read = read
        self.path = path

    @cached_property
    def data(self) -> bytes:
        """The encoded graph."""
        return self._read()

    @cached_property
    def nodes(self) -> list[Node]:
        """Every object. CorruptError for a graph that refers to an object it does not have."""
        nodes = list(_nodes(self.data, self.path))
        for node in nodes:
            for i in (*node.children.values(), *(i for s in node.slots for i in (s[0], s[2]))):
                if not 0 <= i < len(nodes):
                    bad(f"the object graph refers to object {i} of {len(nodes)}", self.path)
        return nodes

    @cached_property
    def full_names(self) -> dict[str, str]:
        """Key -> the variable's own name ("dense/kernel"), read without the graph's shape: a third of the time."""
        out = {}
        for piece in self.data.split(_VALUE_FIELD)[1:]:
            n, at = piece[0] if piece else 128, 1
            if n > 127:
                n, at = varint(piece, 0, len(piece), self.path)
            end = at + n
            if piece[end : end + 1] != b"\x1a":
                continue
            length, start = piece[end + 1] if end + 1 < len(piece) else 128, end + 2
            if length > 127:
                length, start = varint(piece, end + 1, len(piece), self.path)
            out[piece[start : start + length].decode("utf-8", "surrogateescape")] = piece[at:end].decode("utf-8", "surrogateescape")
        return out

    @cached_property
    def optimizers(self) -> frozenset[int]:
        """The objects that are optimizers."""
        found = {i for i, n in enumerate(self.nodes) if n.slots or (n.children.keys() & _ITERATIONS and n.children.keys() & _RATES)}
        while more := {i for i, n in enumerate(self.nodes) if i not in found and any(n.children.get(w) in found for w in _WRAPPED)}:
            found |= more
        return frozenset(found)

    @cached_property
    def paths(self) -> dict[int, str]:
        """Object -> its path from the root, where there is one that does not lead through an optimizer."""
        return _walk(self.nodes, self.optimizers)

    def aliases(self, names: Mapping[str, str]) -> dict[str, str]:
        """Name -> the variable's own name, where no two of the tensors `names` (name -> key) have the same."""
        own = {n: f for n, k in names.items() if (f := self.full_names.get(k))}
        times: dict[str, int] = {}
        for f in own.values():
            times[f] = times.get(f, 0) + 1
        return {n: f for n, f in own.items() if times[f] == 1}

    def archived(self, names: Collection[str]) -> dict[str, str]:
        """The second copies that Keras' export makes of variables, each with the name of the first."""
        own = {n: self.full_names.get(key_of(n), "") for n in names}
        first = {f: n for n, f in own.items() if f and n.startswith("variables/")}
        return {n: first[f] for n, f in own.items() if n.startswith(ARCHIVED) and f in first}

    def names(self) -> tuple[dict[str, str], dict[str, str]]:
        """(key -> name where that is another one, name of optimizer state -> the variable that it is of, "" for none)."""
        nodes, optimizers, paths = self.nodes, self.optimizers, self.paths
        if not optimizers:
            return {}, {}
        every = _walk(nodes, frozenset())
        inside = tuple(every[i] + "/" for i in optimizers if i in every)
        names = {i: name_of(a.key) for i, n in enumerate(nodes) for a in n.attributes}
        taken = {*names.values(), *paths.values()}
        once: dict[str, int] = {}
        for v in self.trained:
            for a in nodes[v].attributes:
                once[a.full_name] = once.get(a.full_name, 0) + 1
        renamed = {}
        for i, node in enumerate(nodes):
            for a in node.attributes:
                if a.name != VALUE or SLOT in a.key or not a.key.startswith(inside):
                    continue
                name = paths.get(i) or (a.full_name if once.get(a.full_name) == 1 else "")
                if name and (i in paths or name not in taken):
                    renamed[a.key] = names[i] = name
                    taken.add(name)
        called = {a.key: names[i] for i, n in enumerate(nodes) for a in n.attributes if a.name == VALUE}
        if len(set(called.values())) < len(called):
            bad("two keys of the object graph are one path", self.path)
        of = self._slot_variables()
        slots = {
            names[i]: names.get(of.get(i, -1), "") for i, n in enumerate(nodes) if n.attributes and i not in paths and i not in self.trained
        }
        return renamed, slots

    @cached_property
    def trained(self) -> frozenset[int]:
        """The variables that Keras 3 lists as trained: weights, even where no path of the model's leads to them (layers in a list of its
        own)."""
        return frozenset(v for i in self.optimizers for v in self._listed(self.nodes[i], "_trainable_variables"))

    def _slot_variables(self) -> dict[int, int]:
        """Slot variable -> the variable that it is a slot of."""
        out: dict[int, int] = {}
        by_name = {a.full_name: i for i, n in enumerate(self.nodes) if i in self.paths or i in self.trained for a in n.attributes}
        for i in self.optimizers:
            node = self.nodes[i]
            out |= {slot: original for original, _, slot in node.slots}
            trained = self._listed(node, "_trainable_variables")
            for local in node.children:
                slots = self._listed(node, local) if trained and local not in ("_variables", "_trainable_variables") else []
                if len(slots) == len(trained):
                    out |= {s: v for s, v in zip(slots, trained, strict=True) if s not in self.paths and s not in self.trained}
            for v in self._listed(node, "_variables"):
                for a in (
                    self.nodes[v].attributes if v not in self.paths and v not in self.trained else ()
                ):  # tf_keras: "Adam/m/dense/kernel", "m/dense/kernel"
                    rests = (a.full_name.split("/", n)[-1] for n in (1, 2))
                    found = next((by_name[r] for r in rests if r in by_name), None)
                    if found is not None:
                        out.setdefault(v, found)
        return out

    def _listed(self, node: Node, local: str) -> list[int]:
        """The members of a list that an object tracks, in order."""
        at = node.children.get(local)
        held = self.nodes[at].children if at is not None else {}
        return [held[k] for k in sorted((k for k in held if k.isdecimal()), key=int)]

    def packed(self) -> str:
        """The graph as text, for containers that only hold tensors and text."""
        import base64
        import zlib

        return base64.b64encode(zlib.compress(self.data, 9)).decode()


def unpack(text: str) -> bytes:
    """What `packed` packed; b"" for anything else. LimitError for a graph that is too large."""
    import base64
    import binascii
    import zlib

    try:
        stream = zlib.decompressobj()
        data = stream.decompress(base64.b64decode(text, validate=True), LIMITS.string_bytes)
    except (binascii.Error, ValueError, zlib.error):
        return b""
    if stream.unconsumed_tail:
        LIMITS.check("string_bytes", LIMITS.string_bytes + 1, "the size of the object graph in bytes")
    return data


# --- reading -------------------------------------------------------------------------------------------------------


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


def _nodes(data: bytes, path: str) -> Iterator[Node]:
    count = 0
    for number, wire, start, stop in fields(data, 0, len(data), path):
        if number == 1 and wire == BYTES:
            count += 1
            yield _node(data, start, stop, path)
    LIMITS.check("tensors", count, "the number of objects in the object graph", path)


def _node(data: bytes, p: int, end: int, path: str) -> Node:
    """One TrackableObject. Written out for what is usual, as a graph may have 100,000 references."""
    children: dict[str, int] = {}
    attributes: list[Attribute] = []
    slots: list[tuple[int, str, int]] = []
    rest = b""
    while p < end:
        at = p
        tag, n = data[p], data[p + 1] if p + 1 < end else 128
        p += 2
        if n > 127:
            n, p = varint(data, at + 1, end, path)
        stop = p + n
        if tag in (0x0A, 0x12, 0x1A) and stop > end:
            bad("a protobuf field runs past its message", path, at)
        if tag == 0x0A:
            if n > 4 and data[p] == 0x08 and data[p + 1] < 128 and data[p + 2] == 0x12 and data[p + 3] == n - 4:
                children[data[p + 4 : stop].decode("utf-8", "surrogateescape")] = data[p + 1]
            elif n > 5 and data[p] == 0x08 and data[p + 2] < 128 and data[p + 3] == 0x12 and data[p + 4] == n - 5:
                children[data[p + 5 : stop].decode("utf-8", "surrogateescape")] = (data[p + 1] & 127) | data[p + 2] << 7
            else:
                node, local = _reference(data, p, stop, path)
                children[local] = node
        elif tag == 0x12:
            said = {f: _text(data[a:b]) for f, w, a, b in fields(data, p, stop, path) if w == BYTES}
            attributes.append(Attribute(said.get(1, ""), said.get(2, ""), said.get(3, "")))
        elif tag == 0x1A:
            numbers = {f: a for f, w, a, _ in fields(data, p, stop, path) if w == VARINT}
            local = next((_text(data[a:b]) for f, w, a, b in fields(data, p, stop, path) if f == 2 and w == BYTES), "")
            slots.append((signed(numbers.get(1, 0)), local, signed(numbers.get(3, 0))))
        else:
            _, _, _, stop = next(fields(data, at, end, path))
            rest += data[at:stop]
        p = stop
    return Node(children, attributes, slots, rest)


def _reference(data: bytes, p: int, end: int, path: str) -> tuple[int, str]:
    node, local = 0, ""
    for number, wire, value, stop in fields(data, p, end, path):
        if number == 1 and wire == VARINT:
            node = signed(value)
        elif number == 2 and wire == BYTES:
            local = _text(data[value:stop])
    return node, local


def _walk(nodes: Sequence[Node], shut: frozenset[int]) -> dict[int, str]:
    """Object -> the first path to it that a breadth-first walk meets, through no object of `shut`."""
    paths = {0: ""} if nodes else {}
    queue = list(paths)
    for i in queue:
        before = paths[i] + "/" if i else ""
        for local, child in nodes[i].children.items():
            if child not in paths and child not in shut:
                paths[child] = before + escape(local)
                queue.append(child)
    return paths
