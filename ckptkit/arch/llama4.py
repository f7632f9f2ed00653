"""Llama 4, its language model: dense layers among layers with experts, which lie in one tensor (in, out) on disk too, and a shared one.

Source: transformers models/llama4 (moe_layers, or every interleave_moe_layer_step-th; published files: language_model.model.).
"""

from __future__ import annotations

from collections.abc import Sequence

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

ARCHITECTURE = decoder(
    "llama4",
    "Llama 4",
    MODULES,
    HF,
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
