"""OLMo 3: OLMo 2 with a window in three of four layers, and factors for long texts in the others only.

Source: transformers models/olmo3.
"""

from __future__ import annotations

from ckptkit.arch._libraries.decoders import KINDS, decoder, flags, hf, may, rope
from ckptkit.arch._libraries.forward import KINDS_OF_ROPE, runs
from ckptkit.arch._libraries.gguf import OUTPUT, Window, gguf
from ckptkit.arch.llama import shape
from ckptkit.arch.olmo2 import MODULES

HF = hf(
    "olmo3", "Olmo3", MODULES, positions={**KINDS, **rope("local_rope", "sliding_attention", "rope_theta")},
    keys=flags("attention_bias"),
    defaults={"activation": "silu", "norm_eps": 1e-5, "attention_bias": False, "window": 4096, "rope_theta": 500000.0},
)  # fmt: skip

GGUF = gguf(
    "olmo2", MODULES, bare=(OUTPUT,), implied={"activation": "silu"}, window=Window("types 4", own=True),
    defaults={"local_rope_theta": "=rope_theta"},
    keys={"rope.freq_base_swa": may("local_rope_theta")}, free={"local_rope_type": ("default",)},
)  # fmt: skip

ARCHITECTURE = decoder(
    "olmo3", "OLMo 3", MODULES, HF, GGUF,
    rank=1,
    traits=runs(window="=window", sliding="types 4", rotary=KINDS_OF_ROPE),
    variants={"olmo-3-7b": shape(32, 4096, 32, 32, 11008, 100278), "olmo-3-32b": shape(64, 5120, 40, 8, 27648, 100278)},
)  # fmt: skip
