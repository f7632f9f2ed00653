"""What transformers makes of a folder that it is given: which names it looks for, and which file."""

from __future__ import annotations

import os
from collections.abc import Iterator

from .. import store
from ..arch import known as known_architecture
from ..errors import CheckpointError, printable
from ..findings import Finding
from ..graph.examine import Subject
from ..support.name_text import natural
from ._base import also, folder_of

ORDER = 12

OF_FOLDER = ("model.safetensors", "pytorch_model.bin", "model.safetensors.index.json", "pytorch_model.bin.index.json")
ADAPTER = "adapter_config.json"


def _is_folder_of_library(s: Subject) -> bool:
    """Whether from_pretrained is meant to load the checkpoint: its files lie under the names that it looks for, beside a config.json."""
    config = s.config
    if config is None or config.inside or os.path.basename(config.source) != "config.json" or config.declared is None:
        return False
    return os.path.basename(s.checkpoint.path) in OF_FOLDER or any(
        store.is_file(os.path.join(folder_of(s.checkpoint), n)) for n in OF_FOLDER if n.endswith("index.json")
    )


@also("architecture")
def names_looked_for(s: Subject) -> Iterator[Finding]:
    """Names below a wrapper's, or below another architecture's prefix: transformers finds none of them and makes a new model."""
    r = s.graph.recognition
    if r is None or r.learned is not None or r.dialect.config.marks.get("model_type") is None or not _is_folder_of_library(s):
        return
    assert s.config is not None
    declared = known_architecture(str(s.config.declared))
    own = declared.dialects.get("hf") if declared is not None else None
    if own is None or not r.prefix:
        return
    first = min(r.matches, key=natural, default="")
    if r.wrapper and r.wrapper != r.prefix:
        what, hint = f"begin with {printable(repr(r.wrapper), 60)}", "ckptkit fix writes them without it"
    elif not r.wrapper and r.prefix not in own.prefixes and own.prefixes[0]:
        what, hint = f"begin with {r.prefix!r}, and {own.prefixes[0]!r} is looked for", f"ckptkit convert --to {own.name} writes them so"
    else:
        return
    yield Finding(
        "warning", "architecture", first,
        f"the names {what}: the class of {s.config.declared} in transformers finds none of the {len(r.matches)} and makes all anew", hint,
    )  # fmt: skip


@also("adapter")
def adapter_beside(s: Subject) -> Iterator[Finding]:
    """An adapter's configuration beside whole weights: with PEFT installed transformers loads what it calls the base in their place."""
    path = os.path.join(folder_of(s.checkpoint), ADAPTER)
    if s.architecture is None or not _is_folder_of_library(s) or not store.is_file(path):
        return
    try:
        said = store.read_json(path)
    except CheckpointError:
        return
    base = said.get("base_model_name_or_path") if isinstance(said, dict) else None
    if isinstance(base, str) and base:
        yield Finding(
            "warning", "adapter", ADAPTER,
            f"{ADAPTER} lies beside whole weights: transformers, where PEFT is installed, loads {printable(base, 80)} and the adapter "
            "instead of them", f"move {ADAPTER} elsewhere if the adapter is merged",
        )  # fmt: skip
