"""Which stored tensors are an optimizer's or a trainer's, not the model's.

Policy: a slot belongs to the variable whose name it extends, and only where that variable is there. Sources: TensorFlow 1's optimizers,
google-research/bert optimization.py and LAMB, mesh_tensorflow's Adafactor; torch.optim's state by parameter name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

# optimizer state beside a variable, as exact composed names: TF optimizers' slots, Adafactor in mesh
SLOTS = (
    "/adam_m", "/adam_v", "/Adam", "/Adam_1", "/AdamWeightDecayOptimizer", "/AdamWeightDecayOptimizer_1", "/LAMB", "/LAMB_1", "/lamb_m",
    "/lamb_v", "/Momentum", "/RMSProp", "/RMSProp_1", "/Adagrad", "/Ftrl", "/Ftrl_1", "_slot_v", "_slot_vr", "_slot_vc", "_slot_m",
    ".exp_avg", ".exp_avg_sq", ".max_exp_avg_sq", ".momentum_buffer",
)  # fmt: skip
COUNTERS = frozenset((
    "global_step", "beta1_power", "beta2_power", "current_loss_scale", "good_steps", "loss_scale/Variable",
))  # fmt: skip


def optimizer_state(names: Iterable[str], known: Mapping[str, object] | None = None) -> dict[str, str]:
    """The names that are optimizer state or training counters, each with the variable it belongs to ("" for none).

    `known` are the names that may have slots; without it every stored name may.
    """
    every = list(names)
    have = set(every) if known is None else known
    out = {}
    for name in every:
        if name in COUNTERS:
            out[name] = ""
            continue
        if name.startswith("optimizer") and name not in have:
            out[name] = ""
            continue
        for slot in SLOTS if name.endswith(SLOTS) else ():
            base = name.removesuffix(slot)
            if len(base) < len(name) and base in have:
                out[name] = base
                break
    return out
