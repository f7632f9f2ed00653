"""Gemma 2: Gemma with a norm before and one after each part, soft caps, and a window in every other layer.

Source: transformers models/gemma2.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ckptkit.arch._libraries.decoders import SANDWICH, WORDS, Values, attention, decoder, flags, gated, hf, last, may
from ckptkit.arch._libraries.forward import runs
from ckptkit.arch._libraries.gguf import Window, both, gguf
from ckptkit.arch._libraries.gguf_keys import LARGEST
from ckptkit.arch.gemma import less_one
from ckptkit.arch.llama import shape


def scaled_scores(largest: int) -> Callable[[Values], Iterator[tuple[str, str]]]:
    """What llama.cpp divides scores by: the root of a head's width, in a model of so many layers of the width over the heads."""

    def conflicts(values: Values) -> Iterator[tuple[str, str]]:
        layers, hidden, heads, width = (values.get(k) for k in ("layers", "hidden", "heads", "head_dim"))
        takes = hidden // heads if layers == largest and isinstance(hidden, int) and isinstance(heads, int) and heads else width
        if values.get("query_pre_attn_scalar", takes) != takes:
            yield "query_pre_attn_scalar", f"its code of this architecture takes {takes} in a model of these sizes"

    return conflicts


def capped(values: Values) -> Iterator[tuple[str, str]]:
    """llama.cpp's Gemma 2 caps scores and logits always, by 50 and 30 where a file does not say otherwise."""
    for word in ("attention_cap", "logit_cap"):
        if word in values and not values[word]:
            yield word, "its code of this architecture always has a cap"


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
        implied={"activation": "gelu_tanh", "tied": True},
        window=Window("types even", own=True),
        defaults={"attention_cap": 50.0, "logit_cap": 30.0},
        conflicts=both(scaled_scores(LARGEST["gemma2"]), capped),
        keys={
            "derived.query_pre_attn_scalar": may("query_pre_attn_scalar"),
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
