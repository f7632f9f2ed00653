"""Nemotron (Minitron): LayerNorms stored as their difference from one, partly rotary positions, a feed-forward with squared ReLU.

Source: transformers models/nemotron (NemotronLayerNorm1P).
"""

from __future__ import annotations

from ckptkit.arch._libraries.decoders import UP_DOWN, WORDS, attention, decoder, flags, hf, last, plain
from ckptkit.arch._libraries.forward import partly
from ckptkit.arch._libraries.gguf import gguf, square
from ckptkit.arch.gemma import less_one
from ckptkit.arch.llama import shape

MODULES = {
    **WORDS,
    **attention(bias="attention_bias", out_bias="attention_bias", norm_bias=True),
    **plain(bias="mlp_bias"),
    **last(bias=True),
}
HF = hf(
    "nemotron", "Nemotron", MODULES, names=UP_DOWN, eps="norm_eps", keys=flags("attention_bias", "mlp_bias"),
    defaults={"activation": "relu2", "norm_eps": 1e-5, "rope_part": 0.5, "attention_bias": False, "mlp_bias": False},
    adjust=less_one(MODULES),
)  # fmt: skip

GGUF = gguf(
    "nemotron", MODULES, eps="layer_norm_epsilon", implied={"activation": "relu2"}, rope=("part",), dimensions=True, conflicts=square,
)  # fmt: skip

ARCHITECTURE = decoder(
    "nemotron", "Nemotron", MODULES, HF, GGUF,
    traits=partly(norm_kind="layer"),
    variants={"minitron-4b": shape(32, 3072, 24, 8, 9216, 256000), "nemotron-4-340b": shape(96, 18432, 96, 8, 73728, 256000)},
)  # fmt: skip
