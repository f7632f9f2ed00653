"""Apertus: Llama with norms of queries and keys, and an activation (xIELU) with learned parameters between two layers.

Source: transformers models/apertus, activations.py (XIELUActivation keeps beta and eps as buffers, which are stored).
"""

from __future__ import annotations

from ckptkit.arch._libraries.decoders import UP_DOWN, WORDS, D, H, attention, decoder, flags, hf, last, plain
from ckptkit.arch._libraries.forward import runs
from ckptkit.arch._libraries.gguf import gguf
from ckptkit.arch.llama import shape
from ckptkit.schema import param

ACT = {"alpha_p": "1", "alpha_n": "1", "beta": "", "eps": ""}
MODULES = {
    **WORDS,
    **attention(bias="attention_bias", out_bias="attention_bias", qk_norm="head_dim"),
    **plain(bias=False, norm_bias=False),
    **{D + f"ffn.activation.{name}": param(layout) for name, layout in ACT.items()},
    **last(),
}
HF = hf(
    "apertus", "Apertus", MODULES,
    names={
        **UP_DOWN, D + "attention.norm": H + "attention_layernorm", D + "ffn.norm": H + "feedforward_layernorm",
        **{D + f"ffn.activation.{name}": H + f"mlp.act_fn.{name}" for name in ACT},
    },
    keys=flags("attention_bias"),
    defaults={"activation": "xielu", "norm_eps": 1e-5, "rope_theta": 12e6, "attention_bias": False},
)  # fmt: skip

GGUF = gguf(  # the activation's numbers lie among the keys, each in an array of all layers
    "apertus", MODULES, implied={"activation": "xielu"}, rope=("freqs", "factors"), dimensions=True,
    rows={f"xielu.{name}": (D + f"ffn.activation.{name}", "*{layer}") for name in ACT},
)  # fmt: skip

ARCHITECTURE = decoder(
    "apertus", "Apertus", MODULES, HF, GGUF,
    traits=runs(),
    variants={"apertus-8b": shape(32, 4096, 32, 8, 21504, 131072), "apertus-70b": shape(80, 8192, 64, 8, 43008, 131072)},
)  # fmt: skip
