"""EXAONE 4: norms after each part, norms of each head's query and key, rotary positions in the layers with a window only.

Source: transformers models/exaone4.
"""

from __future__ import annotations

from ckptkit.arch._libraries.decoders import WORDS, attention, decoder, flags, gated, hf, last, may
from ckptkit.arch._libraries.forward import runs
from ckptkit.arch.llama import shape
from ckptkit.arch.olmo2 import AFTER

MODULES = {**WORDS, **attention(norms=AFTER, qk_norm="head_dim"), **gated(norms=AFTER), **last()}
HF = hf(
    "exaone4", "Exaone4", MODULES,
    keys={**flags("layer_types", "sliding_window_pattern"), "sliding_window": may("window")},
    defaults={"activation": "silu", "norm_eps": 1e-5},
)  # fmt: skip

ARCHITECTURE = decoder(
    "exaone4", "EXAONE 4", MODULES, HF,
    rank=1,
    traits=runs(window="=window", sliding="types 4", rotary_in="sliding_or_no_window"),
    variants={"exaone-4-1.2b": shape(30, 2048, 32, 8, 4096, 102400), "exaone-4-32b": shape(64, 5120, 40, 8, 27392, 102400)},
)  # fmt: skip
