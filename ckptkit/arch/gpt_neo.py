"""GPT-Neo: GPT-2's names with query, key and value apart, unscaled scores, and a window in every other layer.

Source: transformers models/gpt_neo (nn.Linear; query, key and value without bias).
"""

from __future__ import annotations

from ckptkit.arch._libraries.decoders import GPT, PLAIN, SIZES, WORDS, D, G, attention, decoder, flags, hf, last, masks, may, plain
from ckptkit.arch._libraries.forward import runs
from ckptkit.arch.gpt_neox import size
from ckptkit.schema import embedding

A = G + "attn.attention"
MODULES = {
    **WORDS,
    "embeddings.position": embedding("positions hidden"),
    **attention(out_bias=True, norm_bias=True, kv="heads"),
    **plain(),
    **last(bias=True),
}
OWN = {"num_hidden_layers": "num_layers", "num_attention_heads": "num_heads"}
HF = hf(
    "gpt_neo",
    "GPTNeo",
    MODULES,
    prefixes=("transformer.", ""),
    positions={},
    act="activation_function",
    eps="layer_norm_epsilon",
    names={
        **GPT,
        **{D + f"attention.{part}": f"{A}.{part[0]}_proj" for part in ("query", "key", "value")},
        D + "attention.output": f"{A}.out_proj",
    },
    sizes={OWN.get(k, k): v for k, v in SIZES.items()},
    keys={
        **flags("attention_types", "attention_layers"),
        "window_size": may("window"),
        "intermediate_size": may("intermediate"),
        "max_position_embeddings": "positions",
    },
    without=("kv_heads", "rope_theta", "max_positions"),
    unread={"head_dim": "head_dim"},
    defaults={"activation": "gelu_tanh", "norm_eps": 1e-5, "intermediate": "=4 hidden", "tied": True, "window": 256},
    besides=masks(A),
)

ARCHITECTURE = decoder(
    "gpt_neo",
    "GPT-Neo",
    MODULES,
    HF,
    heads=("heads",),
    required=PLAIN,
    traits=runs(norm_kind="layer", positions="learned", rotary={}, scaled=False, window="=window", sliding="local"),
    variants={"gpt-neo-125m": size(12, 768, 12), "gpt-neo-1.3b": size(24, 2048, 16), "gpt-neo-2.7b": size(32, 2560, 20)},
)
