"""Names of Megatron's tensors: layers numbered through all stages of a pipeline, experts through all ranks, stacked layers taken apart.

Sources: megatron/core/transformer/transformer_layer.py (get_transformer_layer_offset), megatron/training/checkpointing.py
(model, model0, model1, ... of interleaved stages), megatron/core/dist_checkpointing (layers of torch_dist are one tensor, the layer its
first axis).
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from ...support.opaque import Opaque

STACK = "decoder.layers."
_LAYER = re.compile(r"((?:.*\.)?decoder\.layers\.)([0-9]{1,6})(\..*)")
_EXPERT = re.compile(r"(.*\.local_experts\.)([0-9]{1,6})(\..*)")
_GROUPED = re.compile(r"(.*\.mlp\.experts\.linear_fc[12]\.(?:weight|bias))([0-9]{1,6})")
_SINGLE = re.compile(r"(.*\.mlp\.experts\.)experts(\.[0-9]{1,6}\..*)")
EXTRA = "_extra_state"


def shifted(name: str, layers: int, experts: int) -> str:
    """The name with its layer and its expert numbered on after so many."""
    found = _LAYER.fullmatch(name)
    if found is not None and layers:
        name = f"{found[1]}{int(found[2]) + layers}{found[3]}"
    found = _EXPERT.fullmatch(name)
    if found is not None and experts:
        return f"{found[1]}{int(found[2]) + experts}{found[3]}"
    grouped = _GROUPED.fullmatch(name)
    if grouped is not None and experts:
        return f"{grouped[1]}{int(grouped[2]) + experts}"
    return name


def layer_of(name: str) -> int:
    """The number of the layer that a name is of; -1 of none."""
    found = _LAYER.fullmatch(name)
    return int(found[2]) if found is not None else -1


def expert_of(name: str) -> int:
    """The number of the expert that a name is of; -1 of none."""
    found = _EXPERT.fullmatch(name) or _GROUPED.fullmatch(name)
    return int(found[2]) if found is not None else -1


def is_stacked(name: str) -> bool:
    """Whether a tensor of torch_dist is all layers' at once."""
    return name.startswith(STACK) and not name[len(STACK) :].split(".", 1)[0].isdigit()


def single_expert(name: str) -> str:
    """The name of an expert that torch_dist keeps by itself (`singleton_local_shards`), as one that a rank has."""
    found = _SINGLE.fullmatch(name)
    return f"{found[1]}local_experts{found[2]}" if found is not None else name


def unstacked(name: str, layer: int) -> str:
    """The name of one layer's part of it."""
    return f"{STACK}{layer}.{name[len(STACK) :]}"


def arguments(args: object) -> dict[str, object]:
    """The plain settings of a run: what its Namespace holds."""
    state = args.state if isinstance(args, Opaque) else args
    if not isinstance(state, Mapping):
        return {}
    return {k: v for k, v in state.items() if type(k) is str and _is_plain(v)}


def mesh_of(tensor: int, stages: int, experts: int) -> str:
    """The mesh of a run in words: "2 x 2 (tensor, pipeline)"; "" of one rank."""
    axes = [(n, what) for n, what in ((tensor, "tensor"), (stages, "pipeline"), (experts, "expert")) if n > 1]
    return f"{' x '.join(str(n) for n, _ in axes)} ({', '.join(what for _, what in axes)})" if axes else ""


def _is_plain(value: object) -> bool:
    """Whether a setting is a plain value, or a few whole numbers (a window)."""
    if isinstance(value, (list, tuple)) and type(value) in (list, tuple):
        return len(value) <= 8 and all(type(v) is int for v in value)
    return value is None or type(value) in (bool, int, float, str)
