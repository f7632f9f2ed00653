"""OPT: learned positions from the third row on, norms before (or after, in 350m), ReLU; 350m has narrower embeddings.

Source: transformers models/opt.
"""

from __future__ import annotations

from ckptkit.arch._libraries.decoders import FAIRSEQ, PLAIN, SIZES, attention, decoder, flags, hf, last, plain
from ckptkit.arch._libraries.forward import runs
from ckptkit.arch.gpt_neox import size
from ckptkit.schema import Besides, Key, embedding, linear, norm, when

MODULES = {
    "embeddings.word": embedding("vocab embedding"),
    "embeddings.position": embedding("positions hidden"),
    "embeddings.project": linear("hidden", "embedding", bias=False, optional=True),
    **attention(bias="enable_bias", out_bias="enable_bias", norm_bias=True, kv="heads"),
    **plain(bias="enable_bias"),
    **last(),
    "decoder.norm": when("do_layer_norm_before", norm("hidden")),
    "decoder.project": linear("embedding", "hidden", bias=False, optional=True),
    "lm_head": linear("vocab", "embedding", bias=False, group="lm", tied={"weight": "embeddings.word.weight"}),
    "score": linear("labels", "embedding", bias=False, group="score"),
}
OWN = {"intermediate_size": "ffn_dim"}
HF = hf(
    "opt",
    "OPT",
    MODULES,
    prefixes=("model.decoder.", "decoder."),
    positions={},
    act="activation_function",
    eps="",
    besides=Besides(),
    names={
        **FAIRSEQ,
        "decoder.norm": "~final_layer_norm",
        "embeddings.position": "~embed_positions",
        "embeddings.project": "~project_in",
        "decoder.project": "~project_out",
    },
    sizes={OWN.get(k, k): v for k, v in SIZES.items()},
    keys={
        "max_position_embeddings": Key("positions", shift=2),
        "word_embed_proj_dim": Key("embedding", required=False),
        **flags("enable_bias", "do_layer_norm_before", "layer_norm_elementwise_affine"),
    },
    without=("kv_heads", "rope_theta", "head_dim", "max_positions"),
    implied={"norm_eps": 1e-5},
    defaults={"activation": "relu", "embedding": "=hidden", "tied": True, "enable_bias": True, "do_layer_norm_before": True},
)

ARCHITECTURE = decoder(
    "opt",
    "OPT",
    MODULES,
    HF,
    heads=("heads",),
    required=PLAIN,
    relations=("hidden = heads head_dim",),
    traits=runs(
        norm="=do_layer_norm_before",
        norm_kind="layer",
        positions="masked",
        pad=1,
        rotary={},
        runs_with={"layer_norm_elementwise_affine": (None, True)},
    ),
    variants={
        "opt-125m": size(12, 768, 12),
        "opt-350m": size(24, 1024, 16),
        "opt-1.3b": size(24, 2048, 32),
        "opt-2.7b": size(32, 2560, 32),
        "opt-6.7b": size(32, 4096, 32),
        "opt-13b": size(40, 5120, 40),
        "opt-30b": size(48, 7168, 56),
        "opt-66b": size(64, 9216, 72),
    },
)
