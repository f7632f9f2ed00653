"""The msgpack bytes around arrays, as flax writes them: see `flax` and `_wire.msgpack`. Everything but the arrays' own bytes is known at
once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from struct import pack

from ...errors import UnsupportedError, UsageError
from ...tensors import DTYPES, TensorSpec
from .._interface import FileLayout, Part, Slot
from .._sharding import index_json, shard_names, split
from .._wire.msgpack import CHUNKED

MAX_CHUNK = 1 << 30  # bytes of an array above which flax cuts it into flat pieces

Node = dict[str, "Node | str | object"]


def make_layout(
    container: str, tensors: Sequence[tuple[str, TensorSpec]], filename: str, extras: Mapping[str, object], max_shard_size: int | None
) -> FileLayout:
    """Where every byte goes. Raises UnsupportedError for a dtype that numpy has no name for, UsageError for names that contradict each
    other."""
    specs: dict[str, TensorSpec] = {}
    for name, spec in tensors:
        if name in specs:
            raise UsageError(f"two tensors are to be written as {name!r}")
        if DTYPES[spec.dtype].numpy is None:
            raise UnsupportedError(f"flax has no dtype for the {spec.dtype} of tensor {name!r}")
        specs[name] = spec
    sizes = [(n, s.nbytes) for n, s in specs.items()]
    shards = split(sizes, max_shard_size) or [[]]
    names = [filename] if len(shards) == 1 else shard_names(filename, len(shards))
    files: list[tuple[str, int]] = []
    parts: list[Part] = []
    slots: dict[str, Slot] = {}
    pieces: dict[str, tuple[Slot, ...]] = {}
    for i, (file, held) in enumerate(zip(names, shards, strict=True)):
        plain = {k: v for k, v in extras.items() if isinstance(v, (bool, int, float, str))} if len(shards) == 1 else {}
        w = _Writer(i, specs)
        w.node(_nested(held, plain))
        w.flush()
        parts += w.parts
        for name, found in w.slots.items():
            slots[name] = found[0]
            if len(found) > 1:
                pieces[name] = tuple(found)
        files.append((file, w.at))
    if len(shards) > 1:
        index = index_json({n: file for file, held in zip(names, shards, strict=True) for n in held}, sum(n for _, n in sizes))
        parts.append(Part(len(files), 0, index))
        files.append((filename + ".index.json", len(index)))
    return FileLayout(container, tuple(files), slots, tuple(parts), split=pieces)


def _key(part: str) -> str:
    """The key that a part of a name stands for: see `escaped` of the reader."""
    return part.replace("~1", "/").replace("~0", "~") if "~0" in part or "~1" in part else part


class _Leaf(str):
    """A tensor's name where it stands in the tree."""

    __slots__ = ()


def _nested(names: Sequence[str], plain: Mapping[str, object]) -> Node:
    """Names as a tree of maps, in their order. Raises UsageError where one is both a tensor and a map."""
    root: Node = {}
    for name, leaf in [*((n, _Leaf(n)) for n in names), *((k, v) for k, v in plain.items() if k not in names)]:
        *above, last = map(_key, name.split("/"))
        at: object = root
        for part in above:
            at = at.setdefault(part, {}) if isinstance(at, dict) else None
        if not isinstance(at, dict) or last in at:
            hint = "TensorFlow's optimizer state lies below its variables: leave it out with --drop-optimizer"
            raise UsageError(f"flax cannot hold a tensor and a map of tensors under one name: {name!r}", hint=hint)
        at[last] = leaf
    return root


class _Writer:
    """Lays out one file: headers are gathered into parts, arrays become slots."""

    def __init__(self, file: int, specs: Mapping[str, TensorSpec]) -> None:
        self.file, self.specs = file, specs
        self.at = 0
        self.head: list[bytes] = []
        self.parts: list[Part] = []
        self.slots: dict[str, list[Slot]] = {}

    def put(self, raw: bytes) -> None:
        self.head.append(raw)
        self.at += len(raw)

    def flush(self) -> None:
        """End a run of headers."""
        raw = b"".join(self.head)
        if raw:
            self.parts.append(Part(self.file, self.at - len(raw), raw))
        self.head = []

    def node(self, v: object) -> None:
        """A map, a tensor or a plain value."""
        if isinstance(v, _Leaf):
            self.tensor(str(v), self.specs[str(v)])
        elif isinstance(v, dict):
            self.put(_map(len(v)))
            for k, x in v.items():
                self.put(_text(k))
                self.node(x)
        elif isinstance(v, bool):
            self.put(b"\xc3" if v else b"\xc2")
        elif isinstance(v, int):
            self.put(_integer(v))
        elif isinstance(v, float):
            self.put(b"\xcb" + pack(">d", v))
        else:
            self.put(_text(str(v)))

    def tensor(self, name: str, spec: TensorSpec) -> None:
        """An array, or for a large one the map of its pieces."""
        if spec.nbytes <= MAX_CHUNK:
            self.array(name, spec)
            return
        each = MAX_CHUNK * 8 // DTYPES[spec.dtype].bits
        counts = [min(each, spec.numel - i) for i in range(0, spec.numel, each)]
        self.put(_map(3) + _text(CHUNKED) + b"\xc3" + _text("shape") + _map(len(spec.shape)))
        for i, n in enumerate(spec.shape):
            self.put(_text(str(i)) + _integer(n))
        self.put(_text("chunks") + _map(len(counts)))
        for i, n in enumerate(counts):
            self.put(_text(str(i)))
            self.array(name, TensorSpec(spec.dtype, (n,)))

    def array(self, name: str, spec: TensorSpec) -> None:
        """Extension 1: (shape, dtype, bytes)."""
        n = prod(spec.shape) * DTYPES[spec.dtype].bits // 8
        dtype = DTYPES[spec.dtype].numpy or ""
        inner = b"\x93" + _list(len(spec.shape)) + b"".join(map(_integer, spec.shape)) + _text(dtype) + _sized(n, b"\xc4\xc5\xc6")
        total = len(inner) + n
        fixed = {1: b"\xd4", 2: b"\xd5", 4: b"\xd6", 8: b"\xd7", 16: b"\xd8"}.get(total)
        self.put((fixed or _sized(total, b"\xc7\xc8\xc9")) + b"\x01" + inner)
        self.flush()
        self.slots.setdefault(name, []).append(Slot(self.file, self.at, n))
        self.at += n


def _sized(n: int, codes: bytes) -> bytes:
    """The code and the length, in as few bytes as it takes."""
    i = 0 if n < 1 << 8 else 1 if n < 1 << 16 else 2
    return codes[i : i + 1] + n.to_bytes(1 << i, "big")


def _map(n: int) -> bytes:
    return bytes((0x80 | n,)) if n < 16 else b"\xde" + n.to_bytes(2, "big") if n < 1 << 16 else b"\xdf" + n.to_bytes(4, "big")


def _list(n: int) -> bytes:
    return bytes((0x90 | n,)) if n < 16 else b"\xdc" + n.to_bytes(2, "big")


def _text(s: str) -> bytes:
    raw = s.encode()
    return (bytes((0xA0 | len(raw),)) if len(raw) < 32 else _sized(len(raw), b"\xd9\xda\xdb")) + raw


def _integer(n: int) -> bytes:
    if -32 <= n < 128:
        return pack("b", n)
    if n < 0:
        i = next(i for i in range(4) if n >= -(1 << (8 << i) - 1))
        return bytes((0xD0 + i,)) + n.to_bytes(1 << i, "big", signed=True)
    i = next(i for i in range(4) if n < 1 << (8 << i))
    return bytes((0xCC + i,)) + n.to_bytes(1 << i, "big")
