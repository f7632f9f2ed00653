"""OLMo 2: norms after each part, before it is added, and norms of the whole query and key.

Source: transformers models/olmo2.
"""

from __future__ import annotations

from ckptkit.arch._libraries.decoders import WORDS, attention, decoder, flags, gated, hf, last
from ckptkit.arch._libraries.forward import runs
from ckptkit.arch._libraries.gguf import OUTPUT, gguf
from ckptkit.arch.llama import shape

AFTER = ("post_norm",)
MODULES = {
    **WORDS,
    **attention(bias="attention_bias", out_bias="attention_bias", norms=AFTER, qk_norm="all"),
    **gated(norms=AFTER),
    **last(),
}
HF = hf(
    "olmo2", "Olmo2", MODULES, keys=flags("attention_bias"),
    defaults={"activation": "silu", "norm_eps": 1e-5, "attention_bias": False},
)  # fmt: skip

GGUF = gguf("olmo2", MODULES, implied={"activation": "silu"}, bare=(OUTPUT,))

ARCHITECTURE = decoder(
    "olmo2", "OLMo 2", MODULES, HF, GGUF,
    traits=runs(),
    variants={
        "olmo-2-1b": shape(16, 2048, 16, 16, 8192, 100352),
        "olmo-2-7b": shape(32, 4096, 32, 32, 11008, 100352),
        "olmo-2-13b": shape(40, 5120, 40, 40, 13824, 100352),
        "olmo-2-32b": shape(64, 5120, 40, 8, 27648, 100352),
    },
)  # fmt: skip
