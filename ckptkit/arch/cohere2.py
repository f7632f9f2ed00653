"""Cohere 2 (Command R7B, A): Cohere with a window and rotary positions in three of four layers, and neither in the others.

Source: transformers models/cohere2.
"""

from __future__ import annotations

from ckptkit.arch._libraries.decoders import decoder, flags, hf, may
from ckptkit.arch._libraries.forward import runs
from ckptkit.arch._libraries.gguf import Window, gguf, square
from ckptkit.arch.cohere import SIDE_BY_SIDE
from ckptkit.arch.llama import shape

HF = hf(
    "cohere2",
    "Cohere2",
    SIDE_BY_SIDE,
    eps="layer_norm_eps",
    keys={**flags("attention_bias", "logit_scale", "layer_types", "sliding_window_pattern"), "sliding_window": may("window")},
    defaults={
        "activation": "silu",
        "norm_eps": 1e-5,
        "tied": True,
        "head_dim": "=hidden / heads",
        "attention_bias": False,
        "logit_scale": 0.0625,
        "window": 4096,
    },
)

GGUF = gguf(
    "cohere2", SIDE_BY_SIDE, eps="layer_norm_epsilon", implied={"activation": "silu"}, keys={"logit_scale": may("logit_scale")},
    dimensions=True,
    window=Window("types 4", own=True), defaults={"tied": True}, free={"sliding_window_pattern": ...}, conflicts=square,
)  # fmt: skip

ARCHITECTURE = decoder(
    "cohere2",
    "Cohere 2",
    SIDE_BY_SIDE,
    HF,
    GGUF,
    rank=1,
    traits=runs(
        norm_kind="layer",
        parallel=True,
        pairs="interleaved",
        logit_scale="=logit_scale",
        window="=window",
        sliding="types 4",
        rotary_in="sliding",
    ),
    variants={"command-r7b": shape(32, 4096, 32, 8, 14336, 256000), "command-a-111b": shape(64, 12288, 96, 8, 36864, 256000)},
)
