"""Helium: Llama with rotary pairs side by side.

Source: transformers models/helium.
"""

from __future__ import annotations

from ckptkit.arch._libraries.decoders import WORDS, attention, decoder, flags, gated, hf, last
from ckptkit.arch._libraries.forward import runs
from ckptkit.arch.llama import shape

MODULES = {**WORDS, **attention(bias="attention_bias"), **gated(bias="mlp_bias"), **last()}
HF = hf(
    "helium", "Helium", MODULES, keys=flags("attention_bias", "mlp_bias"),
    defaults={
        "activation": "silu", "norm_eps": 1e-8, "kv_heads": 20, "head_dim": 128, "rope_theta": 100000.0, "attention_bias": False,
        "mlp_bias": False,
    },
)  # fmt: skip

ARCHITECTURE = decoder(
    "helium", "Helium", MODULES, HF, rank=2, traits=runs(pairs="interleaved"), variants={"helium-1-2b": shape(28, 2048, 16, 8, 8192, 64000)}
)
