"""ERNIE 4.5 with experts: rotary pairs side by side, experts from one layer to another, several shared ones in one.

Source: transformers models/ernie4_5_moe (moe_statics.e_score_correction_bias; dense outside moe_layer_start_index..end_index).
"""

from __future__ import annotations

from collections.abc import Sequence

from ckptkit.arch._libraries.decoders import (
    WORDS,
    D,
    H,
    Values,
    attention,
    decoder,
    dense_or_experts,
    experts,
    flags,
    gated,
    hf,
    in_memory,
    last,
    may,
    shared,
    stacked,
)
from ckptkit.arch._libraries.forward import routed, runs
from ckptkit.arch._libraries.gguf import FFN, B, dense_first, gguf, leading
from ckptkit.arch.llama import shape

RANGE = ("moe_layer_start_index", "moe_layer_end_index", "moe_layer_interval")


def sparse(values: Values) -> Sequence[bool] | None:
    """Which layers have experts: every so many from the first to the last named (-1: the model's)."""
    n, start, end, step = (values.get(k) for k in ("layers", *RANGE))
    if not isinstance(n, int) or not isinstance(start, int) or not isinstance(end, int) or not isinstance(step, int) or step < 1:
        return None
    end = end if end >= 0 else n - 1
    return [start <= i <= end and (i + 1) % step == 0 for i in range(n)]


SHARED = shared("shared_intermediate", bias="use_bias", switch="has_shared")
MODULES = {
    **WORDS,
    **attention(bias="use_bias", out_bias="use_bias"),
    **dense_or_experts(gated(bias="use_bias"), {**experts(correction="1 experts"), **SHARED}),
    **last(head_bias="use_bias"),
}
HF = hf(
    "ernie4_5_moe", "Ernie4_5_Moe", MODULES, names={D + "moe.correction": H + "mlp.moe_statics.e_score_correction_bias"},
    keys={
        "moe_num_experts | num_local_experts": "experts", "moe_k": may("experts_per_token"), "moe_intermediate_size": "moe_intermediate",
        "moe_num_shared_experts": may("shared_experts"), **flags("use_bias", "moe_norm_min", *RANGE),
    },
    defaults={
        "activation": "silu", "norm_eps": 1e-5, "kv_heads": 4, "tied": True, "rope_theta": 500000.0, "use_bias": False,
        "experts_per_token": 6, "has_shared": "=any shared_experts",
    },
)  # fmt: skip

GGUF = gguf(
    "ernie4_5-moe", MODULES, bare=(*FFN, *(D + f"moe.shared.{p}" for p in ("gate", "up", "output")), "lm_head"),
    experts="moe_intermediate", implied={"activation": "silu"}, defaults={"tied": True},
    rows={B + "exp_probs_b.bias": (D + "moe.correction", "experts")},
    keys={
        "expert_feed_forward_length": may("moe_intermediate"), "interleave_moe_layer_step": may("moe_layer_interval"),
        "derived.moe_layer_start_index": may("moe_layer_start_index"), "derived.moe_layer_end_index": may("moe_layer_end_index"),
        "expert_shared_count": may("shared_experts"), "expert_shared_feed_forward_length": may("shared_intermediate"),
    },
    also={"leading_dense_block_count": leading(sparse)}, conflicts=dense_first(sparse),
    free={"moe_layer_start_index": ..., "moe_layer_end_index": ..., "moe_norm_min": (1e-12,)},
)  # fmt: skip

ARCHITECTURE = decoder(
    "ernie4_5_moe", "ERNIE 4.5 MoE", MODULES, HF, GGUF,
    in_memory(HF, MODULES, rows=stacked(), names={D + "moe.correction": H + "mlp.gate.moe_statics.e_score_correction_bias"}),
    kinds={"moe@layer": sparse},
    traits=runs(pairs="interleaved", **routed(normalised=True, least_sum="=moe_norm_min")),
    variants={
        "ernie-4.5-21b-a3b": {**shape(28, 2560, 20, 4, 12288, 103424), "experts": 64},
        "ernie-4.5-300b-a47b": {**shape(54, 8192, 64, 8, 28672, 103424), "experts": 64},
    },
)  # fmt: skip
