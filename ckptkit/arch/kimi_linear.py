"""Kimi Linear: delta attention with a decay for every channel in three of four layers, low-rank attention without positions in the others,
DeepSeek V3's experts.

Source: transformers models/kimi_linear (on disk the convolutions are apart and the feed-forwards lie under block_sparse_moe; published
configurations have linear_attn_config, whose lists count layers from 1).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ckptkit.arch._libraries.decoders import (
    DEEPSEEK,
    LOW_RANK_KEYS,
    WORDS,
    D,
    E,
    H,
    Values,
    decoder,
    dense_or_experts,
    experts,
    first_dense,
    flags,
    gated,
    hf,
    in_layers,
    in_memory,
    last,
    may,
    of_types,
    shared,
    stacked,
)
from ckptkit.arch._libraries.forward import GROUPS, routed, unturned
from ckptkit.arch._libraries.gguf_latent import by_channel
from ckptkit.arch._libraries.low_rank import LOW_RANK, low_rank, low_rank_rows
from ckptkit.arch._libraries.state_space import S, convolution
from ckptkit.arch.deepseek_v3 import size
from ckptkit.schema import Besides, Key, Module, linear, norm, param

WIDE = "(linear_heads linear_dim)"
PARTS = ("query", "key", "value")
DELTA = {
    **{S + part: linear(WIDE, "hidden", bias=False) for part in PARTS},
    **{S + "conv_" + part: convolution(WIDE) for part in PARTS},
    S + "forget_low": linear("linear_rank", "hidden", bias=False),
    S + "forget": linear(WIDE, "linear_rank", bias=False),
    S + "step_bias": param(WIDE),
    S + "a_log": param("1 1 linear_heads 1"),
    S + "strength": linear("linear_heads", "hidden", bias=False),
    S + "gate_low": linear("linear_rank", "hidden", bias=False),
    S + "gate": linear(WIDE, "linear_rank", bias=False),
    S + "norm": norm("linear_dim", bias=False),
    S + "out": linear("hidden", WIDE, bias=False),
}


def within(kind: str, modules: Mapping[str, Module]) -> dict[str, Module]:
    """Modules of the layers of a kind, of which some have a switch of their own."""
    own = {
        k: m._replace(switch="", switches={**dict.fromkeys((s for s, _ in m.params), m.switch), **m.switches})
        for k, m in modules.items()
        if m.switch
    }
    return in_layers(kind, {**modules, **own})


MODULES: dict[str, Module] = {
    **WORDS,
    **within("attention@layer", low_rank()),
    **in_layers("not attention@layer", DELTA),
    **dense_or_experts(gated(), {**experts(correction="experts"), **shared("shared_intermediate")}),
    **last(),
}
LISTED = of_types("layer_types", "full_attention")


def attends(values: Values) -> Sequence[bool] | None:
    """Which layers have low-rank attention: by layer_types, by the published configurations' list, else every fourth but the first."""
    said, own, n = LISTED(values), values.get("full_attention_layers"), values.get("layers")
    if said is not None or not isinstance(n, int):
        return said
    return [i + 1 in own if isinstance(own, (list, tuple)) else i > 0 and i % 4 == 0 for i in range(n)]


def has_experts(values: Values) -> Sequence[bool] | None:
    """Which layers have experts."""
    said = of_types("mlp_layer_types", "sparse")(values)
    return first_dense({"first_dense": 1, **{k: v for k, v in values.items() if v is not None}}) if said is None else said


T, B, MLP = H + "self_attn.", H + "block_sparse_moe.", H + "mlp."
GATED = {"gate": "gate_proj", "up": "up_proj", "output": "down_proj"}
NAMES = {
    **LOW_RANK,
    **{S + part: T + f"{part[0]}_proj" for part in PARTS},
    **{S + "conv_" + part: T + f"{part[0]}_conv1d" for part in PARTS},
    S + "forget_low": T + "f_a_proj",
    S + "forget": T + "f_b_proj",
    S + "step_bias": T + "dt_bias",
    S + "a_log": T + "A_log",
    S + "strength": T + "b_proj",
    S + "gate_low": T + "g_a_proj",
    S + "gate": T + "g_b_proj",
    S + "norm": T + "o_norm",
    **{D + f"ffn.{part}": f"{B}{name} | {MLP}{name}" for part, name in GATED.items()},  # the first is what transformers writes
    D + "moe.router": B + "gate",
    D + "moe.correction": B + "gate.e_score_correction_bias",
    **{E + part: B + f"experts.{{expert}}.w{n}" for part, n in (("gate", 1), ("up", 3), ("output", 2))},
    **{D + f"moe.shared.{part}": B + f"shared_experts.{name}" for part, name in GATED.items()},
}
MEMORY = {
    **{
        S + part: T + f"forget_gate.{name}"
        for part, name in (("forget_low", "f_a_proj"), ("forget", "f_b_proj"), ("step_bias", "dt_bias"), ("a_log", "A_log"))
    },
    **{D + f"ffn.{part}": MLP + name for part, name in GATED.items()},
    D + "moe.router": MLP + "gate",
    D + "moe.correction": MLP + "gate.e_score_correction_bias",
    **{D + f"moe.shared.{part}": MLP + f"shared_experts.{name}" for part, name in GATED.items()},
}
RENAMED = {  # transformers' words -> the published configurations'
    "n_routed_experts": "num_experts", "num_experts_per_tok": "num_experts_per_token", "norm_topk_prob": "moe_renormalize",
    "n_group": "num_expert_group", "n_shared_experts": "num_shared_experts",
}  # fmt: skip
EXPERTS: dict[str, str | Key] = {}
for key, spec in DEEPSEEK.items():
    first = key.partition(" | ")[0]
    EXPERTS[f"{RENAMED[first]} | {key}" if first in RENAMED else key] = spec
HF = hf(
    "kimi_linear", "KimiLinear", MODULES, names=NAMES, positions={}, besides=Besides(),
    rows={**low_rank_rows(), T + "o_proj.weight": (S + "out.weight", f"hidden {WIDE}")},
    keys={
        **LOW_RANK_KEYS, **EXPERTS, **flags("attention_bias", "layer_types"),
        "model_max_length | max_position_embeddings": may("max_positions"),
        "linear_attn_config.full_attn_layers": may("full_attention_layers"),
        "linear_head_dim | linear_attn_config.head_dim": may("linear_dim"),
        "linear_num_heads | linear_attn_config.num_heads": may("linear_heads"),
        "linear_conv_kernel_dim | linear_attn_config.short_conv_kernel_size": may("kernel"),
    },
    without=("kv_heads", "head_dim", "rope_theta"),
    defaults={
        "activation": "silu", "norm_eps": 1e-5, "attention_bias": False, "first_dense": 1, "experts_per_token": 8,
        "normalise_experts": True, "routed_scale": 2.446, "expert_groups": 1, "groups_per_token": 1, "linear_dim": 128, "linear_heads": 32,
        "kernel": 4,
    },
    usual={
        "head_dim": ..., "qk_head_dim": ..., "num_key_value_heads": ..., "linear_attn_config.kda_layers": ..., "linear_attn_config": ...,
        "moe_layer_freq": 1, "mla_use_nope": True, "moe_router_activation_func": "sigmoid", "use_grouped_topk": ..., "rope_theta": ...,
        "rope_scaling": ..., "rope_parameters": ..., "num_nextn_predict_layers": ...,
    },
)  # fmt: skip
CONVOLVED = {T + "conv1d.weight": (*(S + f"conv_{part}.weight" for part in PARTS), f"*{WIDE} 1 kernel")}
GGUF = by_channel(MODULES, WIDE, attends, has_experts)

ARCHITECTURE = decoder(
    "kimi_linear", "Kimi Linear", MODULES, HF, GGUF,
    in_memory(HF, MODULES, rows={**stacked(), **CONVOLVED}, names=MEMORY),
    heads=("heads",),
    required=(),
    relations=("linear_rank = linear_dim",),
    kinds={"attention@layer": attends, "moe@layer": has_experts},
    traits=unturned(mixer="channel_delta", **routed("sigmoid", **GROUPS)),
    variants={"kimi-linear-48b-a3b": size(27, 2304, 32, 256)},
)  # fmt: skip
