"""DeepSeek V4: streams of hidden states mixed before and after each part, one head of keys that are values too, and beside a window keys
compressed from several positions, all of them or those that an indexer chooses; experts by a table of words in the first layers.

Source: transformers models/deepseek_v4 (on disk the authors' names; in memory its own) and its conversion_mapping.py. Published files have
no prefix and hold layers for multi-token prediction besides.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ckptkit.arch._libraries.decoders import (
    PREDICTION,
    WORDS,
    A,
    D,
    E,
    H,
    Values,
    decoder,
    experts,
    flags,
    hf,
    in_layers,
    in_memory,
    last,
    may,
    of_experts,
    of_types,
    rope,
    shared,
    stacked,
)
from ckptkit.arch._libraries.forward import routed, runs
from ckptkit.arch.deepseek_v3 import size
from ckptkit.schema import Besides, Key, Module, index, linear, norm, param

SPARSE, HEAVY = A + "sparse.", A + "heavy."  # what compresses keys, by the kind of layer
ATTENTION = {
    A + "norm": norm("hidden", bias=False),
    A + "query_a": linear("q_rank", "hidden", bias=False),
    A + "query_a_norm": norm("q_rank", bias=False),
    A + "query_b": linear("heads head_dim", "q_rank", bias=False),
    A + "key_value": linear("head_dim", "hidden", bias=False),
    A + "key_value_norm": norm("head_dim", bias=False),
    A + "sinks": param("heads"),
    A + "output_a": linear("output_groups output_rank", "group_heads head_dim", bias=False),
    A + "output_b": linear("hidden", "output_groups output_rank", bias=False),
}


def compressor(at: str, rate: str, columns: str, width: str) -> dict[str, Module]:
    """Keys of several positions made one, by weights that follow from the hidden states and from the place."""
    return {
        at + "key": linear(columns, "hidden", bias=False),
        at + "gate": linear(columns, "hidden", bias=False),
        at + "bias": param(f"{rate} ({columns})"),
        at + "norm": norm(width, bias=False),
    }


INDEXED = {
    **compressor(SPARSE, "sparse_rate", "series head_dim", "head_dim"),
    **compressor(SPARSE + "indexer.", "sparse_rate", "series index_dim", "index_dim"),
    SPARSE + "indexer.query": linear("index_heads index_dim", "q_rank", bias=False),
    SPARSE + "indexer.weights": linear("index_heads", "hidden", bias=False),
}
MOE = {
    D + "ffn.norm": norm("hidden", bias=False),
    **experts(),
    **in_layers("not hash@layer", {D + "moe.correction": param("experts")}),
    **in_layers("hash@layer", {D + "moe.table": index("vocab experts_per_token")}),
    **shared("moe_intermediate", bias="mlp_bias"),
}
STREAMS = {
    f"{D}{part}_streams.{name}": param(axes)
    for part in ("attention", "ffn")
    for name, axes in (("mix", "mixes (streams hidden)"), ("bias", "mixes"), ("scale", "scales"))
}
HEAD = {
    "streams_out.mix": param("streams (streams_in hidden)"),
    "streams_out.bias": param("streams"),
    "streams_out.scale": param("1"),
}
MODULES: dict[str, Module] = {
    **WORDS, **STREAMS, **ATTENTION, **in_layers("sparse@layer", INDEXED),
    **in_layers("heavy@layer", compressor(HEAVY, "heavy_rate", "head_dim", "head_dim")), **MOE, **HEAD, **last(),
}  # fmt: skip
T, F = H + "attn.", H + "ffn."
PARTS = {"gate": "w1", "up": "w3", "output": "w2"}
COMPRESSOR = {"key": "wkv", "gate": "wgate", "bias": "ape", "norm": "norm"}
NAMES = {
    "embeddings.word": "~embed_tokens | ~embed",
    "lm_head": "head | lm_head",
    **{f"streams_out.{name}": f"~hc_head.hc_{own} | ~hc_head_{own}" for name, own in (("mix", "fn"), ("bias", "base"), ("scale", "scale"))},
    **{
        f"{D}{part}_streams.{name}": f"{H}hc_{own}_{last_}"
        for part, own in (("attention", "attn"), ("ffn", "ffn"))
        for name, last_ in (("mix", "fn"), ("bias", "base"), ("scale", "scale"))
    },
    A + "norm": H + "attn_norm",
    A + "query_a": T + "wq_a",
    A + "query_a_norm": T + "q_norm",
    A + "query_b": T + "wq_b",
    A + "key_value": T + "wkv",
    A + "key_value_norm": T + "norm",
    A + "sinks": T + "attn_sink",
    A + "output_a": T + "wo_a",
    A + "output_b": T + "wo_b",
    **{SPARSE + part: T + f"compressor.{name}" for part, name in COMPRESSOR.items()},
    **{HEAVY + part: T + f"compressor.{name} # heavy" for part, name in COMPRESSOR.items()},
    **{SPARSE + f"indexer.{part}": T + f"indexer.compressor.{name}" for part, name in COMPRESSOR.items()},
    SPARSE + "indexer.query": T + "indexer.wq_b",
    SPARSE + "indexer.weights": T + "indexer.weights_proj",
    D + "ffn.norm": H + "ffn_norm",
    D + "moe.router": F + "gate",
    D + "moe.correction": F + "gate.bias",
    D + "moe.table": F + "gate.tid2eid",
    **{E + part: F + f"experts.{{expert}}.{name}" for part, name in PARTS.items()},
    **{D + f"moe.shared.{part}": F + f"shared_experts.{name}" for part, name in PARTS.items()},
}
S, M, OWN = H + "self_attn.", H + "mlp.", {"key": "kv_proj", "gate": "gate_proj", "bias": "position_bias", "norm": "kv_norm"}
MEMORY = {
    "embeddings.word": "~embed_tokens",
    "lm_head": "lm_head",
    **{f"streams_out.{name}": f"~hc_head.hc_{own}" for name, own in (("mix", "fn"), ("bias", "base"), ("scale", "scale"))},
    **{
        f"{D}{part}_streams.{name}": f"{H}{own}_hc.{last_}"
        for part, own in (("attention", "attn"), ("ffn", "ffn"))
        for name, last_ in (("mix", "fn"), ("bias", "base"), ("scale", "scale"))
    },
    A + "norm": H + "input_layernorm",
    A + "query_a": S + "q_a_proj",
    A + "query_a_norm": S + "q_a_norm",
    A + "query_b": S + "q_b_proj",
    A + "key_value": S + "kv_proj",
    A + "key_value_norm": S + "kv_norm",
    A + "sinks": S + "sinks",
    A + "output_a": S + "o_a_proj",
    A + "output_b": S + "o_b_proj",
    **{SPARSE + part: S + f"compressor.{name}" for part, name in OWN.items()},
    **{HEAVY + part: S + f"compressor.{name} # heavy" for part, name in OWN.items()},
    **{SPARSE + f"indexer.{part}": S + f"compressor.indexer.{name}" for part, name in OWN.items()},
    SPARSE + "indexer.query": S + "compressor.indexer.q_b_proj",
    SPARSE + "indexer.weights": S + "compressor.indexer.scorer.weights_proj",
    D + "ffn.norm": H + "post_attention_layernorm",
    D + "moe.router": M + "gate",
    D + "moe.correction": M + "gate.e_score_correction_bias",
    D + "moe.table": M + "gate.tid2eid",
    **{D + f"moe.shared.{part}": M + f"shared_experts.{name}_proj" for part, name in (("gate", "gate"), ("up", "up"), ("output", "down"))},
}


def predicted() -> dict[str, str]:
    """The tensors of a layer for multi-token prediction, and of what stands before and after it."""
    own = (f"{name}.weight" for name in ("e_proj", "h_proj", "enorm", "hnorm", "norm", "emb.tok_emb", "head"))
    every = [*own, *(f"hc_head_{name}" for name in ("fn", "base", "scale"))]
    for module, name in NAMES.items():
        if module.startswith(D):
            plain = name.partition(" # ")[0].removeprefix(H)
            every += [f"{plain}.{suffix}" if suffix else plain for suffix, _ in MODULES[module].params]
    return {f"mtp.{{layer}}.{name}": PREDICTION for name in every}


RATIOS = {0: "sliding_attention", 4: "compressed_sparse_attention", 128: "heavily_compressed_attention"}


def kinds_of(values: Values) -> Sequence[object] | None:
    """The kind of each layer's attention: by a list of words, or of ratios; else two heavily compressed and from there in turn."""
    n, said, ratios = values.get("layers"), values.get("layer_types"), values.get("compress_ratios")
    if not isinstance(n, int):
        return None
    if isinstance(said, (list, tuple)):
        return said[:n]
    if isinstance(ratios, (list, tuple)):
        return [RATIOS.get(r) for r in ratios[:n]]
    return [RATIOS[4 if i > 1 and i % 2 else 128] for i in range(n)]


def compressed(kind: str) -> Callable[[Values], Sequence[bool] | None]:
    """Which layers compress keys in a way."""

    def read(values: Values) -> Sequence[bool] | None:
        kinds = kinds_of(values)
        return None if kinds is None else [k == kind for k in kinds]

    return read


def by_table(values: Values) -> Sequence[bool] | None:
    """Which layers choose experts by a table of words: those listed, else the first."""
    n, said, first = values.get("layers"), of_types("mlp_layer_types", "hash_moe")(values), values.get("hash_layers")
    if said is not None:
        return said[:n] if isinstance(n, int) else said
    return [i < first for i in range(n)] if isinstance(n, int) and isinstance(first, int) else None


def scaled(keys: dict[str, str | Key]) -> dict[str, str | Key]:
    """The keys of the compressed layers' positions, with where published configurations have their scaling."""
    out: dict[str, str | Key] = {}
    for key, spec in keys.items():
        word = key.partition(" | ")[0].rpartition(".")[2]
        more = "" if word == "rope_theta" else f" | rope_scaling.{word}" + " | rope_scaling.type" * (word == "rope_type")
        out[key + more] = spec
    return out


HF = hf(
    "deepseek_v4", "DeepseekV4", MODULES, names=NAMES, besides=Besides(strays=predicted()),
    positions={
        **scaled(rope("compress_rope", "compress", "compress_rope_theta")), **rope("main_rope", "main"), "layer_types": may("layer_types"),
        "sliding_window": may("window"), "partial_rotary_factor": may("rope_part"), "qk_rope_head_dim": may("rope_columns"),
    },
    keys={
        **of_experts("n_routed_experts | num_local_experts"), "moe_intermediate_size | intermediate_size": may("moe_intermediate"),
        "routed_scaling_factor": may("routed_scale"), "q_lora_rank": may("q_rank"), "o_groups": may("output_groups"),
        "o_lora_rank": may("output_rank"), "index_n_heads": may("index_heads"), "index_head_dim": may("index_dim"),
        "hc_mult": may("streams"), "swiglu_limit": may("swiglu_limit"), "num_hash_layers": may("hash_layers"),
        "compress_rates.compressed_sparse_attention | compress_rate_csa": may("sparse_rate"),
        "compress_rates.heavily_compressed_attention | compress_rate_hca": may("heavy_rate"),
        **flags("mlp_bias", "compress_ratios", "mlp_layer_types", "index_topk", "hc_sinkhorn_iters", "hc_eps", "scoring_func"),
    },
    without=("kv_heads", "intermediate", "normalise_experts", "rope_theta"),
    defaults={
        "activation": "silu", "norm_eps": 1e-6, "head_dim": 512, "mlp_bias": False, "experts_per_token": 6, "routed_scale": 1.5,
        "q_rank": 1024, "output_groups": 8, "output_rank": 1024, "index_heads": 64, "index_dim": 128, "index_topk": 512, "streams": 4,
        "streams_more": "=streams + 2", "swiglu_limit": 10.0, "hash_layers": 3, "sparse_rate": 4, "heavy_rate": 128,
        "hc_sinkhorn_iters": 20, "hc_eps": 1e-6, "window": 128,
        "scoring_func": "sqrtsoftplus", "rope_part": 0.125, "main_rope_theta": 10000.0, "compress_rope_theta": 160000.0,
    },
    usual=dict.fromkeys(
        ("num_key_value_heads", "n_shared_experts", "norm_topk_prob", "num_nextn_predict_layers", "attention_bias", "expert_dtype"), ...
    ),
)  # fmt: skip

ARCHITECTURE = decoder(
    "deepseek_v4", "DeepSeek-V4", MODULES, HF._replace(prefixes=("model.", "")),
    in_memory(HF._replace(prefixes=("model.", "")), MODULES, rows=stacked(), names=MEMORY),
    heads=("heads",),
    required=(),
    fixed={"series": 2, "scales": 3},
    relations=("streams = streams_in", "heads = output_groups group_heads", "mixes = streams streams_more"),
    traits=runs(
        window="=window", sliding="all", rotary={"main": "main_rope", "compress": "compress_rope"}, rotary_size="=rope_columns",
        rotary_scaled=False, streams="hyper", stream_eps="=hc_eps", stream_rounds="=hc_sinkhorn_iters", index_count="=index_topk",
        latent_eps="=norm_eps", expert_limit="=swiglu_limit", expert_slope=0.0, init={"*.table": "zeros"},
        runs_with={},
        **routed("=scoring_func", normalised=True, routed_scale="=routed_scale"),
    ),
    kinds={"sparse@layer": compressed(RATIOS[4]), "heavy@layer": compressed(RATIOS[128]), "hash@layer": by_table},
    variants={"deepseek-v4-flash": size(43, 4096, 64, 256), "deepseek-v4-pro": {"layers": 61, "hidden": 7168, "heads": 128}},
)  # fmt: skip
