"""flax's msgpack files: transformers' `flax_model.msgpack`, whole or in shards with `flax_model.msgpack.index.json`.

Sources: flax/serialization.py and transformers 4's modeling_flax_utils.py. The file is one msgpack map of maps; a tensor's name is its keys
joined by "/"; a slash within a key (haiku's "transformer/linear_0") is written "~1" and a "~" before a 0 or 1 "~0", as JSON pointers do
(RFC 6901), so that no two tensors have one name. The bytes of an array lie in the file as
they are, so tensors are extents; one above 1 GiB lies in flat pieces.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from ... import store
from ...errors import CheckpointError, CorruptError, UnsupportedError, printable
from ...findings import Finding
from ...limits import LIMITS
from ...tensors import Extent, StoredTensor, TensorSpec
from .._interface import NOTHING, Checkpoint, FileLayout, Inside, Part

NAME = "flax"
TITLE = "flax (msgpack, single file or shards)"
SUFFIXES: tuple[str, ...] = (".msgpack",)
DEFAULT_FILE = "flax_model.msgpack"
WRITABLE = True
TIES = False
SINGLE = True
STRINGS = False

_INDEX = ".msgpack.index.json"


def sniff(head: bytes, tail: bytes, path: str) -> bool:
    """A msgpack map, which has no signature but its first byte: by its name; an index likewise."""
    if path.endswith(_INDEX):
        return head.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"{"
    return path.endswith(SUFFIXES) and head[:1] >= b"\x80"  # text is no map


def find(directory: str, names: Sequence[str]) -> list[tuple[int, str]]:
    """flax_model.msgpack (28), as transformers 4 does before its index (18), else a sole .msgpack (38)."""
    for rank, known in ((28, DEFAULT_FILE), (18, DEFAULT_FILE + ".index.json")):
        if known in names:
            return [(rank, os.path.join(directory, known))]
    found = [n for n in names if n.endswith(SUFFIXES)]
    return [(38, os.path.join(directory, n)) for n in found[:100]]


def prefix(path: str) -> str | None:
    """msgpack files are named in full."""
    return None


def open(path: str) -> Checkpoint:
    """The arrays of a file, or of the shards of an index; no weight is read. Raises CorruptError, UnsupportedError, LimitError."""
    from ...support.collector import paused

    with paused():
        if path.endswith(_INDEX):
            from .._sharding import open_sharded

            return open_sharded(path, NAME, open_file)
        return open_file(path)


def open_file(path: str) -> Checkpoint:
    """One file."""
    from .._wire.msgpack import Reader

    blob = store.open_blob(path)
    try:
        size = blob.size
        reader = Reader(blob, size, path)
        head = reader.take(1)[0]
        if not (head & 0xF0 == 0x80 or head in (0xDE, 0xDF)):
            raise CorruptError("is no flax checkpoint: it does not begin with a msgpack map", path=path)
        reader.at = 0
        try:
            value = reader.value()
        except CheckpointError as e:
            where = f"in {printable('/'.join(map(str, reader.trail)), 200)!r}: " if reader.trail else ""
            raise type(e)(where + e.message, path=path, hint=e.hint) from None
    finally:
        blob.close()
    if reader.at != size:
        raise CorruptError(f"{size - reader.at:,} bytes follow the end of the msgpack data at byte {reader.at:,}", path=path)
    findings = [
        Finding("warning", "names", printable(key), f"the key {printable(key, 100)!r} is there twice; the last one counts")
        for key in reader.repeated[:50]
    ]
    tensors: dict[str, StoredTensor] = {}
    extras: dict[str, object] = {}
    _collect(value, path, tensors, extras)
    LIMITS.check("tensors", len(tensors), "the number of tensors", path)
    if not tensors:
        raise UnsupportedError("is a msgpack file without arrays, no checkpoint", path=path)
    return Checkpoint(path, NAME, tensors, files=(path,), extras=extras, findings=findings)


def escaped(key: object) -> str:
    """A key as a part of a name, in which a slash stands for nesting."""
    text = str(key)
    return text if "/" not in text and "~0" not in text and "~1" not in text else text.replace("~", "~0").replace("/", "~1")


def _collect(root: object, path: str, tensors: dict[str, StoredTensor], extras: dict[str, object]) -> None:
    """The arrays of the tree by their joined keys; plain values (a step count) become extras."""
    from .._wire.msgpack import CHUNKED, Array

    todo: list[tuple[str, object]] = [("", root)]
    while todo:
        name, v = todo.pop()
        if isinstance(v, Array):
            if name in tensors:
                raise CorruptError(f"two arrays are named {name!r}", path=path)
            LIMITS.check("name_bytes", len(name.encode()), f"the length of the name {name[:40]!r}...", path)
            tensors[name] = StoredTensor(name, v.spec, (Extent(path, v.offset, v.spec.nbytes),))
        elif isinstance(v, dict) and CHUNKED in v:
            tensors[name] = _pieces(name, v, path)
        elif isinstance(v, dict):
            todo += reversed([(f"{name}/{escaped(k)}" if name else escaped(k), x) for k, x in v.items()])
        elif isinstance(v, list):
            todo += reversed([(f"{name}/{i}", x) for i, x in enumerate(v)])
        elif v is not None:
            extras[name] = v


def _pieces(name: str, v: dict[object, object], path: str) -> StoredTensor:
    """An array in flat pieces, put together."""
    from .._wire.msgpack import Array

    def listed(value: object) -> list[object]:
        if not isinstance(value, dict) or list(value) != [str(i) for i in range(len(value))]:
            raise CorruptError(f"the pieces of {name!r} are not numbered from 0", path=path)
        return list(value.values())

    shape, chunks = listed(v.get("shape")), listed(v.get("chunks"))
    arrays = [c for c in chunks if isinstance(c, Array) and len(c.spec.shape) == 1]
    if not all(type(n) is int and 0 <= n < 1 << 62 for n in shape) or len(arrays) != len(chunks) or not arrays:
        raise CorruptError(f"the pieces of {name!r} are no flat arrays", path=path)
    if len({a.spec.dtype for a in arrays}) > 1:
        raise CorruptError(f"the pieces of {name!r} have different dtypes", path=path)
    LIMITS.check("rank", len(shape), f"the rank of {name!r}", path)
    spec = TensorSpec(arrays[0].spec.dtype, tuple(n for n in shape if isinstance(n, int)))
    have = sum(a.spec.numel for a in arrays)
    if have != spec.numel:
        raise CorruptError(f"the pieces of {name!r} have {have:,} elements; its shape {list(spec.shape)} needs {spec.numel:,}", path=path)
    return StoredTensor(name, spec, tuple(Extent(path, a.offset, a.spec.nbytes) for a in arrays))


def layout(
    tensors: Sequence[tuple[str, TensorSpec]],
    *,
    filename: str,
    ties: Mapping[str, str] = {},
    inside: Inside = NOTHING,
    max_shard_size: int | None = None,
) -> FileLayout:
    """The files that flax would write: one, or shards by transformers' rule with an index. `extras` that are plain values go along."""
    from .write import make_layout

    return make_layout(NAME, [(n, s) for n, s in tensors if n not in ties], filename, inside.extras, max_shard_size)


def finish(layout: FileLayout, crcs: Mapping[str, int]) -> tuple[Part, ...]:
    """Nothing in such a file depends on the weights."""
    return ()
