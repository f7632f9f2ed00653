"""Phi 1, 1.5 and 2: both parts of a layer side by side after one norm, biases everywhere, partly rotary positions.

Source: transformers models/phi.
"""

from __future__ import annotations

from ckptkit.arch._libraries.decoders import WORDS, D, H, attention, decoder, flags, hf, last, plain
from ckptkit.arch._libraries.forward import partly
from ckptkit.arch._libraries.gguf import gguf
from ckptkit.arch.llama import shape
from ckptkit.schema import norm, when

MODULES = {
    **WORDS,
    **attention(bias=True, out_bias=True, norm_bias=True),
    D + "attention.query_norm": when("qk_layernorm", norm("head_dim")),
    D + "attention.key_norm": when("qk_layernorm", norm("head_dim")),
    **plain(norms=()),
    **last(bias=True, head_bias=True),
}
HF = hf(
    "phi", "Phi", MODULES, eps="layer_norm_eps", keys=flags("qk_layernorm"),
    names={
        D + "attention.output": H + "self_attn.dense", D + "attention.query_norm": H + "self_attn.q_layernorm",
        D + "attention.key_norm": H + "self_attn.k_layernorm", D + "ffn.intermediate": H + "mlp.fc1", D + "ffn.output": H + "mlp.fc2",
        "decoder.norm": "~final_layernorm",
    },
    defaults={"activation": "gelu_tanh", "norm_eps": 1e-5, "rope_part": 0.5, "qk_layernorm": False},
)  # fmt: skip

GGUF = gguf(
    "phi2", MODULES, eps="layer_norm_epsilon", implied={"activation": "gelu_tanh"}, rope=("part",), dimensions=True,
    without=(D + "attention.query_norm", D + "attention.key_norm"),
)  # fmt: skip

ARCHITECTURE = decoder(
    "phi", "Phi", MODULES, HF, GGUF,
    traits=partly(norm_kind="layer", parallel=True),
    variants={"phi-1": shape(24, 2048, 32, 32, 8192, 51200), "phi-2": shape(32, 2560, 32, 32, 10240, 51200)},
)  # fmt: skip
