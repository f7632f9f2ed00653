"""Gemma 2: Gemma with a norm before and one after each part, soft caps, and a window in every other layer.

Source: transformers models/gemma2.
"""

from __future__ import annotations

from ckptkit.arch._libraries.decoders import SANDWICH, WORDS, attention, decoder, flags, gated, hf, last, may
from ckptkit.arch._libraries.forward import runs
from ckptkit.arch._libraries.gguf import gguf
from ckptkit.arch.gemma import less_one
from ckptkit.arch.llama import shape

BOTH = ("norm", "post_norm")
CAPS = {
    **flags("attention_bias", "layer_types", "query_pre_attn_scalar"),
    "sliding_window": may("window"),
    "attn_logit_softcapping": may("attention_cap"),
    "final_logit_softcapping": may("logit_cap"),
}
MODULES = {**WORDS, **attention(bias="attention_bias", out_bias="attention_bias", norms=BOTH), **gated(norms=BOTH), **last()}
HF = hf(
    "gemma2",
    "Gemma2",
    MODULES,
    names=SANDWICH,
    keys=CAPS,
    act="hidden_activation | hidden_act",
    defaults={
        "activation": "gelu_tanh",
        "norm_eps": 1e-6,
        "kv_heads": 4,
        "head_dim": 256,
        "tied": True,
        "attention_bias": False,
        "query_pre_attn_scalar": 256,
        "window": 4096,
        "attention_cap": 50.0,
        "logit_cap": 30.0,
    },
    adjust=less_one(MODULES),
)

ARCHITECTURE = decoder(
    "gemma2",
    "Gemma 2",
    MODULES,
    HF,
    gguf(
        "gemma2",
        MODULES,
        implied={"activation": "gelu_tanh", "tied": True, "rope_theta": 10000.0, "query_pre_attn_scalar": "=head_dim"},
        keys={
            "attention.sliding_window": may("window"),
            "attn_logit_softcapping": may("attention_cap"),
            "final_logit_softcapping": may("logit_cap"),
        },
    ),
    traits=runs(
        embedding_scale="root",
        window="=window",
        sliding="types even",
        score_scale_of="=query_pre_attn_scalar",
        attention_cap="=attention_cap",
        logit_cap="=logit_cap",
    ),
    variants={
        "gemma-2-2b": shape(26, 2304, 8, 4, 9216, 256000),
        "gemma-2-9b": shape(42, 3584, 16, 8, 14336, 256000),
        "gemma-2-27b": shape(46, 4608, 32, 16, 36864, 256000),
    },
)
