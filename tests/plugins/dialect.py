"""BERT as our training code names it: one more naming of an architecture that is there."""

from __future__ import annotations

from ..schema import TORCH, ConfigForm, Dialect, Key
from .bert import ARCHITECTURE as BERT
from .bert import DEFAULTS, HF_ACTIVATIONS, SIZES

L, B = "encoder.layers.{layer}.", "blocks.{layer}."

OURS = Dialect(
    name="ours",
    title="our training code",
    style=TORCH,
    prefixes=("net.",),
    rows={
        "~tokens": "embeddings.word",
        "~positions": "embeddings.position",
        "~segments": "embeddings.segment",
        "~norm": "embeddings.norm",
        f"~{B}qkv.weight": (*(f"{L}attention.{x}.weight" for x in ("query", "key", "value")), "hidden *(heads head_dim)"),
        f"~{B}qkv.bias": (*(f"{L}attention.{x}.bias" for x in ("query", "key", "value")), "*(heads head_dim)"),
        f"~{B}proj": L + "attention.output",
        f"~{B}norm1": L + "attention.norm",
        f"~{B}up": L + "ffn.intermediate",
        f"~{B}down": L + "ffn.output",
        f"~{B}norm2": L + "ffn.norm",
        "~pool": "pooler",
    },
    config=ConfigForm(
        filename="ours.json",
        keys={**SIZES, "hidden_act": Key("activation", words=HF_ACTIVATIONS), "layer_norm_eps": "norm_eps"},
        marks={"code": "ours"},
        defaults=DEFAULTS,
    ),
)

ARCHITECTURE = BERT.with_dialects(OURS)
