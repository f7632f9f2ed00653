"""Llama 4, its language model: dense layers among layers with experts, which lie in one tensor (in, out) on disk too, and a shared one.

Source: transformers models/llama4 (moe_layers, or every interleave_moe_layer_step-th; published files: language_model.model.).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ckptkit.arch._libraries.decoders import (
    QWEN_SHARED,
    WORDS,
    D,
    E,
    H,
    Values,
    attention,
    decoder,
    dense_or_experts,
    experts,
    flags,
    gated,
    hf,
    last,
    may,
    of_experts,
    shared,
)
from ckptkit.arch._libraries.forward import routed, runs
from ckptkit.arch._libraries.gguf import gguf
from ckptkit.arch.llama import shape

F = H + "feed_forward."


def sparse(values: Values) -> Sequence[bool] | None:
    """Which layers have experts."""
    n, said, step = values.get("layers"), values.get("moe_layers"), values.get("interleave_moe_layer_step")
    if not isinstance(n, int):
        return None
    if isinstance(said, (list, tuple)):
        return [i in said for i in range(n)]
    return [(i + 1) % step == 0 for i in range(n)] if isinstance(step, int) and step > 0 else None


MODULES = {
    **WORDS,
    **attention(bias="attention_bias", out_bias="attention_bias", pairs=True),
    **dense_or_experts(gated(), {**experts(), **shared("moe_intermediate")}),
    **last(),
}
NAMES = {
    **{D + f"ffn.{part}": F + f"{name}_proj" for part, name in (("gate", "gate"), ("up", "up"), ("output", "down"))},
    **{m: F + n.removeprefix(H + "mlp.") for m, n in QWEN_SHARED.items()},
    D + "moe.router": F + "router",
}
HF = hf(
    "llama4_text",
    "Llama4",
    MODULES,
    names=NAMES,
    rows={
        F + "experts.gate_up_proj": (E + "gate.weight", E + "up.weight", "*{expert} hidden *(moe_intermediate)"),
        F + "experts.down_proj": (E + "output.weight", "*{expert} moe_intermediate hidden"),
    },
    keys={
        **of_experts("num_local_experts | num_experts"),
        "intermediate_size": "moe_intermediate",
        "intermediate_size_mlp": may("intermediate"),
        **flags(
            "attention_bias",
            "moe_layers",
            "interleave_moe_layer_step",
            "no_rope_layers",
            "no_rope_layer_interval",
            "use_qk_norm",
            "attn_temperature_tuning",
            "floor_scale",
            "attn_scale",
            "layer_types",
        ),
        "attention_chunk_size": may("window"),
    },
    defaults={
        "activation": "silu",
        "norm_eps": 1e-5,
        "kv_heads": 8,
        "head_dim": 128,
        "rope_theta": 500000.0,
        "attention_bias": False,
        "interleave_moe_layer_step": 1,
    },
)

FIXED = {  # numbers that are in llama.cpp's code
    "window": 8192, "attn_temperature_tuning": True, "floor_scale": 8192, "attn_scale": 0.1, "no_rope_layer_interval": 4,
}  # fmt: skip


def in_code(values: Values) -> Iterator[tuple[str, str]]:
    """What llama.cpp's code of this architecture has in itself."""
    for name, number in FIXED.items():
        if values.get(name) not in (None, number):
            yield name, f"its code of this architecture takes {number}"
    n, unit = values.get("layers"), values.get("experts") != 128
    if values.get("use_qk_norm") not in (None, unit):
        yield "use_qk_norm", f"its code of this architecture takes {unit} for {values.get('experts')} experts"
    if isinstance(n, int):
        turned = [int((i + 1) % 4 != 0) for i in range(n)]
        if values.get("no_rope_layers") not in (None, turned):
            yield "no_rope_layers", "its code of this architecture turns three of four layers"
        kinds = values.get("layer_types")
        if isinstance(kinds, (list, tuple)) and [k != "full_attention" for k in kinds] != [bool(t) for t in turned]:
            yield "layer_types", "its code of this architecture has three layers of four in chunks"
        kept, step = sparse(values), values.get("interleave_moe_layer_step")
        if kept is not None and isinstance(step, int) and [*kept] != [(i + 1) % step == 0 for i in range(n)]:
            yield "moe_layers", f"it has experts in every layer of {step}"


GGUF = gguf(
    "llama4", MODULES, experts="moe_intermediate", rope=("freqs",), dimensions=True, conflicts=in_code,
    keys={
        "expert_feed_forward_length": "moe_intermediate", "derived.layer_types": may("layer_types"),
        "interleave_moe_layer_step": "interleave_moe_layer_step",
    },
    implied={"activation": "silu", "attention_bias": False},
    defaults={k: v for k, v in FIXED.items() if k != "no_rope_layer_interval"} | {"use_qk_norm": True},
    free=dict.fromkeys((*FIXED, "use_qk_norm", "no_rope_layers", "layer_types", "moe_layers"), ...),
)  # fmt: skip

ARCHITECTURE = decoder(
    "llama4",
    "Llama 4",
    MODULES,
    HF,
    GGUF,
    names=("llama4_text",),
    kinds={"moe@layer": sparse},
    traits=runs(
        pairs="interleaved",
        rotary_in="listed",
        window="=window",
        window_kind="chunk",
        sliding="types turned",
        unit_heads="=use_qk_norm",
        temperature="=attn_temperature_tuning",
        temperature_floor="=floor_scale",
        temperature_scale="=attn_scale",
        **routed("sigmoid_input", normalised=False),
    ),
    variants={
        "llama-4-scout": {**shape(48, 5120, 40, 8, 16384, 202048), "experts": 16},
        "llama-4-maverick": {**shape(48, 5120, 40, 8, 16384, 202048), "experts": 128},
    },
)
