"""Seed-OSS: Llama whose biases of query, key and value, of the attention's output and of the feed-forward each have a switch.

Source: transformers models/seed_oss.
"""

from __future__ import annotations

from ckptkit.arch._libraries.decoders import WORDS, D, attention, decoder, flags, gated, hf, last
from ckptkit.arch._libraries.forward import runs
from ckptkit.arch._libraries.gguf import FFN, OUTPUT, B, gguf
from ckptkit.arch.llama import shape

MODULES = {**WORDS, **attention(bias="attention_bias", out_bias="attention_out_bias"), **gated(bias="mlp_bias"), **last()}
HF = hf(
    "seed_oss", "SeedOss", MODULES, keys=flags("attention_bias", "attention_out_bias", "mlp_bias"),
    defaults={
        "activation": "silu", "norm_eps": 1e-6, "kv_heads": 8, "head_dim": 128, "attention_bias": True, "attention_out_bias": False,
        "mlp_bias": False,
    },
)  # fmt: skip

GGUF = gguf("seed_oss", MODULES, implied={"activation": "silu"}, names={D + "ffn.norm": B + "post_attention_norm"}, bare=(*FFN, OUTPUT))

ARCHITECTURE = decoder(
    "seed_oss", "Seed-OSS", MODULES, HF, GGUF, rank=2, traits=runs(), variants={"seed-oss-36b": shape(64, 5120, 80, 8, 27648, 155136)}
)
