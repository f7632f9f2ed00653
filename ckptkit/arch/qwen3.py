"""Qwen 3: Qwen 2 with norms of each head's query and key, and biases by switch.

Source: transformers models/qwen3.
"""

from __future__ import annotations

from ckptkit.arch._libraries.decoders import WORDS, attention, decoder, gated, hf, last, may
from ckptkit.arch._libraries.flax_tree import flax_trees
from ckptkit.arch._libraries.forward import runs
from ckptkit.arch._libraries.gguf import OUTPUT, Window, gguf
from ckptkit.arch._libraries.megatron import grouped, megatron
from ckptkit.arch.llama import shape
from ckptkit.arch.qwen2 import WINDOW

QK = grouped(attention(bias="attention_bias", out_bias="attention_bias", qk_norm="head_dim"))
MODULES = {**WORDS, **QK, **gated(), **last()}
HF = hf(
    "qwen3", "Qwen3", MODULES, keys={**WINDOW, "attention_bias": may("attention_bias")},
    defaults={"activation": "silu", "norm_eps": 1e-6, "kv_heads": 32, "head_dim": 128, "attention_bias": False},
)  # fmt: skip

ARCHITECTURE = decoder(
    "qwen3", "Qwen3", MODULES, HF, *flax_trees(HF, MODULES),
    *megatron(MODULES, implied={"activation": "silu"}),
    gguf("qwen3", MODULES, bare=(OUTPUT,), implied={"activation": "silu"}, window=Window("types late")),
    names=("qwen3_vl_text",),  # text multimodal models, alike where all is text
    traits=runs(window="=window", windowed="=windowed", sliding="types late"),
    variants={
        "qwen3-0.6b": shape(28, 1024, 16, 8, 3072, 151936),
        "qwen3-1.7b": shape(28, 2048, 16, 8, 6144, 151936),
        "qwen3-4b": shape(36, 2560, 32, 8, 9728, 151936),
        "qwen3-8b": shape(36, 4096, 32, 8, 12288, 151936),
        "qwen3-14b": shape(40, 5120, 40, 8, 17408, 151936),
        "qwen3-32b": shape(64, 5120, 64, 8, 25600, 151936),
    },
)  # fmt: skip
