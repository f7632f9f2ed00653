"""Writing distributed checkpoints: each tensor one item of a rank's file, and the .metadata that torch.distributed.checkpoint reads first.

Policy: a loader takes any chunks that tile a tensor, for any mesh, so each tensor is one chunk (of Megatron's stacks of layers, one for
each layer). Further files of ranks are made where a size is asked for. What depends on the weights is the checksum behind each.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from zlib import crc32

from ..._typing import Any, NamedTuple, cast
from ...errors import UnsupportedError, UsageError, printable
from ...support.opaque import Opaque
from ...tensors import DTYPES, TensorSpec
from .._interface import FileLayout, Inside, Part, Slot
from .._sharding import split
from .._wire.zip_write import Record, descriptor, directory, directory_size, local_header, place
from ..megatron import names
from ..torch.pickle_write import Stored, dump, dump_tensor, dump_value
from .pickled import Written, dump_metadata

_ROOT = "archive/"
_VERSION = b"3\n"
_SMALL = ((".format_version", b"1"), (".storage_alignment", b"64"), ("byteorder", b"little"))
EXPERT = ".local_experts."


class _Item(NamedTuple):
    """A torch.save file: its records, the checksums of the small ones, and which of them holds a tensor (-1: none)."""

    records: list[Record]
    sums: list[int]
    data: int
    head: bytes  # up to the tensor's bytes; of one without, all but the directory

    @property
    def length(self) -> int:
        return self.records[-1].end + directory_size(self.records)


def _item(pickled: bytes, nbytes: int) -> _Item:
    """The item of a pickle, and of the bytes of its tensor (-1: it has none)."""
    small = [("data.pkl", pickled), *_SMALL]
    data = [("data/0", nbytes)] if nbytes >= 0 else []
    records = place(
        [(_ROOT + n, len(b)) for n, b in small] + [(_ROOT + n, size) for n, size in data] + [(_ROOT + "version", len(_VERSION))]
    )
    head = b"".join(local_header(r) + b + descriptor(r, crc32(b)) for r, (_, b) in zip(records, small))  # noqa: B905
    last = records[len(small)]
    head += local_header(last) if data else local_header(last) + _VERSION + descriptor(last, crc32(_VERSION))
    return _Item(records, [crc32(b) for _, b in small], len(small) if data else -1, head)


def _tail(item: _Item, crc: int) -> bytes:
    """What follows a tensor's bytes in its item."""
    version = item.records[-1]
    after = descriptor(item.records[item.data], crc) + local_header(version) + _VERSION + descriptor(version, crc32(_VERSION))
    return after + directory(item.records, [*item.sums, crc, crc32(_VERSION)])


def make_layout(container: str, tensors: Sequence[tuple[str, TensorSpec]], inside: Inside, max_shard_size: int | None) -> FileLayout:
    """Where every byte goes. Raises UnsupportedError for what torch cannot hold, UsageError for names that are there twice."""
    specs = dict(tensors)
    if len(specs) != len(tensors):
        raise UsageError("two tensors are to be written under one name")
    for name, spec in specs.items():
        if DTYPES[spec.dtype].torch is None:
            raise UnsupportedError(f"PyTorch has no dtype for the {spec.dtype} of tensor {printable(name)!r}")
    run = _run(specs, inside)
    wrapper = inside.wrapper.split(".") if inside.wrapper else []
    shards = split([(n, s.nbytes) for n, s in specs.items()], max_shard_size) or [[]]
    listed: dict[str, tuple[str, tuple[int, ...], list[Written]]] = {}
    values: dict[str, Written] = {}
    paths: dict[str, tuple[str | int, ...]] = {}
    slots: dict[str, Slot] = {}
    parts: list[Part] = []
    files: list[tuple[str, int]] = []
    tails: list[object] = []
    stacks = _stacks(specs) if run is not None else {}
    for k, held in enumerate(shards):
        file, at = f"__{k}_0.distcp", 0
        for name in held:
            spec = specs[name]
            flat, offset, whole = stacks.get(name) or _flat(name, spec, wrapper, inside, paths)
            shape = (1,) * (len(offset) - len(spec.shape)) + spec.shape
            item = _item(dump_tensor(Stored("0", spec.dtype, spec.numel, shape)), spec.nbytes)
            parts.append(Part(k, at, item.head))
            slots[name] = Slot(k, at + item.records[item.data].start, spec.nbytes)
            listed.setdefault(flat, (spec.dtype, whole, []))[2].append(Written(offset, shape, file, at, item.length))
            tails.append([k, at, name, [list(r) for r in item.records], item.sums, item.data])
            at += item.length
        for name, value in inside.extras.items() if k == 0 and run is None else ():
            item = _item(dump_value(value), -1)
            parts.append(Part(k, at, item.head + directory(item.records, [*item.sums, crc32(_VERSION)])))
            values[name] = Written(None, (), file, at, item.length)
            paths[name] = keys_of(name)
            at += item.length
        files.append((file, at))
    texts = {".metadata": dump_metadata(listed, values, paths if run is None else None), **(_beside(run) if run is not None else {})}
    for name, raw in texts.items():
        parts.append(Part(len(files), 0, raw))
        files.append((name, len(raw)))
    return FileLayout(container, tuple(files), slots, tuple(parts), "crc32", {"items": tails})


def make_finish(layout: FileLayout, crcs: Mapping[str, int]) -> Iterator[Part]:
    """What follows each tensor's bytes. Raises UsageError if a tensor's checksum is missing."""
    for file, at, name, records, sums, data in cast("list[Any]", layout.state["items"]):
        if name not in crcs and layout.slots[name].length:
            raise UsageError(f"no checksum was given for tensor {name!r}")
        item = _Item([Record(*r) for r in records], sums, data, b"")
        r = item.records[data]
        yield Part(file, at + r.start + r.size, _tail(item, crcs.get(name, 0)), frozenset((name,)))


def _flat(
    name: str, spec: TensorSpec, wrapper: Sequence[str], inside: Inside, paths: dict[str, tuple[str | int, ...]]
) -> tuple[str, tuple[int, ...], tuple[int, ...]]:
    """(the flat name of a tensor, its offset in the whole, the whole's shape); `paths` is given the keys that the name is made of."""
    keys: tuple[str | int, ...] = keys_of(name) if name in inside.state else (*wrapper, name)
    flat = ".".join(map(str, keys))
    paths[flat] = keys
    return flat, (0,) * len(spec.shape), spec.shape


def keys_of(name: str) -> tuple[str | int, ...]:
    """The keys of what lies beside the model: `optim.state.NAME.exp_avg`, `optim.param_groups.0.lr`, `train_state.step`."""
    first, dot, rest = name.partition(".")
    if not dot:
        return (name,)
    if rest.startswith("state."):
        of, _, moment = rest.removeprefix("state.").rpartition(".")
        return (first, "state", of, moment) if of else (first, "state", moment)
    if rest.startswith("param_groups."):
        return (first, "param_groups", *(int(k) if k.isdigit() else k for k in rest.split(".")[1:]))
    return (first, rest)


# --- Megatron's form ------------------------------------------------------------------------------------------------------------


def _run(specs: Mapping[str, TensorSpec], inside: Inside) -> dict[str, object] | None:
    """The settings of a run of Megatron's, where the tensors are such a run's: its layers are then stacked."""
    args = inside.extras.get("args")
    if not isinstance(args, Mapping) or not any(names.layer_of(n) >= 0 for n in specs):
        return None
    return dict(args)


def _stacks(specs: Mapping[str, TensorSpec]) -> dict[str, tuple[str, tuple[int, ...], tuple[int, ...]]]:
    """The tensors of layers -> (the name of the stack, where in it, its shape)."""
    layers = max(map(names.layer_of, specs)) + 1
    experts = max(map(names.expert_of, specs)) + 1
    out = {}
    for name, spec in specs.items():
        layer, expert = names.layer_of(name), names.expert_of(name)
        if layer < 0:
            continue
        stack = name.replace(f"{names.STACK}{layer}.", names.STACK, 1)
        zeros = (0,) * len(spec.shape)
        if expert < 0:
            out[name] = stack, (layer, *zeros), (layers, *spec.shape)
        else:
            stack = stack.replace(f"{EXPERT}{expert}.", ".experts.", 1)
            out[name] = stack, (layer, expert, *zeros), (layers, experts, *spec.shape)
    return out


def _beside(args: dict[str, object]) -> dict[str, bytes]:
    """What Megatron keeps beside the tensors: its settings, and what form this is."""
    common = {"args": Opaque("argparse", "Namespace", (), args, safe=True, new=True), "checkpoint_version": 3.0, "iteration": 0}
    pickled = dump({}, [], common)
    item = _item(pickled, -1)
    said = {"sharded_backend": "torch_dist", "sharded_backend_version": 1, "common_backend": "torch", "common_backend_version": 1}
    whole = item.head + directory(item.records, [*item.sums, crc32(_VERSION)])
    return {"common.pt": whole, "metadata.json": json.dumps(said).encode()}
