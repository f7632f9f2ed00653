"""What a torch.save file is that is no plain checkpoint: an optimizer's state alone, a rank's share of DeepSpeed's, a whole pickled module.

Sources: torch/optim/optimizer.py (state_dict), deepspeed/runtime/zero/{stage3,stage_1_and_2}.py and utils/zero_to_fp32.py (the keys of
*_optim_states.pt), torch/nn/modules/module.py (what a pickled module's state is).
"""

from __future__ import annotations

import os
import re

from ..._typing import Any
from ...errors import printable
from ...findings import Finding
from ...support.opaque import Opaque
from .outline import is_module, is_optimizer

_FLAT = ("fp32_flat_groups", "single_partition_of_fp32_groups", "fp32_groups")  # DeepSpeed's flat weights: stage 3, stages 1 and 2
_RANK = r"(?:zero_)?pp_rank_([0-9]{1,6})_"  # these are compiled where one is met: 0.1 ms each
_MODULES = 1000  # modules among which a configuration is looked for
_SETTINGS = r"transformers\.models\.([a-z0-9_]{1,60})\.configuration_[a-z0-9_]{1,60}"


def special(value: object, path: str, every_tensor_is_state: bool) -> tuple[str, str]:
    """(what the file is, what to do), where it holds no model that could be loaded; ("", "") of others."""
    zero = value.get("optimizer_state_dict") if type(value) is dict else None
    if type(zero) is dict and ("zero_stage" in zero or any(k in zero for k in _FLAT)):
        stage = zero.get("zero_stage")
        flat = next((k for k in _FLAT if k in zero), "")
        rank = re.search(_RANK, os.path.basename(path))
        count = zero.get("partition_count")
        count = max((c for c in count if type(c) is int), default=0) if type(count) is list else count
        share = f", rank {int(rank[1])}" + (f" of {count}" if type(count) is int and count > 0 else "") if rank else ""
        holds = f"{flat} holds its share of the weights in float32, flat; the rest is the optimizer's" if flat else "no weights"
        what = f"is DeepSpeed ZeRO{f'-{stage}' if type(stage) is int and 0 < stage < 4 else ''} optimizer state{share}: {holds}"
        return what, "zero_to_fp32.py, which DeepSpeed puts beside, makes one checkpoint of all ranks"
    if every_tensor_is_state:
        n = len(value["state"]) if type(value) is dict and is_optimizer(value) else 0
        of = f" (torch.optim's, of {n} parameter{'s' * (n != 1)})" if n else ""
        return f"is optimizer state alone{of}: it holds no weights", "name the file with the weights; it lies beside"
    return "", ""


def module_finding(value: object, named: tuple[str, ...], where: str) -> Finding | None:
    """The one finding of a whole pickled module; None of everything else."""
    root = _module(value)
    if root is None:
        return None
    own = f"{printable(root.module, 120)}.{printable(root.name, 80)}"
    others = [n for n in named if n != f"{root.module}.{root.name}"]
    others.sort(key=lambda n: n.startswith(("torch.", "collections.", "builtins.", "__builtin__")))
    listed = ", ".join(printable(n, 120) for n in others[:4])
    more = f"; with {len(others)} more names ({listed}{', ...' if len(others) > 4 else ''})" if others else ""
    text = (
        f"is a whole pickled module, {own}{more}: torch.load would import and build them all. Only its tensors are read; nothing is called"
    )
    return Finding("warning", "pickle", where, text, "save its state_dict() instead: weights_only=True refuses this file")


def settings_of(value: object) -> dict[str, object] | None:
    """The configuration of transformers that a pickled module carries, nearest to its root, as config.json would say it."""
    root = _module(value)
    queue = [root] if root is not None else []
    for module in queue:  # which grows meanwhile
        if len(queue) > _MODULES:
            return None
        state = module.state
        assert type(state) is dict
        for held in (state.get("config"), *state.values()):
            if isinstance(held, Opaque) and type(held.state) is dict and (found := re.fullmatch(_SETTINGS, held.module)) is not None:
                said = {k: v for k, v in held.state.items() if type(k) is str and _plain(v)}
                return {**said, "model_type": said.get("model_type") or found[1].replace("_", "-")}
        inner = state.get("_modules")
        queue += [m for m in inner.values() if is_module(m)] if type(inner) is dict else []
    return None


def _module(value: object) -> Any:
    """The module that a file is, or holds under one of its keys as the only one."""
    if is_module(value):
        return value
    held = [v for v in value.values() if type(v) is Opaque and is_module(v)] if type(value) is dict else []
    return held[0] if len(held) == 1 else None


def _plain(value: object, depth: int = 0) -> bool:
    if value is None or type(value) in (bool, int, float, str):
        return True
    if depth > 4:
        return False
    if type(value) is dict:
        return all(type(k) in (str, int) and _plain(v, depth + 1) for k, v in value.items())
    return type(value) is list and all(_plain(v, depth + 1) for v in value)
