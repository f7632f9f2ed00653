"""Hunyuan, the dense models: Llama with norms of queries and keys after the rotary positions.

Source: transformers models/hunyuan_v1_dense.
"""

from __future__ import annotations

from ckptkit.arch._libraries.decoders import WORDS, D, H, attention, decoder, flags, gated, hf, last
from ckptkit.arch._libraries.forward import runs
from ckptkit.arch._libraries.gguf import gguf
from ckptkit.arch.llama import shape

QK_NORMS = {D + "attention.query_norm": H + "self_attn.query_layernorm", D + "attention.key_norm": H + "self_attn.key_layernorm"}
ATTENTION = attention(bias="attention_bias", out_bias="attention_bias", qk_norm="head_dim")
MODULES = {**WORDS, **ATTENTION, **gated(), **last()}
HF = hf(
    "hunyuan_v1_dense", "HunYuanDenseV1", MODULES, names=QK_NORMS, keys=flags("attention_bias"),
    defaults={"activation": "silu", "norm_eps": 1e-5, "attention_bias": False},
)  # fmt: skip

GGUF = gguf("hunyuan-dense", MODULES, implied={"activation": "silu"})

ARCHITECTURE = decoder(
    "hunyuan_v1_dense", "Hunyuan", MODULES, HF, GGUF,
    traits=runs(qk_norm="after"), variants={"hunyuan-7b": shape(32, 4096, 32, 8, 14336, 128167)},
)  # fmt: skip
