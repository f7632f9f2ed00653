"""XGLM: sinusoids as positions, which are computed, scaled embeddings, norms before.

Source: transformers models/xglm.
"""

from __future__ import annotations

from ckptkit.arch._libraries.decoders import FAIRSEQ, PLAIN, SIZES, WORDS, attention, decoder, flags, hf, last, plain
from ckptkit.arch._libraries.forward import runs
from ckptkit.arch.gpt_neox import size
from ckptkit.schema import Besides, Derived

MODULES = {**WORDS, **attention(bias=True, out_bias=True, norm_bias=True, kv="heads"), **plain(), **last(bias=True)}
OWN = {
    "hidden_size": "d_model", "num_hidden_layers": "num_layers", "num_attention_heads": "attention_heads", "intermediate_size": "ffn_dim",
}  # fmt: skip
HF = hf(
    "xglm", "XGLM", MODULES, names=FAIRSEQ, prefixes=("model.", ""), positions={}, act="activation_function", eps="",
    sizes={OWN.get(k, k): v for k, v in SIZES.items()}, keys=flags("scale_embedding"),
    besides=Besides(derived={"~embed_positions.weights": Derived("sinusoids", "positions hidden")}),
    without=("kv_heads", "rope_theta", "head_dim"), implied={"norm_eps": 1e-5},
    defaults={"activation": "gelu", "tied": True, "scale_embedding": True},
)  # fmt: skip

ARCHITECTURE = decoder(
    "xglm", "XGLM", MODULES, HF,
    heads=("heads",),
    required=PLAIN,
    relations=("hidden = heads head_dim",),
    traits=runs(norm_kind="layer", positions="sinusoids", pad=1, rotary={}, embedding_scale="=scale_embedding"),
    variants={
        "xglm-564m": size(24, 1024, 16), "xglm-1.7b": size(24, 2048, 16), "xglm-2.9b": size(48, 2048, 16), "xglm-4.5b": size(48, 2048, 16),
        "xglm-7.5b": size(32, 4096, 32),
    },
)  # fmt: skip
