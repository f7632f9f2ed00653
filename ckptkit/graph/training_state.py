"""What of a checkpoint is training state and no model: moments and slots of an optimizer, counters.

It is set apart before anything is recognised.

Policy: it is told by the container's own places (Keras' optimizer groups, flax' TrainState, PyTorch's outline) and by pairing a slot with
the variable of any model that it belongs to. A tensor is not a slot since it is beside others; nothing pairs, nothing is set apart.

Sources: the names of TensorFlow's optimizers' slots, mesh_tensorflow's Adafactor; keras/src/saving/saving_lib.py (`optimizer/`) and
legacy/saving/legacy_h5_format.py (`optimizer_weights/`); flax/training/train_state.py with optax' states (mu, nu, trace, ...).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from ..containers import Checkpoint
from ..schema.templates import may_end

# optimizer state beside a variable, as exact composed names: TF optimizers' slots, Adafactor in mesh
SLOTS = (
    "/adam_m", "/adam_v", "/Adam", "/Adam_1", "/AdamWeightDecayOptimizer", "/AdamWeightDecayOptimizer_1", "/LAMB", "/LAMB_1", "/lamb_m",
    "/lamb_v", "/Momentum", "/RMSProp", "/RMSProp_1", "/Adagrad", "/Ftrl", "/Ftrl_1", "_slot_v", "_slot_vr", "_slot_vc", "_slot_m",
    ".exp_avg", ".exp_avg_sq", ".max_exp_avg_sq", ".momentum_buffer",
)  # fmt: skip
COUNTERS = frozenset((
    "global_step", "beta1_power", "beta2_power", "current_loss_scale", "good_steps", "loss_scale/Variable",
))  # fmt: skip
_KERAS = ("optimizer/", "optimizer_weights/")
_FLAX_STATE, _FLAX_MODEL = ("opt_state/", "optimizer/"), ("params/", "target/", "model_params/")


def training_state(checkpoint: Checkpoint) -> dict[str, str]:
    """The stored names that are training state, each with the variable it belongs to ("" for none that a name tells)."""
    out = dict(checkpoint.slots)
    names = [n for n in checkpoint.tensors if n not in out] if out else list(checkpoint.tensors)
    out.update(optimizer_state(names))
    out.update(dict.fromkeys((n for n in checkpoint.beside if n not in out), ""))
    if checkpoint.container in ("keras", "hdf5"):
        out.update(_keras(checkpoint, out))
    elif checkpoint.container == "flax":
        out.update(_flax(checkpoint, out))
    return out


def optimizer_state(names: Iterable[str], known: Mapping[str, object] | None = None) -> dict[str, str]:
    """The names that are optimizer state or training counters, each with the variable it belongs to ("" for none).

    `known` are the names that may have slots; without it every stored name may.
    """
    every = list(names)
    out: dict[str, str] = {}
    if not may_end(every, (*SLOTS, *COUNTERS)):
        return out
    have = set(every) if known is None else known
    for name in every:
        if name in COUNTERS:
            out[name] = ""
            continue
        for slot in SLOTS if name.endswith(SLOTS) else ():
            base = name.removesuffix(slot)
            if len(base) < len(name) and base in have:
                out[name] = base
                break
    return out


def _keras(checkpoint: Checkpoint, known: Mapping[str, str]) -> dict[str, str]:
    """What lies in Keras' own place for an optimizer, if every variable there is a number, or has the shape of one of the model's."""
    tensors = checkpoint.tensors
    for place in _KERAS:
        inside = [n for n in tensors if n.startswith(place) and n not in known]
        shapes = {t.spec.shape for n, t in tensors.items() if not n.startswith(place)}
        if inside and len(inside) < len(tensors) and all(not s or s in shapes for n in inside if (s := tensors[n].spec.shape) is not None):
            return dict.fromkeys(inside, "")
    return {}


def _flax(checkpoint: Checkpoint, known: Mapping[str, str]) -> dict[str, str]:
    """The state of an optimizer beside `params`: each tensor a number, or one with the name and shape of a parameter at its end."""
    tensors = checkpoint.tensors
    model = next((m for m in _FLAX_MODEL if any(n.startswith(m) for n in tensors)), None)
    if model is None:
        return {}
    shapes = {n.removeprefix(model): t.spec.shape for n, t in tensors.items() if n.startswith(model)}
    depths = Counter(n.count("/") for n in shapes)
    out = {}
    for name, t in tensors.items():
        if name in known or not name.startswith(_FLAX_STATE):
            continue
        parts = name.split("/")
        ends = ("/".join(parts[-d - 1 :]) for d in depths)
        of = next((e for e in ends if e in shapes), None)
        if of is not None or t.spec.numel == 1:
            out[name] = model + of if of is not None else ""
    if out and "step" in tensors and tensors["step"].spec.numel == 1:
        out["step"] = ""
    return out
