"""The `gguf` dialect of low-rank attention: DeepSeek 2 and 3 and what llama.cpp runs as these (deepseek2).

Source: conversion/deepseek.py (keys and values of all heads apart, the keys' matrix turned round) and src/models/deepseek2.cpp of
llama.cpp.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from ckptkit.arch._libraries.decoders import A, joined, may, sparse_or_first_dense
from ckptkit.arch._libraries.gguf import EXPERTS, OUTPUT, SIGMOID, B, Values, dense_first, gguf, leading
from ckptkit.arch._libraries.gguf_state import DECAYS, SSM
from ckptkit.arch._libraries.state_space import S
from ckptkit.schema import Dialect, Key, Module

MLA: dict[str, str | tuple[str, ...]] = {
    **joined(B + "attn_q_b", "(heads *(nope rope))", "q_rank", (A + "query_b_nope", A + "query_b_rope")),
    **joined(B + "attn_q", "(heads *(nope rope))", "hidden", (A + "query_nope", A + "query_rope")),
    **joined(B + "attn_kv_a_mqa", "*(kv_rank rope)", "hidden", (A + "latent", A + "key_rope")),
    B + "attn_k_b.weight": (A + "key_nope.weight", "heads kv_rank nope"),
    B + "attn_v_b.weight": (A + "value.weight", "heads value_dim kv_rank"),
}
MLA_NAMES = {A + "query_a": B + "attn_q_a", A + "query_a_norm": B + "attn_q_a_norm", A + "latent_norm": B + "attn_kv_a_norm"}
MLA_KEYS: dict[str, str | Key] = {
    **EXPERTS, "attention.q_lora_rank": may("q_rank"), "attention.kv_lora_rank": may("kv_rank"), "attention.head_count_kv": "",
    "attention.key_length": "", "attention.value_length": "",
    **{f"derived.{k}": may(k) for k in ("rope", "nope", "value_dim", "rope_mscale", "rope_mscale_all_dim")},
}  # fmt: skip


def added(*names: str) -> Callable[[Values], object]:
    """The sum of sizes."""

    def of(values: Values) -> object:
        found = [values.get(n) for n in names]
        return sum(n for n in found if isinstance(n, int)) if all(isinstance(n, int) for n in found) else None

    return of


MLA_ALSO: dict[str, object] = {
    "attention.head_count_kv": 1, "attention.key_length": added("kv_rank", "rope"), "attention.value_length": added("kv_rank"),
    "attention.key_length_mla": added("nope", "rope"), "attention.value_length_mla": added("value_dim"),
    "rope.dimension_count": added("rope"), "leading_dense_block_count": leading(sparse_or_first_dense),
}  # fmt: skip
MLA_FREE: dict[str, object] = {"mlp_layer_types": ..., "topk_method": ..., "rope_interleave": (True,), "attention_bias": ...}


MINICPM3 = {"scale_emb": 12, "scale_depth": 1.4, "dim_model_base": 256}  # which llama.cpp's code has in itself


def minicpm3(modules: Mapping[str, Module]) -> Dialect:
    """The dialect of MiniCPM 3: keys and values of all heads in one matrix, scales that no key says."""

    def scaled(values: Values) -> Iterator[tuple[str, str]]:
        for name, number in MINICPM3.items():
            if values.get(name) not in (None, number):
                yield name, f"its code of this architecture takes {number}"
        hidden, heads, width = (values.get(n) for n in ("hidden", "heads", "value_dim"))
        if isinstance(hidden, int) and isinstance(heads, int) and width != hidden // max(heads, 1):
            yield "value_dim", f"its code of this architecture takes {hidden} / {heads}"

    rows = {k: v for k, v in MLA.items() if k.partition(".weight")[0] not in (B + "attn_k_b", B + "attn_v_b", B + "attn_q")}
    return gguf(
        "minicpm3", modules, implied={"activation": "silu"}, names=MLA_NAMES, rope=("factors",), conflicts=scaled,
        rows={**rows, **joined(B + "attn_kv_b", "(heads *(nope value_dim))", "kv_rank", (A + "key_nope", A + "value"))},
        keys={**{k: v for k, v in MLA_KEYS.items() if k not in EXPERTS}, "vocab_size": may("vocab")},
        also={
            "attention.head_count_kv": added("heads"), "attention.key_length": added("nope", "rope"),
            "rope.dimension_count": added("rope"),
        },
        free={**dict.fromkeys(MINICPM3, ...), "attention_bias": (False,), "mlp_bias": (False,)}, defaults={"tied": True, **MINICPM3},
    )  # fmt: skip


INDEX_NAMES = {
    A + "indexer.query": B + "indexer.attn_q_b", A + "indexer.key": B + "indexer.attn_k", A + "indexer.key_norm": B + "indexer.k_norm",
    A + "indexer.weights": B + "indexer.proj",
}  # fmt: skip
INDEX_KEYS: dict[str, str | Key] = {
    "attention.indexer.head_count": may("index_heads"), "attention.indexer.key_length": may("index_dim"),
    "attention.indexer.top_k": may("index_topk"),
}  # fmt: skip


KEY_BY_CHANNEL: dict[str, str | Key] = {  # the keys of delta attention with a decay for every channel
    "kda.head_dim": may("linear_dim"), "ssm.conv_kernel": "kernel", "derived.layer_types": may("layer_types"),
    "derived.linear_heads": may("linear_heads"),
    "expert_group_used_count": may("groups_per_token"), **dict.fromkeys(("expert_weights_norm", "expert_group_count"), ""),
}  # fmt: skip


def channel_rows(wide: str) -> dict[str, str | tuple[str, ...]]:
    """The rows of delta attention with a decay for every channel, of layers `wide`. Where two kinds of layers have one name, a remark
    tells them apart."""
    parts = {"query": "q", "key": "k", "value": "v"}
    return {
        **{f"{B}attn_{x}.weight # linear": (f"{S}{p}.weight", f"{wide} hidden") for p, x in parts.items()},
        **{f"{SSM}conv1d_{x}.weight": (f"{S}conv_{p}.weight", f"1 {wide} 1 kernel") for p, x in parts.items()},
        SSM + "f_a": S + "forget_low", SSM + "f_b": S + "forget", SSM + "dt.bias": S + "step_bias", SSM + "a": S + "a_log",
        SSM + "beta": S + "strength", SSM + "g_a": S + "gate_low", SSM + "g_b": S + "gate", SSM + "norm": S + "norm",
        B + "attn_output.weight # linear": (S + "out.weight", f"hidden {wide}"),
    }  # fmt: skip


def by_channel(
    modules: Mapping[str, Module], wide: str, attends: Callable[[Values], Sequence[bool] | None],
    sparse: Callable[[Values], Sequence[bool] | None],
) -> Dialect:  # fmt: skip
    """The dialect of Kimi Linear: low-rank attention without positions in some layers (`attends`), experts in some (`sparse`)."""

    def keys_of_layers(values: Values) -> list[int] | None:
        kinds = attends(values)
        return [int(k) for k in kinds] if kinds is not None else None

    def conflicts(values: Values) -> Iterator[tuple[str, str]]:
        yield from dense_first(sparse)(values)
        if values.get("linear_heads") not in (None, values.get("heads")):
            yield "linear_heads", f"its code of this architecture takes {values.get('heads')}, as in the other layers"

    def shared_width(values: Values) -> int | None:  # which nothing of it is as wide as; its converter says it of every model
        hidden, heads = values.get("hidden"), values.get("heads")
        return hidden // heads if isinstance(hidden, int) and isinstance(heads, int) and heads > 0 else None

    return gguf(
        "kimi-linear", modules, experts="moe_intermediate", implied={"activation": "silu"}, names=MLA_NAMES, rope=None,
        rows={**MLA, **channel_rows(wide)}, keys={**MLA_KEYS, **KEY_BY_CHANNEL}, conflicts=conflicts, adjust=DECAYS,
        also={
            **MLA_ALSO, "attention.value_length": shared_width, "attention.head_count_kv": keys_of_layers, "expert_gating_func": SIGMOID,
            "leading_dense_block_count": leading(sparse),
        },
        free={
            "mlp_layer_types": ..., "layer_types": ..., "full_attention_layers": ..., "attention_bias": (False,),
            "normalise_experts": (None, True), "expert_groups": (None, 1), "groups_per_token": (None, 1),
        },
        defaults={"linear_heads": "=heads", "expert_groups": 1, "normalise_experts": True},
    )  # fmt: skip


def latent(second: bool) -> Callable[[Values], Iterator[tuple[str, str]]]:
    """What llama.cpp's deepseek2 cannot say. `second`: DeepSeek-V2's code."""

    def conflicts(values: Values) -> Iterator[tuple[str, str]]:
        yield from dense_first(sparse_or_first_dense)(values)
        if values.get("rope_interleave") is False:
            yield "rope_interleave", "its code of this architecture has rotary pairs side by side"
        if second and values.get("topk_method") == "group_limited_greedy" and values.get("expert_groups") not in (None, 1):
            yield "topk_method", "its code of this architecture chooses groups of experts by their best two"
        if values.get("q_rank") is None and values.get("layers") not in (26, 27):
            yield "q_lora_rank", "its code of this architecture has queries of full rank in models of 26 or 27 layers only"

    return conflicts


def deepseek2(
    modules: Mapping[str, Module], gating: int, *, second: bool = False, name: str = "deepseek2", keys: Mapping[str, str | Key] = {},
    also: Mapping[str, object] = {}, loose: Mapping[str, object] = {},
) -> Dialect:  # fmt: skip
    """The dialect of DeepSeek's kind: llama.cpp calls most of them deepseek2. `gating`: what weights experts; `second`: DeepSeek-V2, whose
    code adds no weights up to one and chooses groups of experts by their best, or none; those of another `name` have an indexer, with
    further `keys`, values of keys (`also`) and values that may go unsaid (`loose`)."""
    keys, also = {**MLA_KEYS, **(INDEX_KEYS if name != "deepseek2" else {}), **keys}, {**MLA_ALSO, **also}
    usual: dict[str, object] = {"rope_interleave": True}
    free = {**MLA_FREE, **loose}
    if second:
        keys |= dict.fromkeys(("expert_weights_norm", "expert_group_count", "expert_group_used_count"), "")
        also["expert_weights_norm"] = False
        free |= dict.fromkeys(("normalise_experts", "expert_groups", "groups_per_token"), ...)
        usual |= {"topk_method": "greedy", "expert_groups": 1, "groups_per_token": 1}  # which a file without groups means
    rows = {k: v for k, v in MLA.items() if name == "deepseek2" or k.partition(".weight")[0] != B + "attn_q"}  # queries of low rank only
    return gguf(
        name, modules, experts="moe_intermediate", implied={"activation": "silu"}, names={**MLA_NAMES, **INDEX_NAMES}, rows=rows, keys=keys,
        also={**also, "expert_gating_func": gating}, rope=("growth",), free=free, conflicts=latent(second), bare=(OUTPUT,), defaults=usual,
    )  # fmt: skip
