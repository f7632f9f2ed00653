"""BioGPT: learned positions from the third row on, scaled embeddings, norms before.

Source: transformers models/biogpt.
"""

from __future__ import annotations

from ckptkit.arch._libraries.decoders import FAIRSEQ, PLAIN, WORDS, attention, decoder, flags, hf, last, plain
from ckptkit.arch._libraries.forward import runs
from ckptkit.arch.gpt_neox import size
from ckptkit.schema import Besides, Key, embedding

MODULES = {
    **WORDS,
    "embeddings.position": embedding("positions hidden"),
    **attention(bias=True, out_bias=True, norm_bias=True, kv="heads"),
    **plain(),
    **last(bias=True),
}
HF = hf(
    "biogpt", "BioGpt", MODULES, prefixes=("biogpt.", ""), positions={}, eps="layer_norm_eps", besides=Besides(),
    names={**FAIRSEQ, "embeddings.position": "~embed_positions", "lm_head": "output_projection"},
    keys={"max_position_embeddings": Key("positions", shift=2), **flags("scale_embedding")},
    without=("kv_heads", "rope_theta", "head_dim", "max_positions"),
    defaults={"activation": "gelu", "norm_eps": 1e-12, "tied": True, "scale_embedding": True},
)  # fmt: skip

ARCHITECTURE = decoder(
    "biogpt", "BioGPT", MODULES, HF,
    heads=("heads",),
    required=PLAIN,
    relations=("hidden = heads head_dim",),
    traits=runs(norm_kind="layer", norm_eps=1e-5, positions="masked", pad=1, rotary={}, embedding_scale="=scale_embedding"),
    variants={"biogpt": size(24, 1024, 16), "biogpt-large": size(48, 1600, 25)},
)  # fmt: skip
