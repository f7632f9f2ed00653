"""BLOOM: query, key and value of each head in one matrix, alibi, a norm after the embeddings.

Source: transformers models/bloom (gelu by tanh; published files often have no prefix).
"""

from __future__ import annotations

from ckptkit.arch._libraries.decoders import BLOOM, PLAIN, SIZES, WORDS, D, G, attention, decoder, flags, fused, hf, last, plain
from ckptkit.arch._libraries.forward import runs
from ckptkit.arch._libraries.gguf import B, Window, gguf
from ckptkit.arch.gpt_neox import size
from ckptkit.schema import Besides, norm

MODULES = {
    **WORDS,
    "embeddings.norm": norm("hidden"),
    **attention(bias=True, out_bias=True, norm_bias=True, kv="heads"),
    **plain(),
    **last(bias=True),
}
OWN = {
    "num_hidden_layers": "n_layer | num_hidden_layers", "num_attention_heads": "n_head | num_attention_heads",
    "hidden_size": "hidden_size | n_embed",
}  # fmt: skip
HF = hf(
    "bloom", "Bloom", MODULES, prefixes=("transformer.", ""), positions={}, act="", eps="layer_norm_epsilon", besides=Besides(),
    names={**BLOOM, "embeddings.norm": "~word_embeddings_layernorm", D + "attention.output": G + "self_attention.dense"},
    rows=fused(G + "self_attention.query_key_value", "(heads *(head_dim))"),
    sizes={OWN.get(k, k): v for k, v in SIZES.items()}, keys=flags("apply_residual_connection_post_layernorm"),
    without=("kv_heads", "rope_theta", "intermediate", "head_dim"),
    implied={"activation": "gelu_tanh", "intermediate": "=4 hidden"}, defaults={"norm_eps": 1e-5, "tied": True},
)  # fmt: skip

GGUF = gguf(
    "bloom", MODULES, eps="layer_norm_epsilon", implied={"activation": "gelu_tanh", "apply_residual_connection_post_layernorm": False},
    rope=None, rows=fused(B + "attn_qkv", "*(heads head_dim)"), defaults={"tied": True}, window=Window("", usual=2048),
    keys={"attention.head_count_kv": ""},
)  # fmt: skip

ARCHITECTURE = decoder(
    "bloom", "BLOOM", MODULES, HF, GGUF,
    heads=("heads",),
    required=PLAIN,
    relations=("hidden = heads head_dim",),
    traits=runs(norm_kind="layer", positions="none", rotary={}, alibi=True, residual_normed="=apply_residual_connection_post_layernorm"),
    variants={
        "bloom-560m": size(24, 1024, 16), "bloom-1b1": size(24, 1536, 16), "bloom-1b7": size(24, 2048, 16), "bloom-3b": size(30, 2560, 32),
        "bloom-7b1": size(30, 4096, 32), "bloom-176b": size(70, 14336, 112),
    },
)  # fmt: skip
