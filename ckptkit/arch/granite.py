"""Granite: Llama with multipliers of the embeddings, the scores, what each part adds, and the logits.

Source: transformers models/granite.
"""

from __future__ import annotations

from ckptkit.arch._libraries.decoders import decoder, flags, hf, may
from ckptkit.arch._libraries.forward import SCALES, runs
from ckptkit.arch._libraries.gguf import gguf
from ckptkit.arch.llama import MODULES, shape

MULTIPLIERS = flags("embedding_multiplier", "attention_multiplier", "residual_multiplier", "logits_scaling")
ONES = {"embedding_multiplier": 1.0, "attention_multiplier": 1.0, "residual_multiplier": 1.0, "logits_scaling": 1.0}
HF = hf(
    "granite", "Granite", MODULES, keys={**MULTIPLIERS, **flags("attention_bias", "mlp_bias")},
    defaults={"activation": "silu", "norm_eps": 1e-6, "attention_bias": False, "mlp_bias": False, **ONES},
)  # fmt: skip

SCALES_OF = {
    "attention.scale": may("attention_multiplier"), "embedding_scale": may("embedding_multiplier"),
    "residual_scale": may("residual_multiplier"), "logit_scale": may("logits_scaling"),
}  # fmt: skip
GGUF = gguf("granite", MODULES, pairs=True, implied={"activation": "silu"}, rope=("freqs", "factors"), keys=SCALES_OF)

ARCHITECTURE = decoder(
    "granite", "Granite", MODULES, HF, GGUF,
    rank=1,
    traits=runs(**SCALES),
    variants={
        "granite-3-2b": shape(40, 2048, 32, 8, 8192, 49155),
        "granite-3-8b": shape(40, 4096, 32, 8, 12800, 49155),
    },
)  # fmt: skip
