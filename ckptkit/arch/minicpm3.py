"""MiniCPM 3: low-rank attention in a dense model, with scales of the embeddings, of what each part adds, and before the head.

Source: transformers models/minicpm3.
"""

from __future__ import annotations

from ckptkit.arch._libraries.decoders import LOW_RANK_KEYS, WORDS, decoder, flags, gated, hf, last
from ckptkit.arch._libraries.forward import runs
from ckptkit.arch._libraries.gguf_latent import minicpm3 as ggml
from ckptkit.arch._libraries.low_rank import LOW_RANK, low_rank, low_rank_rows

MODULES = {**WORDS, **low_rank(full=False), **gated(bias="mlp_bias"), **last()}
HF = hf(
    "minicpm3", "MiniCPM3", MODULES, names=LOW_RANK, rows=low_rank_rows(full=False), without=("kv_heads", "head_dim"),
    keys={**LOW_RANK_KEYS, **flags("attention_bias", "mlp_bias", "scale_emb", "scale_depth", "dim_model_base")},
    defaults={"activation": "silu", "norm_eps": 1e-5, "tied": True, "attention_bias": False, "mlp_bias": False},
    usual=dict.fromkeys(("head_dim", "qk_head_dim"), ...),
)  # fmt: skip

GGUF = ggml(MODULES)

ARCHITECTURE = decoder(
    "minicpm3",
    "MiniCPM3",
    MODULES,
    HF,
    GGUF,
    heads=("heads",),
    traits=runs(score_growth="yarn", embedding_scale="=scale_emb", residual_depth="=scale_depth", logit_width="=dim_model_base"),
    variants={"minicpm3-4b": {"layers": 62, "hidden": 2560, "heads": 40}},
)
