"""A model that was saved with its adapter still around it, taken apart: the base under its own names, and the adapter.

Source: huggingface/peft tuners/tuners_utils.py (base_layer), utils/other.py (original_module, modules_to_save).
"""

from __future__ import annotations

from collections.abc import Mapping

from ..errors import UsageError
from ..tensors import StoredTensor
from .adapters import WRAPPER, config_of, target
from .examine import Subject
from .lora import TOKENS, Adapter, read_adapter
from .recognition import Question
from .weight_graph import bind

_APART = ("original_module", "modules_to_save", "token_adapter", TOKENS)


def take_apart(subject: Subject, said: Mapping[str, object] | None) -> tuple[Subject, Adapter]:
    """The subject with the base's tensors alone, and the adapter. UsageError where no adapter lies in the file."""
    checkpoint = subject.checkpoint
    every = dict(checkpoint.tensors)
    low = {n: t for n, t in every.items() if target(n) or TOKENS in n.split(".")}
    saved = {n: t for n, t in every.items() if "modules_to_save" in n.split(".")}
    if not low and not saved:
        raise UsageError("no adapter lies in it beside the weights", path=checkpoint.path, hint="ckptkit merge BASE ADAPTER OUT")
    base: dict[str, StoredTensor] = {}
    for name, t in every.items():
        if name in low or name in saved:
            continue
        plain = ".".join(c for c in name.removeprefix(WRAPPER).split(".") if c not in ("base_layer", "original_module"))
        base[plain] = t._replace(name=plain)
    checkpoint.tensors = low | saved
    try:
        adapter = read_adapter(checkpoint, config_of(checkpoint) if said is None else said)
    finally:
        checkpoint.tensors = base
    raw = subject.config
    graph = bind(checkpoint, Question(declared=raw.declared, config=raw.raw) if raw else Question())
    return subject._replace(graph=graph), adapter
