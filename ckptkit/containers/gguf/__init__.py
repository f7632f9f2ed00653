"""GGUF, the files of llama.cpp: versions 2 and 3, both byte orders, one file or a split one, with or without weights.

Source: docs/gguf.md of ggml, gguf.cpp and llama-gguf-split of llama.cpp. Dimensions lie in the file from the innermost to the outermost;
here they are row-major. A tensor of a block type is one stored tensor whose dtype is that type (see `ckptkit.packing.ggml`). The
key-value pairs are kept with their types in extras["gguf"]; arrays among them that are weights (`header.WEIGHTS`) are tensors; a
vocabulary stays in the file until it is asked for (`header.items`).

Policy: in a big-endian file numbers are turned round as they are read. Blocks of codes there are NOT read: llama.cpp's converter leaves
their scales as they were, its own script swaps them, and no byte says which of the two has happened; a finding does.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence

from ... import store
from ..._typing import Any
from ...errors import CorruptError, printable
from ...findings import Finding
from ...limits import LIMITS
from ...tensors import DTYPES, Extent, StoredTensor, TensorSpec, Unread
from .._interface import NOTHING, Checkpoint, FileLayout, Inside, Packed, Part
from .header import ARRAY, MAGIC, WEIGHTS, Header, Info, Span, Value, read_header

NAME = "gguf"
TITLE = "GGUF (llama.cpp; single file or split)"
SUFFIXES = (".gguf",)
DEFAULT_FILE = "model.gguf"
WRITABLE = True
TIES = False
SINGLE = True
STRINGS = False

ARCHITECTURE = "general.architecture"
COUNT, NUMBER, TOTAL = "split.count", "split.no", "split.tensors.count"
# tensors that say what no key says: llama.cpp's factors of rotary frequencies. They lie among the keys too, unread
TABLES = ("rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight")
SEGMENTS = "token_types.weight"  # that it is there lies among the keys too: it tells a BERT from a DistilBERT
VALUED = "attn_v.weight"  # the layers that have values lie there likewise: in Gemma 4 some take their keys for them
_SPLIT = r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<of>\d{5})\.gguf"
_PIECE = 1 << 20


def sniff(head: bytes, tail: bytes, path: str) -> bool:
    """The signature."""
    return head.startswith(MAGIC)


def find(directory: str, names: Sequence[str]) -> list[tuple[int, str]]:
    """The first file of each split and every other .gguf, after what else is a checkpoint (40)."""
    out = []
    for n in names:
        if n.endswith(".gguf"):
            m = re.fullmatch(_SPLIT, n) if n.endswith(".gguf") else None
            if m is None or int(m["number"]) == 1 or f"{m['stem']}-00001-of-{m['of']}.gguf" not in names:
                out.append((40, os.path.join(directory, n)))
    return out


def prefix(path: str) -> str | None:
    """GGUF files are named in full."""
    return None


def open(path: str) -> Checkpoint:
    """One file, or all of those that it is one of. Raises CorruptError, UnsupportedError, LimitError."""
    first = read_header(path)
    headers = {path: first} if _number(first, COUNT, 1) <= 1 else _split(path, first)
    values: dict[str, Any] = {}
    tensors: dict[str, StoredTensor] = {}
    findings: list[Finding] = []
    unread: dict[str, Unread] = {}
    for file, header in headers.items():
        values = {**header.values, **values}
        for info in header.tensors:
            if info.name in tensors or info.name in unread:
                raise CorruptError(f"the tensor {info.name!r} is in two of the split files", path=file)
            if header.big and DTYPES[info.dtype].block > 1:
                unread[info.name] = Unread("big-endian blocks", info.dtype, info.shape, "use the little-endian file that it was made of")
            else:
                tensors[info.name] = _stored(info, header, file)
            if info.name in TABLES and info.dtype == "F32" and len(info.shape) == 1:
                values[info.name] = Value(ARRAY, Span(6, info.shape[0], file, info.offset, info.nbytes, header.big), 6)
            if info.name == SEGMENTS:
                values[info.name] = Value(ARRAY, (), 6)
        LIMITS.check("tensors", len(tensors), "the number of tensors in all split files", path)
        for name in WEIGHTS:
            held = header.values.get(name)
            if held is not None and isinstance(held.value, Span) and name not in tensors and name not in unread:
                span = values.pop(name).value
                tensors[name] = _stored(Info(name, (span.many,), "F32", span.offset, span.length), header, file)
        findings += _remarks(header, file)
    total = _number(first, TOTAL, -1)
    many = sum(len(header.tensors) for header in headers.values())  # without those that lie among the keys
    if len(headers) > 1 and total not in (-1, many):
        findings.append(Finding("error", "shards", TOTAL, f"the split files hold {many} tensors; {TOTAL} says {total}"))
    if not tensors and not unread:
        findings.append(Finding("info", "header", os.path.basename(path), "a GGUF file that holds no tensor: a vocabulary alone"))
    if ARCHITECTURE in values and values[ARCHITECTURE].value == "gemma4":
        numbers = (n.split(".")[1] for n in tensors if n.startswith("blk.") and n.endswith("." + VALUED))
        values[VALUED] = Value(ARRAY, tuple(sorted(int(n) for n in numbers if n.isascii() and n.isdigit() and len(n) < 6)), 5)
    kept = {k: v for k, v in values.items() if k not in (COUNT, NUMBER, TOTAL)}
    made = Checkpoint(path, NAME, tensors, files=tuple(headers), extras={"gguf": kept}, findings=findings)
    made.unread = unread
    return made


def _number(header: Header, key: str, default: int) -> int:
    got = header.values.get(key)
    return got.value if got is not None and type(got.value) is int else default


def _split(path: str, first: Header) -> dict[str, Header]:
    """The headers of all files of a split one, in order."""
    count = LIMITS.check("shards", _number(first, COUNT, 1), "the number of split files", path)
    m = re.fullmatch(_SPLIT, os.path.basename(path))
    if m is None or int(m["of"]) != count:
        hint = "name-00001-of-0000N.gguf is how its files are found"
        raise CorruptError(f"is one of {count} split files, but is not called so", path=path, hint=hint)
    folder = os.path.dirname(path)
    names = [os.path.join(folder, f"{m['stem']}-{i:05d}-of-{count:05d}.gguf") for i in range(1, count + 1)]
    missing = [os.path.basename(n) for n in names if not store.is_file(n)]
    if missing:
        listed = ", ".join(missing[:4]) + (", ..." if len(missing) > 4 else "")
        raise CorruptError(f"{len(missing)} of {count} split files missing: {listed}", path=path, hint="is the download complete?")
    out = {}
    for i, name in enumerate(names):
        out[name] = header = first if store.same_file(name, path) else read_header(name)
        if _number(header, NUMBER, i) != i or _number(header, COUNT, count) != count:
            said = f"{_number(header, NUMBER, i) + 1} of {_number(header, COUNT, count)}"
            raise CorruptError(f"says that it is {said}; its name says {i + 1} of {count}", path=name)
    return out


def _stored(info: Info, header: Header, path: str) -> StoredTensor:
    spec = TensorSpec(info.dtype, info.shape)
    dtype = DTYPES[info.dtype]
    if not header.big or dtype.bits == 8:
        return StoredTensor(info.name, spec, (Extent(path, info.offset, info.nbytes),))
    return StoredTensor(info.name, spec, read=Packed(lambda: _swapped(info, dtype.bits // 8, path)))


def _swapped(info: Info, width: int, path: str) -> Iterator[bytes]:
    """The bytes of a tensor with each element turned round."""
    from array import array


    blob = store.open_blob(path)
    try:
        for at in range(0, info.nbytes, _PIECE):
            raw = blob.pread(min(_PIECE, info.nbytes - at), info.offset + at)
            if len(raw) < min(_PIECE, info.nbytes - at):
                raise CorruptError("became shorter while it was read", path=path)
            turned = array({2: "H", 4: "I", 8: "Q"}[width], raw)
            turned.byteswap()
            yield turned.tobytes()
    finally:
        blob.close()


def _remarks(header: Header, path: str) -> list[Finding]:
    """What a reader of the header should know."""
    out = _unused(header, path)
    if not header.big:
        return out
    blocks = [i.name for i in header.tensors if DTYPES[i.dtype].block > 1]
    name = os.path.basename(path)
    out.append(Finding("info", "byte-order", name, "is big-endian: numbers are turned round as they are read"))
    if blocks:
        what = (
            f"{len(blocks)} tensors are quantised in a big-endian file: llama.cpp's converter leaves the scales in the other order, "
            "its script swaps them, and nothing says which; they are not read"
        )
        out.append(Finding("warning", "byte-order", blocks[0], what, "use the little-endian file that it was made of"))
    return out


def _unused(header: Header, path: str) -> list[Finding]:
    """Bytes of the data that belong to no tensor and fill up to no alignment: llama.cpp refuses a file with some between its tensors."""
    out = []
    end, last = header.start, ""
    again = "is a type or a shape not the tensor's own? Make the file again"
    for i in sorted(header.tensors, key=lambda i: i.offset):
        due = end + -(end - header.start) % header.alignment
        if i.offset > due:
            said = f"{i.offset - due:,} bytes before {printable(i.name, 100)}" + (f" and after {printable(last, 100)}" if last else "")
            out.append(Finding("error", "unused-bytes", printable(last or i.name), f"{said} belong to no tensor", again))
        end, last = i.offset + i.nbytes, i.name
    left = header.size - (end + -(end - header.start) % header.alignment)
    if left > 0 and last:
        what = f"{left:,} bytes after {printable(last, 100)}, the last tensor, belong to none"
        out.append(Finding("warning", "unused-bytes", printable(last), what, again))
    return out


def layout(
    tensors: Sequence[tuple[str, TensorSpec]],
    *,
    filename: str,
    ties: Mapping[str, str] = {},
    inside: Inside = NOTHING,
    max_shard_size: int | None = None,
) -> FileLayout:
    """Where every byte goes; see `write`."""
    from .write import lay_out

    kept = inside.extras.get("gguf")
    keys = {k: v for k, v in kept.items() if k not in (*TABLES, SEGMENTS, VALUED)} if isinstance(kept, Mapping) else {}
    return lay_out([(n, s) for n, s in tensors if n not in ties], filename, inside.metadata, keys, max_shard_size)


def finish(layout: FileLayout, crcs: Mapping[str, int]) -> tuple[Part, ...]:
    """Nothing in a GGUF file depends on the weights."""
    return ()
