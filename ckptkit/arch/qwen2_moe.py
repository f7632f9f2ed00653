"""Qwen 1.5 and 2 with experts: layers of one feed-forward among layers with experts, beside which every token passes a shared one.

Source: transformers models/qwen2_moe (sparse layers: not in mlp_only_layers, and every decoder_sparse_step-th).
"""

from __future__ import annotations

from collections.abc import Sequence

from ckptkit.arch._libraries.decoders import (
    QWEN_SHARED,
    WORDS,
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
    of_experts,
    shared,
    stacked,
)
from ckptkit.arch._libraries.forward import routed, runs
from ckptkit.arch._libraries.gguf import DENSE, Window, gguf
from ckptkit.arch.llama import shape
from ckptkit.arch.qwen2 import WINDOW
from ckptkit.schema import Key

SPARSE: dict[str, str | Key] = {
    **of_experts(), **flags("mlp_only_layers", "decoder_sparse_step"), "moe_intermediate_size": may("moe_intermediate"),
    "shared_expert_intermediate_size": may("shared_intermediate"),
}  # fmt: skip

# which layers have experts: the tensors say it
SPARSE_FREE: dict[str, object] = {"mlp_only_layers": ..., "decoder_sparse_step": ...}


def sparse(values: Values) -> Sequence[bool] | None:
    """Which layers have experts."""
    n, step, dense = values.get("layers"), values.get("decoder_sparse_step", 1), values.get("mlp_only_layers", ())
    if not isinstance(n, int) or not isinstance(step, int) or step < 1 or not isinstance(dense, (list, tuple)):
        return None
    return [i not in dense and (i + 1) % step == 0 for i in range(n)]


MODULES = {
    **WORDS,
    **attention(bias="qkv_bias"),
    **dense_or_experts(gated(), {**experts(), **shared("shared_intermediate", gate=True)}),
    **last(),
}
HF = hf(
    "qwen2_moe", "Qwen2Moe", MODULES, names=QWEN_SHARED, keys={**SPARSE, **WINDOW, **flags("qkv_bias")},
    defaults={
        "activation": "silu", "norm_eps": 1e-6, "kv_heads": 16, "qkv_bias": True, "experts_per_token": 4, "normalise_experts": False,
    },
)  # fmt: skip

ARCHITECTURE = decoder(
    "qwen2_moe", "Qwen2 MoE", MODULES, HF, in_memory(HF, MODULES, rows=stacked()),
    gguf(
        "qwen2moe", MODULES, without=DENSE, experts="moe_intermediate", implied={"activation": "silu", "normalise_experts": False},
        window=Window("types early"), free=SPARSE_FREE,
        keys={
            "feed_forward_length": may("intermediate"), "expert_feed_forward_length": may("moe_intermediate"),
            "expert_shared_feed_forward_length": may("shared_intermediate"),
        },
    ),
    kinds={"moe@layer": sparse},
    traits=runs(window="=window", windowed="=windowed", sliding="types early", **routed()),
    variants={
        "qwen1.5-moe-a2.7b": {**shape(24, 2048, 16, 16, 5632, 151936), "experts": 60},
        "qwen2-57b-a14b": {**shape(28, 3584, 28, 4, 18944, 151936), "experts": 64},
    },
)  # fmt: skip
