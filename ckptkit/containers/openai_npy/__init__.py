"""The folder that OpenAI published GPT in: params_shapes.json and ten flat arrays, params_0.npy to params_9.npy.

Source: openai/finetune-transformer-lm train.py, which puts the ten end to end and cuts them by the shapes. Where one array
ends means nothing: a tensor may lie in two of them. There are no names (`order`); parameters_names.json, which
transformers' conversion script wants beside them, is written and not needed for reading. Written arrays are of one
length, the last the shorter, as the published ones.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from math import prod

from ... import store
from ..._typing import TYPE_CHECKING
from ...errors import CorruptError, NotFoundError, UnsupportedError
from ...findings import Finding
from ...limits import LIMITS
from ...support.lazy import later
from ...tensors import DTYPES, Extent, StoredTensor, TensorSpec
from .._interface import FOLDERS, NOTHING, Checkpoint, FileLayout, Inside, Part, Slot

if TYPE_CHECKING:
    from .._wire.npy_header import Header
    from . import order as openai_order
else:
    later(globals(), openai_order=".order")

NAME = "openai-npy"
TITLE = "OpenAI's GPT folder (params_shapes.json and flat .npy arrays)"
SUFFIXES: tuple[str, ...] = ("params_shapes.json",)
MARKS = ("params_shapes.json", FOLDERS)
DEFAULT_FILE = "params_shapes.json"
WRITABLE = True
TIES = False
SINGLE = False
STRINGS = False
ONLY = "openai-gpt"

SHAPES, NAMES = "params_shapes.json", "parameters_names.json"
FILES = 10


def _number(name: str) -> int | None:
    """7 of "params_7.npy"; None of any other name."""
    digits = name.removeprefix("params_").removesuffix(".npy")
    return (
        int(digits) if name == f"params_{digits}.npy" and digits.isascii() and digits.isdigit() and digits == str(int(digits[:6])) else None
    )


def sniff(head: bytes, tail: bytes, path: str) -> bool:
    """The list of shapes, or one of the arrays beside it."""
    folder, name = os.path.split(path)
    if name == SHAPES:
        return head.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"["
    return head[:6] == b"\x93NUMPY" and _number(name) is not None and store.is_file(os.path.join(folder, SHAPES))


def find(directory: str, names: Sequence[str]) -> list[tuple[int, str]]:
    """The list of shapes (14), also in the folder "model" of OpenAI's repository (40)."""
    if SHAPES in names:
        return [(14, os.path.join(directory, SHAPES))]
    inner = os.path.join(directory, "model", SHAPES)
    return [(40, inner)] if "model" in names and store.is_file(inner) else []


def prefix(path: str) -> str | None:
    """The folder is named, or a file in it."""
    return None


def open(path: str) -> Checkpoint:
    """The checkpoint whose list of shapes, or one of whose arrays, is at `path`. Raises CheckpointError."""
    folder = os.path.dirname(path)
    where = os.path.join(folder, SHAPES)
    shapes = _shapes(store.read_json(where), where)
    arrays = _arrays(folder)
    spec = arrays[0][1].spec
    width = DTYPES[spec.dtype].bits // 8
    have, need = sum(h.spec.numel for _, h in arrays), sum(prod(s) for s in shapes)
    if have != need:
        what = f"the {len(shapes)} shapes need {need:,} elements, the {len(arrays)} arrays hold {have:,}"
        raise CorruptError(
            what, path=where, hint="an array is missing or cut" if have < need else "the list does not belong to these arrays"
        )
    tensors: dict[str, StoredTensor] = {}
    i, done = 0, 0  # the array, and how many of its elements have been given out
    for name, shape in zip(openai_order.published(len(shapes)), shapes, strict=True):
        left = prod(shape)
        extents = []
        while left:
            file, h = arrays[i]
            n = min(left, h.spec.numel - done)
            if n:
                extents.append(Extent(file, h.start + done * width, n * width))
            left, done = left - n, done + n
            if done == h.spec.numel:
                i, done = i + 1, 0
        tensors[name] = StoredTensor(name, TensorSpec(spec.dtype, shape), tuple(extents))
    return Checkpoint(path, NAME, tensors, files=(where, *(f for f, _ in arrays)), findings=_findings(len(shapes), len(arrays), where))


def _shapes(value: object, path: str) -> list[tuple[int, ...]]:
    if not isinstance(value, list) or not value:
        raise CorruptError("is no list of shapes", path=path)
    LIMITS.check("tensors", len(value), "the number of tensors", path)
    out: list[tuple[int, ...]] = []
    for i, shape in enumerate(value):
        if not isinstance(shape, list) or not all(type(n) is int and 0 <= n < 1 << 48 for n in shape):
            raise CorruptError(f"entry {i} is no shape", path=path)
        LIMITS.check("rank", len(shape), f"the rank of entry {i}", path)
        out.append(tuple(shape))
    return out


def _arrays(folder: str) -> list[tuple[str, Header]]:
    """The arrays in order, each one's header read."""
    from .._wire.npy_header import MAX_HEADER, header

    found = sorted(i for n in store.listdir(folder or ".") if (i := _number(n)) is not None)
    if not found:
        raise NotFoundError("there are no arrays (params_0.npy, ...) beside the list of shapes", path=os.path.join(folder, SHAPES))
    LIMITS.check("shards", len(found), "the number of arrays", folder)
    lacking = sorted(set(range(found[-1] + 1)) - set(found))
    if lacking:
        raise NotFoundError(f"there are {len(found)} arrays up to params_{found[-1]}.npy, but no params_{lacking[0]}.npy", path=folder)
    out: list[tuple[str, Header]] = []
    for i in found:
        path = os.path.join(folder, f"params_{i}.npy")
        blob = store.open_blob(path)
        try:
            h = header(blob.pread(MAX_HEADER + 12, 0), blob.size, path)
        finally:
            blob.close()
        if len(h.spec.shape) != 1:
            raise CorruptError(f"has shape {list(h.spec.shape)}: the arrays of this format are flat", path=path)
        if out and h.spec.dtype != out[0][1].spec.dtype:
            raise CorruptError(f"is {h.spec.dtype}, params_0.npy is {out[0][1].spec.dtype}", path=path)
        out.append((path, h))
    return out


def _findings(tensors: int, arrays: int, path: str) -> list[Finding]:
    out = []
    rest = (tensors - 2) % len(openai_order.LAYER)
    if tensors < 2 or rest:
        out.append(Finding(
            "warning", "order", path,
            f"{tensors} tensors are not two and {len(openai_order.LAYER)} a layer: the names, which only the order gives, cannot be right",
            "the list of shapes was cut, or belongs to another model",
        ))  # fmt: skip
    if arrays != FILES:
        out.append(Finding("info", "arrays", path, f"there are {arrays} arrays; OpenAI's own code reads {FILES}"))
    return out


def layout(
    tensors: Sequence[tuple[str, TensorSpec]],
    *,
    filename: str,
    ties: Mapping[str, str] = {},
    inside: Inside = NOTHING,
    max_shard_size: int | None = None,
) -> FileLayout:
    """Where every byte goes; the order is the format's, whatever that of `tensors`. Raises UnsupportedError for other models' tensors."""
    from .._wire.npy_header import write_header

    specs = {n: s for n, s in tensors if n not in ties}
    order = openai_order.published(len(specs))
    other = sorted(specs.keys() - set(order))
    lacking = [n for n in order if n not in specs]
    if other or len(order) % len(openai_order.LAYER) != 2 or not specs:
        what = f"no place for {other[0]}" if other else f"{len(specs)} tensors where it has two and {len(openai_order.LAYER)} a layer"
        hint = f"{lacking[0]} is missing" if lacking else None
        raise UnsupportedError(f"OpenAI's GPT folder holds one model, its tensors known by their order: {what}", hint=hint)
    dtypes = sorted({s.dtype for s in specs.values()})
    if len(dtypes) > 1:
        raise UnsupportedError(f"OpenAI's GPT folder has one dtype for all: these are {', '.join(dtypes)}", hint="--dtype float32")
    width = DTYPES[dtypes[0]].bits // 8
    total = sum(s.numel for s in specs.values())
    each = max(1, -(-total // FILES))
    files: list[tuple[str, int]] = []
    parts: list[Part] = []
    starts = []
    for i in range(FILES):
        n = max(0, min(each, total - i * each))
        head = write_header(TensorSpec(dtypes[0], (n,)))
        files.append((f"params_{i}.npy", len(head) + n * width))
        parts.append(Part(i, 0, head))
        starts.append(len(head))
    slots: dict[str, Slot] = {}
    split: dict[str, tuple[Slot, ...]] = {}
    at = 0
    for name in order:
        pieces = []
        end = at + specs[name].numel
        while at < end:
            i = at // each
            n = min(end, (i + 1) * each) - at
            pieces.append(Slot(i, starts[i] + (at - i * each) * width, n * width))
            at += n
        slots[name] = pieces[0] if pieces else Slot(0, starts[0], 0)
        if len(pieces) > 1:
            split[name] = tuple(pieces)
    names = ["model/we:0", *(f"{n}:0" for n in order[2:])]  # transformers' script: one name for the first two
    for name, value in ((SHAPES, [list(specs[n].shape) for n in order]), (NAMES, names)):
        data = json.dumps(value).encode()
        parts.append(Part(len(files), 0, data))
        files.append((name, len(data)))
    return FileLayout(NAME, tuple(files), slots, tuple(parts), split=split)


def finish(layout: FileLayout, crcs: Mapping[str, int]) -> tuple[Part, ...]:
    """Nothing here depends on the weights."""
    return ()
