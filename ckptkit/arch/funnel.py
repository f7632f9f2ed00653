"""Funnel Transformer: an encoder in blocks, each of which begins on half as many positions as the one before, and layers that run on all
positions again. Scores are XLNet's, without those of the first position's place and segment where it is kept apart.

Source: transformers models/funnel (names, classes, `FunnelAttentionStructure`); laiguokun/Funnel-Transformer.
"""

from collections.abc import Mapping

from ckptkit.arch._libraries.decoder_words import may
from ckptkit.arch._libraries.transformers import HF_ACTIVATIONS, WORD_PIECES
from ckptkit.schema import (
    TORCH,
    Architecture,
    Class,
    ConfigForm,
    Dialect,
    Files,
    Key,
    Module,
    Reader,
    Writer,
    embedding,
    linear,
    norm,
    param,
    when,
)  # fmt: skip

BLOCKS = 8  # published models have three
SIZES = "block_sizes"
# (canonical beginning of a layer's names, stored one); a block has its own number of layers
ENCODER = tuple((f"encoder.blocks.{b}.{{block_{b}_layer}}.", f"~encoder.blocks.{b}.{{block_{b}_layer}}.") for b in range(BLOCKS))
DECODER = ("restored.layers.{restored_layer}.", "~decoder.layers.{restored_layer}.")


def layer(at: str, group: str) -> dict[str, Module]:
    """The modules of a layer whose names begin so."""
    a, f = at + "attention.", at + "ffn."
    return {
        a + "query": linear("heads head_dim", "hidden", bias=False, group=group),
        a + "key": linear("heads head_dim", "hidden", group=group),
        a + "value": linear("heads head_dim", "hidden", group=group),
        a + "distance": linear("heads head_dim", "hidden", bias=False, group=group),
        **{a + bias: param("heads head_dim", group=group) for bias in ("word_bias", "distance_bias", "segment_bias")},
        a + "segments": param("segments heads head_dim", group=group),
        a + "output": linear("hidden", "heads head_dim", group=group),
        a + "norm": norm("hidden", group=group),
        f + "intermediate": linear("intermediate", "hidden", group=group),
        f + "output": linear("hidden", "intermediate", group=group),
        f + "norm": norm("hidden", group=group),
    }


def modules() -> dict[str, Module]:
    """Every module; blocks after the first are there as wholes."""
    out: dict[str, Module] = {"embeddings.word": embedding("vocab hidden"), "embeddings.norm": norm("hidden")}
    for b, (at, _) in enumerate(ENCODER):
        out |= {k: when(f"block_{b}", m) if b else m for k, m in layer(at, "core").items()}
    return {
        **out,
        **layer(DECODER[0], "restored"),
        "lm_head": linear("vocab", "hidden", group="lm", tied={"weight": "embeddings.word.weight"}),
        "detector.dense": linear("detected", "hidden", group="detector"),
        "detector.output": linear("one_score", "detected", group="detector"),
        "classification.dense": linear("pooled", "hidden", group="classification"),
        "classification.output": linear("labels", "pooled", group="classification"),
        "classifier": linear("labels", "hidden", group="classifier"),
        "qa": linear("qa_labels", "hidden", group="qa"),
    }


def rows() -> dict[str, str | tuple[str, ...]]:
    """transformers' names."""
    out: dict[str, str | tuple[str, ...]] = {"~embeddings.word_embeddings": "embeddings.word", "~embeddings.layer_norm": "embeddings.norm"}
    for ours, theirs in (*ENCODER, DECODER):
        a, t = ours + "attention.", theirs + "attention."
        out |= {t + "q_head": a + "query", t + "k_head": a + "key", t + "v_head": a + "value"}
        out |= {t + "r_kernel": (a + "distance.weight", "hidden heads head_dim"), t + "seg_embed": a + "segments"}
        out |= {t + "post_proj": a + "output", t + "layer_norm": a + "norm"}
        out |= {t + n: a + p for n, p in (("r_w_bias", "word_bias"), ("r_r_bias", "distance_bias"), ("r_s_bias", "segment_bias"))}
        out |= {theirs + f"ffn.{n}": ours + f"ffn.{p}" for n, p in (("linear_1", "intermediate"), ("linear_2", "output"))}
        out |= {theirs + "ffn.layer_norm": ours + "ffn.norm"}
    return {
        **out,
        "lm_head": "lm_head",
        "discriminator_predictions.dense": "detector.dense",
        "discriminator_predictions.dense_prediction": "detector.output",
        "classifier.linear_hidden": "classification.dense",
        "classifier.linear_out": "classification.output",
        "classifier": "classifier",
        "qa_outputs": "qa",
    }


def by_block(raw: Mapping[str, object]) -> dict[str, object] | None:
    """Settings with the layers of each block by its number. None of settings that are another model's."""
    if raw.get("model_type") != "funnel" and SIZES not in raw:
        return None
    sizes = raw.get(SIZES, [4, 4, 4])
    return {**raw, SIZES: {str(i): n for i, n in enumerate(sizes)}} if isinstance(sizes, (list, tuple)) else dict(raw)


def listed(raw: dict[str, object]) -> dict[str, object]:
    """What `by_block` undoes; blocks without a layer are none."""
    sizes = raw.get(SIZES)
    if not isinstance(sizes, Mapping):
        return raw
    every = [sizes[k] for k in sorted(sizes, key=int)]
    while every and not every[-1]:
        every.pop()
    return {**raw, SIZES: every}


TOKENS = frozenset({"restored"})
ARCHITECTURE = Architecture(
    name="funnel",
    title="Funnel Transformer",
    modules=modules(),
    traits={
        "encoder": " | ".join(at[:-1] for at, _ in ENCODER),
        "restored": DECODER[0][:-1],
        "positions": "xl",
        "halving": "=pooling",
        "first_apart": "=first_apart",
        "truncated": "=truncated",
        "whole_keys": "=whole_keys",
        "block_repeats": "=block_repeats",
        "heads": {
            "restored": "part", "lm": "lm", "detector": "detector", "classification": "first", "classifier": "tokens", "qa": "tokens",
        },
    },
    relations=("detected = hidden", "pooled = hidden"),
    fixed={"segments": 2, "one_score": 1, "qa_labels": 2},
    variants={
        name: {"block_0_layers": n, "block_1_layers": n, "block_2_layers": n, "hidden": 64 * heads, "heads": heads, "vocab": 30522}
        for name, n, heads in (
            ("funnel-small", 4, 12), ("funnel-intermediate", 6, 12), ("funnel-large", 8, 16), ("funnel-xlarge", 10, 16),
        )
    },
    dialects=(
        Dialect(
            name="hf",
            title="transformers (PyTorch)",
            style=TORCH,
            prefixes=("funnel.", ""),
            rows=rows(),
            classes=(
                Class("FunnelForMaskedLM", TOKENS | {"lm"}),
                Class("FunnelModel", TOKENS),
                Class("FunnelBaseModel", frozenset()),
                Class("FunnelForPreTraining", TOKENS | {"detector"}),
                Class("FunnelForSequenceClassification", frozenset({"classification"})),
                Class("FunnelForTokenClassification", TOKENS | {"classifier"}),
                Class("FunnelForQuestionAnswering", TOKENS | {"qa"}),
                Class("FunnelForMultipleChoice", frozenset({"classification"}), labels=1),
            ),
            files=Files(metadata={"format": "pt"}, sidecars=WORD_PIECES),
            config=ConfigForm(
                filename="config.json",
                keys={
                    "vocab_size": "vocab", "d_model | hidden_size": "hidden", "n_head | num_attention_heads": "heads", "d_head": "head_dim",
                    "d_inner": "intermediate", **{f"{SIZES}.{b}": f"block_{b}_layers" for b in range(BLOCKS)},
                    "num_decoder_layers": "restored_layers", "block_repeats": may("block_repeats"),
                    "hidden_act": Key("activation", words=HF_ACTIVATIONS), "layer_norm_eps": "norm_eps", "pooling_type": may("pooling"),
                    "separate_cls": may("first_apart"), "truncate_seq": may("truncated"), "pool_q_only": may("whole_keys"),
                    "hidden_dropout": may("dropout"), "attention_dropout": may("attention_dropout"),
                    "initializer_range": may("initializer_range"), "pad_token_id": may("pad"), "tie_word_embeddings": "tied",
                },
                reader=Reader(unfold=by_block),
                writer=Writer(fold=listed),
                labels=True,
                marks={"model_type": "funnel"},
                defaults={
                    "activation": "gelu_tanh", "norm_eps": 1e-9, "pooling": "mean", "first_apart": True, "truncated": True,
                    "whole_keys": True, "dropout": 0.1, "attention_dropout": 0.1, "tied": True, "restored_layers": 2, "block_repeats": None,
                    "initializer_range": 0.1, "pad": None, **{f"block_{b}_layers": 0 for b in range(1, BLOCKS)},
                },
                usual={  # both ways of attention give the same
                    **dict.fromkeys(("attention_type", "activation_dropout", "initializer_std", "max_position_embeddings"), ...),
                    "type_vocab_size": ...,
                },
            ),
        ),
    ),
)  # fmt: skip
