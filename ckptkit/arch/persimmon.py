"""Persimmon: query, key and value of each head in one matrix, norms of each head's query and key, squared ReLU.

Source: transformers models/persimmon.
"""

from __future__ import annotations

from ckptkit.arch._libraries.decoders import WORDS, D, H, attention, decoder, flags, fused, hf, last, plain
from ckptkit.arch._libraries.forward import partly
from ckptkit.arch.gpt_neox import size
from ckptkit.schema import norm, when

MODULES = {
    **WORDS,
    **attention(bias=True, out_bias=True, norm_bias=True, kv="heads"),
    D + "attention.query_norm": when("qk_layernorm", norm("head_dim")),
    D + "attention.key_norm": when("qk_layernorm", norm("head_dim")),
    **plain(),
    **last(bias=True),
}
HF = hf(
    "persimmon", "Persimmon", MODULES, eps="layer_norm_eps", keys=flags("qk_layernorm"), without=("kv_heads",),
    unread={"head_dim": "head_dim"},
    names={
        D + "attention.output": H + "self_attn.dense", D + "attention.query_norm": H + "self_attn.q_layernorm",
        D + "attention.key_norm": H + "self_attn.k_layernorm", D + "ffn.intermediate": H + "mlp.dense_h_to_4h",
        D + "ffn.output": H + "mlp.dense_4h_to_h", "decoder.norm": "~final_layernorm",
    },
    rows=fused(H + "self_attn.query_key_value", "(heads *(head_dim))"),
    defaults={"activation": "relu2", "norm_eps": 1e-5, "rope_part": 0.5, "qk_layernorm": True},
)  # fmt: skip

ARCHITECTURE = decoder(
    "persimmon", "Persimmon", MODULES, HF, heads=("heads",), traits=partly(norm_kind="layer"), variants={"persimmon-8b": size(36, 4096, 64)}
)
