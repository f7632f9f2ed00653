"""Falcon: 7b (one key and value), 40b and 180b (groups, a norm for each part), 11b (groups, one norm), and rw (serial, alibi, biases).

Source: transformers models/falcon (`new_decoder_architecture`; num_kv_heads counts only there, or where multi_query is off).
"""

from __future__ import annotations

from collections.abc import Mapping

from ckptkit.arch._libraries.decoders import BLOOM, PLAIN, SIZES, WORDS, D, G, decoder, flags, fused, hf, last, masks, may, plain
from ckptkit.arch._libraries.forward import runs
from ckptkit.arch._libraries.gguf import FFN, OUTPUT, B, Window, gguf
from ckptkit.arch.gpt_bigcode import GROUPS, grouped
from ckptkit.arch.gpt_neox import size
from ckptkit.schema import Dialect, Key, norm, when

MODULES = {
    **WORDS,
    **grouped("bias"),
    D + "attention.norm": when("not two_norms", norm("hidden")),
    D + "attention.own_norm": when("two_norms", norm("hidden")),
    D + "ffn.own_norm": when("two_norms", norm("hidden")),
    **plain(bias="bias"),
    D + "ffn.norm": when("not parallel_attn", norm("hidden")),
    **last(bias=True),
}
OWN = {
    "num_hidden_layers": "num_hidden_layers | n_layer",
    "num_attention_heads": "num_attention_heads | n_head",
    "num_key_value_heads": "num_kv_heads | n_head_kv",
    "intermediate_size": "ffn_hidden_size",
}


def effective(raw: Mapping[str, object]) -> dict[str, object] | None:
    """The settings with as many keys and values as the code makes; None where it makes what is said."""
    if "model" in raw and "multi_query" not in raw:  # bert4torch's
        kinds = {"alibi": raw.get("p_bias", raw.get("pos_emb_type")) == "alibi", "bias": raw.get("use_bias", True)}
        said = {"multi_query": raw.get("num_kv_heads") == 1, "parallel_attn": raw.get("layer_type") == "FalconParallelAttnLayer", **kinds}
        return {**said, **{k: v for k, v in raw.items() if k not in ("p_bias", "pos_emb_type", "layer_type", "use_bias")}}
    if "hidden_size" not in raw or raw.get("new_decoder_architecture", False) or not raw.get("multi_query", True):
        return None
    return {**raw, "num_kv_heads": 1}


def has_groups(values: Mapping[str, object]) -> bool:
    """Whether the code needs the newer form to make as many keys and values."""
    return values.get("kv_heads") not in (None, 1)


HF = hf(
    "falcon",
    "Falcon",
    MODULES,
    prefixes=("transformer.", ""),
    act="activation",
    eps="layer_norm_epsilon",
    names={
        **BLOOM, D + "attention.own_norm": G + "ln_attn", D + "ffn.own_norm": G + "ln_mlp",
        "lm_head": "lm_head | model.embed_tokens",  # so bert4torch calls a tied one
    },
    rows=fused(G + "self_attention.query_key_value", GROUPS),
    sizes={OWN.get(k, k): v for k, v in SIZES.items()},
    without=("head_dim",),
    keys={
        **flags("bias", "parallel_attn", "alibi", "new_decoder_architecture", "multi_query"),
        "ffn_hidden_size": may("intermediate"),
        "num_ln_in_parallel_attn": Key("two_norms", words={2: True, 1: False}, required=False),
    },
    defaults={
        "activation": "gelu",
        "two_norms": "=new_decoder_architecture",
        "norm_eps": 1e-5,
        "intermediate": "=4 hidden",
        "tied": True,
        "bias": False,
        "parallel_attn": True,
        "alibi": False,
    },
    besides=masks(G + "self_attention"),
    also={"new_decoder_architecture": has_groups},
    unfold=effective,
)


def llama_cpp(name: str, norms: Mapping[str, str], without: str) -> Dialect:
    """llama.cpp's naming of the models that have these norms and not that one: both kinds call one of theirs attn_norm."""
    made = gguf(
        "falcon", MODULES, eps="layer_norm_epsilon", implied={"activation": "gelu", "parallel_attn": True, "alibi": False},
        defaults={"tied": True, "rope_theta": 10000.0}, window=Window("", usual=2048), bare=(OUTPUT, *FFN),
        without=(D + "ffn.norm", without), also={"tensor_data_layout": "jploski"}, names=norms,
        free={"new_decoder_architecture": ..., "multi_query": ...},
        rows=fused(B + "attn_qkv", "*(kv_heads per_group head_dim)", bias=False),
    )  # fmt: skip
    return made._replace(name=name, alias="gguf")


LARGE = {D + "attention.own_norm": B + "attn_norm_2", D + "ffn.own_norm": B + "attn_norm"}
ONE, TWO = llama_cpp("gguf_one_norm", {}, ""), llama_cpp("gguf_two_norms", LARGE, D + "attention.norm")

ARCHITECTURE = decoder(
    "falcon",
    "Falcon",
    MODULES,
    HF,
    ONE,
    TWO,
    names=("RefinedWeb", "RefinedWebModel"),
    required=PLAIN,
    relations=("heads = kv_heads per_group", "hidden = heads head_dim"),
    traits=runs(norm_kind="layer", parallel="=parallel_attn", alibi="=alibi", alibi_kind="place"),
    variants={
        "falcon-rw-1b": size(24, 2048, 32),
        "falcon-7b": size(32, 4544, 71),
        "falcon-11b": size(60, 4096, 32),
        "falcon-40b": size(60, 8192, 128),
        "falcon-180b": size(80, 14848, 232),
    },
)
