"""dots.llm1: Qwen 3's attention, DeepSeek V3's experts.

Source: transformers models/dots1.
"""

from __future__ import annotations

from ckptkit.arch._libraries.decoders import (
    DEEPSEEK,
    WORDS,
    decoder,
    flags,
    hf,
    in_memory,
    last,
    sparse_or_first_dense,
    stacked,
)
from ckptkit.arch._libraries.forward import GROUPS, routed, runs
from ckptkit.arch._libraries.gguf import EXPERTS, OUTPUT, SIGMOID, Window, all_keys, both, dense_first, gguf, leading
from ckptkit.arch.deepseek_v3 import FFN
from ckptkit.arch.llama import shape
from ckptkit.arch.qwen2 import WINDOW
from ckptkit.arch.qwen3 import QK

MODULES = {**WORDS, **QK, **FFN, **last()}
HF = hf(
    "dots1", "Dots1", MODULES, keys={**DEEPSEEK, **WINDOW, **flags("attention_bias")},
    defaults={
        "activation": "silu", "norm_eps": 1e-6, "attention_bias": False, "normalise_experts": False, "routed_scale": 1.0, "first_dense": 0,
    },
)  # fmt: skip

GGUF = gguf(
    "dots1", MODULES, experts="moe_intermediate", implied={"activation": "silu"}, bare=(OUTPUT,), window=Window("types late"),
    keys=EXPERTS, also={"leading_dense_block_count": leading(sparse_or_first_dense), "expert_gating_func": SIGMOID},
    free={"mlp_layer_types": ..., "topk_method": ...}, conflicts=both(all_keys, dense_first(sparse_or_first_dense)),
)  # fmt: skip

ARCHITECTURE = decoder(
    "dots1", "dots.llm1", MODULES, HF, GGUF, in_memory(HF, MODULES, rows=stacked()),
    kinds={"moe@layer": sparse_or_first_dense},
    traits=runs(window="=window", sliding="types late", **routed("sigmoid", **GROUPS)),
    variants={"dots.llm1-142b": {**shape(62, 4096, 32, 32, 10944, 152064), "experts": 128}},
)  # fmt: skip
