"""Keras 3's weights in shards: an index (`model.weights.json`) that says in which of the files beside it each group of variables lies.

Source: keras/src/saving/saving_lib.py, ShardedH5IOStore: `weight_map` gives for "/layers/dense/vars" a file or a list of them.
"""

from __future__ import annotations

import os
from contextlib import ExitStack

from ..errors import CorruptError, printable
from ..findings import Finding
from ..jsonio import read_json
from ..limits import LIMITS
from ..tensors import StoredTensor
from ._base import Checkpoint
from ._shards import RULE, check_shard_name
from .hdf5 import NAME, open_file


def open_shards(path: str) -> Checkpoint:
    """The checkpoint of an index, its tensors in the order of the map. Raises CorruptError for a missing shard, UnsafeError for one elsewhere."""
    value = read_json(path)
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
    missing = [f for f in shards if not os.path.isfile(os.path.join(folder, f))]
    if missing:
        raise CorruptError(f"{len(missing)} of {len(shards)} shards missing: {', '.join(missing[:4])}", path=path, hint="is the download complete?")
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
                said = f"the index says that {printable(', '.join(files[:3]))} hold{'s' * (len(files) == 1)} {printable(group)}, which is not there"
                findings.append(Finding("error", RULE, printable(group), said, "the variables are lost: fetch the shard again"))
        for name, files in where.items():
            if name not in tensors:
                findings.append(Finding("warning", RULE, printable(name), f"{files[0]} holds {printable(name)}, which the index does not list"))
                tensors[name] = parts[files[0]].tensors[name]
            if len(files) > 1:
                findings.append(Finding("error", RULE, printable(name), f"{printable(name)} lies in {' and '.join(files[:3])}; one of them is read"))
        metadata = {k: v for part in reversed(parts.values()) for k, v in part.metadata.items() if not k.endswith(":groups")}
    return Checkpoint(path, NAME, tensors, files=[path, *(os.path.join(folder, f) for f in shards)], metadata=metadata, findings=findings)
