"""Gemma 3n, its language model: several streams of hidden states of which a layer runs on one and corrects all (AltUp), a low-rank detour
beside attention (Laurel), an embedding for each layer, sparse activations, and keys and values that the last layers take from earlier ones.

Source: transformers models/gemma3n (Gemma3nForCausalLM). Published files hold keys and values of every layer, and towers besides.
"""

from __future__ import annotations

from collections.abc import Sequence

from ckptkit.arch._libraries.decoders import (
    KINDS,
    SANDWICH,
    WORDS,
    A,
    D,
    H,
    Values,
    attention,
    decoder,
    flags,
    gated,
    hf,
    in_layers,
    last,
    may,
    rope,
)
from ckptkit.arch._libraries.forward import KINDS_OF_ROPE, runs
from ckptkit.arch._libraries.gguf import Window, gguf
from ckptkit.arch._libraries.gguf_gemma import GEMMA3N_KEYS, GEMMA3N_NAMES, gemma3n_conflicts, gemma3n_remarks, spreads
from ckptkit.arch.gemma2 import BOTH, CAPS
from ckptkit.schema import Key, Library, Module, embedding, linear, norm, param
from ckptkit.schema.sliding import slides, whole

SHARED = tuple(A + part for part in ("key", "value", "key_norm"))  # what the layers that share keys and values do without
ATTENTION = attention(bias="attention_bias", out_bias="attention_bias", norms=BOTH, qk_norm="head_dim")
BY_LAYER = {
    "embeddings.by_layer": embedding("layer_vocab (layers layer_width)"),
    "embeddings.by_layer_projection": linear("(layers layer_width)", "hidden", bias=False),
    "embeddings.by_layer_norm": norm("layer_width", bias=False),
}
OWN_INPUT = {  # what a layer does with its own embedding
    D + "own.gate": linear("layer_width", "hidden", bias=False),
    D + "own.output": linear("hidden", "layer_width", bias=False),
    D + "own.norm": norm("hidden", bias=False),
}
STREAMS = {
    D + "streams.router": linear("inputs", "hidden", bias=False),
    D + "streams.router_norm": norm("hidden", bias=False),
    D + "streams.predict": linear("inputs inputs_to", "inputs_from", bias=False),
    D + "streams.correct": linear("inputs", "inputs_from", bias=False),
    D + "streams.scale": param("hidden"),
    "streams_in.{stream}": linear("hidden_to", "hidden", bias=False),
    "streams_out.{stream}": linear("hidden_to", "hidden", bias=False),
}
DETOUR = {
    D + "detour.down": linear("detour_rank", "hidden", bias=False),
    D + "detour.up": linear("hidden", "detour_rank", bias=False),
    D + "detour.norm": norm("hidden", bias=False),
}
NAMES = {
    **SANDWICH,
    "embeddings.by_layer": "~embed_tokens_per_layer",
    "embeddings.by_layer_projection": "~per_layer_model_projection",
    "embeddings.by_layer_norm": "~per_layer_projection_norm",
    D + "own.gate": H + "per_layer_input_gate",
    D + "own.output": H + "per_layer_projection",
    D + "own.norm": H + "post_per_layer_input_norm",
    D + "streams.router": H + "altup.modality_router",
    D + "streams.router_norm": H + "altup.router_norm",
    D + "streams.predict": H + "altup.prediction_coefs",
    D + "streams.correct": H + "altup.correction_coefs",
    D + "streams.scale": H + "altup.correct_output_scale",
    "streams_in.{stream}": "~altup_projections.{stream}",
    "streams_out.{stream}": "~altup_unembed_projections.{stream}",
    D + "detour.down": H + "laurel.linear_left",
    D + "detour.up": H + "laurel.linear_right",
    D + "detour.norm": H + "laurel.post_laurel_norm",
}


def keyed(modules: dict[str, Module]) -> dict[str, Module]:
    """Keys and values of the layers that have their own."""
    return {**modules, **in_layers("keyed@layer", {k: m for k, m in modules.items() if k in SHARED})}


def has_keys(values: Values) -> Sequence[bool] | None:
    """Which layers have keys and values of their own: all but the last so many."""
    n, without = values.get("layers"), values.get("kv_shared_layers")
    return [i < n - without for i in range(n)] if isinstance(n, int) and isinstance(without, int) else None


LOCAL = rope("local_rope", "sliding_attention", "rope_local_base_freq")
PER_LAYER: dict[str, str | Key] = {
    "hidden_size_per_layer_input": may("layer_width"),
    "vocab_size_per_layer_input": may("layer_vocab"),
    "num_kv_shared_layers": may("kv_shared_layers"),
}
DEFAULTS = {
    "activation": "gelu_tanh",
    "norm_eps": 1e-6,
    "head_dim": 256,
    "tied": True,
    "attention_bias": False,
    "window": 512,
    "rope_theta": 1e6,
    "local_rope_theta": 10000.0,
    "layer_vocab": 262144,
    "layer_width": 256,
}
MODULES: dict[str, Module] = {
    **WORDS,
    **BY_LAYER,
    **{k: m for k, m in STREAMS.items() if k.startswith("streams_in")},
    **keyed(ATTENTION),
    **gated(norms=BOTH, width="intermediate@layer"),
    **DETOUR,
    **{k: m for k, m in STREAMS.items() if k.startswith(D)},
    **OWN_INPUT,
    **{k: m for k, m in STREAMS.items() if k.startswith("streams_out")},
    **last(),
}
HF = hf(
    "gemma3n_text",
    "Gemma3n",
    MODULES,
    names=NAMES,
    act="hidden_activation | hidden_act",
    positions={**KINDS, **LOCAL},
    keys={
        **{k: v for k, v in CAPS.items() if k not in ("attn_logit_softcapping", "query_pre_attn_scalar")},
        **PER_LAYER,
        **flags("activation_sparsity_pattern", "altup_active_idx", "altup_correct_scale"),
        "altup_num_inputs": may("inputs"),
        "laurel_rank": may("detour_rank"),
    },
    defaults={
        **DEFAULTS,
        "kv_heads": 2,
        "logit_cap": 30.0,
        "kv_shared_layers": 15,
        "inputs": 4,
        "streams": "=inputs - 1",
        "altup_active_idx": 0,
        "altup_correct_scale": True,
        "detour_rank": 64,
    },
    usual={"altup_coef_clip": ..., "altup_lr_multiplier": ..., "query_pre_attn_scalar": ..., "attn_logit_softcapping": ...},
)

GGUF = gguf(
    "gemma3n",
    MODULES,
    names=GEMMA3N_NAMES,
    rows={
        "altup_proj.weight": ("streams_in.{stream}.weight", "*{stream} hidden_to hidden"),
        "altup_unembd_proj.weight": ("streams_out.{stream}.weight", "*{stream} hidden_to hidden"),
    },
    window=Window("types 5", own=True),
    keys=GEMMA3N_KEYS,
    implied={"activation": "gelu_tanh", "tied": True, "attention_bias": False, "altup_correct_scale": True},
    defaults={"rope_theta": 1e6, "local_rope_theta": 10000.0, "logit_cap": 30.0, "detour_rank": 64, "streams": "=inputs - 1"},
    free={"local_rope_type": ("default",), "detour_rank": ..., "streams": ..., "layer_vocab": ...},
    conflicts=gemma3n_conflicts,
    remarks=gemma3n_remarks,
    library=Library(every=frozenset({"keyed@layer"})),
    also={
        "attention.sliding_window_pattern": lambda values: slides("types 5", values, whole(values.get("layers"))),
        "activation_sparsity_scale": spreads,
    },
)


def size(layers: int, hidden: int) -> dict[str, int]:
    return {"layers": layers, "hidden": hidden, "heads": 8, "kv_heads": 2, "vocab": 262400}


ARCHITECTURE = decoder(
    "gemma3n",
    "Gemma 3n",
    MODULES,
    HF,
    GGUF,
    names=("gemma3n_text",),
    relations=("inputs_to = inputs", "inputs_from = inputs", "hidden_to = hidden"),
    kinds={"keyed@layer": has_keys},
    idle=("keyed@layer",),
    traits=runs(
        embedding_scale="root",
        scaled=False,
        bare_values=True,
        window="=window",
        sliding="types 5",
        logit_cap="=logit_cap",
        rotary=KINDS_OF_ROPE,
        streams="altup",
        stream_active="=altup_active_idx",
        stream_scaled="=altup_correct_scale",
        shared_layers="=kv_shared_layers",
        sparsity="=activation_sparsity_pattern",
    ),
    variants={"gemma-3n-e2b": size(30, 2048), "gemma-3n-e4b": size(35, 2048)},
)
