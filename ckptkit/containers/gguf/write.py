"""Laying out GGUF files, version 3, little-endian: keys, infos, and every tensor padded to the alignment, the last one too.

Source: docs/gguf.md of ggml, gguf_writer.py of gguf-py. Tensors keep their order. Above a maximal size they are split as llama-gguf-split
does: name-00001-of-0000N.gguf, the keys in the first file alone, split.no, split.count and split.tensors.count in each. llama.cpp loads
names of its own, of up to 63 bytes; where another naming keeps its names, longer ones are written (gguf-py reads them).
"""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping, Sequence

from ... import store
from ..._typing import Any
from ...errors import UnsupportedError, UsageError
from ...tensors import TensorSpec
from .._interface import FileLayout, Part, Slot
from .._sharding import split
from .header import ALIGNMENT, ARRAY, FLOAT32, MAGIC, NUMBERS, STRING, TYPES, WEIGHTS, Span, Value

_NUMBERS = {name: number for number, name in TYPES.items()}


def lay_out(
    tensors: Sequence[tuple[str, TensorSpec]],
    filename: str,
    metadata: Mapping[str, str],
    values: Mapping[str, Value],
    max_shard_size: int | None,
) -> FileLayout:
    """Headers and places. UnsupportedError for what ggml has no type or room for."""
    specs: dict[str, TensorSpec] = {}
    for name, spec in tensors:
        _check(name, spec)
        if name in specs:
            raise UsageError(f"two tensors are to be written as {name!r}")
        specs[name] = spec
    alignment = values[ALIGNMENT].value if ALIGNMENT in values else 32
    keys = dict(values) | {k: Value(STRING, v) for k, v in metadata.items() if k not in values and k != "format"}
    among = {n: specs.pop(n) for n in WEIGHTS if n in specs and specs[n].dtype == "F32" and len(specs[n].shape) == 1}
    held = split([(n, s.nbytes) for n, s in specs.items()], max_shard_size) or [[]]
    stem, ext = os.path.splitext(filename)
    files: list[tuple[str, int]] = []
    parts: list[Part] = []
    slots: dict[str, Slot] = {}
    for i, names in enumerate(held):
        own = keys if i == 0 else {}
        if len(held) > 1:
            numbers = {"split.no": Value(2, i), "split.count": Value(2, len(held)), "split.tensors.count": Value(5, len(specs))}
            own = {**own, **numbers}
        if i == 0:
            own = {k: v for k, v in own.items() if k not in among}
            slots |= _among_keys(len(_header(own, ())), among)
            own |= {n: Value(ARRAY, (0.0,) * s.numel, FLOAT32) for n, s in among.items()}
        offsets, end = {}, 0
        for name in names:
            offsets[name] = end
            end += -(-specs[name].nbytes // alignment) * alignment
        head = _header(own, [(n, specs[n], offsets[n]) for n in names])
        head += bytes(-len(head) % alignment)
        parts += _around(i, head, slots if i == 0 else {})
        slots |= {n: Slot(i, len(head) + offsets[n], specs[n].nbytes) for n in names}
        files.append((filename if len(held) == 1 else f"{stem}-{i + 1:05d}-of-{len(held):05d}{ext}", len(head) + end))
    return FileLayout("gguf", tuple(files), slots, tuple(parts))


def _among_keys(end: int, weights: Mapping[str, TensorSpec]) -> dict[str, Slot]:
    """Where the numbers of arrays lie that are the last keys, behind `end` bytes of the others."""
    slots = {}
    for name, spec in weights.items():
        end += len(_text(name)) + struct.calcsize("<IIQ")
        slots[name] = Slot(0, end, spec.nbytes)
        end += spec.nbytes
    return slots


def _around(file: int, head: bytes, slots: Mapping[str, Slot]) -> list[Part]:
    """A header without the bytes that are tensors'."""
    parts, at = [], 0
    for slot in slots.values():
        parts.append(Part(file, at, head[at : slot.offset]))
        at = slot.offset + slot.length
    return [*parts, Part(file, at, head[at:])]


def _check(name: str, spec: TensorSpec) -> None:
    """Refuse what GGUF cannot hold."""
    if spec.dtype not in _NUMBERS:
        raise UnsupportedError(f"GGUF cannot hold {name!r}: ggml has no type {spec.dtype}", hint="convert it to another dtype")
    if len(spec.shape) > 4:
        raise UnsupportedError(f"GGUF cannot hold {name!r}: {len(spec.shape)} dimensions; ggml has four")
    if not name or "\0" in name:
        raise UsageError(f"GGUF cannot hold a tensor named {name!r}")


def _header(values: Mapping[str, Value], tensors: Sequence[tuple[str, TensorSpec, int]]) -> bytes:
    out = [MAGIC, struct.pack("<IQQ", 3, len(tensors), len(values))]
    for key, value in values.items():
        out += [_text(key), struct.pack("<I", value.type), *_value(key, value)]
    for name, spec, offset in tensors:
        dims = tuple(reversed(spec.shape))
        out += [_text(name), struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, _NUMBERS[spec.dtype], offset)]
    return b"".join(out)


def _text(text: str) -> bytes:
    raw = text.encode("utf-8", "surrogateescape")
    return struct.pack("<Q", len(raw)) + raw


def _value(key: str, value: Value) -> list[bytes]:
    if value.type == STRING:
        return [_text(value.value)]
    if value.type in NUMBERS:
        return [struct.pack("<" + NUMBERS[value.type], value.value)]
    if value.type != ARRAY:
        raise UsageError(f"the key {key!r} has the type {value.type}, which GGUF does not have")
    if isinstance(value.value, Span):
        span = value.value
        return [struct.pack("<IQ", span.kind, span.many), _span(span)]
    if value.item == ARRAY:
        nested: list[bytes] = [struct.pack("<IQ", ARRAY, len(value.value))]
        for v in value.value:
            nested += _value(key, v)
        return nested
    items: Sequence[Any] = value.value
    if value.item == STRING:
        return [struct.pack("<IQ", STRING, len(items)), *map(_text, items)]
    return [struct.pack(f"<IQ{len(items)}{NUMBERS[value.item]}", value.item, len(items), *items)]


def _span(span: Span) -> bytes:
    """The bytes of an array that lies in another file, in this one's order."""
    from .header import span_items

    if span.big:
        items = span_items(span)
        return b"".join(map(_text, items)) if span.kind == STRING else struct.pack(f"<{len(items)}{NUMBERS[span.kind]}", *items)
    blob = store.open_blob(span.path)
    try:
        return blob.pread(span.length, span.offset)
    finally:
        blob.close()
