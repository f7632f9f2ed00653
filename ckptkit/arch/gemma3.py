"""Gemma 3, its language model: Gemma 2 without caps, with norms of queries and keys, and a rotary base for each kind of layer.

Source: transformers models/gemma3 (Gemma3ForCausalLM; published files of 4b and more hold a vision tower besides).
"""

from __future__ import annotations

from ckptkit.arch._libraries.decoders import KINDS, SANDWICH, WORDS, attention, decoder, flags, gated, hf, last, may, rope
from ckptkit.arch._libraries.forward import KINDS_OF_ROPE, WHOLE, runs
from ckptkit.arch._libraries.gguf import Window, gguf
from ckptkit.arch._libraries.gguf_keys import LARGEST
from ckptkit.arch.gemma import less_one
from ckptkit.arch.gemma2 import BOTH, CAPS, scaled_scores
from ckptkit.arch.llama import shape

QK = attention(bias="attention_bias", out_bias="attention_bias", norms=BOTH, qk_norm="head_dim")
MODULES = {**WORDS, **QK, **gated(norms=BOTH), **last()}
LOCAL = rope("local_rope", "sliding_attention", "rope_local_base_freq")
HF = hf(
    "gemma3_text",
    "Gemma3",
    MODULES,
    names=SANDWICH,
    act="hidden_activation | hidden_act",
    positions={**KINDS, **LOCAL, "sliding_window_pattern | _sliding_window_pattern": may("window_pattern")},
    keys={**CAPS, **flags("use_bidirectional_attention")},
    defaults={
        "activation": "gelu_tanh",
        "norm_eps": 1e-6,
        "kv_heads": 4,
        "head_dim": 256,
        "tied": True,
        "attention_bias": False,
        "query_pre_attn_scalar": 256,
        "window": 4096,
        "rope_theta": 1e6,
        "local_rope_theta": 10000.0,
    },
    adjust=less_one(MODULES),
)

ARCHITECTURE = decoder(
    "gemma3",
    "Gemma 3",
    MODULES,
    HF,
    gguf(
        "gemma3",
        MODULES,
        implied={"activation": "gelu_tanh", "tied": True, "attention_cap": None},
        defaults={"rope_theta": 1e6, "local_rope_theta": 10000.0},
        window=Window("types 6", own=True),
        free={"local_rope_type": ("default",), "use_bidirectional_attention": (False,)},
        conflicts=scaled_scores(LARGEST["gemma3"]),
        keys={
            "derived.query_pre_attn_scalar": may("query_pre_attn_scalar"),
            "rope.freq_base_swa": may("local_rope_theta"),
            "final_logit_softcapping": may("logit_cap"),
        },
    ),
    names=("gemma3_text",),
    traits=runs(
        embedding_scale="root",
        window="=window",
        sliding="types 6",
        score_scale_of="=query_pre_attn_scalar",
        attention_cap="=attention_cap",
        logit_cap="=logit_cap",
        rotary=KINDS_OF_ROPE,
        runs_with={**WHOLE, "use_bidirectional_attention": (None, False)},
    ),
    variants={
        "gemma-3-270m": shape(18, 640, 4, 1, 2048, 262144),
        "gemma-3-1b": shape(26, 1152, 4, 1, 6912, 262144),
        "gemma-3-4b": shape(34, 2560, 8, 4, 10240, 262208),
        "gemma-3-12b": shape(48, 3840, 16, 8, 15360, 262208),
        "gemma-3-27b": shape(62, 5376, 32, 16, 21504, 262208),
    },
)
