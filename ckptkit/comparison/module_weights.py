"""The weights of the modules that sentence-transformers puts after a model (graph/sentence.py), as its parameters: "sentence.1.weight".

They lie in folders of their own, are small, and are read whole.
"""

from __future__ import annotations

import os

from .. import store
from .._typing import NamedTuple
from ..containers import open_checkpoint
from ..errors import CheckpointError
from ..graph.examine import Subject
from ..graph.sentence import TENSORS, WEIGHTS, sentence_of
from ..tensors import TensorSpec
from .canonical_stream import Item


class Held(NamedTuple):
    """A weight of a module: what it is called here and how it is stored, and its bytes."""

    item: Item
    raw: bytes


def module_weights(subject: Subject) -> dict[str, Held]:
    """Those of the folder that a checkpoint is the transformer of, by name; none where a module's file cannot be read, which is a fault
    that `validate` and `inspect` say."""
    found = sentence_of(subject) if subject.architecture is not None else None
    out: dict[str, Held] = {}
    for i, module in enumerate(found.modules if found is not None else ()):
        stored = {n: ours for n, ours in TENSORS.get(module.kind, {}).items() if n in module.shapes}
        if found is None or not stored:
            continue
        at = os.path.join(found.folder, module.path)
        file = next((n for n in WEIGHTS if store.is_file(os.path.join(at, n))), "")
        try:
            with open_checkpoint(os.path.join(at, file)) as held:
                for name, ours in stored.items():
                    spec = held.tensors[name].spec
                    place = f"{module.path}/{name}"
                    item = Item(f"sentence.{i}.{ours}", TensorSpec(spec.dtype, spec.shape), place, "sentence", -1, "", True)
                    out[item.name] = Held(item, held.array(name).tobytes())
        except CheckpointError:
            continue
    return out


def said_modules(subject: Subject) -> list[str] | None:
    """What the modules do, one after another; None where there are none."""
    found = sentence_of(subject) if subject.architecture is not None else None
    return [m.does or m.kind for m in found.modules] if found is not None else None
