"""StarCoder 2: grouped queries and rotary positions, norms with a bias, a feed-forward of two layers.

Source: transformers models/starcoder2.
"""

from __future__ import annotations

from ckptkit.arch._libraries.decoders import WORDS, D, H, attention, decoder, flags, hf, last, may, plain
from ckptkit.arch._libraries.forward import runs
from ckptkit.arch._libraries.gguf import Window, gguf
from ckptkit.arch.llama import shape

MODULES = {
    **WORDS,
    **attention(bias="use_bias", out_bias="use_bias", norm_bias=True),
    **plain(bias="use_bias"),
    **last(bias=True),
}
HF = hf(
    "starcoder2", "Starcoder2", MODULES, eps="norm_epsilon",
    names={D + "ffn.intermediate": H + "mlp.c_fc", D + "ffn.output": H + "mlp.c_proj"},
    keys={**flags("use_bias"), "sliding_window": may("window")},
    defaults={"activation": "gelu_tanh", "norm_eps": 1e-5, "kv_heads": 2, "tied": True, "use_bias": True},
)  # fmt: skip

GGUF = gguf(
    "starcoder2", MODULES, eps="layer_norm_epsilon", implied={"activation": "gelu_tanh"}, window=Window("all"),
)  # fmt: skip

ARCHITECTURE = decoder(
    "starcoder2", "StarCoder2", MODULES, HF, GGUF,
    traits=runs(norm_kind="layer", window="=window", sliding="all"),
    variants={
        "starcoder2-3b": shape(30, 3072, 24, 2, 12288, 49152),
        "starcoder2-7b": shape(32, 4608, 36, 4, 18432, 49152),
        "starcoder2-15b": shape(40, 6144, 48, 4, 24576, 49152),
    },
)  # fmt: skip
