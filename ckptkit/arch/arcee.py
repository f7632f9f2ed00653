"""Arcee (AFM): Llama with a feed-forward of two layers and squared ReLU.

Source: transformers models/arcee.
"""

from __future__ import annotations

from ckptkit.arch._libraries.decoders import UP_DOWN, WORDS, attention, decoder, flags, hf, last, plain
from ckptkit.arch._libraries.forward import runs
from ckptkit.arch._libraries.gguf import FFN, OUTPUT, gguf
from ckptkit.arch.llama import shape

MODULES = {
    **WORDS,
    **attention(bias="attention_bias", out_bias="attention_bias", pairs=True),
    **plain(bias="mlp_bias", norm_bias=False),
    **last(),
}
HF = hf(
    "arcee", "Arcee", MODULES, names=UP_DOWN, keys=flags("attention_bias", "mlp_bias"),
    defaults={"activation": "relu2", "norm_eps": 1e-5, "attention_bias": False, "mlp_bias": False},
)  # fmt: skip

GGUF = gguf("arcee", MODULES, pairs=True, implied={"activation": "relu2"}, rope=("freqs",), bare=(*FFN, OUTPUT))

ARCHITECTURE = decoder("arcee", "Arcee", MODULES, HF, GGUF, traits=runs(), variants={"afm-4.5b": shape(36, 2560, 20, 4, 18432, 128004)})
