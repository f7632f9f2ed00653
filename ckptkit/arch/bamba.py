"""Bamba: Mamba 2's mixer in most layers, attention in those that attn_layer_indices names, a gated feed-forward in all.

Source: transformers models/bamba.
"""

from __future__ import annotations

from collections.abc import Sequence

from ckptkit.arch._libraries.decoders import WORDS, D, H, Values, attention, decoder, flags, gated, hf, in_layers, last, may
from ckptkit.arch._libraries.state_space import mamba2, mamba2_rows
from ckptkit.arch.llama import shape

MODULES = {
    **WORDS,
    **in_layers("attention@layer", attention(bias="attention_bias", out_bias="attention_bias")),
    **in_layers("not attention@layer", mamba2(bias="mamba_proj_bias", conv_bias="mamba_conv_bias")),
    **gated(bias="mlp_bias"),
    **last(),
}


def attends(values: Values) -> Sequence[bool] | None:
    """Which layers have attention."""
    n, said = values.get("layers"), values.get("attn_layer_indices")
    return [i in said for i in range(n)] if isinstance(n, int) and isinstance(said, (list, tuple)) else None


FEED_FORWARD = {
    **{D + f"ffn.{part}": H + f"feed_forward.{name}_proj" for part, name in (("gate", "gate"), ("up", "up"), ("output", "down"))},
    D + "ffn.norm": H + "pre_ff_layernorm", "decoder.norm": "~final_layernorm",
}  # fmt: skip
HF = hf(
    "bamba", "Bamba", MODULES, names=FEED_FORWARD, rows=mamba2_rows(H + "mamba."),
    keys={
        **flags("attention_bias", "mlp_bias", "mamba_proj_bias", "mamba_conv_bias", "attn_layer_indices", "mamba_n_groups", "mamba_d_head"),
        "mamba_n_heads": "state_heads", "mamba_d_state": may("state_size"), "mamba_d_conv": "kernel",
    },
    defaults={
        "activation": "silu", "norm_eps": 1e-5, "kv_heads": 8, "rope_part": 0.5, "attention_bias": False, "mlp_bias": False,
        "mamba_proj_bias": False, "mamba_conv_bias": True,
    },
)  # fmt: skip

ARCHITECTURE = decoder(
    "bamba", "Bamba", MODULES, HF,
    kinds={"attention@layer": attends},
    variants={"bamba-9b": shape(32, 4096, 32, 8, 14336, 128256)},
)  # fmt: skip
