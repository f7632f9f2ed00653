"""Phi 3 and 4: Llama with query, key and value in one matrix, and gate and up in one; positions for long texts by two lists of factors.

Source: transformers models/phi3.
"""

from __future__ import annotations

from ckptkit.arch._libraries.decoders import WORDS, D, H, attention, decoder, gated, hf, last, may
from ckptkit.arch._libraries.forward import partly
from ckptkit.arch._libraries.gguf import B, Window, gguf
from ckptkit.arch.llama import shape

MODULES = {**WORDS, **attention(), **gated(), **last()}
QKV = tuple(D + f"attention.{part}.weight" for part in ("query", "key", "value"))
HF = hf(
    "phi3", "Phi3", MODULES,
    rows={
        H + "self_attn.qkv_proj.weight": (*QKV, "*(heads kv_heads head_dim) hidden"),
        H + "mlp.gate_up_proj.weight": (D + "ffn.gate.weight", D + "ffn.up.weight", "*(intermediate) hidden"),
    },
    keys={"sliding_window": may("window")},
    defaults={"activation": "silu", "norm_eps": 1e-5},
)  # fmt: skip

ARCHITECTURE = decoder(
    "phi3", "Phi-3", MODULES, HF,
    gguf(
        "phi3", MODULES, implied={"activation": "silu"}, rope=("factors", "part"), dimensions=True, window=Window("all"),
        rows={
            B + "attn_qkv.weight": (*QKV, "*(heads kv_heads head_dim) hidden"),
            B + "ffn_up.weight": (D + "ffn.gate.weight", D + "ffn.up.weight", "*(intermediate) hidden"),
        },
    ),
    traits=partly(window="=window", sliding="all"),
    variants={
        "phi-3-mini": shape(32, 3072, 32, 32, 8192, 32064),
        "phi-3-medium": shape(40, 5120, 40, 10, 17920, 32064),
        "phi-4-mini": shape(32, 3072, 24, 8, 8192, 200064),
        "phi-4": shape(40, 5120, 40, 10, 17920, 100352),
    },
)  # fmt: skip
