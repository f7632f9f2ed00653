"""Transformer-XL: a decoder whose layers see what they were given before the text as well; a vocabulary in parts of falling width, the head
of which gives logarithms of probabilities.

Source: transformers 4.30 models/transfo_xl (names, classes, `AdaptiveEmbedding`, `ProjectedAdaptiveLogSoftmax`); kimiyoung/transformer-xl.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from ckptkit.arch._libraries.decoder_words import D, may
from ckptkit.arch._libraries.transformers import _TOKENIZER
from ckptkit.schema import (
    TORCH,
    Architecture,
    Besides,
    Class,
    ConfigForm,
    Derived,
    Dialect,
    Files,
    Module,
    Reader,
    Writer,
    embedding,
    linear,
    norm,
    param,
    when,
)  # fmt: skip

A = D + "attention."
H = "~layers.{layer}."
HEADS = "*(heads head_dim) hidden"
MOST = 8  # parts of a vocabulary; published models have four
SIZE = "cutoffs (part {})"  # what the settings say of a part: how many words it has, how wide it is


def with_parts(raw: Mapping[str, object]) -> dict[str, object] | None:
    """Settings with the sizes of every table of words: one, or one more than there are borders, each narrower than the last. None of
    settings that are another model's."""
    if raw.get("model_type") != "transfo-xl" and raw.get("model") != "transformer_xl" and "cutoffs" not in raw and "div_val" not in raw:
        return None
    borders: Any = raw.get("cutoffs", [20000, 40000, 200000])
    by: Any = raw.get("div_val", 4)
    vocab: Any = next((raw[k] for k in ("vocab_size", "n_token") if k in raw), 267735)
    width: Any = next((raw[k] for k in ("d_embed", "d_model", "hidden_size") if k in raw), 1024)
    if not isinstance(borders, (list, tuple)) or not all(isinstance(n, int) for n in (*borders, by, vocab, width)):
        return dict(raw)
    ends = [0, vocab] if by == 1 else [0, *borders, vocab]
    return {**raw, **{SIZE.format(i): {"words": b - a, "width": width // by**i} for i, (a, b) in enumerate(pairwise(ends))}}


def without_parts(raw: dict[str, object]) -> dict[str, object]:
    """What `with_parts` undoes."""
    return {k: v for k, v in raw.items() if k not in {SIZE.format(i) for i in range(MOST)}}


def modules() -> dict[str, Module]:
    """The parts of the vocabulary; those after the first are there as wholes."""
    out: dict[str, Module] = {}
    for i in range(MOST):
        at, end = f"embeddings.parts.{i}.", f"softmax.parts.{i}."
        own = {
            at + "word": embedding(f"vocab_{i} width_{i}"),
            end + "output": linear(f"vocab_{i}", f"width_{i}", group="lm", tied={"weight": at + "word.weight"}),
        }
        out |= {k: when(f"part_{i}", m) if i else m for k, m in own.items()}
        out[at + "project"] = when(f"projected_{i}", param(f"hidden width_{i}"))
        lent = at + "project" if i else None  # the first part's projections are two
        out[end + "project"] = when(f"projected_{i}", param(f"hidden width_{i}", group="lm", tied=lent))
    return out


def rates(shape: tuple[int, ...], hidden: object) -> object:
    """How fast each pair of columns of a sinusoid turns."""
    import numpy as np

    width = int(str(hidden))
    return (1 / (10000 ** (np.arange(0, width, 2, dtype=np.float32) / np.float32(width)))).astype(np.float32)


ARCHITECTURE = Architecture(
    name="transformer_xl",
    title="Transformer-XL",
    names=("transfo-xl", "transfo_xl"),
    called=("transformer_xl",),
    modules={
        **modules(),
        "decoder.word_bias": when("one_bias", param("heads head_dim")),
        "decoder.distance_bias": when("one_bias", param("heads head_dim")),
        **{A + part: linear("heads head_dim", "hidden", bias=False) for part in ("query", "key", "value", "distance")},
        A + "output": linear("hidden", "heads head_dim", bias=False),
        **{A + bias: param("heads head_dim") for bias in ("word_bias", "distance_bias")},
        A + "norm": norm("hidden"),
        D + "ffn.intermediate": linear("intermediate", "hidden"),
        D + "ffn.output": linear("hidden", "intermediate"),
        D + "ffn.norm": norm("hidden"),
        "softmax.tails": when("tailed", param("tails width_0", group="lm")),
        "softmax.tails_bias": when("tailed", param("tails", group="lm")),
        "score": linear("labels", "hidden", group="score", bias=False),
    },
    traits={
        "encoder": D[:-1],
        "mask": "causal",
        "norm": "=pre_norm",
        "positions": "xl",
        "clamp": "=clamp_len",
        "memory": "=memory",
        "memory_window": "=same_length",
        "cutoffs": "=cutoffs",
        "embedding_scale": "root",
        "heads": {"lm": "in_parts at softmax", "score": "last"},
        "runs_with": {"attn_type": (0,)},
    },
    variants={"transfo-xl-wt103": {"layers": 18, "hidden": 1024, "heads": 16}},
    derivations={"rates": rates},
    dialects=(
        Dialect(
            name="hf",
            title="transformers (PyTorch)",
            style=TORCH,
            prefixes=("transformer.", ""),
            container="torch",
            rows={
                **{f"~word_emb.emb_layers.{i}": f"embeddings.parts.{i}.word" for i in range(MOST)},
                **{f"~word_emb.emb_projs.{i}": f"embeddings.parts.{i}.project" for i in range(MOST)},
                "~r_w_bias": "decoder.word_bias",
                "~r_r_bias": "decoder.distance_bias",
                H + "dec_attn.qkv_net.weight": (A + "query.weight", A + "key.weight", A + "value.weight", HEADS),
                H + "dec_attn.r_net": A + "distance",
                H + "dec_attn.o_net": A + "output",
                H + "dec_attn.r_w_bias": A + "word_bias",
                H + "dec_attn.r_r_bias": A + "distance_bias",
                H + "dec_attn.layer_norm": A + "norm",
                H + "pos_ff.CoreNet.0": D + "ffn.intermediate",
                H + "pos_ff.CoreNet.3": D + "ffn.output",
                H + "pos_ff.layer_norm": D + "ffn.norm",
                "crit.cluster_weight": "softmax.tails",
                "crit.cluster_bias": "softmax.tails_bias",
                **{f"crit.out_layers.{i}": f"softmax.parts.{i}.output" for i in range(MOST)},
                **{f"crit.out_projs.{i}": f"softmax.parts.{i}.project" for i in range(MOST)},
                "score": "score",
            },
            besides=Besides(derived={"~pos_emb.inv_freq": Derived("rates hidden", "half_hidden", made=True)}),
            classes=(
                Class("TransfoXLLMHeadModel", frozenset({"lm"})),
                Class("TransfoXLModel", frozenset()),
                Class("TransfoXLForSequenceClassification", frozenset({"score"})),
            ),
            files=Files(metadata={"format": "pt"}, sidecars=_TOKENIZER),
            config=ConfigForm(
                filename="config.json",
                keys={
                    "vocab_size | n_token": "vocab", "d_model | hidden_size": "hidden", "n_layer | num_hidden_layers": "layers",
                    "n_head | num_attention_heads": "heads", "d_head": may("head_dim"), "d_inner | intermediate_size": "intermediate",
                    "d_embed | embedding_size": may("embedding"), "cutoffs": may("cutoffs"), "div_val": may("narrowing"),
                    **{f"{SIZE.format(i)}.words": may(f"vocab_{i}") for i in range(MOST)},
                    **{f"{SIZE.format(i)}.width": may(f"width_{i}") for i in range(MOST)},
                    "pre_lnorm": may("pre_norm"), "mem_len": may("memory"), "clamp_len": may("clamp_len"),
                    "same_length": may("same_length"), "attn_type": may("attn_type"), "layer_norm_epsilon | layer_norm_eps": "norm_eps",
                    "dropout | dropout_rate": may("dropout"), "dropatt | attention_probs_dropout_prob": may("attention_dropout"),
                    "init_std": may("initializer_range"), "tie_word_embeddings": "tied",
                },
                reader=Reader(unfold=with_parts),
                writer=Writer(fold=without_parts),
                labels=True,
                marks={"model_type": "transfo-xl"},
                implied={"activation": "relu"},
                defaults={
                    "norm_eps": 1e-5, "cutoffs": (20000, 40000, 200000), "narrowing": 4, "pre_norm": False, "memory": 1600,
                    "clamp_len": 1000, "same_length": True, "attn_type": 0, "dropout": 0.1, "attention_dropout": 0.0,
                    "initializer_range": 0.02, "tied": True, "head_dim": "=hidden / heads", "embedding": "=hidden",
                },
                usual=dict.fromkeys((
                    "proj_share_all_but_first", "tie_projs", "sample_softmax", "adaptive", "untie_r", "init", "init_range", "proj_init_std",
                    "eos_token_id", "tie_weight", "ext_len", "tgt_len", "mem_len_eval",
                ), ...),
            ),
        ),
    ),
)  # fmt: skip
