"""MiniCPM 1 to 4: Llama with scales of the embeddings, of what each part adds, and before the head.

Source: openbmb's modeling_minicpm.py and configuration_minicpm.py (MiniCPM-2B, MiniCPM4-8B: positions for long texts by two lists of
factors; their sparse attention for long inputs has no weights and is not modelled here).
"""

from __future__ import annotations

from ckptkit.arch._libraries.authors import own_code
from ckptkit.arch._libraries.decoders import WORDS, attention, decoder, flags, gated, hf, last
from ckptkit.arch._libraries.forward import runs
from ckptkit.arch.llama import shape
from ckptkit.schema import Class

MODULES = {**WORDS, **attention(bias="attention_bias", out_bias="attention_bias"), **gated(), **last()}
HF = own_code(
    hf(
        "minicpm", "MiniCPM", MODULES, without=("head_dim",),
        keys=flags("attention_bias", "scale_emb", "scale_depth", "dim_model_base", "sparse_config"),
        defaults={"activation": "silu", "norm_eps": 1e-6, "tied": True, "attention_bias": False},
    ),
    holds=(Class("MiniCPMForCausalLM", frozenset({"lm"})), Class("MiniCPMModel", frozenset()),
           Class("MiniCPMForSequenceClassification", frozenset({"score"}))),
    usual={"mup_denominator": ...},
)  # fmt: skip

ARCHITECTURE = decoder(
    "minicpm", "MiniCPM", MODULES, HF,
    relations=("hidden = heads head_dim",),
    rank=2,
    traits=runs(
        embedding_scale="=scale_emb", residual_depth="=scale_depth", logit_width="=dim_model_base",
        runs_with={"rope_part": (None, 1, 1.0), "sparse_config": (None,)},
    ),
    variants={
        "minicpm-1b": shape(52, 1536, 24, 8, 3840, 73440),
        "minicpm-2b": shape(40, 2304, 36, 36, 5760, 122753),
        "minicpm4-0.5b": shape(24, 1024, 16, 2, 4096, 73448),
        "minicpm4-8b": shape(32, 4096, 32, 2, 16384, 73448),
    },
)  # fmt: skip
