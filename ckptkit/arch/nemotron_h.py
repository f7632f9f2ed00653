"""Nemotron H (Nano, Super): one part a layer, which is Mamba 2's mixer, attention without positions, a feed-forward, or experts.

Source: transformers models/nemotron_h (hybrid_override_pattern: M a mixer, * attention, - a feed-forward, E experts; experts and
feed-forwards have no gate; experts may be narrower than the rest, between two projections; the head is never tied).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from ckptkit.arch._libraries.decoders import (
    ACTIVATIONS,
    DEEPSEEK,
    WORDS,
    D,
    E,
    H,
    Values,
    attention,
    decoder,
    experts,
    flags,
    hf,
    in_memory,
    last,
    may,
    plain,
)
from ckptkit.arch._libraries.forward import GROUPS, routed, unturned
from ckptkit.arch._libraries.gguf import B, Window, gguf
from ckptkit.arch._libraries.gguf_state import DECAYS, FREE, MAMBA2_KEYS
from ckptkit.arch._libraries.gguf_state import mamba2_rows as mamba2_ggml
from ckptkit.arch._libraries.state_space import GROUPED, mamba2, mamba2_rows
from ckptkit.schema import Besides, Dialect, Key, Module, linear, norm, when

KINDS = {  # kind of layer -> its words in a list, its letter in a pattern
    "mamba": (("linear_attention", "mamba"), "M"),
    "attention": (("full_attention", "attention"), "*"),
    "moe": (("moe",), "E"),
    "mlp": (("mlp",), "-"),
}


def of_kind(words: tuple[str, ...], letter: str) -> Callable[[Values], Sequence[bool] | None]:
    """Which layers are of a kind, by a list of words or a pattern of letters."""

    def read(values: Values) -> Sequence[bool] | None:
        said = values.get("layer_types")
        if isinstance(said, str):
            return [c == letter for c in said]
        return [w in words for w in said] if isinstance(said, (list, tuple)) else None

    return read


def narrow(out: str, inn: str) -> Module:
    """A projection to the experts' width, or back."""
    params = (("weight", f"{out} {inn}"), ("bias", out))
    return Module("linear", params, switches={"weight": "latent", "bias": "latent_bias"})


EXPERTS = {
    **{k: m for k, m in experts(correction="experts").items() if not k.startswith(E)},
    D + "moe.down": narrow("expert_hidden", "hidden"),
    D + "moe.up": narrow("hidden", "expert_hidden"),
    E + "up": linear("moe_intermediate", "expert_hidden", bias=False),
    E + "output": linear("expert_hidden", "moe_intermediate", bias=False),
    D + "moe.shared.up": linear("shared_intermediate", "hidden", bias="mlp_bias"),
    D + "moe.shared.output": linear("hidden", "shared_intermediate", bias="mlp_bias"),
}
PARTS = {
    "mamba": mamba2(bias="use_bias", conv_bias="use_conv_bias"),
    "attention": attention(norms=(), pairs=True),  # nothing turns; llama.cpp has them side by side all the same
    "moe": EXPERTS,
    "mlp": plain(bias="mlp_bias", norms=()),
}
MODULES: dict[str, Module] = {
    **WORDS,
    D + "norm": norm("hidden", bias=False),
    **{k: when(f"{kind}@layer", m) for kind, part in PARTS.items() for k, m in part.items()},
    **last(),
    "lm_head": linear("vocab", "hidden", bias=False, group="lm"),
}
M, X = H + "mixer.", H + "mixer.experts."
NAMES = {
    "embeddings.word": "~embeddings",
    "decoder.norm": "~norm_f",
    D + "norm": H + "norm",
    **{D + f"attention.{part}": M + f"{part[0]}_proj" for part in ("query", "key", "value", "output")},
    D + "ffn.intermediate": M + "up_proj",
    D + "ffn.output": M + "down_proj",
    D + "moe.router": M + "gate",
    D + "moe.correction": M + "gate.e_score_correction_bias",
    D + "moe.down": M + "fc1_latent_proj",
    D + "moe.up": M + "fc2_latent_proj",
    E + "up": X + "{expert}.up_proj",
    E + "output": X + "{expert}.down_proj",
    D + "moe.shared.up": M + "shared_experts.up_proj",
    D + "moe.shared.output": M + "shared_experts.down_proj",
}
T = "mtp.layers.{layer}."
PREDICTION = dict.fromkeys(
    (
        *(f"{T}{x}.weight" for x in ("eh_proj", "enorm", "hnorm", "norm", "final_layernorm", "mixer.gate")),
        *(f"{T}mixer.{x}_proj.weight" for x in ("q", "k", "v", "o", "up", "down", "fc1_latent", "fc2_latent")),
        *(f"{T}mixer.{at}{x}_proj.weight" for at in ("experts.{expert}.", "shared_experts.") for x in ("up", "down")),
        T + "mixer.gate.e_score_correction_bias",
    ),
    "of multi-token prediction: transformers leaves it out",
)
NOT_HERE = ("first_k_dense_replace", "mlp_layer_types", "topk_method", "n_shared_experts")  # keys of DeepSeek's that its code does not read
OLDER = {  # what earlier configurations call them
    "expand": "mamba_expand", "time_step_min": "mamba_dt_min", "time_step_max": "mamba_dt_max",
    "time_step_floor": "mamba_dt_init_floor",
}  # fmt: skip
HF = hf(
    "nemotron_h", "NemotronH", MODULES, names=NAMES, rows=mamba2_rows(M), prefixes=("backbone.", "model.", ""), positions={},
    act="mlp_hidden_act", eps="layer_norm_epsilon", besides=Besides(strays=PREDICTION),
    keys={
        "layers_block_type | layer_types | hybrid_override_pattern": may("layer_types"),
        **{k: may(v) if isinstance(v, str) else v for k, v in DEEPSEEK.items() if k not in NOT_HERE},
        "intermediate_size": may("intermediate"),
        **flags("use_bias", "mlp_bias", "moe_latent_size"), "mamba_hidden_act": Key("state_activation", required=False, words=ACTIVATIONS),
        "n_groups | mamba_n_groups": may("state_groups"),
        **{f"{k} | {v}": may(k) for k, v in OLDER.items()},
        "use_conv_bias | mamba_conv_bias": may("use_conv_bias"), "moe_shared_expert_intermediate_size": may("shared_intermediate"),
        "sliding_window": may("window"),
        "mamba_num_heads": "state_heads", "mamba_head_dim": may("state_head_dim"), "ssm_state_size": may("state_size"),
        "conv_kernel | mamba_d_conv": "kernel",
    },
    without=("rope_theta",),
    defaults={
        "activation": "relu2", "norm_eps": 1e-5, "layers": "=count layer_types", "use_bias": False, "mlp_bias": False,
        "use_conv_bias": True, "state_activation": "silu", "kernel": 4, "experts_per_token": 2, "normalise_experts": True,
        "routed_scale": 1.0, "expert_groups": 1, "groups_per_token": 1, "time_step_min": 0.001, "state_groups": 8,
    },
    usual={
        **dict.fromkeys((
            "chunk_size", "mamba_chunk_size", "mamba_ssm_cache_dtype", "num_logits_to_keep", "use_mamba_kernels",
            "rescale_prenorm_residual", "moe_shared_expert_overlap", "mtp_layers_block_type", "mtp_hybrid_override_pattern",
            "num_nextn_predict_layers",
            "residual_in_fp32", "n_shared_experts", "time_step_limit", "mamba_dt_limit", "mamba_proj_bias", "rope_theta",
            "partial_rotary_factor", "rms_norm_eps", "attention_bias",
        ), ...),
    },
)  # fmt: skip


def expert_width(values: Values) -> object:
    """How wide the experts' input is: narrower than the hidden states where the configuration says so."""
    return values.get("expert_hidden") or values.get("moe_latent_size") or values.get("hidden")


HF = HF._replace(config=HF.config._replace(follows={"expert_hidden": expert_width}))


KEYS: dict[str, str | Key] = {  # of llama.cpp's files
    **MAMBA2_KEYS, "attention.head_count_kv": "", "feed_forward_length": "", "derived.kv_heads": may("kv_heads"),
    "derived.layer_types": may("layer_types"),
}  # fmt: skip
EXPERT_KEYS: dict[str, str | Key] = {
    "expert_count": "experts", "expert_used_count": may("experts_per_token"), "expert_feed_forward_length": may("moe_intermediate"),
    "expert_shared_feed_forward_length": may("shared_intermediate"), "expert_weights_norm": may("normalise_experts"),
    "expert_weights_scale": may("routed_scale"), "expert_group_count": may("expert_groups"),
    "expert_group_used_count": may("groups_per_token"), "moe_latent_size": may("moe_latent_size"),
}  # fmt: skip
NO_EXPERTS = ("experts_per_token", "normalise_experts", "routed_scale", "expert_groups", "groups_per_token", "moe_intermediate", "experts")
UNREAD = ("layer_types", "moe_latent_size", "time_step_min", "time_step_max", "time_step_floor", "residual_in_fp32", "intermediate")


def by_layer(kind: str, size: str) -> Callable[[Values], list[int] | None]:
    """A size in each layer, 0 where the layer is of another kind."""

    def made(values: Values) -> list[int] | None:
        kinds, n = of_kind(*KINDS[kind])(values), values.get(size)
        return [n if k else 0 for k in kinds] if kinds is not None and isinstance(n, int) else None

    return made


def unturned_part(values: Values) -> int | None:
    """What llama.cpp's converter says that turns, though nothing does."""
    hidden, heads = values.get("hidden"), values.get("heads")
    return hidden // heads if isinstance(hidden, int) and isinstance(heads, int) and heads else None


def without_kind(kind: str, why: str) -> Callable[[Values], Iterator[tuple[str, str]]]:
    """What llama.cpp has no place for in a file of this kind."""

    def conflicts(values: Values) -> Iterator[tuple[str, str]]:
        if any(of_kind(*KINDS[kind])(values) or ()):
            yield "layer_types", why
        if values.get("window") is not None:
            yield "window", "its code of this architecture has none"

    return conflicts


def llama_cpp(name: str, called: str, kind: str, other: str, why: str, keys: dict[str, str | Key], width: str) -> Dialect:
    """llama.cpp's naming of the models whose other layers are feed-forwards, or experts (`kind`)."""
    rows = mamba2_ggml()
    if kind == "moe":
        rows |= {
            B + "ffn_up_exps.weight": (E + "up.weight", "*{expert} moe_intermediate expert_hidden"),
            B + "ffn_down_exps.weight": (E + "output.weight", "*{expert} expert_hidden moe_intermediate"),
        }
    made = gguf(
        called, MODULES, rows=rows, rope=None, pairs=True, eps="layer_norm_epsilon", adjust=DECAYS, keys={**KEYS, **keys},
        names={D + "norm": B + "attn_norm", D + "moe.down": B + "ffn_latent_down", D + "moe.up": B + "ffn_latent_up"},
        without=tuple(PARTS[other]), window=Window("", usual=1 << 20), conflicts=without_kind(other, why),
        implied={"activation": "relu2", "state_activation": "silu", "use_bias": False},
        also={
            "attention.head_count_kv": by_layer("attention", "kv_heads"), "feed_forward_length": by_layer(kind, width),
            "rope.scaling.finetuned": False, "rope.dimension_count": unturned_part, **({"expert_shared_count": 1} if kind == "moe" else {}),
        },
        free={**FREE, **dict.fromkeys((*UNREAD, *(NO_EXPERTS if kind == "mlp" else ())), ...)},
    )  # fmt: skip
    return made._replace(name=name, alias="gguf")


DENSE = llama_cpp(
    "gguf", "nemotron_h", "mlp", "moe", "llama.cpp calls a model with experts otherwise", {"derived.intermediate": may("intermediate")},
    "intermediate",
)  # fmt: skip
SPARSE = llama_cpp(
    "gguf_experts", "nemotron_h_moe", "moe", "mlp", "llama.cpp has no feed-forwards beside experts", EXPERT_KEYS, "moe_intermediate"
)


def size(layers: int, hidden: int, heads: int, kv_heads: int) -> dict[str, int]:
    return {"layers": layers, "hidden": hidden, "heads": heads, "kv_heads": kv_heads, "vocab": 131072}


ARCHITECTURE = decoder(
    "nemotron_h", "Nemotron-H", MODULES, HF, DENSE, SPARSE,
    in_memory(
        HF._replace(prefixes=("model.", "")), MODULES,
        rows={
            X + "up_proj": (E + "up.weight", "*{expert} moe_intermediate expert_hidden"),
            X + "down_proj": (E + "output.weight", "*{expert} expert_hidden moe_intermediate"),
        },
    ),
    required=(),
    relations=("inner = state_heads state_head_dim", GROUPED),
    kinds={
        **{f"{kind}@layer": of_kind(*said) for kind, said in KINDS.items()},
        "latent": lambda values: [bool(values.get("moe_latent_size"))],
        "latent_bias": lambda values: [bool(values.get("mlp_bias"))],
    },
    traits=unturned(
        mixer="mamba2", state_groups="=state_groups", state_activation="=state_activation", step_limit="=time_step_min",
        **routed("sigmoid", **GROUPS),
    ),
    variants={
        "nemotron-h-8b": size(52, 4096, 32, 8),
        "nemotron-h-47b": size(98, 8192, 64, 8),
        "nemotron-h-56b": size(118, 8192, 64, 8),
        "nemotron-nano-9b-v2": size(56, 4480, 40, 8),
        "nemotron-nano-12b-v2": size(62, 5120, 40, 8),
        "nemotron-3-nano-30b-a3b": {**size(52, 2688, 32, 2), "experts": 128},
        "nemotron-3-super-120b-a12b": {**size(88, 4096, 32, 2), "experts": 512},
    },
)  # fmt: skip
