"""MiniCPM 1 to 4: Llama with scales of the embeddings, of what each part adds, and before the head.

Source: openbmb's modeling_minicpm.py and configuration_minicpm.py (MiniCPM-2B, MiniCPM4-8B: positions for long texts by two lists of
factors; their sparse attention for long inputs has no weights and is not modelled here).
"""

from __future__ import annotations

from ckptkit.arch._libraries.authors import own_code
from ckptkit.arch._libraries.decoders import WORDS, attention, decoder, flags, gated, hf, last, may
from ckptkit.arch._libraries.forward import runs
from ckptkit.arch._libraries.gguf import Values, gguf
from ckptkit.arch.llama import shape
from ckptkit.schema import Class

MODULES = {**WORDS, **attention(bias="attention_bias", out_bias="attention_bias", pairs=True), **gated(), **last()}
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



def real(values: Values, name: str) -> float | None:
    said = values.get(name)
    return float(said) if isinstance(said, (int, float)) else None


def residual(values: Values) -> float | None:
    """What each part is multiplied by."""
    depth, layers = real(values, "scale_depth"), real(values, "layers")
    return depth / layers**0.5 if depth is not None and layers else None


def logits(values: Values) -> float | None:
    """What the last hidden states are divided by."""
    hidden, base = real(values, "hidden"), real(values, "dim_model_base")
    return hidden / base if hidden is not None and base else None


GGUF = gguf(
    "minicpm", MODULES, pairs=True, implied={"activation": "silu", "attention_bias": False}, rope=("freqs", "factors"),
    keys={f"derived.{k}": may(k) for k in ("scale_emb", "scale_depth", "dim_model_base")},
    also={"embedding_scale": lambda values: real(values, "scale_emb"), "residual_scale": residual, "logit_scale": logits},
    defaults={"tied": True},
)

ARCHITECTURE = decoder(
    "minicpm", "MiniCPM", MODULES, HF, GGUF,
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
