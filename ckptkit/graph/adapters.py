"""PEFT's adapters: low-rank matrices beside the weights that they belong to, not merged into them, or in a file of their own.

Policy: they are told by whole components of names. A file that holds nothing else is no model; beside a model's weights they are
unexplained, since what the model computes is not what its own weights say.

Source: huggingface/peft tuners/lora/layer.py (lora_A, lora_B, lora_embedding_A, lora_magnitude_vector, base_layer), utils/other.py
(modules_to_save, original_module), utils/save_and_load.py (an adapter's file), config.py (adapter_config.json).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping

from .. import store
from ..arch import architectures
from ..containers import Checkpoint
from ..errors import CheckpointError, printable
from ..schema.templates import distinct_patterns, reduce_name

PARTS = frozenset(("lora_A", "lora_B", "lora_embedding_A", "lora_embedding_B", "lora_magnitude_vector"))
NAMES = {
    "IA3": "IA3", "ADALORA": "AdaLoRA", "LOHA": "LoHa", "LOKR": "LoKr", "OFT": "OFT", "BOFT": "BOFT", "VERA": "VeRA",
    "FOURIERFT": "FourierFT", "XLORA": "X-LoRA", "HRA": "HRA", "VBLORA": "VB-LoRA", "MISS": "MiSS", "RANDLORA": "RandLoRA", "ROAD": "RoAd",
    "LN_TUNING": "LN tuning", "PREFIX_TUNING": "prefix tuning", "PROMPT_TUNING": "prompt tuning", "P_TUNING": "p-tuning",
    "TRAINABLE_TOKENS": "trainable tokens",
    "MULTITASK_PROMPT_TUNING": "multitask prompt tuning", "ADAPTION_PROMPT": "adaption prompt", "POLY": "Poly", "SHIRA": "SHiRA",
    "C3A": "C3A", "CPT": "CPT", "BONE": "Bone",
}  # fmt: skip
CONFIG = "adapter_config.json"
WRAPPER = "base_model.model."


def target(name: str) -> str:
    """The module that a low-rank tensor belongs to; "" for every other tensor."""
    if "lora_" not in name:  # names are many, and this is quick
        return ""
    components = name.split(".")
    at = next((i for i, c in enumerate(components) if c in PARTS), 0)
    return ".".join(components[:at])


def what(name: str) -> str:
    """What a tensor of an adapter is that lies beside a model's weights, in words; ""."""
    if target(name):
        return "of a LoRA adapter, not merged"
    return "of a module before it was trained anew" if ".original_module." in name else ""


def any_of(names: Iterable[str]) -> bool:
    """Whether `what` may say something of one of many names."""
    text = "\n".join(distinct_patterns(names))
    return "lora_" in text or ".original_module." in text


def is_adapter(checkpoint: Checkpoint) -> bool:
    """Whether a file holds an adapter and no model."""
    return bool(alone(checkpoint)[0])


def unmerged(names: Iterable[str]) -> list[str]:
    """The low-rank tensors among stored names."""
    return [n for n in names if target(n)]


def alone(checkpoint: Checkpoint) -> tuple[str, str]:
    """(what a file is that holds an adapter and no model, what to do); ("", "") of every other file."""
    low = {n: t for n in checkpoint.tensors if (t := target(n))} if any_of(checkpoint.tensors) else {}
    said = config_of(checkpoint)
    kind = said.get("peft_type")
    if (not isinstance(kind, str) and len(low) * 2 < len(checkpoint.tensors)) or not (low or isinstance(kind, str)):
        return "", ""
    modules = list(dict.fromkeys(t.rpartition(".")[2] for t in low.values()))
    ranks = sorted({checkpoint.tensors[n].spec.shape[0] for n in low if "lora_A" in n.split(".") and checkpoint.tensors[n].spec.shape})
    if not ranks and isinstance(rank := said.get("r"), int):
        ranks = [rank]
    of = _model_of(set(low.values()))
    base = said.get("base_model_name_or_path")
    words = [f"is a PEFT {title_of(said, bool(low))} adapter"]
    words += [f"r {_listed(list(map(str, ranks)))}"] if ranks else []
    words += [f"alpha {alpha:g}"] if isinstance(alpha := said.get("lora_alpha"), (int, float)) else []
    words += [f"for {_listed(modules)}{f' of {of}' if of else ''}"] if modules else []
    beside = f" {printable(base, 80)}" if isinstance(base, str) and base else ""
    return (
        f"{', '.join(words)}; no model of its own",
        f"ckptkit validate --base BASE holds it against its base model{beside}, ckptkit merge BASE ADAPTER OUT makes one model of both",
    )


def title_of(said: Mapping[str, object], low: bool) -> str:
    """What an adapter's method is called."""
    kind = said.get("peft_type")
    if kind == "LORA" or (kind is None and low):
        return "DoRA" if said.get("use_dora") else "rsLoRA" if said.get("use_rslora") else "LoRA"
    return NAMES.get(kind, printable(kind, 40)) if isinstance(kind, str) else "LoRA"


def config_of(checkpoint: Checkpoint) -> dict[str, object]:
    """What adapter_config.json beside a file says; {} where there is none that can be read."""

    path = os.path.join(checkpoint.folder, CONFIG)
    if not store.is_file(path):
        return {}
    try:
        data = store.read_json(path)
    except CheckpointError:
        return {}
    return {str(k): v for k, v in data.items()} if isinstance(data, dict) else {}


def _model_of(modules: set[str]) -> str:
    """The architecture that has most of the modules' weights, the usual one among those of the same names; "" for none."""
    names = [reduce_name(f"{m.removeprefix(WRAPPER)}.weight")[0] for m in modules]
    held: list[tuple[int, int, str]] = []
    for arch in architectures().values():
        for d in arch.dialects.values():
            for prefix in d.prefixes:
                index = arch.table(d.name).index(prefix)
                held.append((sum(n in index for n in names), -arch.rank, arch.title))
    most = max(held, default=(0, 0, ""))
    titles = {title for n, rank, title in held if (n, rank) == most[:2]}
    return most[2] if most[0] * 2 > len(names) and len(titles) == 1 else ""


def _listed(names: list[str]) -> str:
    shown = [printable(n, 60) for n in names[:6]]
    if len(names) > len(shown):
        return f"{', '.join(shown)}, ..."
    return f"{', '.join(shown[:-1])} and {shown[-1]}" if len(shown) > 1 else shown[0]
