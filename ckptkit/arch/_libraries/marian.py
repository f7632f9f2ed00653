"""Marian's own files: a .npz with all of the configuration inside, the layers' parts by the letters of its code, counted from 1.

Matrices lie as they are multiplied from the right, (in, out); biases and scales are rows. The row of padding, which begins a translation,
is not stored: it is zero, and transformers keeps it as the last of the vocabulary. Source: marian-dev src/models/transformer.h,
src/common/config.cpp; transformers models/marian convert_marian_to_pytorch.py.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from ckptkit.arch._libraries.bart import D, E
from ckptkit.schema import TORCH, ConfigForm, Dialect, Key, Module, Reader, Writer
from ckptkit.schema.layout import parse

SETTINGS = "special:model.yml"
ATTENTION = {"query": "q", "key": "k", "value": "v", "output": "o"}
PAD = "padding"  # what is made of the number of words: the last row
# what its code takes for granted, and where it says otherwise the model is another one
SAID: Mapping[str, object] = {
    "type": "transformer", "layer-normalization": False, "right-left": False, "transformer-ffn-depth": 2, "transformer-aan-depth": 2,
    "transformer-no-projection": False, "transformer-postprocess-emb": "d", "transformer-postprocess": "dan", "transformer-preprocess": "",
    "ulr-dim-emb": 0, "dec-cell-base-depth": 2, "dec-cell-high-depth": 1, "transformer-aan-nogate": False,
    "transformer-train-position-embeddings": False, "transformer-decoder-autoreg": "self-attention", "transformer-tied-layers": [],
}  # fmt: skip
# of what is no transformer, or of its training
IDLE = (
    "bert-class-symbol", "bert-mask-symbol", "bert-masking-fraction", "bert-sep-symbol", "bert-train-type-embeddings",
    "bert-type-vocab-size",
    "char-conv-filters-num", "char-conv-filters-widths", "char-highway", "char-stride", "dec-cell", "dim-rnn", "embedding-fix-src",
    "embedding-fix-trg", "enc-cell", "enc-cell-depth", "enc-type", "input-types", "max-length", "original-type", "skip",
    "tied-embeddings-all",
    "transformer-aan-activation", "transformer-dim-aan", "transformer-guided-alignment-layer", "transformer-depth-scaling", "version",
    "lemma-dim-emb", "output-omit-bias", "ulr", "ulr-dropout", "ulr-keys-vectors", "ulr-query-vectors", "ulr-softmax-temperature",
    "ulr-trainable-transformation", "factors-combine", "factors-dim-emb", "lemma-dependency", "transformer-pool", "no-bos", "no-eos",
)  # fmt: skip


def layer(at: str, ours: str, modules: Mapping[str, Module]) -> dict[str, str | tuple[str, ...]]:
    """The rows of the layers of one stack."""
    out: dict[str, str | tuple[str, ...]] = {}

    def put(name: str, param: str) -> None:
        module, _, suffix = param.rpartition(".")
        text = dict(modules[module].params)[suffix]
        dims = [" ".join(d) if len(d) == 1 else f"({' '.join(d)})" for d in parse(text).dims]
        out[f"{at}{name}"] = (param, " ".join(reversed(dims) if len(dims) > 1 else ("1", *dims)))

    for part, name in (("attention", "self"), ("cross_attention", "context")):
        if f"{ours}{part}.query" in modules:
            for mine, letter in ATTENTION.items():
                put(f"{name}_W{letter}", f"{ours}{part}.{mine}.weight")
                put(f"{name}_b{letter}", f"{ours}{part}.{mine}.bias")
            put(f"{name}_Wo_ln_scale", f"{ours}{part}.norm.weight")
            put(f"{name}_Wo_ln_bias", f"{ours}{part}.norm.bias")
    for n, mine in (("1", "intermediate"), ("2", "output")):
        put(f"ffn_W{n}", f"{ours}ffn.{mine}.weight")
        put(f"ffn_b{n}", f"{ours}ffn.{mine}.bias")
    put("ffn_ffn_ln_scale", f"{ours}ffn.norm.weight")
    put("ffn_ffn_ln_bias", f"{ours}ffn.norm.bias")
    return out


def read(extras: Mapping[str, object]) -> dict[str, object] | None:
    """The settings of such a file, with the row of padding counted."""
    text = extras.get(SETTINGS)
    if not isinstance(text, str):
        return None
    from ckptkit.support.yaml import yaml_mapping

    raw = yaml_mapping(text)
    if raw.get("tied-embeddings-all") is True:
        raw |= {"tied-embeddings-src": True, "tied-embeddings": True}
    words = raw.get("dim-vocabs")
    if isinstance(words, list) and len(words) == 2 and words[0] == words[1] and type(words[0]) is int:
        del raw["dim-vocabs"]
        raw |= {"vocab": words[0] + 1, PAD: words[0]}
    return raw


def write(raw: dict[str, object]) -> dict[str, object]:
    """What goes into a file: its settings as text."""
    own = {k: v for k, v in raw.items() if k not in ("ckptkit", "vocab", PAD, "architectures")}
    said = {"tied-embeddings-src": True, "tied-embeddings": True, "version": "v1.0.0", **SAID, **own, "dim-vocabs": [raw["vocab"]] * 2}
    said["tied-embeddings-all"] = said["tied-embeddings-src"] is True and said["tied-embeddings"] is True
    lines = [f"{k}: {json.dumps(v, ensure_ascii=False)}" for k, v in sorted(said.items())]
    kept = [f"# ckptkit: {json.dumps(raw['ckptkit'], ensure_ascii=False)}"] if "ckptkit" in raw else []
    return {SETTINGS: "\n".join([*lines, *kept]) + "\n"}


def own(modules: Mapping[str, Module]) -> Dialect:
    """The naming of Marian's own files."""
    return Dialect(
        name="marian",
        title="Marian",
        style=TORCH,
        container="npz",
        filename="model.npz",
        rows={
            "Wemb": ("embeddings.word.weight", "vocab hidden"),
            **layer("encoder_l{layer+1}_", E, modules),
            **layer("decoder_l{decoder_layer+1}_", D, modules),
            "decoder_ff_logit_out_b": ("lm_head.bias", "1 vocab"),
        },
        short="vocab",
        config=ConfigForm(
            filename="",
            keys={
                "vocab": "vocab", PAD: Key("pad", required=False), "dim-emb": "hidden", "enc-depth": "layers",
                "dec-depth": "decoder_layers",
                "transformer-heads": Key("heads", more=("decoder_heads",)),
                "transformer-dim-ffn": Key("intermediate", more=("decoder_intermediate",)),
                "transformer-ffn-activation": Key("activation", words={"swish": "silu", "relu": "relu", "gelu": "gelu"}),
                "tied-embeddings-src": Key("shared_words", required=False), "tied-embeddings": Key("tied", required=False),
            },
            implied={"norm_eps": 1e-5, "scale_embedding": True, "eos": 0},
            defaults={
                "tied": True, "shared_words": True, "positions": "=hidden", "decoder_positions": "=hidden", "dropout": 0.1,
                "attention_dropout": 0.0, "initializer_range": 0.02, "decoder_words": "=vocab",
            },
            usual={**SAID, **dict.fromkeys(IDLE, ...)},
            reader=Reader(extras=read),
            writer=Writer(extras=write),
        ),
    )  # fmt: skip
