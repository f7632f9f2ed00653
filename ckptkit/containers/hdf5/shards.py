"""Weights in shards. Keras 3's: an index (`model.weights.json`) that says in which of the files beside it each group of variables
lies; a group is never cut here.

Source: keras/src/saving/saving_lib.py, ShardedH5IOStore: `weight_map` gives for "/layers/dense/vars" a file or a list of them.

transformers' are written here (read by `_sharding`): modeling_tf_utils.py, tf_shard_checkpoint and save_pretrained. The index has a
variable's name, which begins with the model's, and the shard the name without that, listed in the attribute layer_names; the layer
that a whole file groups it under is in neither.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack

from ... import store
from ...errors import CorruptError, UnsupportedError, printable
from ...findings import Finding
from ...limits import LIMITS
from ...tensors import StoredTensor, TensorSpec
from .._interface import Checkpoint, FileLayout, Part, Slot
from .._sharding import RULE, check_shard_name, index_json, shard_names, split
from .names import KERAS_INDEX, NAME


def open_shards(path: str, open_file: Callable[[str], Checkpoint]) -> Checkpoint:
    """The checkpoint of an index, its tensors in the order of the map. Raises CorruptError for a missing shard, UnsafeError for one
    elsewhere."""
    value = store.read_json(path)
    weight_map = value.get("weight_map") if isinstance(value, dict) else None
    if not isinstance(weight_map, dict) or not weight_map:
        raise CorruptError("is not the index of sharded Keras weights: it has no weight_map", path=path)
    holders: dict[str, list[str]] = {}
    for group, files in weight_map.items():
        listed = files if isinstance(files, list) else [files]
        if not listed or not all(isinstance(f, str) for f in listed):
            raise CorruptError(f"the index gives no file name for {group!r}", path=path)
        for f in listed:
            check_shard_name(group, f, path)
        holders[group.strip("/")] = listed
    shards = list(dict.fromkeys(f for files in holders.values() for f in files))
    LIMITS.check("shards", len(shards), "the number of shards", path)
    folder = os.path.dirname(path)
    missing = [f for f in shards if not store.is_file(os.path.join(folder, f))]
    if missing:
        raise CorruptError(
            f"{len(missing)} of {len(shards)} shards missing: {', '.join(missing[:4])}", path=path, hint="is the download complete?"
        )
    tensors: dict[str, StoredTensor] = {}
    findings: list[Finding] = []
    with ExitStack() as stack:
        parts = {f: stack.enter_context(open_file(os.path.join(folder, f))) for f in shards}
        where: dict[str, list[str]] = {}
        for f, part in parts.items():
            findings += part.findings
            for name in part.tensors:
                where.setdefault(name, []).append(f)
        groups: dict[str, list[str]] = {}
        for name in where:
            groups.setdefault(name.rpartition("/")[0], []).append(name)
        for group, files in holders.items():
            held = [n for n in groups.get(group, ()) if set(where[n]) & set(files)]
            for name in held:
                tensors[name] = parts[next(f for f in files if f in where[name])].tensors[name]
            if not held:
                said = (
                    f"the index says that {printable(', '.join(files[:3]))} hold{'s' * (len(files) == 1)} "
                    f"{printable(group)}, which is not there"
                )
                findings.append(Finding("error", RULE, printable(group), said, "the variables are lost: fetch the shard again"))
        for name, files in where.items():
            if name not in tensors:
                findings.append(
                    Finding("warning", RULE, printable(name), f"{files[0]} holds {printable(name)}, which the index does not list")
                )
                tensors[name] = parts[files[0]].tensors[name]
            if len(files) > 1:
                findings.append(
                    Finding("error", RULE, printable(name), f"{printable(name)} lies in {' and '.join(files[:3])}; one of them is read")
                )
        metadata = {k: v for part in reversed(parts.values()) for k, v in part.metadata.items() if not k.endswith(":groups")}
    joined = Checkpoint(path, NAME, tensors, files=[path, *(os.path.join(folder, f) for f in shards)], metadata=metadata, findings=findings)
    joined.called = next((part.called for part in parts.values() if part.called), "")
    return joined


def lay_out_shards(tensors: Sequence[tuple[str, TensorSpec]], filename: str, max_shard_size: int) -> FileLayout:
    """transformers' shards of `tf_model.h5`: of "bert/tf_bert_model/bert/pooler/dense/kernel:0", each variable once. Raises
    UnsupportedError for other names."""
    from .write import build

    specs: dict[str, tuple[str, TensorSpec]] = {}  # variable -> the tensor
    for name, spec in tensors:
        variable = name.partition("/")[2]
        if "/" not in variable or not name.endswith(":0"):
            raise UnsupportedError(
                f"{printable(name)!r} is no variable of transformers' TensorFlow classes, which alone are written as shards of HDF5",
                hint="leave --max-shard-size out",
            )
        specs.setdefault(variable, (name, spec))
    shards = split([(v, s.nbytes) for v, (_, s) in specs.items()], max_shard_size)
    names = shard_names(filename, len(shards))
    files: list[tuple[str, int]] = []
    parts: list[Part] = []
    slots: dict[str, Slot] = {}
    for i, (file, held) in enumerate(zip(names, shards, strict=True)):
        inside = {v.partition("/")[2]: specs[v] for v in sorted(held)}
        built = build({n: s for n, (_, s) in inside.items()}, {}, {"": {"layer_names": list(inside)}})
        parts.append(Part(i, 0, built.head))
        slots |= {name: Slot(i, built.offsets[n], s.nbytes) for n, (name, s) in inside.items()}
        files.append((file, built.size))
    index = index_json({v: file for file, held in zip(names, shards, strict=True) for v in held}, sum(s.nbytes for _, s in specs.values()))
    parts.append(Part(len(files), 0, index))
    return FileLayout(NAME, (*files, (filename + ".index.json", len(index))), slots, tuple(parts))


def lay_out_groups(tensors: Sequence[tuple[str, TensorSpec]], filename: str, max_shard_size: int) -> FileLayout:
    """Keras 3's shards of `model.weights.h5`: model_00000.weights.h5, ... and model.weights.json, each layer's own variables
    ("layers/dense/vars/0") in one of them."""
    from .write import build

    groups: dict[str, list[tuple[str, TensorSpec]]] = {}
    for name, spec in tensors:
        groups.setdefault(name.rpartition("/")[0], []).append((name, spec))
    sizes = {g: sum(s.nbytes for _, s in held) for g, held in groups.items()}
    shards = split(list(sizes.items()), max_shard_size)
    stem = filename.removesuffix(".weights.h5")
    files: list[tuple[str, int]] = []
    parts: list[Part] = []
    slots: dict[str, Slot] = {}
    weight_map = {}
    for i, held in enumerate(shards):
        inside = dict(t for g in held for t in groups[g])
        built = build(inside, {}, {})
        parts.append(Part(i, 0, built.head))
        slots |= {n: Slot(i, built.offsets[n], s.nbytes) for n, s in inside.items()}
        files.append((f"{stem}_{i:05}.weights.h5", built.size))
        weight_map.update({f"/{g}": [files[-1][0]] for g in held})
    index = json.dumps({"metadata": {"total_size": sum(sizes.values())}, "weight_map": weight_map}, indent=4, ensure_ascii=False).encode()
    parts.append(Part(len(files), 0, index))
    return FileLayout(NAME, (*files, (stem + KERAS_INDEX, len(index))), slots, tuple(parts))
