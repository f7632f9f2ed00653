"""OLMo 1: Llama whose norms have no parameters, so that no tensor of one is stored.

Source: transformers models/olmo (OlmoLayerNorm, epsilon 1e-5; clip_qkv clamps queries, keys and values).
"""

from __future__ import annotations

from ckptkit.arch._libraries.decoders import WORDS, attention, decoder, flags, gated, hf, last, may
from ckptkit.arch._libraries.forward import runs
from ckptkit.arch._libraries.gguf import gguf
from ckptkit.arch.llama import shape

HEADS = {k: m for k, m in last().items() if k != "decoder.norm"}
MODULES = {**WORDS, **attention(bias="attention_bias", out_bias="attention_bias", norms=(), pairs=True), **gated(norms=()), **HEADS}
HF = hf(
    "olmo", "Olmo", MODULES, keys=flags("attention_bias", "clip_qkv"), eps="",
    implied={"norm_eps": 1e-5}, defaults={"activation": "silu", "attention_bias": False},
)  # fmt: skip

GGUF = gguf(
    "olmo", MODULES, pairs=True, eps="layer_norm_epsilon", implied={"activation": "silu"}, keys={"attention.clamp_kqv": may("clip_qkv")},
)  # fmt: skip

ARCHITECTURE = decoder(
    "olmo", "OLMo", MODULES, HF, GGUF,
    traits=runs(norm_kind="layer", bare_norm=True, clip="=clip_qkv"),
    variants={"olmo-1b": shape(16, 2048, 16, 16, 8192, 50304), "olmo-7b": shape(32, 4096, 32, 32, 11008, 50304)},
)  # fmt: skip
