"""SmolLM 3: Llama without positions in every fourth layer.

Source: transformers models/smollm3 (no_rope_layers: 0 where a layer has none).
"""

from __future__ import annotations

from ckptkit.arch._libraries.decoders import decoder, flags, hf, may
from ckptkit.arch._libraries.forward import runs
from ckptkit.arch.llama import MODULES, shape

HF = hf(
    "smollm3", "SmolLM3", MODULES,
    keys={
        **flags("attention_bias", "mlp_bias", "no_rope_layers", "no_rope_layer_interval", "layer_types"), "sliding_window": may("window"),
        "use_sliding_window": may("windowed"),
    },
    defaults={
        "activation": "silu", "norm_eps": 1e-6, "kv_heads": 4, "tied": True, "rope_theta": 2e6, "attention_bias": False, "mlp_bias": False,
    },
)  # fmt: skip

ARCHITECTURE = decoder(
    "smollm3",
    "SmolLM3",
    MODULES,
    HF,
    rank=1,
    traits=runs(window="=window", windowed="=windowed", sliding="types unturned", rotary_in="listed"),
    variants={"smollm3-3b": shape(36, 2048, 16, 4, 11008, 128256)},
)
