"""keras_hub's presets: a head's weights lie in `task.weights.h5` beside the backbone's `model.weights.h5` (or its shards), both with
names of their own.

Source: keras_hub/src/utils/preset_utils.py (KerasPresetSaver.save_task) and models/task.py (save_task_weights). The two are one
checkpoint here: what lies in the head's file is named `task/...`, and what is named so is written into it.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from ... import store
from .._interface import Checkpoint
from .names import DEFAULT_FILE, KERAS_INDEX, NAME, TASK

BACKBONES = (DEFAULT_FILE, "model" + KERAS_INDEX)


def open_task(path: str, open: Callable[[str], Checkpoint], open_file: Callable[[str], Checkpoint]) -> Checkpoint:
    """The model whose head lies at `path`: the backbone beside it, then the head. Without a backbone, the file alone, under its own
    names."""
    folder = os.path.dirname(path)
    backbone = next((b for b in (os.path.join(folder, n) for n in BACKBONES) if store.is_file(b)), None)
    if backbone is None:
        return open_file(path)
    with open(backbone) as base, open_file(path) as head:
        tensors = dict(base.tensors)
        for name, t in head.tensors.items():
            tensors[TASK + name] = t._replace(name=TASK + name, storage=TASK + str(t.storage) if t.storage is not None else None)
        joined = Checkpoint(
            path, NAME, tensors, files=[*base.files, path], metadata=base.metadata, findings=[*base.findings, *head.findings]
        )
        joined.slots = {TASK + n: "" for n in head.tensors if n.startswith("optimizer/")}
        joined.aliases, joined.called = base.aliases, base.called
        return joined
