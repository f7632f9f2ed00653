"""safetensors: eight bytes of length, a JSON header, and the tensors' bytes without a hole.

Format source: the README and `safetensors/src/tensor.rs` of huggingface/safetensors (0.8).

Policy: a file is validated completely while it is opened, by the reference's rules: offsets in order, no hole, no
overlap, nothing after the last tensor, checked products. Where the README is stricter than the reference, the README
counts: the header begins with a brace, duplicate keys are refused. The writer lays tensors as the reference does, so
both give the same bytes. The format has no ties: a tied name is either left out or written as a copy, by the caller.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from itertools import accumulate
from math import prod

from .. import store
from .._typing import TYPE_CHECKING, NoReturn
from ..errors import CorruptError, UnsupportedError, UsageError, printable
from ..findings import Finding
from ..limits import LIMITS
from ..support.collector import paused
from ..support.columns import compiled, sorts, tuples
from ..support.lazy import later
from ..support.strict_json import loads
from ..tensors import DTYPES, Extent, StoredTensor, TensorSpec
from ._interface import NOTHING, Checkpoint, FileLayout, Inside, Part
from ._shard_names import is_index, is_ranked
from ._slots import slots_of

if TYPE_CHECKING:
    from . import _sharding
else:
    later(globals(), _sharding="._sharding")

NAME = "safetensors"
TITLE = "safetensors (single file or shards)"
SUFFIXES = (".safetensors", ".safetensors.index.json")
DEFAULT_FILE = "model.safetensors"
ADAPTER = "adapter_model.safetensors"  # of PEFT
WRITABLE = True
TIES = False
SINGLE = True
STRINGS = False
KEEPS = ("",)  # the metadata that it has a place for, by their beginnings

INDEX_SUFFIX = ".safetensors.index.json"
MAX_HEADER = 100_000_000  # the reference refuses more
METADATA = "__metadata__"
_DCP = "DCP_SHARDING_INFO"  # where the pieces of a rank's file lie

# the order of the reference's `enum Dtype`: it sorts tensors by it, the largest alignment first
_ORDER = (
    "BOOL", "F4", "F6_E2M3", "F6_E3M2", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ",
    "I16", "U16", "F16", "BF16", "I32", "U32", "F32", "C64", "F64", "I64", "U64",
)  # fmt: skip
_RANK = {name: -i for i, name in enumerate(_ORDER)}
_BITS = {name: DTYPES[name].bits for name in _ORDER}
_U64 = 1 << 64
_MANY = 1 << 16  # bytes of a header from which it is read by columns


def sniff(head: bytes, tail: bytes, path: str) -> bool:
    """A brace after a plausible length; an index by its name, since any JSON begins with a brace."""
    if is_index(path):
        is_json = head.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"{" or head[:2] in (b"\xff\xfe", b"\xfe\xff")
        return is_json and ".safetensors.index." in path
    if len(head) < 9 or head[8:9] != b"{":
        return False
    return path.endswith(".safetensors") or 2 <= int.from_bytes(head[:8], "little") <= MAX_HEADER


def find(directory: str, names: Sequence[str]) -> list[tuple[int, str]]:
    """model.safetensors (rank 10), as transformers' loader; an index (11); an adapter beside its configuration (12); else,
    without an index, every *.safetensors (30)."""
    indexes = [n for n in names if ".safetensors.index." in n and is_index(n)]
    usual = DEFAULT_FILE + ".index.json"
    plain = [n for n in indexes if n.endswith(INDEX_SUFFIX)]
    ranked = [(11, n) for n in ([usual] if usual in plain else plain)]
    if DEFAULT_FILE in names:
        ranked.append((10, DEFAULT_FILE))
    elif not ranked and ADAPTER in names and "adapter_config.json" in names:
        ranked.append((12, ADAPTER))
    elif not ranked:
        of_ranks = [n for n in names if is_ranked(n)][:1]  # its first file stands for all
        others = [n for n in names if n.endswith(".safetensors") and not is_ranked(n)]
        ranked += [(21, n) for n in indexes] or [(16, n) for n in of_ranks] or [(30, n) for n in others]
    return [(rank, os.path.join(directory, n)) for rank, n in ranked]


def prefix(path: str) -> str | None:
    """safetensors files are named in full."""
    return None


def open(path: str) -> Checkpoint:
    """The checkpoint in a file, or in the shards of an index. Raises CorruptError, UnsafeError, LimitError."""
    with paused():
        if is_index(path):
            return _sharding.open_sharded(path, NAME, open_file)
        made = open_file(path)
        if _DCP not in made.metadata:
            return made
        from . import _rank_shards

        if is_ranked(os.path.basename(path)):
            return _rank_shards.open_ranks(path, open_file, NAME)
        made.findings += _rank_shards.alone(made)
        return made


def open_file(path: str) -> Checkpoint:
    """One file, validated. No tensor is read. Raises CorruptError with the tensor and its offsets, or LimitError."""
    raw, size = _read_header(path)
    checkpoint = (_as_written(raw, size, path) if len(raw) > _MANY else None) or _with_care(raw, size, path)
    metadata, tensors = checkpoint.metadata, checkpoint.tensors
    checkpoint.ties = {k: v for k, v in metadata.items() if v in tensors and k not in tensors}  # safetensors.torch.save_model
    return checkpoint


def _with_care(raw: bytes, size: int, path: str) -> Checkpoint:
    """Any header, entry by entry: what is wrong is named."""
    header = loads(raw, what="the header", path=path)
    if not isinstance(header, dict):
        raise CorruptError("the header is not a JSON object", path=path)
    metadata = _check_metadata(header.pop(METADATA, None), path)
    LIMITS.check("tensors", len(header), "the number of tensors", path)
    findings: list[Finding] = []
    tensors = _tensors(header, 8 + len(raw), path, findings)
    _check_coverage(tensors, 8 + len(raw), size, path)
    return Checkpoint(path, NAME, tensors, files=(path,), metadata=metadata, findings=findings)


def _as_written(raw: bytes, size: int, path: str) -> Checkpoint | None:
    """A header as the writers write it, by columns; None for any other, one with a fault among them, which `_with_care` names.

    Blanks in no other places, the keys of an entry in one order, no escapes, the tensors in the order of their bytes: most of the time
    that a header of 20,000 entries takes goes into objects that nobody looks at.
    """
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        return None
    # the metadata first, if there is any, and the entries: compiled where they pay; with the blanks of Python's json, or without
    gap = " " if text.find('": {', 0, 1000) >= 0 else ""
    word = r'"[^"\\\x00-\x1f]*"'
    start = re.match(rf'\{{("__metadata__":{gap}\{{(?:{word}:{gap}{word}(?:,{gap}(?=")|(?=\}})))*\}}),{gap}(?=")', text)
    head = start.end() if start is not None else 1
    columns = _by_loop(raw, len(text[:head].encode()), gap) or _by_pattern(text[head:], gap)
    if columns is None:
        return None
    names, kinds, begins, ends = columns
    n = len(names)
    if (8 + LIMITS.rank) * n > LIMITS.json_values or LIMITS.json_depth < 4:
        return None
    of_kind, firsts, _ = sorts(kinds)
    known = [_kind(kind, gap) for kind in firsts]
    sizes = [size for _, size in known]
    due = list(map(sizes.__getitem__, of_kind))
    base = 8 + len(raw)
    if begins[0] or begins[1:] != ends[:-1] or base + ends[-1] != size or 4 * max(map(len, names)) > LIMITS.name_bytes:
        return None
    if min(sizes) < 0 or ends != list(accumulate(due)) or n > LIMITS.tensors or len(raw) > LIMITS.json_bytes:
        return None
    extents = tuples(Extent, [(path,), list(accumulate(due, initial=base))[:-1], due], n)
    fields = [names, (of_kind, [spec for spec, _ in known]), list(zip(extents, strict=True)), (None,), (None,), (None,), ((),)]
    tensors: dict[str, StoredTensor] = dict(zip(names, tuples(StoredTensor, fields, n), strict=True))
    if len(tensors) != n or METADATA in tensors:
        return None
    said = loads(b"{%s}" % start[1].encode(), what="the header", path=path) if start is not None else {}
    assert isinstance(said, dict)
    return Checkpoint(path, NAME, tensors, files=(path,), metadata=_check_metadata(said.get(METADATA), path))


Columns = tuple[list[str], list[str | bytes], list[int], list[int]]  # names, dtypes with shapes, where the bytes begin and end


def _by_loop(raw: bytes, head: int, gap: str) -> Columns | None:
    """The entries of a header from byte `head` on, by the compiled loop; None where it is not there, or one is not as writers write it."""
    native = compiled()
    return native.entries(raw, head, bool(gap)) if native is not None else None


def _by_pattern(text: str, gap: str) -> Columns | None:
    """The same by a pattern."""
    offset = "(0|[1-9][0-9]{0,18})"
    entry = rf'"dtype":{gap}("[A-Z0-9_]+",{gap}"shape":{gap}\[[0-9, ]*\]),{gap}"data_offsets":{gap}\[{offset},{gap}{offset}\]'
    found = re.split(rf'"([^"\\\x00-\x1f]+)":{gap}\{{{entry}\}}(?:,{gap}(?=")|\}}(?= *\Z))', text)
    if len(found) < 5 or any(found[:-1:5]) or found[-1].strip(" "):
        return None
    few: dict[str, str] = {}
    kinds: list[str | bytes] = [few.setdefault(kind, kind) for kind in found[2::5]]  # one text for all that are equal
    return found[1::5], kinds, list(map(int, found[3::5])), list(map(int, found[4::5]))


def _kind(written: str | bytes, gap: str) -> tuple[TensorSpec | None, int]:
    """(the spec, its bytes) of a type and a shape as they are written ('"F32","shape":[2,3]'); bytes of -1 where they are not as any
    writer writes them."""
    text = written if isinstance(written, str) else written.decode("latin-1")
    quoted, shaped, shape = text.partition(f',{gap}"shape":{gap}[')
    dtype = quoted[1:-1]
    if not shaped or quoted != f'"{dtype}"' or shape[-1:] != "]":
        return None, -1
    dims = shape[:-1].split("," + gap) if shape != "]" else []
    sizes = all(len(n) < 20 and n.isascii() and n.isdigit() and str(int(n)) == n for n in dims)
    if dtype not in _BITS or len(dims) > LIMITS.rank or not sizes:
        return None, -1
    spec = TensorSpec(dtype, tuple(map(int, dims)))
    bits = prod(spec.shape) * _BITS[dtype]
    return (spec, bits // 8) if not bits % 8 and 0 < bits < _U64 else (None, -1)


def _read_header(path: str) -> tuple[bytes, int]:
    """The header's bytes and the size of the file."""
    blob = store.open_blob(path)
    try:
        size = blob.size
        if size < 8:
            raise CorruptError(f"truncated: {size} bytes are too few for a safetensors file", path=path)
        length = int.from_bytes(blob.pread(8, 0), "little")
        start = blob.pread(1, 8)
        if start and start != b"{":
            raise CorruptError("is no safetensors file: its header does not begin with a brace", path=path)
        if length > MAX_HEADER:
            raise CorruptError(f"the header's length is given as {length:,} bytes; the format allows {MAX_HEADER:,}", path=path)
        LIMITS.check("header_bytes", length, "the header's length", path)
        if size < 8 + length:
            message = f"truncated: the header ends at byte {8 + length:,}, the file at {size:,}"
            raise CorruptError(message, path=path, hint="download it again")
        raw = blob.pread(length, 8)
        while len(raw) < length:
            more = blob.pread(length - len(raw), 8 + len(raw))
            if not more:
                raise CorruptError("became shorter while it was read", path=path)
            raw += more
        return raw, size
    finally:
        blob.close()


def _check_metadata(metadata: object, path: str) -> dict[str, str]:
    """`__metadata__` as a map of strings; null is none, as for the reference."""
    if metadata is None:
        return {}
    if not isinstance(metadata, dict):
        raise CorruptError(f"{METADATA!r} is not a map of strings", path=path)
    for key, value in metadata.items():
        if not isinstance(value, str):
            raise CorruptError(f"{METADATA} is not a map of strings: {key!r} is {value!r}", path=path)
    return metadata


def _tensors(header: dict[str, object], base: int, path: str, findings: list[Finding]) -> dict[str, StoredTensor]:
    """The header's entries, each held against its own rules; how they lie together is _check_coverage's."""
    tensors: dict[str, StoredTensor] = {}
    new = tuple.__new__  # all that a named tuple's constructor calls, at a third of its time
    name_bytes, rank = LIMITS.name_bytes, LIMITS.rank
    for name, info in header.items():
        if not name or 4 * len(name) > name_bytes:
            _check_name(name, path)
        if not isinstance(info, dict):
            raise CorruptError(f"tensor {name!r}: its entry is not an object", path=path)
        try:
            dtype, dims, offsets = info["dtype"], info["shape"], info["data_offsets"]
        except KeyError as e:
            raise CorruptError(f"tensor {name!r}: its entry has no {e.args[0]}", path=path) from None
        if len(info) != 3:
            findings.append(_unknown_fields(name, info))
        bits = _BITS.get(dtype) if type(dtype) is str else None
        if bits is None:
            raise CorruptError(f"tensor {name!r}: unknown dtype {dtype!r}", path=path)
        if type(dims) is not list:
            raise CorruptError(f"tensor {name!r}: its shape is not a list", path=path)
        for n in dims:
            if type(n) is not int or n < 0:
                raise CorruptError(f"tensor {name!r}: its shape holds {n!r}, not a size", path=path)
        if len(dims) > rank:
            LIMITS.check("rank", len(dims), f"the rank of {name!r}", path)
        if type(offsets) is not list or len(offsets) != 2:
            raise CorruptError(f"tensor {name!r}: data_offsets are not a begin and an end", path=path)
        begin, end = offsets
        if type(begin) is not int or type(end) is not int or begin < 0 or end >= _U64:
            raise CorruptError(f"tensor {name!r}: data_offsets {offsets!r} are not byte offsets", path=path)
        total = prod(dims) * bits
        if total != 8 * (end - begin) or not total:
            _check_size(name, dtype, dims, begin, end, path)
        extent = new(Extent, (path, base + begin, end - begin))
        tensors[name] = new(StoredTensor, (name, new(TensorSpec, (dtype, tuple(dims))), (extent,), None, None, None, ()))
    return tensors


def _check_name(name: str, path: str) -> None:
    if not name:
        raise CorruptError("a tensor has an empty name", path=path)
    LIMITS.check("name_bytes", len(name.encode()), f"the length of the name {name[:40]!r}...", path)


def _unknown_fields(name: str, info: dict[str, object]) -> Finding:
    unknown = ", ".join(sorted(repr(key) for key in info if key not in ("dtype", "shape", "data_offsets")))
    return Finding("info", "header", printable(name), printable(f"its entry in the header has unknown fields: {unknown}"))


def _check_size(name: str, dtype: str, dims: list[int], begin: int, end: int, path: str) -> None:
    """What the shape says against what the offsets say, with the reference's checked products."""
    where = f"tensor {name!r}, {dtype} {dims}, bytes {begin}-{end}"
    if end < begin:
        raise CorruptError(f"{where}: ends before it begins", path=path)
    bits = 1
    for n in [*dims, _BITS[dtype]]:
        bits *= n
        if n >= _U64 or bits >= _U64:
            raise CorruptError(f"{where}: its size overflows 64 bits", path=path)
    if bits % 8:
        raise CorruptError(f"{where}: {bits} bits are no whole number of bytes", path=path)
    if bits != 8 * (end - begin):
        raise CorruptError(f"{where}: the shape needs {bits // 8:,} bytes, the offsets give {end - begin:,}", path=path)


def _check_coverage(tensors: Mapping[str, StoredTensor], base: int, size: int, path: str) -> None:
    """One after another, from the header's end to the file's, without hole or overlap."""
    at, last = base, ""
    in_order = sorted([(t.extents[0].offset, t.extents[0].length, t.name) for t in tensors.values()])
    for offset, length, name in in_order:
        if offset != at:
            _refuse_gap(name, offset - base, length, at - base, last, path)
        at, last = offset + length, name
    if at > size:
        cut = next(f"{name!r} (bytes {o - base}-{o - base + n})" for o, n, name in in_order if o + n > size)
        message = f"truncated: header promises {at:,} bytes, file has {size:,}; {cut} is the first tensor not whole"
        raise CorruptError(message, path=path, hint="download it again")
    if at < size:
        raise CorruptError(
            f"{size - at:,} bytes follow the last tensor, from byte {at:,} on: header promises {at:,} bytes, file has {size:,}", path=path
        )


def _refuse_gap(name: str, begin: int, length: int, at: int, last: str, path: str) -> NoReturn:
    where = f"tensor {name!r}, bytes {begin}-{begin + length}"
    if begin < at:
        raise CorruptError(f"{where}: overlaps {last!r}, which ends at {at}", path=path)
    after = f"{last!r}, which ends at {at}" if last else "the header"
    raise CorruptError(f"{where}: leaves a hole of {begin - at:,} bytes after {after}", path=path)


def layout(
    tensors: Sequence[tuple[str, TensorSpec]],
    *,
    filename: str,
    ties: Mapping[str, str] = {},
    inside: Inside = NOTHING,
    max_shard_size: int | None = None,
) -> FileLayout:
    """Where every byte goes. Names in `ties` are left out; `extras` and `wrapper` have no place in this format.

    Shards (by huggingface_hub's rule, in the given order) only if the tensors do not fit into one of max_shard_size
    bytes. Raises UnsupportedError for what the format cannot hold, UsageError for names and metadata it forbids.
    """
    specs = _check_writable(tensors, ties)
    for key, value in inside.metadata.items():
        if not isinstance(key, str) or not isinstance(value, str):
            raise UsageError(f"safetensors metadata is a map of strings; {key!r} is {value!r}")
    nbytes = {spec: spec.nbytes for spec in set(specs.values())}
    sizes = dict(zip(specs, map(nbytes.__getitem__, specs.values()), strict=True))
    shards = _sharding.split(list(sizes.items()), max_shard_size) or [[]]
    names = [filename] if len(shards) == 1 else _sharding.shard_names(filename, len(shards))
    files: list[tuple[str, int]] = []
    parts: list[Part] = []
    laid: list[tuple[Sequence[str], int, list[int], list[int]]] = []
    for i, (file, held) in enumerate(zip(names, shards, strict=True)):
        held.sort(key=None if len({spec[0] for spec in nbytes}) == 1 else lambda n: (_RANK[specs[n].dtype], n))
        lengths = list(map(sizes.__getitem__, held))
        header = _header(held, specs, lengths, inside.metadata)
        parts.append(Part(i, 0, header))
        places = list(accumulate(lengths, initial=len(header)))
        laid.append((held, i, places[:-1], lengths))
        files.append((file, places[-1]))
    slots = slots_of(laid)
    if len(shards) > 1:
        home = dict(zip(slots.names, slots.files, strict=True))
        weight_map = {name: names[home[name]] for name in specs}
        index = _sharding.index_json(weight_map, sum(sizes.values()))
        parts.append(Part(len(files), 0, index))
        files.append((filename + ".index.json", len(index)))
    return FileLayout(NAME, tuple(files), slots, tuple(parts))


def finish(layout: FileLayout, crcs: Mapping[str, int]) -> tuple[Part, ...]:
    """Nothing in a safetensors file depends on the weights."""
    return ()


def _check_writable(tensors: Sequence[tuple[str, TensorSpec]], ties: Mapping[str, str]) -> dict[str, TensorSpec]:
    """The tensors that get bytes, by name."""
    specs = {n: spec for n, spec in tensors if n not in ties} if ties else dict(tensors)
    fits = all(spec[0] in _BITS and prod(spec[1]) * _BITS[spec[0]] % 8 == 0 for spec in set(specs.values()))
    if fits and "" not in specs and METADATA not in specs and len(specs) == sum([n not in ties for n, _ in tensors]):
        return specs
    specs = {}
    for name, spec in tensors:
        if name in ties:
            continue
        if name in specs:
            raise UsageError(f"two tensors are to be written as {name!r}")
        if name in ("", METADATA):
            raise UsageError(f"safetensors cannot hold a tensor named {name!r}")
        if spec.dtype not in _BITS:
            hint = "leave it out" if spec.dtype == "STRING" else "convert it to another dtype"
            raise UnsupportedError(f"safetensors cannot hold {name!r}: it has no dtype {spec.dtype}", hint=hint)
        if _BITS[spec.dtype] < 8 and prod(spec.shape) * _BITS[spec.dtype] % 8:
            raise UnsupportedError(f"safetensors cannot hold {name!r}: {spec.dtype} {list(spec.shape)} is no whole number of bytes")
        specs[name] = spec
    return specs


def _header(names: Sequence[str], specs: Mapping[str, TensorSpec], lengths: Sequence[int], metadata: Mapping[str, str]) -> bytes:
    """The first bytes of a file whose tensors follow in the order of `names`, each of so many bytes.

    The JSON is put together of what the names, the few dtypes and shapes, and the offsets are as text: a fifth of the time that json needs.
    """
    import json

    quoted = json.encoder.encode_basestring  # what json.dumps(ensure_ascii=False) makes of a string
    own = list(map(specs.__getitem__, names))
    kinds = {spec: f':{{"dtype":"{spec[0]}","shape":[{",".join(map(str, spec[1]))}],"data_offsets":[' for spec in set(own)}
    ends = list(map(str, accumulate(lengths, initial=0)))
    columns = zip(map(quoted, names), map(kinds.__getitem__, own), ends, ends[1:], strict=False)
    entries = [f"{name}{kind}{start},{end}]}}" for name, kind, start, end in columns]
    if metadata:
        said = json.dumps({METADATA: dict(metadata)}, ensure_ascii=False, separators=(",", ":"))
        entries.insert(0, said[1:-1])
    try:
        text = f"{{{','.join(entries)}}}".encode()
    except UnicodeEncodeError:
        raise UsageError("a name or metadata value holds half a surrogate pair, which JSON cannot carry") from None
    text += b" " * (-len(text) % 8)
    if len(text) > MAX_HEADER:
        hint = "write shards (--max-shard-size)"
        raise UnsupportedError(f"the header would be {len(text):,} bytes; safetensors allows {MAX_HEADER:,}", hint=hint)
    return len(text).to_bytes(8, "little") + text
