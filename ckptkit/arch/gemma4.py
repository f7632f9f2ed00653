"""Gemma 4, its language model: wider heads in the layers that see all, keys that are values too, an embedding for each layer, experts
beside the feed-forward in some models, and keys and values that the last layers take from earlier ones.

Source: transformers models/gemma4 (Gemma4ForCausalLM; published files of models with further senses hold towers besides). per_layer_config
says which layers have wider heads; earlier configurations say global_head_dim and num_global_key_value_heads.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from ckptkit.arch._libraries.decoders import (
    KINDS,
    WORDS,
    A,
    D,
    E,
    H,
    Values,
    decoder,
    flags,
    gated,
    hf,
    in_layers,
    last,
    may,
    rope,
)
from ckptkit.arch._libraries.forward import KINDS_OF_ROPE, routed, runs
from ckptkit.arch._libraries.gguf import B, Window, gguf
from ckptkit.arch._libraries.gguf_gemma import (
    GEMMA4_FREE,
    GEMMA4_KEYS,
    OWN_INPUTS,
    by_layer,
    gemma4_conflicts,
    sliding,
    still_factors,
    wide,
)
from ckptkit.arch._libraries.gguf_rope import DERIVATIONS, FREQS
from ckptkit.arch.gemma2 import BOTH
from ckptkit.arch.gemma3n import BY_LAYER, DEFAULTS, NAMES, OWN_INPUT, PER_LAYER, has_keys
from ckptkit.schema import Besides, Derived, Module, linear, norm, param, when

BIAS = "attention_bias"
VALUE = linear("key_groups@layer head_width@layer", "hidden", bias=BIAS)
ATTENTION: dict[str, Module] = {
    **{A + n: norm("hidden", bias=False) for n in BOTH},
    A + "query": linear("heads head_width@layer", "hidden", bias=BIAS),
    A + "query_norm": norm("head_width@layer", bias=False),
    A + "output": linear("hidden", "heads head_width@layer", bias=BIAS),
    **in_layers(
        "keyed@layer",
        {
            A + "key": linear("key_groups@layer head_width@layer", "hidden", bias=BIAS),
            A + "key_norm": norm("head_width@layer", bias=False),
            A + "value": VALUE._replace(switches={**VALUE.switches, "weight": "valued@layer"}),
        },
    ),
}
BESIDE = {
    D + "moe.router": linear("experts", "hidden", bias=False),
    D + "moe.router_scale": param("hidden"),
    D + "moe.expert_scale": param("experts"),
    D + "moe.norm": norm("hidden", bias=False),
    D + "moe.post_norm": norm("hidden", bias=False),
    D + "moe.dense_norm": norm("hidden", bias=False),
    E + "gate": linear("moe_intermediate", "hidden", bias=False),
    E + "up": linear("moe_intermediate", "hidden", bias=False),
    E + "output": linear("hidden", "moe_intermediate", bias=False),
}
MODULES: dict[str, Module] = {
    **WORDS,
    **{k: when("by_layer", m) for k, m in BY_LAYER.items()},
    **ATTENTION,
    **gated(norms=BOTH, width="ffn_width@layer"),
    **{k: when("experts_beside", m) for k, m in BESIDE.items()},
    **{k: when("by_layer", m) for k, m in OWN_INPUT.items()},
    D + "scale": param("1"),
    **last(),
}
X = H + "experts."
FULL = "full_attention"


def kinds_of(values: Values) -> Sequence[str] | None:
    """The kind of each layer's attention: every sixth sees all where no list says otherwise, and the last always."""
    n, said = values.get("layers"), values.get("layer_types")
    if not isinstance(n, int):
        return None
    listed = said if isinstance(said, (list, tuple)) and said else ["sliding_attention", *["sliding_attention"] * 4, FULL] * n
    return [FULL if i == n - 1 else str(listed[i]) if i < len(listed) else "" for i in range(n)]


def has_values(values: Values) -> Sequence[bool] | None:
    """Which layers have values of their own: not those that see all, where these take their keys for them."""
    kinds = kinds_of(values)
    return None if kinds is None else [kind != FULL or values.get("key_is_value") is not True for kind in kinds]


def has_own(values: Values) -> Sequence[bool] | None:
    """Whether there is an embedding for each layer: one of no width is none."""
    width = values.get("layer_width")
    return [width > 0] if isinstance(width, int) else None


def of_layers(key: str, everywhere: str, full: str, *, where: str = "") -> Callable[[Values], Sequence[int] | None]:
    """A size of each layer: what per_layer_config says (`key`), else that of all layers, but `full` in those that see all."""

    def read(values: Values) -> Sequence[int] | None:
        kinds, usual, wide = kinds_of(values), values.get(everywhere), values.get(full)
        own = values.get("per_layer_config")
        if kinds is None or not isinstance(usual, int):
            return None
        if not isinstance(own, Mapping):
            wide = wide if isinstance(wide, int) and (not where or values.get(where) is True) else usual
            return [wide if kind == FULL else usual for kind in kinds]
        said = [own.get(str(i), own.get(kind)) for i, kind in enumerate(kinds)]
        return [n if isinstance(s, Mapping) and isinstance(n := s.get(key), int) else usual for s in said]

    return read


def ffn_widths(values: Values) -> Sequence[int] | None:
    """The width of each layer's feed-forward: twice that in layers without keys, where the configuration says so."""
    keys, width = has_keys(values), values.get("intermediate")
    if keys is None or not isinstance(width, int):
        return None
    return [width if own or values.get("double_wide") is not True else 2 * width for own in keys]


LOCAL = rope("local_rope", "sliding_attention", "rope_local_base_freq")
HF = hf(
    "gemma4_text",
    "Gemma4",
    MODULES,
    names={
        **{k: v for k, v in NAMES.items() if k in MODULES},
        D + "scale": H + "layer_scalar",
        D + "moe.router": H + "router.proj",
        D + "moe.router_scale": H + "router.scale",
        D + "moe.expert_scale": H + "router.per_expert_scale",
        D + "moe.norm": H + "pre_feedforward_layernorm_2",
        D + "moe.post_norm": H + "post_feedforward_layernorm_2",
        D + "moe.dense_norm": H + "post_feedforward_layernorm_1",
    },
    rows={
        X + "gate_up_proj": (E + "gate.weight", E + "up.weight", "*{expert} *(moe_intermediate) hidden"),
        X + "down_proj": (E + "output.weight", "*{expert} hidden moe_intermediate"),
    },
    act="hidden_activation | hidden_act",
    positions={**KINDS, **LOCAL},
    keys={
        **flags("attention_bias", "use_bidirectional_attention", "per_layer_config", "global_head_dim"),
        **PER_LAYER,
        "num_global_key_value_heads": may("global_kv_heads"),
        "attention_k_eq_v": may("key_is_value"),
        "use_double_wide_mlp": may("double_wide"),
        "enable_moe_block": may("experts_beside"),
        "num_experts": may("experts"),
        "top_k_experts": may("experts_per_token"),
        "moe_intermediate_size": may("moe_intermediate"),
        "final_logit_softcapping": may("logit_cap"),
    },
    defaults={
        **{k: v for k, v in DEFAULTS.items() if k != "layer_width"},
        "kv_heads": 4,
        "global_head_dim": 512,
        "rope_type": "proportional",
        "rope_part": 0.25,
        "kv_shared_layers": 0,
        "key_is_value": False,
        "double_wide": False,
        "experts_beside": False,
        "layer_width": 256,
    },
)

WIDTHS = of_layers("head_dim", "head_dim", "global_head_dim")
GROUPS = of_layers("num_key_value_heads", "kv_heads", "global_kv_heads", where="key_is_value")


def full_width(values: Values) -> int | None:
    """The width of a head in the layers that see all."""
    return wide(values, WIDTHS(values))


def factors(shape: tuple[int, ...], *said: object) -> object:
    """[pairs], float32: what llama.cpp divides the frequencies of the layers that see all by."""
    values = dict(zip(FACTORS.split(), said, strict=True))
    return still_factors(shape, values.get("rope_type"), values.get("rope_part"), full_width(values))


FACTORS = "rope_type rope_part layers layer_types head_dim per_layer_config global_head_dim"
GGUF = gguf(
    "gemma4",
    MODULES,
    names={
        **OWN_INPUTS,
        D + "scale": B + "layer_output_scale.weight",
        D + "moe.router_scale": B + "ffn_gate_inp.scale",
        D + "moe.expert_scale": B + "ffn_down_exps.scale",
        D + "moe.norm": B + "pre_ffw_norm_2",
        D + "moe.post_norm": B + "post_ffw_norm_2",
        D + "moe.dense_norm": B + "post_ffw_norm_1",
    },
    rows={
        B + "ffn_gate_up_exps.weight": (E + "gate.weight", E + "up.weight", "*{expert} *(moe_intermediate) hidden"),
        B + "ffn_down_exps.weight": (E + "output.weight", "*{expert} hidden moe_intermediate"),
    },
    rope=None,
    window=Window("types 6 but last", own=True),
    keys=GEMMA4_KEYS,
    implied={"activation": "gelu_tanh", "tied": True, "attention_bias": False},
    defaults={"rope_theta": 1e6, "local_rope_theta": 10000.0, "rope_type": "proportional", "rope_part": 0.25, "kv_shared_layers": 0},
    free=GEMMA4_FREE,
    conflicts=lambda values: gemma4_conflicts(values, WIDTHS(values)),
    besides=Besides(derived={FREQS: Derived(f"still_factors {FACTORS}", "turned", made=True)}),
    also={
        "final_logit_softcapping": lambda values: values.get("logit_cap") or 0.0,
        "attention.key_length": full_width,
        "attention.value_length": full_width,
        "attention.head_count_kv": lambda values: by_layer(GROUPS(values)),
        "feed_forward_length": lambda values: by_layer(ffn_widths(values)),
        "attention.sliding_window_pattern": sliding,
        "rope.dimension_count": full_width,
        "rope.dimension_count_swa": lambda values: values.get("head_dim"),
    },
)


def size(layers: int, hidden: int, heads: int) -> dict[str, int]:
    return {"layers": layers, "hidden": hidden, "heads": heads, "vocab": 262144}


ARCHITECTURE = decoder(
    "gemma4",
    "Gemma 4",
    MODULES,
    HF,
    GGUF,
    names=("gemma4_text",),
    heads=("heads",),
    kinds={"keyed@layer": has_keys, "valued@layer": has_values, "by_layer": has_own},
    idle=("keyed@layer",),
    derivations={**DERIVATIONS, "still_factors": factors},
    by_layer={
        "head_width": WIDTHS,
        "key_groups": GROUPS,
        "ffn_width": ffn_widths,
    },
    traits=runs(
        embedding_scale="root",
        scaled=False,
        bare_values=True,
        window="=window",
        sliding="types 6 but last",
        logit_cap="=logit_cap",
        rotary=KINDS_OF_ROPE,
        shared_layers="=kv_shared_layers",
        runs_with={"use_bidirectional_attention": (None, "vision")},
        init={"*.scale": "ones"},
        **routed(normalised=True),
    ),
    variants={
        "gemma-4-e2b": size(35, 1536, 8),
        "gemma-4-e4b": size(42, 2560, 8),
        "gemma-4-31b": size(60, 5376, 32),
        "gemma-4-26b-a4b": {**size(30, 2816, 16), "experts": 128},
    },
)
