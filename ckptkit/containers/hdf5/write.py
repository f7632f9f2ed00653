"""The bytes of an HDF5 file but for its tensors: superblock, groups, dataset headers and attributes first, then one tensor after another.

Source: HDF5 File Format Specification 3.0: superblock 0, version 1 object headers, symbol tables, contiguous layout; what libhdf5
writes for h5py and Keras and every version of it reads. Nothing here depends on the weights, so every offset is known before one is
read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from struct import Struct, pack

from ..._typing import NamedTuple
from ...errors import UnsupportedError, UsageError, printable
from ...limits import LIMITS
from ...tensors import TensorSpec

_NOWHERE = b"\xff" * 8
_LEAF, _INNER = 4, 4  # half of what a symbol table node and a B-tree node hold at most (the superblock says so)
_SYMBOL = Struct("<QQIIQQ")
_MESSAGE = Struct("<HHBxxx")
_LIST_BYTES = 64512  # what Keras puts into one attribute
_SLOTS = "TensorFlow's optimizer state lies below its variables: leave it out with --drop-optimizer"
_OPAQUE = {"BF16": "bfloat16"}  # types that HDF5 has no word for, marked as Keras marks them
_EXPONENTS = {2: (10, 5, 15), 4: (23, 8, 127), 8: (52, 11, 1023)}  # mantissa bits, exponent bits, bias


class Built(NamedTuple):
    """A file without its tensors: its first bytes, every tensor's offset, the file's size."""

    head: bytes
    offsets: dict[str, int]
    size: int


class _Group:
    """A group on its way into the file."""

    __slots__ = ("attributes", "children", "heap", "levels", "names", "offsets", "sizes", "starts")

    def __init__(self) -> None:
        self.children: dict[str, _Group | str] = {}  # a tensor's full name stands for its dataset
        self.attributes: dict[str, object] = {}
        self.names: list[bytes] = []  # of the children, in the order of the file
        self.offsets: list[int] = []  # of these names in the local heap
        self.heap = 0  # bytes of the local heap's data
        self.levels: list[int] = []  # how many nodes each level of the B-tree has, the lowest first
        self.starts = (0, 0, 0, 0)  # addresses: the B-tree's root, the local heap, the symbol tables, the first node of the B-tree


def build(specs: Mapping[str, TensorSpec], ties: Mapping[str, str], attributes: Mapping[str, Mapping[str, object]]) -> Built:
    """The file that holds `specs`; of `ties` a name is a hard link to another's dataset. `attributes` are those of groups, by path."""
    root = _tree([*specs, *ties], attributes)
    strings = _Strings()
    at = 96
    groups: list[tuple[_Group, int]] = []
    todo = [root]
    headers: dict[str, tuple[int, list[tuple[int, bytes]]]] = {}  # dataset -> address, messages
    links = dict.fromkeys(specs, 1)
    for owner in ties.values():
        links[owner] += 1
    where: dict[int, int] = {}
    messages: dict[int, list[tuple[int, bytes]]] = {}
    while todo:
        g = todo.pop()
        own = messages[id(g)] = [(0x11, bytes(16)), *((0x0C, m) for m in _attributes(g.attributes, strings))]
        where[id(g)] = at
        at += 16 + sum(8 + len(m) for _, m in own)
        at = _place(g, at)
        groups.append((g, where[id(g)]))
        for child in g.children.values():
            if isinstance(child, _Group):
                todo.append(child)
    for name, spec in specs.items():
        said = {"dtype": _OPAQUE[spec.dtype]} if spec.dtype in _OPAQUE else {}
        own = [*_dataset(name, spec), *((0x0C, m) for m in _attributes(said, strings))]
        headers[name] = (at, own)
        at += 16 + sum(8 + len(m) for _, m in own)
    heaps = strings.place(at)
    at += sum(map(len, heaps))
    offsets: dict[str, int] = {}
    first = at
    for name, spec in specs.items():
        at += -at % 8
        offsets[name] = at
        at += spec.nbytes
    out = bytearray(first)
    out[:96] = _superblock(at, where[id(root)], root)
    for g, address in groups:
        own = messages[id(g)]
        own[0] = (0x11, pack("<QQ", g.starts[0], g.starts[1]))
        _put(out, address, _header(own, 1, strings))
        _emit(out, g, where, {n: headers[ties.get(n, n)][0] for n in g.children.values() if isinstance(n, str)})
    for name, (address, own) in headers.items():
        spec = specs[name]
        own[3] = (0x08, b"\x03\x01" + (pack("<Q", offsets[name]) if spec.nbytes else _NOWHERE) + pack("<Q", spec.nbytes) + bytes(6))
        _put(out, address, _header(own, links[name], strings))
    end = first - sum(map(len, heaps))
    for heap in heaps:
        _put(out, end, heap)
        end += len(heap)
    return Built(bytes(out), offsets, at)


def _put(out: bytearray, at: int, raw: bytes) -> None:
    out[at : at + len(raw)] = raw


def _tree(names: Sequence[str], attributes: Mapping[str, Mapping[str, object]]) -> _Group:
    """Groups and datasets as they nest. Raises UsageError where one name is both."""
    root = _Group()

    def group(path: Sequence[str], whole: str) -> _Group:
        at = root
        for part in path:
            child = at.children.setdefault(part, _Group())
            if not isinstance(child, _Group):
                raise UsageError(f"HDF5 cannot hold a tensor and a group under one name: {printable(whole)!r}", hint=_SLOTS)
            at = child
        return at

    for name in names:
        parts = name.split("/")
        if any(p in ("", ".", "..") or "\0" in p for p in parts) or 4 * len(name) > LIMITS.name_bytes < len(name.encode()):
            raise UsageError(f"HDF5 cannot hold a tensor named {printable(name, 100)!r}")
        *above, last = parts
        parent = group(above, name)
        if last in parent.children:
            raise UsageError(f"HDF5 cannot hold two things under one name: {printable(name)!r}", hint=_SLOTS)
        parent.children[last] = name
    for path, values in attributes.items():
        group([p for p in path.split("/") if p], path).attributes.update(values)
    return root


def _place(g: _Group, at: int) -> int:
    """Give a group's tables their addresses from `at` on; where they end."""
    g.names = sorted(n.encode() for n in g.children)
    offsets, used = [], 8
    for n in g.names:
        offsets.append(used)
        used += len(n) + 1 + -(len(n) + 1) % 8
    g.offsets, g.heap = offsets, used
    leaves = -(-len(g.names) // (2 * _LEAF))
    g.levels = []
    count = leaves
    while not g.levels or count > 1:
        count = max(1, -(-count // (2 * _INNER)))
        g.levels.append(count)
    node, leaf = 24 + 8 * (4 * _INNER + 1), 8 + 40 * 2 * _LEAF
    trees = at + leaf * leaves
    g.starts = (trees + node * (sum(g.levels) - 1), trees + node * sum(g.levels), at, trees)
    return g.starts[1] + 32 + used


def _emit(out: bytearray, g: _Group, where: Mapping[int, int], datasets: Mapping[str, int]) -> None:
    """Write a group's tables."""
    tree, heap, leaves, trees = g.starts
    for at, name in zip(g.offsets, g.names, strict=True):
        _put(out, heap + 32 + at, name)
    _put(out, heap, b"HEAP\0\0\0\0" + pack("<QQQ", g.heap, 1, heap + 32))
    node, leaf, wide = 24 + 8 * (4 * _INNER + 1), 8 + 40 * 2 * _LEAF, 2 * _LEAF
    below: list[tuple[int, int]] = []  # (address, heap offset of the last name) of each node of the level below
    for i in range(0, len(g.names), wide):
        rows = []
        for at, name in zip(g.offsets[i : i + wide], g.names[i : i + wide], strict=True):
            child = g.children[name.decode()]
            if isinstance(child, _Group):
                rows.append(_SYMBOL.pack(at, where[id(child)], 1, 0, child.starts[0], child.starts[1]))
            else:
                rows.append(_SYMBOL.pack(at, datasets[child], 0, 0, 0, 0))
        address = leaves + leaf * (i // wide)
        _put(out, address, b"SNOD\x01\0" + pack("<H", len(rows)) + b"".join(rows))
        below.append((address, g.offsets[min(i + wide, len(g.names)) - 1]))
    at = trees
    for level, count in enumerate(g.levels):
        above = []
        for k in range(count):
            held = below[k * 2 * _INNER : (k + 1) * 2 * _INNER]
            left = pack("<Q", at - node) if k else _NOWHERE
            right = pack("<Q", at + node) if k + 1 < count else _NOWHERE
            first = below[k * 2 * _INNER - 1][1] if k else 0
            _put(
                out,
                at,
                b"TREE\0"
                + pack("<BH", level, len(held))
                + left
                + right
                + pack("<Q", first)
                + b"".join(pack("<QQ", a, last) for a, last in held),
            )
            above.append((at, held[-1][1] if held else 0))
            at += node
        below = above
    assert tree == at - node


def _superblock(end: int, address: int, root: _Group) -> bytes:
    versions = bytes((0, 0, 0, 0, 0, 8, 8, 0))
    ends = pack("<Q", 0) + _NOWHERE + pack("<Q", end) + _NOWHERE
    return (
        b"\x89HDF\r\n\x1a\n"
        + versions
        + pack("<HHI", _LEAF, _INNER, 0)
        + ends
        + _SYMBOL.pack(0, address, 1, 0, root.starts[0], root.starts[1])
    )


def _header(messages: Sequence[tuple[int, bytes]], links: int, strings: _Strings) -> bytes:
    """An object header. The datatype and the fill value of a dataset are marked as constant, as libhdf5 does."""
    body = b"".join(_MESSAGE.pack(kind, len(m), 1 if kind in (3, 5) else 0) + strings.resolve(m) for kind, m in messages)
    return pack("<BxHII4x", 1, len(messages), links, len(body)) + body


# --- datasets -------------------------------------------------------------------------------------------------------------


def _dataset(name: str, spec: TensorSpec) -> list[tuple[int, bytes]]:
    """The messages of a dataset: dataspace, datatype, fill value (none), layout (filled in later)."""
    space = pack("<BBB5x", 1, len(spec.shape), 0) + pack(f"<{len(spec.shape)}Q", *spec.shape)
    kind = _type(name, spec.dtype)
    return [(1, space), (3, kind + bytes(-len(kind) % 8)), (5, b"\x02\x02\x02\x01\0\0\0\0"), (8, bytes(24))]


def _number(dtype: str) -> bytes:
    size = int(dtype[1:]) // 8
    if dtype[0] in "IU":
        return pack("<BBHIHH", 0x10, 8 if dtype[0] == "I" else 0, 0, size, 0, 8 * size)
    mantissa, exponent, bias = _EXPONENTS[size]
    return pack("<BBBBIHHBBBBI", 0x11, 0x20, 8 * size - 1, 0, size, 0, 8 * size, mantissa, exponent, 0, mantissa, bias)


def _type(name: str, dtype: str) -> bytes:
    """The datatype message of a tensor."""
    if dtype in _OPAQUE:
        return pack("<BBHI", 0x15, 0, 0, 2)
    if dtype == "BOOL":
        return pack("<BHBI", 0x18, 2, 0, 1) + _number("I8") + b"FALSE\0\0\0TRUE\0\0\0\0\x00\x01"
    if dtype in ("C64", "C128"):
        part = _number("F32" if dtype == "C64" else "F64")
        members = b"".join(n + bytes(7) + pack("<I28x", at) + part for n, at in ((b"r", 0), (b"i", int(dtype[1:]) // 16)))
        return pack("<BHBI", 0x16, 2, 0, int(dtype[1:]) // 8) + members
    if dtype[0] not in "FIU" or dtype[1:] not in ("8", "16", "32", "64") or dtype == "F8":
        raise UnsupportedError(f"HDF5 files have no dtype for the {dtype} of tensor {printable(name)!r}", hint="convert it to float32")
    return _number(dtype)


# --- attributes -----------------------------------------------------------------------------------------------------------


class _Strings:
    """Texts of variable length, kept in global heaps. Until those have addresses a text is referred to by a mark of its own."""

    def __init__(self) -> None:
        self.texts: list[bytes] = []
        self.places: list[bytes] = []

    def mark(self, text: str) -> bytes:
        """What stands in an attribute for a text, replaced by `resolve`."""
        self.texts.append(text.encode("utf-8", "replace"))
        return pack("<I4sQ", 0, b"\0mrk", len(self.texts) - 1)

    def place(self, at: int) -> list[bytes]:
        """The heaps, which begin at an address one after another."""
        heaps = []
        for i in range(0, len(self.texts), 60000):
            held = self.texts[i : i + 60000]
            objects = b"".join(pack("<HH4xQ", k + 1, 1, len(t)) + t + bytes(-len(t) % 8) for k, t in enumerate(held))
            self.places += [pack("<IQI", len(t), at, k + 1) if t else bytes(16) for k, t in enumerate(held)]
            free = max(4096 - 16 - len(objects), 0)
            free += 8 if free == 8 else 0
            rest = pack("<HH4xQ", 0, 0, free) + bytes(free - 16) if free else b""
            heaps.append(b"GCOL\x01\0\0\0" + pack("<Q", 16 + len(objects) + free) + objects + rest)
            at += len(heaps[-1])
        return heaps

    def resolve(self, message: bytes) -> bytes:
        """A message with its mark, if its data end with one, made a reference."""
        if len(message) >= 16 and message[-16:-8] == b"\0\0\0\0\0mrk" and self.places:
            return message[:-16] + self.places[int.from_bytes(message[-8:], "little")]
        return message


def _attributes(values: Mapping[str, object], strings: _Strings) -> list[bytes]:
    """The attribute messages of an object; long lists in several, as Keras writes and reads them."""
    out = []
    for name, value in values.items():
        if isinstance(value, list):
            texts = [v.encode("utf-8", "replace") for v in value]
            width = max(map(len, texts), default=0) or 1
            if width > _LIST_BYTES:
                raise UnsupportedError(f"the attribute {printable(name)!r} holds a text of {width:,} bytes, more than HDF5 keeps in a list")
            pieces = -(-len(texts) * width // _LIST_BYTES) or 1
            while pieces > 1 and -(-len(texts) // pieces) * width > _LIST_BYTES:
                pieces += 1
            each = -(-len(texts) // pieces) or 1
            cuts = [texts[i : i + each] for i in range(0, len(texts), each)] or [[]]
            for i, cut in enumerate(cuts):
                data = b"".join(t.ljust(width, b"\0") for t in cut)
                space = pack("<BBB5xQ", 1, 1, 0, len(cut))
                out.append(_attribute(name if len(cuts) == 1 else f"{name}{i}", pack("<BBHI", 0x13, 1, 0, width), space, data))
        elif isinstance(value, str):
            # plain text as ASCII: h5py 2 gives it as bytes, which Keras 2.3 decodes
            kind = pack("<BBBBI", 0x19, 1, not value.isascii(), 0, 16) + _number("U8")
            out.append(_attribute(name, kind, pack("<BBB5x", 1, 0, 0), strings.mark(value)))
        elif isinstance(value, (int, float)):
            kind, data = (_number("F64"), pack("<d", value)) if isinstance(value, float) else (_number("I64"), pack("<q", value))
            out.append(_attribute(name, kind, pack("<BBB5x", 1, 0, 0), data))
    return out


def _attribute(name: str, kind: bytes, space: bytes, data: bytes) -> bytes:
    raw = name.encode("utf-8", "replace") + b"\0"
    head = pack("<BxHHH", 1, len(raw), len(kind), len(space))
    body = b"".join(part + bytes(-len(part) % 8) for part in (raw, kind, space, data))
    if len(head) + len(body) > 65528:
        raise UnsupportedError(f"the attribute {printable(name)!r} is too long for an HDF5 header")
    return head + body
