"""Gemma 1: Llama with a scale of the embeddings and norms that are stored as their difference from one; the output is the embeddings.

Source: transformers models/gemma; google-deepmind/gemma layers.py (RMSNorm: x * (1 + scale)).
"""

from __future__ import annotations

from collections.abc import Mapping

from ckptkit.arch._libraries.decoders import WORDS, attention, decoder, gated, hf, last, may
from ckptkit.arch._libraries.forward import runs
from ckptkit.arch._libraries.gguf import gguf
from ckptkit.arch._libraries.maxtext import GEMMA_NORMS, GEMMA_ROOTED, maxtext
from ckptkit.arch.llama import shape
from ckptkit.schema import LESS_ONE, Adjust, Module


def less_one(modules: Mapping[str, Module]) -> dict[str, Adjust]:
    """Every norm's scale is stored as its difference from one."""
    return {f"{m}.weight": LESS_ONE for m, module in modules.items() if module.kind == "norm"}


MODULES = {**WORDS, **attention(bias="attention_bias", out_bias="attention_bias"), **gated(), **last()}
HF = hf(
    "gemma", "Gemma", MODULES, keys={"attention_bias": may("attention_bias"), "hidden_activation": may("hidden_activation")},
    defaults={"activation": "gelu_tanh", "norm_eps": 1e-6, "kv_heads": 16, "head_dim": 256, "tied": True, "attention_bias": False},
    adjust=less_one(MODULES),
)  # fmt: skip

ARCHITECTURE = decoder(
    "gemma", "Gemma", MODULES, HF, *maxtext(HF, MODULES, norms=GEMMA_NORMS, rooted=GEMMA_ROOTED),
    gguf("gemma", MODULES, implied={"activation": "gelu_tanh", "tied": True}, free={"hidden_activation": ("gelu_pytorch_tanh", None)}),
    rank=2,
    traits=runs(embedding_scale="root"),
    variants={"gemma-2b": shape(18, 2048, 8, 1, 16384, 256000), "gemma-7b": shape(28, 3072, 16, 16, 24576, 256000)},
)  # fmt: skip
