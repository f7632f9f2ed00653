"""Jamba: Mamba 1's mixer with norms of step, B and C in most layers, attention without positions in every so many, experts in others.

Source: transformers models/jamba (attn_layer_period and offset, expert_layer_period and offset).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ckptkit.arch._libraries.decoders import (
    WORDS,
    D,
    E,
    H,
    Values,
    attention,
    decoder,
    dense_or_experts,
    experts,
    flags,
    gated,
    hf,
    in_layers,
    in_memory,
    last,
    may,
    of_experts,
    stacked,
)
from ckptkit.arch._libraries.forward import routed, unturned
from ckptkit.arch._libraries.gguf import gguf
from ckptkit.arch._libraries.gguf_state import DECAYS, FREE, MAMBA_KEYS, SSM, twice
from ckptkit.arch._libraries.gguf_state import mamba_rows as mamba_ggml
from ckptkit.arch._libraries.state_space import UNREAD, S, mamba, mamba_rows
from ckptkit.arch.bamba import FEED_FORWARD
from ckptkit.arch.llama import shape
from ckptkit.schema import Besides, Key, norm

NORMS = {S + "step_norm": norm("step_rank", bias=False), S + "b_norm": norm("state", bias=False), S + "c_norm": norm("state", bias=False)}
MODULES = {
    **WORDS,
    **in_layers("attention@layer", attention()),
    **in_layers("not attention@layer", {**mamba(bias="mamba_proj_bias", conv_bias="mamba_conv_bias"), **NORMS}),
    **dense_or_experts(gated(), experts("intermediate")),
    **last(),
}


def every(period: str, offset: str) -> Callable[[Values], Sequence[bool] | None]:
    """Which layers are of a kind: every so many from an offset on."""

    def read(values: Values) -> Sequence[bool] | None:
        n, step, first = values.get("layers"), values.get(period), values.get(offset)
        if not isinstance(n, int) or not isinstance(step, int) or not isinstance(first, int) or step < 1:
            return None
        return [i % step == first for i in range(n)]

    return read


F, X = H + "feed_forward.", H + "mamba."
HF = hf(
    "jamba",
    "Jamba",
    MODULES,
    positions={},
    besides=Besides(),
    names={
        **FEED_FORWARD,
        D + "moe.router": F + "router",
        S + "step_norm": X + "dt_layernorm",
        S + "b_norm": X + "b_layernorm",
        S + "c_norm": X + "c_layernorm",
        **{E + part: F + f"experts.{{expert}}.{name}_proj" for part, name in (("gate", "gate"), ("up", "up"), ("output", "down"))},
    },
    rows=mamba_rows(X),
    keys={
        **of_experts(),
        **flags(
            "mamba_proj_bias", "mamba_conv_bias", "attn_layer_period", "attn_layer_offset", "expert_layer_period", "expert_layer_offset"
        ),
        "mamba_d_state": "state",
        "mamba_expand": may("expand"),
        "mamba_d_conv": "kernel",
        "mamba_dt_rank": Key("step_rank", required=False, unknown=("auto",)),
    },
    usual=UNREAD,
    without=("rope_theta", "normalise_experts"),
    defaults={
        "activation": "silu",
        "norm_eps": 1e-6,
        "kv_heads": 8,
        "mamba_proj_bias": False,
        "mamba_conv_bias": True,
        "expand": 2,
        "attn_layer_period": 8,
        "attn_layer_offset": 4,
        "expert_layer_period": 2,
        "expert_layer_offset": 1,
        "experts_per_token": 2,
    },
)
ATTENDS = every("attn_layer_period", "attn_layer_offset")


def keys_by_layer(values: Values) -> list[int] | None:
    """The heads of keys in each layer, 0 where it has no attention."""
    kinds, heads = ATTENDS(values), values.get("kv_heads")
    return [heads if k else 0 for k in kinds] if kinds is not None and isinstance(heads, int) else None


PERIODS = ("attn_layer_period", "attn_layer_offset", "expert_layer_period", "expert_layer_offset")
GGUF = gguf(
    "jamba", MODULES, experts="intermediate", rope=None, rows=mamba_ggml(), adjust=DECAYS, conflicts=twice,
    names={S + f"{p}_norm": SSM + f"{n}_norm" for p, n in (("step", "dt"), ("b", "b"), ("c", "c"))},
    keys={
        **MAMBA_KEYS, "attention.head_count_kv": "", "derived.kv_heads": may("kv_heads"),
        **{f"derived.{p}": may(p) for p in PERIODS[:2]},
    },
    also={"attention.head_count_kv": keys_by_layer},
    implied={"activation": "silu", "mamba_proj_bias": False, "mamba_conv_bias": True, "normalise_experts": False},
    # in which layers experts are no key says: the tensors do, and where nothing else says it, those of every published model
    defaults={"expert_layer_period": 2, "expert_layer_offset": 1}, free={**FREE, **dict.fromkeys(PERIODS, ...)},
)  # fmt: skip

ARCHITECTURE = decoder(
    "jamba",
    "Jamba",
    MODULES,
    HF,
    GGUF,
    in_memory(HF, MODULES, rows=stacked("intermediate", F + "experts.")),
    required=(),
    relations=("inner = expand hidden",),
    kinds={
        "attention@layer": ATTENDS,
        "moe@layer": every("expert_layer_period", "expert_layer_offset"),
    },
    traits=unturned(mixer="mamba", **routed(normalised=False)),
    variants={"jamba-52b": {**shape(32, 4096, 32, 8, 14336, 65536), "experts": 16}},
)
