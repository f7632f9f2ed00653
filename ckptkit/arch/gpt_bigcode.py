"""GPT-BigCode (SantaCoder, StarCoder): GPT-2 whose query heads share one key and value, in one matrix that is no Conv1D.

Source: transformers models/gpt_bigcode. With multi_query the rows are all queries, one key, one value; without it, those of each head.
Both are groups of query heads with the key and value that they share.
"""

from __future__ import annotations

from ckptkit.arch._libraries.decoders import GPT, GPT_SIZES, PLAIN, WORDS, D, G, decoder, flags, fused, hf, last, masks, plain
from ckptkit.arch._libraries.forward import runs
from ckptkit.arch._libraries.gguf import B, gguf
from ckptkit.arch.gpt_neox import size
from ckptkit.schema import Key, Module, embedding, linear, norm


def grouped(bias: bool | str, norm_bias: bool = True) -> dict[str, Module]:
    """Attention whose query heads lie in groups, each with one key and value."""
    return {
        D + "attention.norm": norm("hidden", bias=norm_bias),
        D + "attention.query": linear("kv_heads per_group head_dim", "hidden", bias=bias),
        D + "attention.key": linear("kv_heads head_dim", "hidden", bias=bias),
        D + "attention.value": linear("kv_heads head_dim", "hidden", bias=bias),
        D + "attention.output": linear("hidden", "kv_heads per_group head_dim", bias=bias),
    }


GROUPS = "(kv_heads *per_group head_dim)"
MODULES = {**WORDS, "embeddings.position": embedding("positions hidden"), **grouped(True), **plain(), **last(bias=True)}
HF = hf(
    "gpt_bigcode", "GPTBigCode", MODULES, names={**GPT, D + "attention.output": G + "attn.c_proj"}, rows=fused(G + "attn.c_attn", GROUPS),
    prefixes=("transformer.", ""), sizes=GPT_SIZES, positions={}, act="activation_function", eps="layer_norm_epsilon",
    keys={
        "multi_query": Key("kv_heads", words={True: 1, False: "=heads"}, required=False), "n_positions": "positions",
        **flags("scale_attn_weights"),
    },
    without=("rope_theta", "max_positions"),
    defaults={"activation": "gelu_tanh", "norm_eps": 1e-5, "intermediate": "=4 hidden", "tied": True, "kv_heads": 1},
    besides=masks(G + "attn"),
)  # fmt: skip

GGUF = gguf(
    "starcoder", MODULES, eps="layer_norm_epsilon", implied={"activation": "gelu_tanh", "scale_attn_weights": True}, rope=None,
    keys={"context_length": "positions"}, rows=fused(B + "attn_qkv", "*(kv_heads per_group head_dim)"), defaults={"tied": True},
)  # fmt: skip

ARCHITECTURE = decoder(
    "gpt_bigcode", "GPT-BigCode", MODULES, HF, GGUF,
    required=PLAIN,
    relations=("heads = kv_heads per_group", "hidden = heads head_dim"),
    traits=runs(norm_kind="layer", positions="learned", rotary={}, scaled="=scale_attn_weights"),
    variants={"santacoder-1.1b": size(24, 2048, 16), "starcoder-15.5b": size(40, 6144, 48)},
)  # fmt: skip
