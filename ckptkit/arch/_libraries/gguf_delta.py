"""The `gguf` dialects of Qwen's hybrids: linear attention by the delta rule in most layers, gated attention in the others.

Sources: conversion/qwen.py and src/models/qwen3next.cpp, qwen35.cpp, qwen35moe.cpp of llama.cpp. Qwen 3-next's matrices are taken apart,
and its values lie by key head; in Qwen 3.5 the values of all first heads of the groups come first, then those of the second. What decays is
stored as minus its exponential, norms as they are used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from ckptkit.arch._libraries.decoders import A, D, Values, joined, may
from ckptkit.arch._libraries.gguf import DENSE, B, gguf
from ckptkit.arch._libraries.gguf_state import DECAYS, SSM
from ckptkit.arch._libraries.state_space import S
from ckptkit.schema import Dialect, Key, Module

Rows = dict[str, str | tuple[str, ...]]
CONVS = tuple(f"{S}conv_{p}.weight" for p in ("query", "key", "value"))
QKV = (S + "query", S + "key", S + "value")
SECTIONS = [11, 11, 10, 0]  # of Qwen 3.5's positions, where no configuration says them


def delta_rows(*, tiled: bool) -> Rows:
    """The rows of `state_space.delta`. `tiled`: the heads of values that share a key lie apart, the firsts of all keys together."""
    heads = "ratio key_heads" if tiled else "key_heads ratio"
    each = f"*({heads} key_dim state_dim)" if tiled else "*(key_heads key_dim ratio state_dim)"
    rows: Rows = {
        **joined(B + "attn_q", "(heads *(head_dim))", "hidden", (A + "query", A + "gate"), bias=True),
        **joined(B + "attn_qkv", each, "hidden", QKV), B + "attn_gate.weight": (S + "gate.weight", f"({heads} state_dim) hidden"),
        SSM + "conv1d.weight": (*CONVS, f"{each} kernel"), SSM + "dt.bias": (S + "step_bias", f"({heads})"),
        SSM + "a": (S + "a_log", f"({heads})"), SSM + "norm": S + "norm",
        SSM + "out.weight": (S + "out.weight", f"hidden ({heads} state_dim)"),
    }  # fmt: skip
    if not tiled:
        return {**rows, **joined(SSM + "ba", "(key_heads *(ratio))", "hidden", (S + "strength", S + "decay"))}
    low = {SSM + "beta": S + "strength", SSM + "alpha": S + "decay"}
    return {**rows, **{f"{n}.weight": (f"{m}.weight", f"({heads}) hidden") for n, m in low.items()}}


KEYS: dict[str, str | Key] = {
    "ssm.conv_kernel": "kernel", "ssm.group_count": "key_heads", "ssm.state_size": "key_dim", "ssm.time_step_rank": may("value_heads"),
    "derived.state_dim": may("state_dim"), "derived.layer_types": may("layer_types"),
    "full_attention_interval": may("full_attention_interval"),
}  # fmt: skip
EXPERTS: dict[str, str | Key] = {
    "expert_feed_forward_length": may("moe_intermediate"), "expert_shared_feed_forward_length": may("shared_intermediate"),
}  # fmt: skip


def times(*names: str) -> Callable[[Values], int | None]:
    """The product of sizes; None where one is not known."""

    def of(values: Values) -> int | None:
        out = 1
        for n in names:
            size = values.get(n)
            if not isinstance(size, int):
                return None
            out *= size
        return out

    return of


def alike(values: Values) -> Iterator[tuple[str, str]]:
    """llama.cpp has one width of heads in linear attention."""
    key, value = values.get("key_dim"), values.get("state_dim")
    if isinstance(key, int) and isinstance(value, int) and key != value:
        yield "state_dim", f"its code of this architecture takes {key} for keys and values"


def hybrid(
    name: str, modules: Mapping[str, Module], attends: Callable[[Values], Sequence[bool] | None], *, tiled: bool, sparse: bool,
    free: Mapping[str, object] = {},
) -> Dialect:  # fmt: skip
    """The dialect of one of them. `attends` says which layers have softmax attention; `sparse`: it has experts; `tiled`: see
    `delta_rows`."""

    def linear(values: Values) -> list[bool] | None:
        kinds = attends(values)
        return [not k for k in kinds] if kinds is not None else None

    def sections(values: Values) -> list[int]:
        said = values.get("rope_mrope_section")
        return [*said, 0][:4] if isinstance(said, (list, tuple)) and len(said) >= 3 else SECTIONS

    also: dict[str, object] = {
        "ssm.inner_size": times("value_heads", "state_dim"), "attention.recurrent_layers": linear,
        **({"rope.dimension_sections": sections} if tiled else {}),
    }  # fmt: skip
    experts = {"feed_forward_length": may("intermediate"), **EXPERTS} if sparse else {}
    return gguf(
        name, modules, names={D + "ffn.norm": B + "post_attention_norm"}, rows=delta_rows(tiled=tiled), keys={**KEYS, **experts},
        rope=("part", "mrope") if tiled else ("part",), dimensions=True, also=also, without=DENSE if sparse else (),
        experts="moe_intermediate" if sparse else "", implied={"activation": "silu", **({"normalise_experts": True} if sparse else {})},
        defaults={"value_heads": "=key_heads", "full_attention_interval": 4},
        free={"layer_types": ..., "full_attention_interval": ..., **free}, conflicts=alike, adjust=DECAYS,
    )  # fmt: skip
