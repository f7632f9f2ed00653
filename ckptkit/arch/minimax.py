"""MiniMax Text 01: lightning attention in most layers, softmax attention in the others, Mixtral's experts, what comes in and what a part
gives weighted by numbers of the configuration.

Source: transformers models/minimax (rows of qkv_proj go by head: its query, key, value; the decays of lightning attention are computed from
the number of heads and layers, and saved). The authors' own code calls the kinds of layers attn_type_list and the numbers layernorm_*.
"""

from __future__ import annotations

from collections.abc import Sequence

from ckptkit.arch._libraries.decoders import (
    MIXTRAL,
    WORDS,
    D,
    H,
    Values,
    attention,
    decoder,
    experts,
    flags,
    hf,
    in_layers,
    in_memory,
    joined,
    last,
    may,
    of_experts,
    of_types,
    stacked,
)
from ckptkit.arch._libraries.forward import routed, runs
from ckptkit.arch._libraries.state_space import S
from ckptkit.arch.llama import shape
from ckptkit.schema import Key, buffer, linear, norm

LIGHTNING = {
    **{S + part: linear("heads head_dim", "hidden", bias=False) for part in ("query", "key", "value", "gate")},
    S + "norm": norm("(heads head_dim)", bias=False),
    S + "out": linear("hidden", "heads head_dim", bias=False),
    S + "slope": buffer("heads 1 1"),
    S + "query_decay": buffer("heads block 1"),
    S + "key_decay": buffer("heads block 1"),
    S + "diagonal_decay": buffer("1 heads block block_key"),
}
MODULES = {
    **WORDS,
    **in_layers("attention@layer", attention()),
    **in_layers("not attention@layer", LIGHTNING),
    D + "ffn.norm": norm("hidden", bias=False),
    **experts("intermediate"),
    **last(),
}
LISTED = of_types("layer_types", "full_attention")


def attends(values: Values) -> Sequence[bool] | None:
    """Which layers have softmax attention: by layer_types, by the authors' list of ones and zeros, else every other from the first on."""
    said, own, n = LISTED(values), values.get("attn_type_list"), values.get("layers")
    if said is not None:
        return said
    if isinstance(own, (list, tuple)):
        return [t == 1 for t in own]
    return [i % 2 == 0 for i in range(n)] if isinstance(n, int) else None


def weights(part: str, theirs: str) -> dict[str, str | Key]:
    """The keys of the two numbers of a part, with the authors' spelling."""
    return {f"{part}_{n}_factor | layernorm_{theirs}_{n}": may(f"{part}_{n}") for n in ("alpha", "beta")}


A = H + "self_attn."
HF = hf(
    "minimax",
    "MiniMax",
    MODULES,
    names={
        **MIXTRAL,
        S + "norm": A + "norm",
        S + "gate": A + "output_gate",
        S + "out": A + "out_proj",
        S + "slope": A + "slope_rate",
        **{S + name: A + name for name in ("query_decay", "key_decay", "diagonal_decay")},
    },
    rows=joined(A + "qkv_proj", "(heads *(head_dim))", "hidden", (S + "query", S + "key", S + "value")),
    keys={
        **of_experts("num_local_experts | num_experts"),
        **flags("layer_types", "attn_type_list"),
        "block_size": may("block"),
        "sliding_window": may("window"),
        **weights("full_attn", "full_attention"),
        **weights("linear_attn", "linear_attention"),
        **weights("mlp", "mlp"),
    },
    without=("normalise_experts",),
    defaults={
        "activation": "silu",
        "norm_eps": 1e-5,
        "kv_heads": 8,
        "rope_theta": 1e6,
        "experts": 8,
        "experts_per_token": 2,
        "block": 256,
        **{f"{part}_{n}": 1.0 for part in ("full_attn", "linear_attn", "mlp") for n in ("alpha", "beta")},
    },
    usual={"postnorm": True, "shared_intermediate_size": 0, "shared_moe_mode": ..., "max_model_len": ..., "output_router_logits": ...},
)

ARCHITECTURE = decoder(
    "minimax",
    "MiniMax",
    MODULES,
    HF,
    in_memory(HF, MODULES, rows=stacked("intermediate"), names={D + "moe.router": H + "mlp.gate"}),
    relations=("block = block_key",),
    kinds={"attention@layer": attends},
    traits=runs(
        mixer="lightning",
        mixer_eps=1e-6,
        residual_normed=True,
        sliding="all",
        window="=window",
        **routed(normalised=True),
        scales={
            f"{at}.{end}": f"={part}_{number}"
            for at, part in (("attention", "full_attn"), ("state", "linear_attn"), ("ffn", "mlp"))
            for end, number in (("kept", "alpha"), ("out", "beta"))
        },
    ),
    variants={"minimax-text-01-456b": {**shape(80, 6144, 64, 8, 9216, 200064), "experts": 32}},
)
