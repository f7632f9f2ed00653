"""HDF5 files as Keras and transformers write them: legacy `.h5`, whole models or weights, Keras 3 `.weights.h5`, `tf_model.h5` and
its shards.

Sources: HDF5 File Format Specification 3.0; Keras' `legacy_h5_format.py` (layer_names, weight_names, model_weights) and `saving_lib.py`
(layers/.../vars/0); transformers 4's `tf_model.h5.index.json`. A tensor's name is the dataset's path without the first slash.

Policy: ckptkit reads and writes the format itself (`file`, `groups`): neither h5py nor Keras is imported, so a damaged file cannot crash a
C library. h5py (the extra `hdf5`) is asked, in a process of its own, only for chunks that were packed by a filter other than gzip,
shuffle and fletcher32 or are listed in one of HDF5 1.10's indexes. What the file says besides its tensors goes into the metadata,
each root attribute as `hdf5:NAME`, those of groups as JSON in `hdf5:groups`, so that writing HDF5 again gives the same file to Keras.
A model's configuration is read as data.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from itertools import chain

from ... import store
from ..._typing import TYPE_CHECKING, Any, cast
from ...errors import CorruptError, UnsupportedError, UsageError, printable
from ...findings import Finding
from ...limits import LIMITS
from ...support.lazy import later
from ...tensors import DTYPES, Extent, StoredTensor, TensorSpec
from .._interface import NOTHING, Checkpoint, FileLayout, Inside, Packed, Part, Slot
from .names import DEFAULT_FILE, KERAS_INDEX, PREFIX, TASK
from .names import NAME as NAME

if TYPE_CHECKING:
    from ..keras import variable_names
    from .file import File
    from .groups import Dataset, Tree
    from .write import Built
else:
    later(globals(), variable_names="..keras.variable_names")

TITLE = "HDF5 (Keras .h5, .weights.h5, tf_model.h5)"
SUFFIXES: tuple[str, ...] = (".h5", ".hdf5")
MARKS = (*SUFFIXES, "model.weights.json")
WRITABLE = True
TIES = True
SINGLE = True
STRINGS = False
KEEPS = (PREFIX,)  # the metadata that it has a place for, by their beginnings

_MAGIC = b"\x89HDF\r\n\x1a\n"
_NOWHERE = (1 << 64) - 1  # the undefined address
_INDEX = ".h5.index.json"  # transformers'
TRANSFORMERS = "tf_model.h5"  # what alone is ever cut into shards with an index of transformers' kind
TASK_FILE = "task.weights.h5"
UNMARKED = (
    "holds opaque elements of 2 bytes: read as bfloat16, which Keras 2 and Keras' legacy form store so "
    "without a mark (and so is what else is opaque here)"
)


def sniff(head: bytes, tail: bytes, path: str) -> bool:
    """The signature, in a file named .h5 also after a block of the user's own; an index by its name."""
    if path.endswith(SUFFIXES) and not head.startswith(_MAGIC) and _block(path):
        return True
    return head.startswith(_MAGIC) or (path.endswith((_INDEX, KERAS_INDEX)) and head.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"{")


def find(directory: str, names: Sequence[str]) -> list[tuple[int, str]]:
    """tf_model.h5, or without it its index (24, 16), model.weights.h5 (26), else a sole .h5 file (34)."""
    if TASK_FILE in names and (DEFAULT_FILE in names or "model" + KERAS_INDEX in names):
        return [(16, os.path.join(directory, TASK_FILE))]
    for rank, known in (
        (24, "tf_model.h5"),
        (16, "tf_model.h5.index.json"),
        (16, "model.weights.json"),
        (26, DEFAULT_FILE),
        (26, "model.h5"),
    ):
        if known in names:
            return [(rank, os.path.join(directory, known))]
    found = [n for n in names if n.endswith(SUFFIXES)]
    return [(34, os.path.join(directory, n)) for n in found[:100]]


def _block(path: str) -> int:
    """How long the user's own block is that the file begins with: 512 bytes, or a doubling of it; 0 for none."""
    blob = store.open_blob(path)
    try:
        return next((512 << i for i in range(12) if blob.pread(8, 512 << i) == _MAGIC), 0)
    finally:
        blob.close()


def prefix(path: str) -> str | None:
    """HDF5 files are named in full."""
    return None


def open(path: str) -> Checkpoint:
    """The datasets of a file, or of the shards of an index. Raises CorruptError, UnsafeError, UnsupportedError, LimitError."""
    from ...support.collector import paused

    with paused():
        if path.endswith(_INDEX):
            from .._sharding import open_sharded

            return open_sharded(path, NAME, open_file, rename=_in_shard)
        if path.endswith(KERAS_INDEX):
            from .shards import open_shards

            return open_shards(path, open_file)
        if os.path.basename(path) == TASK_FILE:
            from .preset import open_task

            return open_task(path, open, open_file)
        return open_file(path)


def open_file(path: str) -> Checkpoint:
    """One file."""
    blob = store.open_blob(path)
    try:
        size = blob.size
        if size < 64:
            raise CorruptError(f"truncated: {size} bytes are too few for an HDF5 file", path=path)
        block = _block(path) if blob.pread(8, 0) != _MAGIC else 0
        with blob.mapped() as data, store.view_of(data) as whole, whole[block:] as view:
            return read(view, block, path, path, data)
    finally:
        blob.close()


def _in_shard(name: str, held: Mapping[str, object]) -> str:
    """What a shard calls the tensor that the index calls `name`: transformers leaves the model's own name out in the shard."""
    if name in held:
        return name
    rest = name.partition("/")[2]
    return rest if rest in held else name


def read(view: Any, origin: int, path: str, label: str, map: object = None) -> Checkpoint:
    """The checkpoint in the bytes of an HDF5 file that begins at byte `origin` of the file at `path`; nothing of `view` is kept."""
    from .file import DAMAGE, File
    from .groups import fetch_ahead, walk

    if hasattr(view, "expect"):
        fetch_ahead(File(view, origin, label, map))
    file = File(view, origin, label, map)
    try:
        tree = walk(file)
        tensors: dict[str, StoredTensor] = {}
        findings = tree.findings
        specs: dict[
            tuple[int, tuple[int, ...]], tuple[TensorSpec, int]
        ] = {}  # by the type's id: equal ones are one, and hashing them takes longer
        name = ""
        try:
            for name in _ordered(tree, findings):
                d = tree.datasets[name]
                t = _tensor(file, name, d, path, specs, findings)
                if t is not None:
                    tensors[name] = _turned(t, d.type.size) if d.type.kind == "swapped" else t
        except DAMAGE:
            raise CorruptError(f"dataset {name} is damaged: its structure leads out of the file", path=label) from None
        for name, other in tree.aliases.items():
            if other in tensors:
                t = tensors[other]
                tensors[other] = t._replace(storage=other)
                tensors[name] = t._replace(name=name, storage=other)
        name_bytes = LIMITS.name_bytes
        for name in tensors:
            if 4 * len(name) > name_bytes:
                LIMITS.check("name_bytes", len(name.encode()), f"the length of the name {name[:40]!r}...", label)
        if file.end < len(view):
            findings.append(
                Finding("warning", "hdf5", os.path.basename(label), f"{len(view) - file.end:,} bytes follow the end of the HDF5 data")
            )
        metadata = _metadata(tree)
        from ..keras.model_config import judge

        for key in ("model_config", "training_config"):
            if PREFIX + key in metadata:
                findings += judge(metadata[PREFIX + key], f"{os.path.basename(label)}:{key}")
        checkpoint = Checkpoint(path, NAME, tensors, files=(path,), metadata=metadata, findings=findings)
        checkpoint.called = _called(tree)
        checkpoint.aliases = cache(lambda: variable_names.own_names(checkpoint.tensors, checkpoint.metadata, tree.attributes))
        return checkpoint
    finally:
        file.data.release()


def _called(tree: Tree) -> str:
    """The name of the model, which Keras 3 keeps as an attribute of the root's `vars`, without the number that tells it from others:
    "bert_backbone" of "bert_backbone_3"."""
    name = tree.attributes.get("vars", {}).get("name")
    stem, _, number = name.rpartition("_") if isinstance(name, str) else ("", "", "")
    return stem if number.isdecimal() else name if isinstance(name, str) else ""


def _ordered(tree: Tree, findings: list[Finding]) -> list[str]:
    """The datasets in the order that the Keras attributes give (layers, then their weights), the others as they are met."""
    out: dict[str, None] = {}
    missing = []
    for base in ("", "model_weights"):
        layers = variable_names.joined(tree.attributes.get(base, {}), "layer_names")
        for layer in [*layers, "top_level_model_weights"] if layers else ():
            group = f"{base}/{layer}" if base else layer
            for weight in variable_names.joined(tree.attributes.get(group, {}), "weight_names"):
                path = f"{group}/{weight}"
                path = tree.aliases.get(path, path)
                if path in tree.datasets:
                    out[path] = None
                else:
                    missing.append(path)
    if missing:
        said = (
            f"{len(missing)} weights that Keras' lists name are not in the file: "
            f"{printable(', '.join(missing[:3]), 300)}{', ...' if len(missing) > 3 else ''}"
        )
        findings.append(
            Finding("error", "hdf5", printable(missing[0]), said, "Keras does not load such a file: was it cut while it was written?")
        )
    for path in tree.datasets:
        out.setdefault(path, None)
    return list(out)


def _tensor(
    file: File, name: str, d: Dataset, path: str, specs: dict[tuple[int, tuple[int, ...]], tuple[TensorSpec, int]], findings: list[Finding]
) -> StoredTensor | None:
    """The tensor of a dataset; None (and a finding) where it is text."""
    label = file.path
    known = specs.get((id(d.type), d.shape))
    if known is not None and d.storage[0] == "contiguous":  # like one before: nearly all of a large model's
        spec, n = known
        at = d.storage[1]
        if d.storage[2] == n and type(at) is int and at + n <= file.end:
            return tuple.__new__(StoredTensor, (name, spec, (tuple.__new__(Extent, (path, file.origin + at, n)),), None, None, None, ()))
    dtype = d.type.dtype
    if d.type.kind == "opaque" and d.type.size in (1, 2):
        dtype = _opaque(file, d)
        if not dtype and d.type.size == 2:
            dtype = "BF16"
            if not any(f.message.endswith(UNMARKED) for f in findings):
                findings.append(
                    Finding(
                        "warning", "hdf5", printable(name), f"{printable(name)} {UNMARKED}", "hold it against the model: no mark says so"
                    )
                )
    if not dtype:
        raise UnsupportedError(f"dataset {name} holds {d.type.what}, which are no tensor", path=label)
    if dtype == "STRING":
        findings.append(Finding("info", "hdf5", printable(name), f"{printable(name)} is text ({list(d.shape)}), no tensor: left out"))
        return None
    spec = TensorSpec(dtype, d.shape)
    if spec.numel >= 1 << 62:
        raise CorruptError(f"dataset {name} is said to have the shape {list(d.shape)}, which overflows 64 bits", path=label)
    n = spec.nbytes
    if d.type.kind == "number":
        specs[id(d.type), d.shape] = (spec, n)
    kind, at, size = d.storage[:3]
    assert isinstance(at, int) and isinstance(size, int)
    if kind == "contiguous" or kind == "compact":
        if at == _NOWHERE:
            return _unwritten(name, d, spec, label, findings)
        if size not in (n, -1):
            raise CorruptError(f"dataset {name}: {dtype} {list(d.shape)} needs {n:,} bytes, {size:,} are stored", path=label)
        if at + n > file.end:
            raise CorruptError(
                f"dataset {name}: bytes {at:,} to {at + n:,} are said to be its own; the file ends at {file.end:,}",
                path=label,
                hint="is it cut short?",
            )
        return tuple.__new__(StoredTensor, (name, spec, (tuple.__new__(Extent, (path, file.origin + at, n)),), None, None, None, ()))
    from .chunks import chunked

    return chunked(file, name, d, spec, path, findings)


def _turned(t: StoredTensor, width: int) -> StoredTensor:
    """A tensor whose elements of `width` bytes are stored with the high byte first."""

    def pieces() -> Iterator[bytes]:
        for raw in (
            t.read.pieces()
            if isinstance(t.read, Packed)
            else chain.from_iterable(map(_pieces, t.extents))
            if t.read is None
            else (cast("bytes", t.read()),)
        ):
            turned = bytearray(len(raw))
            for i in range(width):
                turned[i::width] = raw[width - 1 - i :: width]
            yield bytes(turned)

    return t._replace(extents=(), read=Packed(pieces))


def _pieces(e: Extent) -> Iterator[bytes]:
    """The bytes of an extent, a megabyte at a time."""
    blob = store.open_blob(e.path)
    try:
        for at in range(0, e.length, 1 << 20):
            yield blob.pread(min(1 << 20, e.length - at), e.offset + at)
    finally:
        blob.close()


def _opaque(file: File, d: Dataset) -> str:
    """The dtype that Keras notes beside elements which HDF5 has no type for."""
    from .datatypes import attribute

    said = dict(attribute(file, p, n, {}) for _, p, n in d.attributes).get("dtype")
    names = {t.numpy: t.name for t in DTYPES.values() if t.numpy and t.bits == 8 * d.type.size}
    return names.get(said, "") if isinstance(said, str) else ""


def _unwritten(name: str, d: Dataset, spec: TensorSpec, label: str, findings: list[Finding]) -> StoredTensor:
    """A dataset that was never written: every element is the fill value."""
    from .file import swell

    n = spec.nbytes
    swell(name, n, 0, label)
    if not n:
        return StoredTensor(name, spec, (Extent(label, 0, 0),))
    fill = d.fill if len(d.fill) == d.type.size else bytes(d.type.size)
    findings.append(
        Finding(
            "warning", "hdf5", printable(name), f"{printable(name)} was laid out but never written: all its elements are the fill value"
        )
    )
    return StoredTensor(name, spec, read=lambda: fill * spec.numel)


def _metadata(tree: Tree) -> dict[str, str]:
    """The attributes of root and groups as text, empty groups among them."""
    import json

    out = {}
    groups: dict[str, dict[str, object]] = {}
    for path, attributes in tree.attributes.items():
        kept = {k: v for k, v in attributes.items() if v is not None} if None in attributes.values() else attributes
        if not path:
            out = {PREFIX + k: v for k, v in kept.items() if isinstance(v, str)}
            kept = {k: v for k, v in kept.items() if not isinstance(v, str)}
        if kept or path:
            groups[path] = kept
    if groups:
        out[PREFIX + "groups"] = json.dumps(groups, ensure_ascii=False, separators=(",", ":"))
    return out


def layout(
    tensors: Sequence[tuple[str, TensorSpec]],
    *,
    filename: str,
    ties: Mapping[str, str] = {},
    inside: Inside = NOTHING,
    max_shard_size: int | None = None,
) -> FileLayout:
    """One file, or Keras 3's shards, and one for a keras_hub model's head. A tied name is a hard link; attributes come from the
    metadata where these still speak of the same tensors (`keras_attributes`)."""
    if max_shard_size is not None and filename == TRANSFORMERS and sum(s.nbytes for n, s in tensors if n not in ties) > max_shard_size:
        from .shards import lay_out_shards

        return lay_out_shards([t for t in tensors if t[0] not in ties], filename, max_shard_size)
    if (
        max_shard_size is not None
        and filename == DEFAULT_FILE
        and not ties
        and sum(s.nbytes for n, s in tensors if not n.startswith(TASK)) > max_shard_size
    ):
        from .keras_attributes import numbered

        if all(numbered(n) for n, _ in tensors) and not any(n.startswith(TASK) for n, _ in tensors):
            from .shards import lay_out_groups

            return lay_out_groups(tensors, filename, max_shard_size)
    heads = [(n.removeprefix(TASK), s) for n, s in tensors if n.startswith(TASK) and filename == DEFAULT_FILE]
    if not heads:
        built = lay_out(tensors, ties, inside.metadata, max_shard_size)
        specs = dict(tensors)
        slots = {n: Slot(0, at, specs[n].nbytes) for n, at in built.offsets.items()}
        return FileLayout(NAME, ((filename, built.size),), slots, (Part(0, 0, built.head),))
    body = layout(
        [t for t in tensors if not t[0].startswith(TASK)],
        filename=filename,
        ties=ties,
        inside=Inside(metadata=inside.metadata),
        max_shard_size=max_shard_size,
    )
    built, at = lay_out(heads, {}, {}, None), len(body.files)
    slots = dict(body.slots) | {TASK + n: Slot(at, built.offsets[n], s.nbytes) for n, s in heads}
    return FileLayout(NAME, (*body.files, (TASK_FILE, built.size)), slots, (*body.parts, Part(at, 0, built.head)))


def lay_out(
    tensors: Sequence[tuple[str, TensorSpec]], ties: Mapping[str, str], metadata: Mapping[str, str], max_shard_size: int | None
) -> Built:
    """The file without its tensors. Raises UsageError, UnsupportedError."""
    from .keras_attributes import attributes
    from .write import build

    specs = {n: s for n, s in tensors if n not in ties}
    if len(specs) + len(ties) != len(tensors):
        raise UsageError("two tensors are to be written under one name")
    owners = {}
    for name in ties:
        owner, steps = name, 0
        while owner in ties and steps <= len(ties):
            owner, steps = ties[owner], steps + 1
        if owner not in specs:
            raise UsageError(f"tensor {name!r} is tied to {printable(owner)!r}, which has no bytes of its own")
        owners[name] = owner
    if max_shard_size is not None and sum(s.nbytes for s in specs.values()) > max_shard_size:
        raise UnsupportedError(
            "this HDF5 is written as one file, never as shards (Keras 3's model.weights.h5 and transformers' tf_model.h5 are)",
            hint="leave --max-shard-size out, or write safetensors",
        )
    return build(specs, owners, attributes([n for n, _ in tensors], metadata))


def finish(layout: FileLayout, crcs: Mapping[str, int]) -> tuple[Part, ...]:
    """Nothing in an HDF5 file of this kind depends on the weights."""
    return ()
