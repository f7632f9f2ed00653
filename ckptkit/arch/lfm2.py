"""LFM 2: short gated convolutions in most layers, attention with norms of queries and keys in the others.

Source: transformers models/lfm2 (feed_forward.w1 gate, w3 up, w2 down; the last norm is called embedding_norm).
"""

from __future__ import annotations

from collections.abc import Sequence

from ckptkit.arch._libraries.decoders import (
    SIZES,
    WORDS,
    D,
    H,
    Values,
    attention,
    decoder,
    flags,
    gated,
    hf,
    in_layers,
    joined,
    last,
    may,
    of_types,
)
from ckptkit.arch._libraries.forward import runs
from ckptkit.arch._libraries.gguf import B, gguf
from ckptkit.arch._libraries.state_space import S, convolution
from ckptkit.arch.llama import shape
from ckptkit.schema import linear

CONV = {
    S + "b": linear("channels", "hidden", bias="conv_bias"),
    S + "c": linear("channels", "hidden", bias="conv_bias"),
    S + "input": linear("channels", "hidden", bias="conv_bias"),
    S + "conv": convolution("channels", bias="conv_bias"),
    S + "out": linear("hidden", "channels", bias="conv_bias"),
}
MODULES = {
    **WORDS,
    **in_layers("attention@layer", attention(qk_norm="head_dim")),
    **in_layers("not attention@layer", CONV),
    **gated(),
    **last(),
}
LISTED = of_types("layer_types", "full_attention")


def attends(values: Values) -> Sequence[bool] | None:
    """Which layers have attention: by layer_types, else those that full_attn_idxs lists, else all."""
    said, n, listed = LISTED(values), values.get("layers"), values.get("full_attn_idxs")
    if said is not None or not isinstance(n, int):
        return said
    return [listed is None or (isinstance(listed, (list, tuple)) and i in listed) for i in range(n)]


ADJUSTED = dict.fromkeys(  # of these the library works out the width of the feed-forward, which the tensors say
    ("intermediate_size", "block_ff_dim", "block_auto_adjust_ff_dim", "block_ffn_dim_multiplier", "block_multiple_of"), ...
)
UNREAD = dict.fromkeys(  # what published configurations say besides, and the library does not read
    (
        "block_dim", "block_mlp_init_scale", "block_norm_eps", "block_out_init_scale", "block_use_swiglu", "block_use_xavier_init",
        "conv_dim", "conv_dim_out", "conv_use_xavier_init", "num_heads", "use_pos_enc",
    ),
    ...,
)  # fmt: skip
OTHERS = ("intermediate_size", "tie_word_embeddings")
C, F = H + "conv.", H + "feed_forward."
HF = hf(
    "lfm2", "Lfm2", MODULES, act="", eps="norm_eps",
    names={
        D + "attention.norm": H + "operator_norm", D + "attention.output": H + "self_attn.out_proj",
        D + "attention.query_norm": H + "self_attn.q_layernorm", D + "attention.key_norm": H + "self_attn.k_layernorm",
        D + "ffn.norm": H + "ffn_norm", D + "ffn.gate": F + "w1", D + "ffn.up": F + "w3", D + "ffn.output": F + "w2",
        "decoder.norm": "~embedding_norm", S + "conv": C + "conv", S + "out": C + "out_proj",
    },
    rows=joined(C + "in_proj", "*(channels)", "hidden", (S + "b", S + "c", S + "input"), bias=True),
    sizes={"tie_embedding | tie_word_embeddings": "tied", **{k: v for k, v in SIZES.items() if k not in OTHERS}},
    keys={**flags("conv_bias", "layer_types", "full_attn_idxs"), "conv_L_cache": may("kernel")}, implied={"activation": "silu"},
    usual={**ADJUSTED, **UNREAD},
    defaults={"norm_eps": 1e-5, "kv_heads": 8, "tied": True, "rope_theta": 1e6, "conv_bias": False, "kernel": 3},
)  # fmt: skip


def keys_by_layer(values: Values) -> list[int] | None:
    """The heads of keys in each layer: none where it has no attention."""
    kinds, heads = of_types("layer_types", "full_attention")(values), values.get("kv_heads")
    return [heads if k else 0 for k in kinds] if kinds is not None and isinstance(heads, int) else None


SC = B + "shortconv."
GGUF = gguf(
    "lfm2", MODULES, implied={"activation": "silu"}, defaults={"tied": True},
    keys={
        "attention.head_count_kv": "", "shortconv.l_cache": may("kernel"), "derived.layer_types": may("layer_types"),
        "derived.kv_heads": may("kv_heads"),
    }, also={"attention.head_count_kv": keys_by_layer},
    free={"full_attn_idxs": ..., "conv_L_cache": ...},
    names={"decoder.norm": "token_embd_norm", S + "out": SC + "out_proj"},
    rows={
        **joined(SC + "in_proj", "*(channels)", "hidden", (S + "b", S + "c", S + "input"), bias=True),
        SC + "conv.weight": (S + "conv.weight", "channels kernel"), SC + "conv.bias": S + "conv.bias",
    },
)  # fmt: skip

ARCHITECTURE = decoder(
    "lfm2", "LFM2", MODULES, HF, GGUF,
    relations=("hidden = channels",),
    kinds={"attention@layer": attends},
    traits=runs(mixer="convolution"),
    variants={
        "lfm2-350m": {k: v for k, v in shape(16, 1024, 16, 8, 0, 65536).items() if k != "intermediate"},
        "lfm2-1.2b": {k: v for k, v in shape(16, 2048, 32, 8, 0, 65536).items() if k != "intermediate"},
    },
)  # fmt: skip
