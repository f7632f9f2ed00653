"""Granite 4: Mamba 2's mixer or attention, experts (where there are any) and a shared feed-forward, Granite's multipliers.

Source: transformers models/granitemoehybrid (num_local_experts 0: no experts; positions only where position_embedding_type says so).
"""

from __future__ import annotations

from collections.abc import Iterator

from ckptkit.arch._libraries.decoders import (
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
    in_layers,
    in_memory,
    joined,
    last,
    may,
    of_experts,
    of_types,
    stacked,
)
from ckptkit.arch._libraries.forward import SCALES, routed, runs
from ckptkit.arch._libraries.gguf import B as G
from ckptkit.arch._libraries.gguf import both, gguf
from ckptkit.arch._libraries.gguf_state import DECAYS, ENDLESS, FREE, MAMBA2_KEYS, keys_by_layer, limited, listed, twice
from ckptkit.arch._libraries.gguf_state import mamba2_rows as mamba2_ggml
from ckptkit.arch._libraries.state_space import MAMBA2, MAMBA2_SIZES, UNREAD, mamba2, mamba2_keys, mamba2_rows
from ckptkit.arch.granite import MULTIPLIERS, ONES, SCALES_OF
from ckptkit.schema import linear, norm

B = H + "block_sparse_moe."
SHARED = tuple(D + f"ffn.{part}" for part in ("gate", "up"))
MODULES = {
    **WORDS,
    **in_layers("attention@layer", attention(bias="attention_bias", out_bias="attention_bias", pairs=True)),
    **in_layers("not attention@layer", mamba2(bias="mamba_proj_bias", conv_bias="mamba_conv_bias")),
    D + "ffn.norm": norm("hidden", bias=False),
    **{k: m._replace(optional=True) for k, m in experts("intermediate").items()},
    **{m: linear("shared_intermediate", "hidden", bias=False) for m in SHARED},
    D + "ffn.output": linear("hidden", "shared_intermediate", bias=False),
    **last(),
}
HF = hf(
    "granitemoehybrid", "GraniteMoeHybrid", MODULES,
    names={D + "moe.router": B + "router.layer", D + "ffn.output": H + "shared_mlp.output_linear"},
    rows={
        **mamba2_rows(H + "mamba."), **joined(H + "shared_mlp.input_linear", "*(shared_intermediate)", "hidden", SHARED),
        B + "input_linear.weight": (E + "gate.weight", E + "up.weight", "*{expert} *(intermediate) hidden"),
        B + "output_linear.weight": (E + "output.weight", "*{expert} hidden intermediate"),
    },
    keys={
        **of_experts("num_local_experts | num_experts"), **MULTIPLIERS,
        **flags("attention_bias", "layer_types", "mamba_proj_bias", "mamba_conv_bias", "position_embedding_type"), **mamba2_keys(),
        "shared_intermediate_size": may("shared_intermediate"),
    },
    defaults={
        "activation": "silu", "norm_eps": 1e-6, "attention_bias": False, "mamba_proj_bias": False, "mamba_conv_bias": True,
        "experts_per_token": 2, "state_groups": 1, "expand": 2, **ONES,
    },
    usual=UNREAD,
)  # fmt: skip


def turned(values: Values) -> bool:
    """Whether positions are rotary."""
    return values.get("position_embedding_type") == "rope"


def sparse(values: Values) -> Iterator[tuple[str, str]]:
    """llama.cpp has other names for a model without experts."""
    if not values.get("experts"):
        yield "experts", "a model of this architecture without experts is not written: llama.cpp calls its feed-forward otherwise"


GGUF = gguf(
    "granitehybrid", MODULES, pairs=True, experts="intermediate", implied={"activation": "silu"}, rows=mamba2_ggml(),
    names={D + "ffn.gate": G + "ffn_gate_shexp", D + "ffn.up": G + "ffn_up_shexp", D + "ffn.output": G + "ffn_down_shexp"},
    window=ENDLESS,
    keys=listed({
        **MAMBA2_KEYS, **SCALES_OF, "expert_shared_feed_forward_length": may("shared_intermediate"),
        "derived.position_embedding_type": may("position_embedding_type"),
    }),
    also={"attention.head_count_kv": keys_by_layer("attention", "full_attention"), "rope.scaling.finetuned": turned},
    free={**FREE, "position_embedding_type": ...}, conflicts=both(twice, limited, sparse), adjust=DECAYS,
)  # fmt: skip

ARCHITECTURE = decoder(
    "granitemoehybrid", "Granite 4", MODULES, HF, GGUF,
    in_memory(HF, MODULES, rows=stacked("intermediate", B + "experts."), names={D + "moe.router": B + "router"}),
    relations=MAMBA2_SIZES,
    kinds={"attention@layer": of_types("layer_types", "attention", "full_attention")},
    traits=runs(rotary_in="asked", **MAMBA2, **SCALES, **routed("softmax_chosen", normalised=True)),
)  # fmt: skip
