"""GLM (from glm-4-9b-hf on): Llama with partly rotary positions in pairs side by side, and gate and up in one matrix.

Source: transformers models/glm (biases of query, key and value by switch).
"""

from __future__ import annotations

from ckptkit.arch._libraries.decoders import WORDS, D, H, attention, decoder, flags, gated, hf, last
from ckptkit.arch._libraries.forward import partly
from ckptkit.arch._libraries.gguf import B, gguf, square
from ckptkit.arch.llama import shape

MODULES = {**WORDS, **attention(bias="attention_bias"), **gated(), **last()}
GATE_UP = {H + "mlp.gate_up_proj.weight": (D + "ffn.gate.weight", D + "ffn.up.weight", "*(intermediate) hidden")}
DEFAULTS = {"activation": "silu", "norm_eps": 1.5625e-07, "kv_heads": 2, "head_dim": 128, "rope_part": 0.5, "attention_bias": True}
HF = hf("glm", "Glm", MODULES, rows=GATE_UP, keys=flags("attention_bias"), defaults=DEFAULTS, pairs="interleaved")

GGUF = gguf(
    "chatglm", MODULES, implied={"activation": "silu"}, rope=("part",), dimensions=True,
    conflicts=square, rows={B + "ffn_up.weight": GATE_UP[H + "mlp.gate_up_proj.weight"]},
)  # fmt: skip

ARCHITECTURE = decoder(
    "glm", "GLM", MODULES, HF, GGUF,
    called=("glm4",),
    traits=partly(pairs="interleaved"),
    variants={"glm-4-9b": shape(40, 4096, 32, 2, 13696, 151552)},
)  # fmt: skip
