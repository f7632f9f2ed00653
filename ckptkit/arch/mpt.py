"""MPT: no biases at all, alibi, query, key and value one after another in one matrix.

Source: transformers models/mpt (the feed-forward is four times as wide, whatever expansion_ratio says; gelu).
"""

from __future__ import annotations

from collections.abc import Iterator

from ckptkit.arch._libraries.decoders import PLAIN, WORDS, D, Values, attention, decoder, fused, hf, last, may, plain
from ckptkit.arch._libraries.forward import runs
from ckptkit.arch._libraries.gguf import B as G
from ckptkit.arch._libraries.gguf import Window, gguf
from ckptkit.arch.gpt_neox import size
from ckptkit.schema import Besides

B = "~blocks.{layer}."
MODULES = {
    **WORDS,
    **attention(kv="heads"),
    **plain(bias=False, norm_bias=False),
    **last(),
}
HF = hf(
    "mpt",
    "Mpt",
    MODULES,
    prefixes=("transformer.", ""),
    positions={},
    act="",
    eps="layer_norm_epsilon",
    besides=Besides(),
    names={
        "embeddings.word": "~wte",
        D + "attention.norm": B + "norm_1",
        D + "attention.output": B + "attn.out_proj",
        D + "ffn.norm": B + "norm_2",
        D + "ffn.intermediate": B + "ffn.up_proj",
        D + "ffn.output": B + "ffn.down_proj",
        "decoder.norm": "~norm_f",
    },
    rows=fused(B + "attn.Wqkv", "*(heads head_dim)", bias=False),
    sizes={
        "vocab_size": "vocab",
        "d_model": "hidden",
        "n_heads": "heads",
        "n_layers": "layers",
        "max_seq_len": may("max_positions"),
        "tie_word_embeddings": "tied",
        "initializer_range": may("initializer_range"),
        "attn_config.attn_pdrop": may("attention_dropout"),
    },
    keys={
        "attn_config.clip_qkv": may("clip_qkv"),
        "attn_config.softmax_scale": may("softmax_scale"),
        "attn_config.alibi_bias_max": may("alibi_bias_max"),
        "attn_config.alibi": may("alibi"),
        "logit_scale": may("logit_scale"),
    },
    without=("kv_heads", "rope_theta", "head_dim"),
    implied={"activation": "gelu"},
    usual={"no_bias": ...},  # which its code does not read: there are none
    defaults={"norm_eps": 1e-5, "tied": True, "intermediate": "=4 hidden"},
)


def scores_as_usual(values: Values) -> Iterator[tuple[str, str]]:
    """What llama.cpp's code takes for granted."""
    for name in ("softmax_scale", "logit_scale"):
        if values.get(name) is not None:
            yield name, "its code of this architecture has no such scale"


GGUF = gguf(
    "mpt", MODULES, eps="layer_norm_epsilon", rope=None, rows=fused(G + "attn_qkv", "*(heads head_dim)", bias=False),
    implied={"activation": "gelu", "softmax_scale": None, "logit_scale": None}, defaults={"tied": True},
    window=Window("", usual=2048), free={"alibi": (True,)},
    keys={"attention.clamp_kqv": may("clip_qkv"), "attention.head_count_kv": "",
        "attention.max_alibi_bias": may("alibi_bias_max")}, also={"attention.max_alibi_bias": 8.0},
    conflicts=scores_as_usual,
)  # fmt: skip

ARCHITECTURE = decoder(
    "mpt",
    "MPT",
    MODULES,
    HF,
    GGUF,
    heads=("heads",),
    required=PLAIN,
    relations=("hidden = heads head_dim",),
    traits=runs(
        norm_kind="layer",
        positions="none",
        rotary={},
        alibi=True,
        score_scale="=softmax_scale",
        clip="=clip_qkv",
        runs_with={"alibi": (None, True), "alibi_bias_max": (None, 8), "logit_scale": (None,)},
    ),
    variants={"mpt-7b": size(32, 4096, 32), "mpt-30b": size(48, 7168, 64)},
)
