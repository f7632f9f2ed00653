"""Qwen 3-next: linear attention in three of four layers, gated attention in the others, experts with a shared one.

Source: transformers models/qwen3_next (norms stored as their difference from one, but for the one inside linear attention; mtp.* of
published files is left out by the library).
"""

from __future__ import annotations

from collections.abc import Sequence

from ckptkit.arch._libraries.decoders import (
    FREQUENCIES,
    QWEN_SHARED,
    WORDS,
    A,
    H,
    Values,
    attention,
    decoder,
    dense_or_experts,
    experts,
    flags,
    gated,
    hf,
    in_layers,
    in_memory,
    joined,
    last,
    may,
    of_types,
    shared,
    stacked,
)
from ckptkit.arch._libraries.forward import partly, routed
from ckptkit.arch._libraries.gguf_delta import hybrid
from ckptkit.arch._libraries.state_space import DELTA_SIZES, S, delta, delta_rows
from ckptkit.arch.gemma import less_one
from ckptkit.arch.qwen2_moe import SPARSE, SPARSE_FREE, sparse
from ckptkit.schema import Besides, Key, Module, linear

BIAS = "attention_bias"
ATTENTION = {
    **attention(bias=BIAS, out_bias=BIAS, qk_norm="head_dim"),
    A + "gate": linear("heads head_dim", "hidden", bias=BIAS),  # sigmoid of it multiplies what attention gives
}
HYBRID: dict[str, Module] = {**WORDS, **in_layers("attention@layer", ATTENTION), **in_layers("not attention@layer", delta()), **last()}
FFN = dense_or_experts(gated(), {**experts(), **shared("shared_intermediate", gate=True)})
MODULES = {**HYBRID, **FFN}
QUERY = joined(H + "self_attn.q_proj", "(heads *(head_dim))", "hidden", (A + "query", A + "gate"), bias=True)
DELTA: dict[str, str | Key] = {
    "linear_num_key_heads": "key_heads",
    "linear_key_head_dim": "key_dim",
    "linear_value_head_dim": "state_dim",
    "linear_num_value_heads": may("value_heads"),
    "linear_conv_kernel_dim": "kernel",
    **flags("attention_bias", "layer_types", "full_attention_interval"),
}
DEFAULTS = {
    "activation": "silu",
    "norm_eps": 1e-6,
    "kv_heads": 2,
    "head_dim": 256,
    "rope_part": 0.25,
    "attention_bias": False,
    "experts_per_token": 10,
    "normalise_experts": True,
}
M = "mtp.layers.{layer}."
MTP = dict.fromkeys(
    (
        "mtp.fc.weight",
        "mtp.norm.weight",
        "mtp.pre_fc_norm_embedding.weight",
        "mtp.pre_fc_norm_hidden.weight",
        *(f"{M}self_attn.{x}.weight" for x in ("q_proj", "k_proj", "v_proj", "o_proj", "q_norm", "k_norm")),
        *(f"{M}{x}.weight" for x in ("input_layernorm", "post_attention_layernorm", "mlp.gate", "mlp.shared_expert_gate")),
        *(f"{M}mlp.{place}{x}_proj.weight" for x in ("gate", "up", "down") for place in ("", "shared_expert.", "experts.{expert}.")),
    ),
    "of multi-token prediction: transformers leaves it out",
)


def attends(values: Values) -> Sequence[bool] | None:
    """Which layers have softmax attention: by layer_types, else every full_attention_interval-th."""
    said, n, step = LISTED(values), values.get("layers"), values.get("full_attention_interval", 4)
    if said is not None or not isinstance(n, int) or not isinstance(step, int) or step < 1:
        return said
    return [(i + 1) % step == 0 for i in range(n)]


LISTED = of_types("layer_types", "full_attention")
KINDS = {"attention@layer": attends}
HF = hf(
    "qwen3_next",
    "Qwen3Next",
    MODULES,
    names=QWEN_SHARED,
    rows={**QUERY, **delta_rows(grouped=True)},
    keys={**SPARSE, **DELTA},
    defaults=DEFAULTS,
    besides=Besides(derived=FREQUENCIES, strays=MTP),
    adjust={p: a for p, a in less_one(MODULES).items() if p != S + "norm.weight"},
)

ARCHITECTURE = decoder(
    "qwen3_next",
    "Qwen3-Next",
    MODULES,
    HF,
    in_memory(HF, MODULES, rows=stacked()),
    hybrid("qwen3next", MODULES, attends, tiled=False, sparse=True, free=SPARSE_FREE),
    kinds={**KINDS, "moe@layer": sparse},
    relations=DELTA_SIZES,
    traits=partly(mixer="delta", **routed()),
    variants={"qwen3-next-80b-a3b": {"layers": 48, "hidden": 2048, "heads": 16, "kv_heads": 2, "experts": 512, "vocab": 151936}},
)
