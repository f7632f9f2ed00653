"""Bamba: Mamba 2's mixer in most layers, attention in those that attn_layer_indices names, a gated feed-forward in all.

Source: transformers models/bamba.
"""

from __future__ import annotations

from collections.abc import Sequence

from ckptkit.arch._libraries.decoders import WORDS, D, H, Values, attention, decoder, flags, gated, hf, in_layers, last, may
from ckptkit.arch._libraries.forward import partly
from ckptkit.arch._libraries.gguf import both, gguf
from ckptkit.arch._libraries.gguf_state import DECAYS, FREE, MAMBA2_KEYS, limited, listed, twice
from ckptkit.arch._libraries.gguf_state import mamba2_rows as mamba2_ggml
from ckptkit.arch._libraries.state_space import MAMBA2, MAMBA2_SIZES, UNREAD, mamba2, mamba2_keys, mamba2_rows
from ckptkit.arch.llama import shape

MODULES = {
    **WORDS,
    **in_layers("attention@layer", attention(bias="attention_bias", out_bias="attention_bias", pairs=True)),
    **in_layers("not attention@layer", mamba2(bias="mamba_proj_bias", conv_bias="mamba_conv_bias")),
    **gated(bias="mlp_bias"),
    **last(),
}


def attends(values: Values) -> Sequence[bool] | None:
    """Which layers have attention: none where nothing lists them."""
    n, said = values.get("layers"), values.get("attn_layer_indices") or ()
    return [i in said for i in range(n)] if isinstance(n, int) and isinstance(said, (list, tuple)) else None


FEED_FORWARD = {
    **{D + f"ffn.{part}": H + f"feed_forward.{name}_proj" for part, name in (("gate", "gate"), ("up", "up"), ("output", "down"))},
    D + "ffn.norm": H + "pre_ff_layernorm", "decoder.norm": "~final_layernorm",
}  # fmt: skip
HF = hf(
    "bamba", "Bamba", MODULES, names=FEED_FORWARD, rows=mamba2_rows(H + "mamba."),
    keys={
        **flags("attention_bias", "mlp_bias", "mamba_proj_bias", "mamba_conv_bias", "attn_layer_indices"), **mamba2_keys(),
    },
    usual=UNREAD,
    defaults={
        "activation": "silu", "norm_eps": 1e-5, "kv_heads": 8, "rope_part": 0.5, "attention_bias": False, "mlp_bias": False,
        "mamba_proj_bias": False, "mamba_conv_bias": True, "state_groups": 1, "expand": 2,
    },
)  # fmt: skip


def keys_of_layers(values: Values) -> list[int] | None:
    """The heads of keys in each layer, 0 where it has no attention."""
    kinds, heads = attends(values), values.get("kv_heads")
    return [heads if k else 0 for k in kinds] if kinds is not None and isinstance(heads, int) else None


GGUF = gguf(  # where part of a head turns, llama.cpp's conversion puts other columns side by side than its code turns
    "granitehybrid", MODULES, pairs=True, implied={"activation": "silu"}, rows=mamba2_ggml(),
    keys={**listed(MAMBA2_KEYS), "derived.layer_types": "", "derived.attn_layer_indices": may("attn_layer_indices")},
    also={"attention.head_count_kv": keys_of_layers, "rope.scaling.finetuned": True},
    free={**FREE, "attn_layer_indices": ...}, conflicts=both(twice, limited), adjust=DECAYS,
)  # fmt: skip

ARCHITECTURE = decoder(
    "bamba", "Bamba", MODULES, HF, GGUF,
    relations=MAMBA2_SIZES,
    kinds={"attention@layer": attends},
    traits=partly(**MAMBA2),
    variants={"bamba-9b": shape(32, 4096, 32, 8, 14336, 128256)},
)  # fmt: skip
