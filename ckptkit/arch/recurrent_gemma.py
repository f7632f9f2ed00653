"""RecurrentGemma (Griffin): a gated linear recurrence in two of three layers, attention with a window in the third.

Source: transformers models/recurrent_gemma (norms stored as their difference from one; half of intermediate_size is the width of the
feed-forward; the gates of the recurrence are one matrix a head, [in, out]).
"""

from __future__ import annotations

from collections.abc import Sequence

from ckptkit.arch._libraries.decoders import WORDS, D, H, Values, attention, decoder, flags, gated, hf, in_layers, last, may
from ckptkit.arch._libraries.forward import partly
from ckptkit.arch._libraries.state_space import S, convolution
from ckptkit.arch.gemma import less_one
from ckptkit.schema import linear, param

RECURRENT = {
    S + "input": linear("recurrent", "hidden"),
    S + "gate": linear("recurrent", "hidden"),
    S + "conv": convolution("recurrent", bias=True),
    S + "input_gate": param("heads block block_out"),
    S + "input_gate_bias": param("heads block"),
    S + "recurrent_gate": param("heads block block_out"),
    S + "recurrent_gate_bias": param("heads block"),
    S + "decay": param("recurrent"),
    S + "out": linear("hidden", "recurrent"),
}
MODULES = {
    **WORDS,
    **in_layers("attention@layer", attention(bias="attention_bias", out_bias=True)),
    **in_layers("not attention@layer", RECURRENT),
    **gated(bias=True, width="half_intermediate"),
    **last(),
}


def attends(values: Values) -> Sequence[bool] | None:
    """Which layers have attention: the list of kinds begins anew after its end."""
    n, said = values.get("layers"), values.get("block_types")
    return (
        [said[i % len(said)] == "attention" for i in range(n)] if isinstance(n, int) and isinstance(said, (list, tuple)) and said else None
    )


T, F = H + "temporal_block.", H + "mlp_block."
HF = hf(
    "recurrent_gemma",
    "RecurrentGemma",
    MODULES,
    act="hidden_activation",
    names={
        D + "attention.norm": H + "temporal_pre_norm",
        **{
            D + f"attention.{part}": T + name
            for part, name in zip(("query", "key", "value", "output"), ("q_proj", "k_proj", "v_proj", "o_proj"), strict=True)
        },
        S + "input": T + "linear_x",
        S + "gate": T + "linear_y",
        S + "conv": T + "conv_1d",
        S + "input_gate": T + "rg_lru.input_gate_weight",
        S + "input_gate_bias": T + "rg_lru.input_gate_bias",
        S + "recurrent_gate": T + "rg_lru.recurrent_gate_weight",
        S + "recurrent_gate_bias": T + "rg_lru.recurrent_gate_bias",
        S + "decay": T + "rg_lru.recurrent_param",
        S + "out": T + "linear_out",
        D + "ffn.norm": H + "channel_pre_norm",
        **{D + f"ffn.{part}": F + name for part, name in (("gate", "gate_proj"), ("up", "up_proj"), ("output", "down_proj"))},
        "decoder.norm": "~final_norm",
    },
    keys={
        **flags("attention_bias"),
        "block_types | _block_types": may("block_types"),
        "lru_width": may("recurrent"),
        "conv1d_width": "kernel",
        "attention_window_size | sliding_window": may("window"),
        "logits_soft_cap": may("logit_cap"),
    },
    unread={"head_dim": "head_dim"},
    defaults={
        "activation": "gelu_tanh",
        "norm_eps": 1e-6,
        "tied": True,
        "attention_bias": False,
        "rope_part": 0.5,
        "block_types": ("recurrent", "recurrent", "attention"),
        "window": 2048,
        "kernel": 4,
        "logit_cap": 30.0,
        "recurrent": "=hidden",
    },
    usual={
        "w_init_variance_scale": ...,
        "final_w_init_variance_scale": ...,
        "embeddings_scale_by_sqrt_dim": True,
    },
    adjust=less_one(MODULES),
)

ARCHITECTURE = decoder(
    "recurrent_gemma",
    "RecurrentGemma",
    MODULES,
    HF,
    relations=("hidden = heads head_dim", "recurrent = heads block", "block = block_out", "intermediate = two half_intermediate"),
    fixed={"two": 2},
    kinds={"attention@layer": attends},
    traits=partly(mixer="recurrent", embedding_scale="bfloat16 root", sliding="all", window="=window", logit_cap="=logit_cap"),
    variants={
        "recurrentgemma-2b": {"layers": 26, "hidden": 2560, "heads": 10, "kv_heads": 1, "vocab": 256000},
        "recurrentgemma-9b": {"layers": 38, "hidden": 4096, "heads": 16, "kv_heads": 1, "vocab": 256000},
    },
)
