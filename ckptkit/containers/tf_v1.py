"""TensorFlow's V1 checkpoints: one table (or one a shard) that holds the tensors themselves.

Source: tensorflow/core/util/{saved_tensor_slice.proto,tensor_slice_writer.h,saved_tensor_slice_util.h},
core/framework/tensor.proto. Under the empty key is a list of the tensors with their slices; every slice is a
TensorProto under an encoded key. Packed floats lie in the file as they are and become extents; integers are varints
and are decoded when read. Only the first block's checksum is held at once: the others cover the weights (`checks`).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import lru_cache, partial
from itertools import islice

from .. import store
from .._typing import TYPE_CHECKING, NamedTuple
from ..errors import CorruptError, UnsupportedError, UsageError
from ..findings import Finding
from ..limits import LIMITS
from ..support.lazy import later
from ..support.protobuf import BYTES, FIXED32, VARINT, Readable, bad, fields, shape, signed
from ..tensors import DTYPES, Check, Extent, StoredTensor, TensorSpec
from ._interface import Checkpoint
from ._pieces import joined
from ._tensorflow import paths

if TYPE_CHECKING:
    from ._tensorflow import bundle_entry, partitions, table
else:
    later(globals(), bundle_entry="._tensorflow.bundle_entry", partitions="._tensorflow.partitions", table="._tensorflow.table")

NAME = "tf_v1"
TITLE = "TensorFlow V1 checkpoint"
SUFFIXES: tuple[str, ...] = (".ckpt",)
MARKS = ("\ncheckpoint\n", ".ckpt")
DEFAULT_FILE = "model.ckpt"
WRITABLE = False
TIES = False

_VERSION = 1
_MAX_FIELDS = 1_000_000
_CONTENT = 4  # TensorProto.tensor_content
# TensorProto's field for each dtype; the first ones are packed as the tensor's own bytes, the second as varints
_AS_IT_IS = {"F32": 5, "F64": 6, "C64": 9, "C128": 12, "BOOL": 11, "F8_E5M2": 18, "F8_E4M3": 18, "F8_E5M2FNUZ": 18, "F8_E4M3FNUZ": 18}
_VARINTS = {"I32": 7, "I16": 7, "I8": 7, "U16": 7, "U8": 7, "I64": 10, "F16": 13, "BF16": 13, "U32": 16, "U64": 17}
_STRINGS = 8
_NOT_WEIGHTS = (".meta", ".index", ".tmp", ".json")


def sniff(head: bytes, tail: bytes, path: str) -> bool:
    """A table of slices, a state file that names one, or a .meta beside one."""
    if paths.is_table(tail):
        return paths.is_v1(path)
    if path.endswith(".meta"):
        return store.is_file(path.removesuffix(".meta"))
    if os.path.basename(path) != paths.STATE or not paths.looks_like_state(head):
        return False
    named = paths.target(path)
    return named is not None and not store.is_file(named + ".index") and paths.exists(named)


def find(directory: str, names: Sequence[str]) -> list[tuple[int, str]]:
    """What the state file names (25); files with .ckpt in their name that are such tables (36)."""
    state = os.path.join(directory, paths.STATE)
    named = paths.target(state) if paths.STATE in names and store.is_file(state) else None
    if named is not None and not store.is_file(named + ".index"):
        files = paths.v1_files(named)
        if files and paths.is_table(paths.tail(files[0])):
            return [(25, files[0])]
    found = []
    firsts = paths.first_shards(names)
    for name in (n for n in names if ".ckpt" in n and not n.endswith(_NOT_WEIGHTS)):
        path = os.path.join(directory, name)
        if (
            firsts.get(paths.without_shard(name), name) == name
            and (paths.of_data(name) or "") + ".index" not in names
            and store.is_file(path)
            and paths.is_table(paths.tail(path))
            and paths.is_v1(path)
        ):
            found.append((36, path))
    return found


def prefix(path: str) -> str | None:
    """The first shard, where the files are PREFIX-00000-of-00002 and so on."""
    files = paths.v1_files(path)
    return files[0] if files else None


class _Value(NamedTuple):
    """A slice's TensorProto: its fields as (field, wire type, value, end), in the file or in a compressed block."""

    path: str
    block: tuple[int, int] | None  # a compressed block: offset, size
    fields: list[tuple[int, int, int, int]]


class _Tensor(NamedTuple):
    """One of the tensors that the files list."""

    number: int
    shape: tuple[int, ...]
    slices: list[tuple[tuple[int, int], ...]]


class _Files(NamedTuple):
    """What the files hold: tensors by name, slices by key, a Check for each block."""

    tensors: dict[bytes, _Tensor]
    values: dict[bytes, _Value]
    checks: list[Check]


def open(path: str) -> Checkpoint:
    """Read the list of tensors and where each lies; no weight is read.

    Raises CorruptError, UnsupportedError, LimitError, NotFoundError.
    """
    if path.endswith(".meta"):
        raise UsageError("is the graph, which holds no weights", path=path, hint=f"name the weights: {path.removesuffix('.meta')}")
    if os.path.basename(path) == paths.STATE and not paths.is_table(paths.tail(path)):
        path = paths.of_state(path)
    files = paths.v1_files(paths.v1_prefix(path)) or [path]
    held = _Files({}, {}, [])
    for file in files:
        _read_file(file, held)
    findings: list[Finding] = []
    tensors: dict[str, StoredTensor] = {}
    for key in sorted(held.tensors):
        try:
            name = key.decode()
        except UnicodeDecodeError:
            raise CorruptError(f"the name {key!r} is not UTF-8", path=path) from None
        number, dims, slices = held.tensors[key]
        spec = bundle_entry.kind_of(number, dims).spec
        values = [(partitions.resolve(r, dims, repr(name), path), held.values.pop(partitions.key(key, r), None)) for r in slices]
        if spec is None:
            if number not in bundle_entry.OPAQUE:
                raise CorruptError(f"{name!r} has dtype {number}, which TensorFlow does not have", path=path)
            what = f"a {bundle_entry.OPAQUE[number]} tensor, which has no portable form, is left out"
            findings.append(Finding("warning", "dtype", name, what))
            continue
        if number in bundle_entry.QUANTISED:
            findings.append(Finding("info", "dtype", name, f"{bundle_entry.QUANTISED[number][1]} is read as {spec.dtype}"))
        tensors[name] = _stored(name, spec, values, path)
    findings += [Finding("warning", "slice", repr(k), "the data of a slice that belongs to no tensor") for k in held.values]
    return Checkpoint(path, NAME, tensors, files=files, findings=findings, checks=lambda: iter(held.checks))


def _read_file(path: str, out: _Files) -> None:
    """Add what one file holds to `out`."""
    blob = store.open_blob(path)
    try:
        size = blob.size
        window = table.Window(blob, path)
        listed = False
        for block, data, entries in table.scan(window, size, path, check=False):
            extent = Extent(path, block.offset, block.size + 1)
            out.checks.append(Check(f"block at byte {block.offset}", "crc32c", (extent,), table.checksum(window, block.offset, block.size)))
            where = None if data is window else (block.offset, block.size)
            for key, start, end in entries:
                if not listed:
                    if key:
                        break
                    _list_tensors(data, start, end, path, out.tensors)
                    listed = True
                elif key in out.values:
                    bad(f"the slice {key!r} is there twice", path, block.offset)
                else:
                    out.values[key] = _Value(path, where, _value(data, start, end, path))
            if not listed:
                break
        if not listed:
            bad("has no list of tensors: the first key is not the empty one", path)
    finally:
        blob.close()


def _list_tensors(data: Readable, start: int, end: int, path: str, out: dict[bytes, _Tensor]) -> None:
    """Add the tensors of a SavedTensorSliceMeta to `out`."""
    for number, wire, a, b in fields(data, start, end, path):
        if number != 1 or wire != BYTES:
            continue
        for n, w, c, d in fields(data, a, b, path):
            if n == 1 and w == BYTES:
                name, tensor = _listed(data, c, d, path)
                known = out.setdefault(name, tensor)
                if known is not tensor:
                    if known[:2] != tensor[:2]:
                        raise CorruptError(f"{name.decode('utf-8', 'replace')!r} is listed with two shapes or dtypes", path=path)
                    known.slices.extend(tensor.slices)
            elif n == 2 and w == BYTES:
                for m, x, value, _ in fields(data, c, d, path):
                    if m == 2 and x == VARINT and signed(value) > _VERSION:
                        raise UnsupportedError(f"asks for a newer reader of V1 checkpoints than version {_VERSION}", path=path)
    LIMITS.check("tensors", len(out), "the number of tensors", path)


def _listed(data: Readable, start: int, end: int, path: str) -> tuple[bytes, _Tensor]:
    """A SavedSliceMeta."""
    name, kind = b"", 0
    dims: tuple[int, ...] = ()
    slices: list[tuple[tuple[int, int], ...]] = []
    for number, wire, a, b in fields(data, start, end, path):
        if number == 1 and wire == BYTES:
            LIMITS.check("name_bytes", b - a, "the length of a tensor's name", path)
            name = data[a:b]
        elif number == 2 and wire == BYTES:
            dims = shape(data, a, b, path)
        elif number == 3 and wire == VARINT:
            kind = a
        elif number == 4 and wire == BYTES:
            partitions.add(slices, data, a, b, path)
    return name, _Tensor(kind, dims, slices)


def _value(data: Readable, start: int, end: int, path: str) -> list[tuple[int, int, int, int]]:
    """The fields of the TensorProto in a SavedTensorSlices; their content is not read."""
    for want in (2, 3):  # SavedTensorSlices.data, SavedSlice.data
        found = [(a, b) for number, wire, a, b in fields(data, start, end, path) if number == want and wire == BYTES]
        if len(found) != 1:
            bad("a slice without its data", path, start)
        start, end = found[0]
    held = list(islice(fields(data, start, end, path), _MAX_FIELDS + 1))
    if len(held) > _MAX_FIELDS:
        raise UnsupportedError(f"the tensor at byte {start} is stored in more than {_MAX_FIELDS:,} pieces", path=path)
    return held


def _stored(name: str, spec: TensorSpec, values: list[tuple[tuple[tuple[int, int], ...], _Value | None]], path: str) -> StoredTensor:
    """A tensor from its slices: extents where all of them lie in the file as they are, else a `read`."""
    pieces: list[partitions.Piece] = []
    parts: list[tuple[tuple[tuple[int, int], ...], TensorSpec, _Value]] = []
    for box, value in values:
        sizes = tuple(n for _, n in box)
        shown = f"{name}[{', '.join(f'{s}:{s + n}' for s, n in box)}]"
        if value is None:
            raise CorruptError(f"the slice {shown!r} is missing", path=path)
        part = TensorSpec(spec.dtype, sizes)
        extent = _place(shown, part, value)
        parts.append((box, part, value))
        if extent is not None:
            pieces.append(partitions.Piece(box, extent))
    if len(pieces) == len(parts) == 1 and parts[0][1] == spec:
        return StoredTensor(name, spec, (pieces[0].extent,))
    partitions.cover([partitions.Piece(box, Extent(path, 0, 0)) for box, _, _ in parts], spec.shape, repr(name), path)
    if spec.dtype == "STRING":
        if len(parts) > 1:
            raise UnsupportedError(f"{name!r} is a partitioned string tensor", path=path)
        return StoredTensor(name, spec, read=partial(_strings, name, spec, parts[0][2]))
    if len(pieces) != len(parts):
        return StoredTensor(name, spec, read=partial(_read, name, spec, parts))
    return joined(name, spec, partitions.boxes_of(pieces))


def _payload(spec: TensorSpec, value: _Value) -> list[tuple[int, int, int, int]]:
    """The fields of a TensorProto that hold the elements."""
    want = _AS_IT_IS.get(spec.dtype) or _VARINTS.get(spec.dtype, _STRINGS)
    return [f for f in value.fields if f[0] == want or (f[0] == _CONTENT and f[2] < f[3] and spec.dtype != "STRING")]


def _place(name: str, spec: TensorSpec, value: _Value) -> Extent | None:
    """Where a slice's bytes lie as they are, or None. CorruptError where the size cannot be that of its elements."""
    runs = _payload(spec, value)
    numel, nbytes = spec.numel, spec.nbytes
    if len(runs) == 1 and runs[0][1] == BYTES and spec.dtype != "STRING":
        number, _, start, end = runs[0]
        raw = number == _CONTENT or number == _AS_IT_IS.get(spec.dtype)
        if (raw and end - start != nbytes) or not numel <= end - start <= max(10 * numel, nbytes):
            what = f"{name!r} has {end - start} bytes where {spec.dtype} {list(spec.shape)} needs {nbytes}"
            raise CorruptError(f"{what}{'' if raw else ' (as varints)'}", path=value.path)
        return Extent(value.path, start, end - start) if raw and value.block is None else None
    held = len(runs) if spec.dtype == "STRING" else sum(end - start if wire == BYTES else 1 for _, wire, start, end in runs)
    if held < numel or (spec.dtype == "STRING" and held != numel):
        raise CorruptError(f"{name!r} has {len(runs)} fields where {spec.dtype} {list(spec.shape)} needs {numel} elements", path=value.path)
    return Extent(value.path, 0, 0) if not numel and spec.dtype != "STRING" and value.block is None else None


def _bytes(value: _Value, start: int, end: int) -> bytes:
    """Bytes of a value, from the file or its compressed block."""
    if value.block is None:
        return partitions.slurp(Extent(value.path, start, end - start))
    return _unpacked(value.path, *value.block, store.stamp(value.path))[start:end]


@lru_cache(1)
def _unpacked(path: str, offset: int, size: int, version: tuple[int, int | str]) -> bytes:
    """A compressed block of a `version` of a file; the last one is kept, as many tensors may lie in it."""
    return table.snappy(partitions.slurp(Extent(path, offset, size)), path, offset)


def _elements(name: str, spec: TensorSpec, value: _Value) -> bytes:
    """The row-major bytes of one slice."""
    width = DTYPES[spec.dtype].bits // 8
    out = bytearray()
    for number, wire, a, b in _payload(spec, value):
        if wire == VARINT:
            out += _packed([a], spec.dtype, width, name, value.path)
        elif wire != BYTES:
            out += a.to_bytes(4 if wire == FIXED32 else 8, "little")
        elif number == _CONTENT or spec.dtype in _AS_IT_IS:
            out += _bytes(value, a, b)
        else:
            out += _packed(_varints(_bytes(value, a, b), value.path), spec.dtype, width, name, value.path)
    if len(out) != spec.nbytes:
        raise CorruptError(f"{name!r} has {len(out)} bytes where {spec.dtype} {list(spec.shape)} needs {spec.nbytes}", path=value.path)
    return bytes(out)


def _varints(data: bytes, path: str) -> list[int]:
    out = []
    value = shift = 0
    for b in data:
        value |= (b & 127) << shift
        shift += 7
        if b < 128:
            out.append(value)
            value = shift = 0
        elif shift > 63:
            break
    if shift or any(v >> 64 for v in out):
        bad("bad varint in packed integers", path)
    return out


def _packed(values: list[int], dtype: str, width: int, name: str, path: str) -> bytes:
    """Varints as elements. CorruptError for one that does not fit."""
    is_int = DTYPES[dtype].kind == "int"
    try:
        return b"".join((signed(v) if is_int else v).to_bytes(width, "little", signed=is_int) for v in values)
    except OverflowError:
        raise CorruptError(f"{name!r} holds a value that is no {dtype}", path=path) from None


def _read(name: str, spec: TensorSpec, parts: list[tuple[tuple[tuple[int, int], ...], TensorSpec, _Value]]) -> bytes:
    held = [(box, _elements(name, part, value)) for box, part, value in parts]
    return held[0][1] if len(held) == 1 else partitions.assemble(held, spec.shape, DTYPES[spec.dtype].bits // 8)


def _strings(name: str, spec: TensorSpec, value: _Value) -> list[bytes]:
    runs = _payload(spec, value)
    total = sum(b - a for _, wire, a, b in runs if wire == BYTES)
    LIMITS.check("string_bytes", total, f"the size of the string tensor {name!r} in bytes", value.path)
    if any(wire != BYTES for _, wire, _, _ in runs):
        raise CorruptError(f"{name!r} is not encoded as strings", path=value.path)
    return [_bytes(value, a, b) for _, _, a, b in runs]
