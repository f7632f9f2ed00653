"""Qwen 3 with experts: Qwen 3's attention, and the experts of Qwen 2 without a shared one.

Source: transformers models/qwen3_moe (5.x writes the number of experts as num_local_experts or num_experts).
"""

from __future__ import annotations

from ckptkit.arch._libraries.decoders import (
    WORDS,
    decoder,
    dense_or_experts,
    experts,
    flags,
    gated,
    hf,
    in_memory,
    last,
    may,
    stacked,
)
from ckptkit.arch._libraries.forward import routed, runs
from ckptkit.arch._libraries.gguf import DENSE, OUTPUT, Window, gguf
from ckptkit.arch.llama import shape
from ckptkit.arch.qwen2 import WINDOW
from ckptkit.arch.qwen2_moe import SPARSE, SPARSE_FREE, sparse
from ckptkit.arch.qwen3 import QK

MODULES = {**WORDS, **QK, **dense_or_experts(gated(), experts()), **last()}
HF = hf(
    "qwen3_moe", "Qwen3Moe", MODULES, keys={**SPARSE, **WINDOW, **flags("attention_bias")},
    defaults={
        "activation": "silu", "norm_eps": 1e-6, "kv_heads": 4, "attention_bias": False, "experts_per_token": 8, "normalise_experts": False,
    },
)  # fmt: skip

ARCHITECTURE = decoder(
    "qwen3_moe", "Qwen3 MoE", MODULES, HF, in_memory(HF, MODULES, rows=stacked()),
    gguf(
        "qwen3moe", MODULES, bare=(OUTPUT,), without=DENSE, experts="moe_intermediate",
        implied={"activation": "silu", "normalise_experts": True},
        window=Window("all"), free=SPARSE_FREE,
        keys={"feed_forward_length": may("intermediate"), "expert_feed_forward_length": may("moe_intermediate")},
    ),
    kinds={"moe@layer": sparse},
    names=("qwen3_vl_moe_text",),  # text multimodal models, alike where all is text
    traits=runs(window="=window", windowed="=windowed", sliding="all", **routed()),
    variants={
        "qwen3-30b-a3b": {**shape(48, 2048, 32, 4, 6144, 151936), "experts": 128},
        "qwen3-235b-a22b": {**shape(94, 4096, 64, 4, 12288, 151936), "experts": 128},
    },
)  # fmt: skip
