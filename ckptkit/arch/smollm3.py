"""SmolLM 3: Llama without positions in every fourth layer.

Source: transformers models/smollm3 (no_rope_layers: 0 where a layer has none).
"""

from __future__ import annotations

from collections.abc import Iterator

from ckptkit.arch._libraries.decoders import Values, decoder, flags, hf, may
from ckptkit.arch._libraries.forward import runs
from ckptkit.arch._libraries.gguf import Window, gguf
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


def turned_as_usual(values: Values) -> Iterator[tuple[str, str]]:
    """llama.cpp turns all layers but every fourth."""
    said, step, n = values.get("no_rope_layers"), values.get("no_rope_layer_interval"), values.get("layers")
    usual = [int((i + 1) % 4 != 0) for i in range(n)] if isinstance(n, int) else said
    if said is not None and [*map(int, said)] != usual if isinstance(said, (list, tuple)) else step not in (None, 4):
        yield "no_rope_layers", "its code of this architecture turns all layers but every fourth"


GGUF = gguf(
    "smollm3", MODULES, pairs=True, implied={"activation": "silu"}, defaults={"tied": True}, window=Window("all"),
    conflicts=turned_as_usual,
    free={"no_rope_layers": ..., "no_rope_layer_interval": ...},
)  # fmt: skip

ARCHITECTURE = decoder(
    "smollm3",
    "SmolLM3",
    MODULES,
    HF,
    GGUF,
    rank=1,
    traits=runs(window="=window", windowed="=windowed", sliding="types unturned", rotary_in="listed"),
    variants={"smollm3-3b": shape(36, 2048, 16, 4, 11008, 128256)},
)
