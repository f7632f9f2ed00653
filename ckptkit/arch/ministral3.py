"""Ministral 3: Mistral whose queries are scaled with their position, as Llama 4's are, and factors for long texts.

Source: transformers models/ministral3.
"""

from __future__ import annotations

from ckptkit.arch._libraries.decoders import decoder, hf, may
from ckptkit.arch._libraries.forward import runs
from ckptkit.arch._libraries.gguf import Window, gguf
from ckptkit.arch.llama import shape
from ckptkit.arch.mistral import MODULES

HF = hf(
    "ministral3", "Ministral3", MODULES, keys={"sliding_window": may("window")},
    defaults={"activation": "silu", "norm_eps": 1e-5, "kv_heads": 8, "head_dim": 128, "rope_theta": 1e6},
)  # fmt: skip

ARCHITECTURE = decoder(
    "ministral3", "Ministral 3", MODULES, HF,
    gguf(
        "mistral3", MODULES, pairs=True, implied={"activation": "silu"}, rope=("freqs", "factors", "beta", "beta4", "log"),
        window=Window("all"), keys={"attention.temperature_scale": may("rope_llama_4_scaling_beta")},
    ),
    rank=2,
    traits=runs(window="=window", sliding="all"),
    variants={
        "ministral-3-3b": shape(26, 3072, 32, 8, 9216, 131072),
        "ministral-3-8b": shape(34, 4096, 32, 8, 14336, 131072),
        "ministral-3-14b": shape(40, 5120, 32, 8, 16384, 131072),
    },
)  # fmt: skip
