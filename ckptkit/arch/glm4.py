"""GLM 4 (0414): GLM with one more norm after each part.

Source: transformers models/glm4.
"""

from __future__ import annotations

from ckptkit.arch._libraries.decoders import WORDS, D, H, attention, decoder, flags, gated, hf, last
from ckptkit.arch._libraries.forward import partly
from ckptkit.arch._libraries.gguf import B, gguf
from ckptkit.arch.glm import DEFAULTS, GATE_UP
from ckptkit.arch.llama import shape

BOTH = ("norm", "post_norm")
MODULES = {**WORDS, **attention(bias="attention_bias", norms=BOTH), **gated(norms=BOTH), **last()}
HF = hf(
    "glm4", "Glm4", MODULES, rows=GATE_UP, keys=flags("attention_bias"), defaults=DEFAULTS, pairs="interleaved",
    names={D + "attention.post_norm": H + "post_self_attn_layernorm", D + "ffn.post_norm": H + "post_mlp_layernorm"},
)  # fmt: skip

GGUF = gguf(
    "glm4", MODULES, implied={"activation": "silu"}, rope=("part",), dimensions=True,
    rows={B + "ffn_up.weight": GATE_UP[H + "mlp.gate_up_proj.weight"]},
)  # fmt: skip

ARCHITECTURE = decoder(
    "glm4", "GLM-4", MODULES, HF, GGUF,
    names=("glm4v_text",),  # a text multimodal model, alike where all is text
    called=("glm4",),
    traits=partly(pairs="interleaved"),
    variants={"glm-4-9b-0414": shape(40, 4096, 32, 2, 13696, 151552), "glm-4-32b-0414": shape(61, 6144, 48, 2, 23040, 151552)},
)  # fmt: skip
