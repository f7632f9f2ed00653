"""ERNIE 4.5, the dense models: Llama with rotary pairs side by side, and biases of all linear layers by one switch.

Source: transformers models/ernie4_5.
"""

from __future__ import annotations

from ckptkit.arch._libraries.decoders import WORDS, attention, decoder, flags, gated, hf, last
from ckptkit.arch._libraries.forward import runs
from ckptkit.arch._libraries.gguf import FFN, gguf
from ckptkit.arch.llama import shape

MODULES = {**WORDS, **attention(bias="use_bias", out_bias="use_bias"), **gated(bias="use_bias"), **last()}
HF = hf(
    "ernie4_5", "Ernie4_5", MODULES, keys=flags("use_bias"),
    defaults={
        "activation": "silu", "norm_eps": 1e-5, "kv_heads": 2, "head_dim": 128, "tied": True, "rope_theta": 500000.0, "use_bias": False,
    },
)  # fmt: skip

GGUF = gguf("ernie4_5", MODULES, implied={"activation": "silu"}, defaults={"tied": True}, bare=FFN)

ARCHITECTURE = decoder(
    "ernie4_5",
    "ERNIE 4.5",
    MODULES,
    HF,
    GGUF,
    rank=2,
    traits=runs(pairs="interleaved"),
    variants={"ernie-4.5-0.3b": shape(18, 1024, 16, 2, 3072, 103424)},
)
