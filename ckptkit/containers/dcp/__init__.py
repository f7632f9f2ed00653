"""Distributed checkpoints of PyTorch (torch.distributed.checkpoint): a folder of .metadata and the ranks' .distcp files.

Sources: torch/distributed/checkpoint (2.13): metadata.py, filesystem.py, planner.py; megatron/core/dist_checkpointing for the folders that
Megatron calls torch_dist. `metadata` reads the .metadata, `items` what the files hold, `names` tells model and optimizer apart, `write`
writes. Chunks are boxes like those of any format; any mesh and any cut will do.

Policy: what the metadata say is held against the items themselves. A rank whose file is gone or cut short is an error that names the rank
and what lacks a piece of it; the rest is read. Values that the ranks keep of the step of each parameter must agree.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence

from ... import store
from ..._typing import TYPE_CHECKING
from ...errors import CheckpointError, NotFoundError, UnsupportedError, printable
from ...findings import Finding
from ...limits import LIMITS
from ...support.lazy import later
from ...tensors import DTYPES, Box, Check, Extent, StoredTensor, TensorSpec, Unread
from .._interface import FOLDERS, NOTHING, Checkpoint, FileLayout, Inside, Part

if TYPE_CHECKING:
    from .. import _pieces, _ranks, megatron
    from . import audits, items, metadata, names, torch_dist, write
    from .metadata import Chunk, Listed, Metadata
else:
    later(
        globals(), _pieces=".._pieces", _ranks=".._ranks", audits=".audits", items=".items", megatron="..megatron", metadata=".metadata",
        names=".names", torch_dist=".torch_dist", write=".write",
    )  # fmt: skip

NAME = "dcp"
TITLE = "PyTorch distributed checkpoint (DCP)"
SUFFIXES = (".distcp",)
MARKS = ("\n.metadata\n", "latest_checkpointed_iteration.txt", FOLDERS)
DEFAULT_FILE = ".metadata"
WRITABLE = True
STATE = True  # an optimizer's state has a place
TIES = False
SINGLE = False
PARTS = r"__[0-9]{1,7}_[0-9]{1,7}\.distcp|common\.pt"  # what ranks have, in a folder that is one checkpoint
STRINGS = False

RULE = "pieces"
METADATA = ".metadata"
_RANK = re.compile(r"__([0-9]{1,7})_[0-9]{1,7}\.distcp")
_MODEL = re.compile(r"pytorch_model_fsdp_[0-9]{1,4}")  # accelerate, beside optimizer_0
_STEP = re.compile(r"step-([0-9]{1,12})")  # torchtitan
_NOWHERE = Extent("", 0, 0)


def sniff(head: bytes, tail: bytes, path: str) -> bool:
    """A .metadata that is a pickle, or a file of a rank beside one."""
    if os.path.basename(path) == METADATA:
        folder = os.path.dirname(path) or "."
        # whatever the pickle is then: refused by name
        return head[:1] == b"\x80" or any(n.endswith(".distcp") for n in store.listdir(folder))
    return path.endswith(".distcp") and head.startswith(b"PK") and store.is_file(os.path.join(os.path.dirname(path), METADATA))


def find(directory: str, names: Sequence[str]) -> list[tuple[int, str]]:
    """The .metadata of a folder, or of the one below it that holds the model: accelerate's, and of torchtitan's the latest step."""
    if METADATA in names:
        return [(5, os.path.join(directory, METADATA))]
    if megatron.TRACKER in names and (folder := megatron.latest(os.path.join(directory, megatron.TRACKER))) is not None:
        there = os.path.join(folder, METADATA)
        return [(5, there)] if store.is_file(there) else []
    inner = [n for n in names if _MODEL.fullmatch(n)]
    steps = sorted((int(found[1]), n) for n in names if (found := _STEP.fullmatch(n)))
    for n in inner if len(inner) == 1 else [n for _, n in reversed(steps)]:
        path = os.path.join(directory, n, METADATA)
        if store.is_file(path):
            return [(5, path)]
    return []


def prefix(path: str) -> str | None:
    """A folder is named by itself."""
    return None


def open(path: str) -> Checkpoint:
    """Read the metadata and the headers of every item. Raises CorruptError, UnsafeError, LimitError."""
    folder = os.path.dirname(path)
    path = os.path.join(folder, METADATA)
    meta = metadata.read_metadata(path)
    run = torch_dist.read_run(folder)
    reader = _Reader(folder, meta, stacked=run is not None)
    try:
        for name, listed in meta.tensors.items():
            reader.tensor(name, listed)
        extras = reader.values() if run is None else run.extras
    finally:
        reader.close()
    slight = {n: t.shape == () or all(d == 1 for d in t.shape) or DTYPES[t.dtype or "F32"].kind != "float" for n, t in meta.tensors.items()}
    listed_names = list(meta.tensors) if run is None else [*reader.tensors, *reader.unread]
    named = names.name_all(listed_names, meta.paths if run is None else {}, lambda n: slight.get(n, False))
    rename = named.names
    tensors = {rename[n]: t._replace(name=rename[n]) for n, t in reader.tensors.items()}
    made = Checkpoint(
        path, NAME, tensors, files=[path, *reader.used, *([] if run is None else run.files)], extras=extras, wrapper=named.wrapper,
        beside=frozenset(rename[n] for n in named.state), findings=reader.findings(), checks=lambda: iter(reader.checks),
    )  # fmt: skip
    if run is not None:
        made.findings += run.findings
        made.mesh = run.mesh
    if _MODEL.fullmatch(os.path.basename(store.absolute(folder))):
        made.home = os.path.dirname(store.absolute(folder))
    made.findings += [*_optimizer_apart(folder), *(torch_dist.other_form(folder) if run is None else ())]
    made.unread = {rename[n]: u for n, u in reader.unread.items()}
    made.parts = {rename[n]: part for n, part in named.parts.items()}
    made.ranks = {p: rank_of(p) for p in reader.used}
    made.replicas = [r._replace(name=rename[r.name]) for r in reader.replicas]
    steps = {n: t for n, t in tensors.items() if n in made.beside and n.endswith(".step") and t.spec.numel == 1}

    def audit() -> Iterator[Finding]:
        yield from made.compare_replicas()
        yield from audits.same_step(made, steps, rank_of)
        yield from audits.alike(reader.held, rank_of)
        yield from audits.without_step(reader.used, steps, rank_of)

    made.audit = audit
    return made


def _optimizer_apart(folder: str) -> Iterator[Finding]:
    """That accelerate keeps the optimizer's state in a folder beside that of the model."""
    name = os.path.basename(folder)
    beside = name.replace("pytorch_model_fsdp", "optimizer")
    if _MODEL.fullmatch(name) and store.is_file(os.path.join(os.path.dirname(folder), beside, METADATA)):
        text = f"the optimizer's state lies beside {name}, in {beside}, a checkpoint of its own: not looked at"
        yield Finding("info", "optimizer", beside, text, f"name {beside} to have it read, or converted to another DCP folder")


def rank_of(path: str) -> str:
    """The rank that a file is of: "rank 3"."""
    found = _RANK.fullmatch(os.path.basename(path))
    return f"rank {int(found[1])}" if found else os.path.basename(path)


class _Reader:
    """Takes in tensors, chunk by chunk."""

    def __init__(self, folder: str, meta: Metadata, *, stacked: bool = False) -> None:
        self._folder, self._meta, self._stacked = folder, meta, stacked
        self._items = items.Items()
        self._files: dict[str, tuple[store.Blob | None, int, str]] = {}  # file -> (it, open, its size, what is wrong)
        self.tensors: dict[str, StoredTensor] = {}
        self.unread: dict[str, Unread] = {}
        self.replicas: list[_pieces.Replicas] = []
        self.checks: list[Check] = []
        self.used: list[str] = []
        self.held: dict[str, int] = {}  # file -> a sum of what lies where in it, without any value
        self._lacking: dict[str, list[str]] = {}  # what is wrong with a rank's file -> the tensors that it costs
        self._wrong: list[Finding] = []

    def close(self) -> None:
        for blob, _, _ in self._files.values():
            if blob is not None:
                blob.close()

    def _file(self, file: str) -> tuple[store.Blob | None, int, str]:
        found = self._files.get(file)
        if found is None:
            found = self._files[file] = self._opened(file)
        return found

    def _opened(self, file: str) -> tuple[store.Blob | None, int, str]:
        path = os.path.join(self._folder, file)
        whose = rank_of(path)
        if store.is_link(path) and store.leads_out(path, self._folder):
            return None, 0, f"{file} is a link that leads out of the folder"
        try:
            blob = store.open_blob(path)
        except NotFoundError:
            return None, 0, f"the file of {whose}, {file}, is missing" if whose != file else f"{file} is missing"
        self.used.append(path)
        return blob, blob.size, ""

    def tensor(self, name: str, listed: Listed) -> None:
        """One tensor of the metadata."""
        shown = repr(printable(name))
        path = os.path.join(self._folder, METADATA)
        if not listed.dtype:
            self.unread[name] = Unread(f"a tensor of {listed.said or 'no dtype'}", "", listed.shape, "no dtype that ckptkit knows")
            return
        spec = TensorSpec(listed.dtype, listed.shape)
        boxes: list[Box] = []
        packed = False
        for chunk in listed.chunks:
            _pieces.check_inside(Box(chunk.offset, chunk.shape, _NOWHERE), listed.shape, shown, path)
            if chunk.packed:
                packed = True
            elif 0 not in chunk.shape:
                box = self._box(name, spec, chunk)
                boxes += [] if box is None else [box]
        if packed:
            self.unread[name] = Unread("a tensor that went through an extension", spec.dtype, spec.shape, "save it without one")
            return
        found = _pieces.tile(boxes, spec.shape, spec.dtype, shown, path)
        self.replicas += [_pieces.Replicas(name, spec, a, b) for a, b in found.overlaps]
        if not found.missing or not spec.numel:
            parts = torch_dist.unstack(name, spec, found.boxes) if self._stacked else [(name, spec, found.boxes)]
            LIMITS.check("tensors", len(self.tensors) + len(parts), "the number of tensors", path)
            self.tensors.update({n: _pieces.joined(n, s, held) for n, s, held in parts})
            return
        self.unread[name] = Unread(f"pieces with {found.missing:,} of {spec.numel:,} elements missing", spec.dtype, spec.shape)
        if not any(name in names for names in self._lacking.values()):
            text = f"the pieces of {shown} leave out {found.missing:,} of its {spec.numel:,} elements"
            where = _pieces.describe_hole(boxes, spec, lambda b: rank_of(b.extent.path)) or _whose(listed.chunks)
            self._wrong.append(Finding("error", RULE, printable(name), f"{text} ({where})", "the metadata are not those that were written"))

    def _box(self, name: str, spec: TensorSpec, chunk: Chunk) -> Box | None:
        """A chunk with its bytes; None, which is told, where they are not there."""
        box = Box(chunk.offset, chunk.shape, _NOWHERE)
        if not chunk.file:
            self._lost("the metadata do not say where it lies", name)
            return None
        blob, size, wrong = self._file(chunk.file)
        path = os.path.join(self._folder, chunk.file)
        if blob is None:
            self._lost(wrong, name)
            return None
        whose = rank_of(path)
        if chunk.at + chunk.length > size:
            self._lost(f"the file of {whose}, {chunk.file}, ends at byte {size:,}, before what the metadata place there", name)
            return None
        shown = f"{printable(name)!r} {box.shown()}"
        try:
            item = self._items.tensor(blob, path, chunk.at, chunk.length)
        except CheckpointError as e:
            text = f"{whose} does not have {shown} where the metadata say: {e.message}"
            self._wrong.append(Finding("error", RULE, printable(name), text, "its file is of another step, or damaged"))
            return None
        t = item.tensor
        if t.spec != (spec.dtype, chunk.shape) or len(t.extents) != 1:
            have = f"{t.spec.dtype} {list(t.spec.shape)}"
            text = f"{whose} has {have} where the metadata say {shown}, {spec.dtype} {list(chunk.shape)}"
            self._wrong.append(Finding("error", RULE, printable(name), text, "its file is of another step, or damaged"))
            return None
        self.held[path] = self.held.get(path, 0) ^ hash((chunk.at, chunk.length, spec.dtype, chunk.shape))
        if item.crc:
            self.checks.append(items.check_of(f"{printable(name)} {box.shown()} of {whose}", item))
        return Box(chunk.offset, chunk.shape, t.extents[0], t.strides)

    def _lost(self, why: str, name: str) -> None:
        held = self._lacking.setdefault(why, [])
        if not held or held[-1] != name:
            held.append(name)

    def values(self) -> dict[str, object]:
        """What is no tensor, as plain data."""
        out: dict[str, object] = {}
        for name, o in self._meta.objects.items():
            if not o.file or o.packed:
                continue
            blob, size, _ = self._file(o.file)
            if blob is None or o.at + o.length > size:
                continue
            value = self._items.value(blob, os.path.join(self._folder, o.file), o.at, o.length)
            if value is not items.NOTHING:
                out[name] = value
        return out

    def findings(self) -> list[Finding]:
        """What was noticed."""
        out = [*_ranks.lacking(self._lacking)]
        more = self._wrong[20:]
        if more:
            out.append(Finding("error", RULE, more[0].where, f"{len(more)} more pieces are not what the metadata say"))
        return [*self._wrong[:20], *out, *self._items.findings]


def _whose(chunks: Sequence[Chunk]) -> str:
    ranks = sorted({rank_of(c.file) for c in chunks if c.file})
    return ", ".join(ranks[:8]) + (", ..." if len(ranks) > 8 else "")


def layout(
    tensors: Sequence[tuple[str, TensorSpec]],
    *,
    filename: str,
    ties: Mapping[str, str] = {},
    inside: Inside = NOTHING,
    max_shard_size: int | None = None,
) -> FileLayout:
    """Lay out a checkpoint, as files of ranks of about `max_shard_size` bytes. Names in `inside.state` are an optimizer's, the others the
    model's, under the keys of its wrapper; with the settings of a run of Megatron's among the extras it has Megatron's form. Raises
    UnsupportedError, UsageError."""
    if ties:
        raise UnsupportedError(f"{next(iter(ties))!r} is tied: a distributed checkpoint stores every tensor of its own")
    return write.make_layout(NAME, tensors, inside, max_shard_size)


def finish(layout: FileLayout, crcs: Mapping[str, int]) -> Iterator[Part]:
    """What follows each tensor's bytes, given the CRC-32 of each."""
    return write.make_finish(layout, crcs)
