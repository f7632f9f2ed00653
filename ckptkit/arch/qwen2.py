"""Qwen 2 and 2.5: Llama with biases of query, key and value.

Source: transformers models/qwen2 (a window from layer max_window_layers on, where use_sliding_window says so).
"""

from __future__ import annotations

from ckptkit.arch._libraries.decoders import WORDS, attention, decoder, gated, hf, last, may
from ckptkit.arch._libraries.flax_tree import flax_trees
from ckptkit.arch._libraries.forward import runs
from ckptkit.arch._libraries.gguf import Window, gguf
from ckptkit.arch._libraries.megatron import grouped, megatron
from ckptkit.arch.llama import shape

MODULES = {**WORDS, **grouped(attention(bias=True)), **gated(), **last()}
WINDOW = {
    "sliding_window": may("window"),
    "use_sliding_window": may("windowed"),
    "max_window_layers": may("full_layers"),
    "layer_types": may("layer_types"),
}
HF = hf("qwen2", "Qwen2", MODULES, keys=WINDOW, defaults={"activation": "silu", "norm_eps": 1e-6, "kv_heads": 32})

ARCHITECTURE = decoder(
    "qwen2", "Qwen2", MODULES, HF, *flax_trees(HF, MODULES),
    *megatron(MODULES, implied={"activation": "silu"}),
    gguf("qwen2", MODULES, implied={"activation": "silu"}, window=Window("types late")),
    names=("qwen2_vl_text", "qwen2_5_vl_text", "qwen2_5_omni_text"),  # text multimodal models, alike where all is text
    traits=runs(window="=window", windowed="=windowed", sliding="types late"),
    variants={
        "qwen2-0.5b": shape(24, 896, 14, 2, 4864, 151936),
        "qwen2-1.5b": shape(28, 1536, 12, 2, 8960, 151936),
        "qwen2.5-3b": shape(36, 2048, 16, 2, 11008, 151936),
        "qwen2-7b": shape(28, 3584, 28, 4, 18944, 152064),
        "qwen2.5-14b": shape(48, 5120, 40, 8, 13824, 152064),
        "qwen2.5-32b": shape(64, 5120, 40, 8, 27648, 152064),
        "qwen2-72b": shape(80, 8192, 64, 8, 29568, 152064),
    },
)  # fmt: skip
