"""OLMoE: norms before and norms of the whole query and key, experts in every layer.

Source: transformers models/olmoe.
"""

from __future__ import annotations

from ckptkit.arch._libraries.decoders import WORDS, D, attention, decoder, experts, flags, hf, in_memory, last, of_experts, stacked
from ckptkit.arch._libraries.forward import routed, runs
from ckptkit.arch._libraries.gguf import all_keys, gguf
from ckptkit.arch.llama import shape
from ckptkit.schema import norm

QK = attention(bias="attention_bias", out_bias="attention_bias", qk_norm="all")
MODULES = {**WORDS, **QK, D + "ffn.norm": norm("hidden", bias=False), **experts("intermediate"), **last()}
HF = hf(
    "olmoe", "Olmoe", MODULES, keys={**of_experts(), **flags("attention_bias", "clip_qkv")},
    defaults={"activation": "silu", "norm_eps": 1e-5, "attention_bias": False, "experts_per_token": 8, "normalise_experts": False},
)  # fmt: skip

GGUF = gguf(
    "olmoe", MODULES, experts="intermediate", implied={"activation": "silu", "normalise_experts": False, "attention_bias": False},
    free={"clip_qkv": (None,)}, conflicts=all_keys,
)  # fmt: skip

ARCHITECTURE = decoder(
    "olmoe", "OLMoE", MODULES, HF, GGUF, in_memory(HF, MODULES, rows=stacked("intermediate")),
    traits=runs(clip="=clip_qkv", **routed()),
    variants={"olmoe-1b-7b": {**shape(16, 2048, 16, 16, 1024, 50304), "experts": 64}},
)  # fmt: skip
