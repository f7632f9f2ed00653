"""XLNet: norms after each part; scores by content, by the sinusoid of the distance, and by whether two positions are of one segment.

Source: transformers models/xlnet (names, classes, `rel_attn_core`); zihangdai/xlnet modeling.py.
"""

from ckptkit.arch._libraries.decoder_words import may
from ckptkit.arch._libraries.encoders import L
from ckptkit.arch._libraries.transformers import HF_ACTIVATIONS, PIECES, of_bert4torch
from ckptkit.schema import TORCH, Architecture, Besides, Class, ConfigForm, Dialect, Files, Key, Reader, embedding, linear, norm, param

A = L + "attention."
R = "~layer.{layer}.rel_attn."
F = "~layer.{layer}.ff."
HEADS = "hidden heads head_dim"

KEYS: dict[str, str | Key] = {
    "vocab_size": "vocab", "d_model": "hidden", "n_layer": "layers", "n_head": "heads", "d_inner": "intermediate",
    "d_head": may("head_dim"), "ff_activation": Key("activation", words=HF_ACTIVATIONS), "attn_type": may("attn_type"),
    "layer_norm_eps": "norm_eps", "clamp_len": Key("clamp_len", required=False), "same_length": may("same_length"),
    "bi_data": may("bi_data"), "dropout": may("dropout"), "initializer_range": may("initializer_range"),
    "pad_token_id": may("pad"), "tie_word_embeddings": "tied",
}  # fmt: skip

ARCHITECTURE = Architecture(
    name="xlnet",
    title="XLNet",
    modules={
        "embeddings.word": embedding("vocab hidden"),
        "embeddings.masked": param("one_row hidden"),
        **{A + part: linear("heads head_dim", "hidden", bias=False) for part in ("query", "key", "value", "distance")},
        A + "output": linear("hidden", "heads head_dim", bias=False),
        **{A + bias: param("heads head_dim") for bias in ("word_bias", "distance_bias", "segment_bias")},
        A + "segments": param("segments heads head_dim"),
        A + "norm": norm("hidden"),
        L + "ffn.intermediate": linear("intermediate", "hidden"),
        L + "ffn.output": linear("hidden", "intermediate"),
        L + "ffn.norm": norm("hidden"),
        "lm_head": linear("vocab", "hidden", group="lm", tied={"weight": "embeddings.word.weight"}),
        "summary": linear("pooled", "hidden", group="summary"),
        "classification": linear("labels", "pooled", group="classification"),
        "classifier": linear("labels", "hidden", group="classifier"),
        "qa": linear("qa_labels", "hidden", group="qa"),
    },
    traits={
        "encoder": L[:-1],
        "positions": "xl",
        "clamp": "=clamp_len",
        "heads": {
            "lm": "lm", "summary": "kept", "classification": "kept", "classifier": "tokens", "qa": "tokens",
        },
        "attention_dropout": "=dropout",
        "runs_with": {"attn_type": ("bi",), "same_length": (False,), "bi_data": (False,)},
    },
    relations=("hidden = heads head_dim", "pooled = hidden"),
    fixed={"segments": 2, "one_row": 1, "qa_labels": 2},
    variants={
        "xlnet-base-cased": {"layers": 12, "hidden": 768, "heads": 12, "vocab": 32000},
        "xlnet-large-cased": {"layers": 24, "hidden": 1024, "heads": 16, "vocab": 32000},
    },
    dialects=(
        Dialect(
            name="hf",
            title="transformers (PyTorch)",
            style=TORCH,
            prefixes=("transformer.", ""),
            rows={
                "~word_embedding": "embeddings.word",
                "~mask_emb": ("embeddings.masked", "1 one_row hidden"),
                **{R + n: (f"{A}{part}.weight", HEADS) for n, part in (("q", "query"), ("k", "key"), ("v", "value"), ("r", "distance"))},
                R + "o": (A + "output.weight", HEADS),
                R + "r_w_bias": A + "word_bias",
                R + "r_r_bias": A + "distance_bias",
                R + "r_s_bias": A + "segment_bias",
                R + "seg_embed": A + "segments",
                R + "layer_norm": A + "norm",
                F + "layer_1": L + "ffn.intermediate",
                F + "layer_2": L + "ffn.output",
                F + "layer_norm": L + "ffn.norm",
                "lm_loss": "lm_head",
                "sequence_summary.summary": "summary",
                "logits_proj": "classification",
                "classifier": "classifier",
                "qa_outputs": "qa",
            },
            besides=Besides(),
            classes=(
                Class("XLNetLMHeadModel", frozenset({"lm"})),
                Class("XLNetModel", frozenset()),
                Class("XLNetForSequenceClassification", frozenset({"summary", "classification"})),
                Class("XLNetForTokenClassification", frozenset({"classifier"})),
                Class("XLNetForQuestionAnsweringSimple", frozenset({"qa"})),
                Class("XLNetForMultipleChoice", frozenset({"summary", "classification"}), labels=1),
            ),
            files=Files(metadata={"format": "pt"}, sidecars=PIECES),
            config=ConfigForm(
                filename="config.json",
                keys=KEYS,
                reader=Reader(unfold=of_bert4torch(KEYS, "xlnet")),
                labels=True,
                marks={"model_type": "xlnet"},
                defaults={
                    "activation": "gelu", "norm_eps": 1e-12, "attn_type": "bi", "clamp_len": -1, "same_length": False, "bi_data": False,
                    "dropout": 0.1, "initializer_range": 0.02, "tied": True, "head_dim": "=hidden / heads", "pad": 5,
                },
                usual={
                    "mem_len": ..., "reuse_len": ..., "use_mems_eval": ..., "use_mems_train": ..., "untie_r": True, "summary_type": "last",
                    "summary_use_proj": True, "summary_activation": "tanh", "start_n_top": ..., "end_n_top": ...,
                },
            ),
        ),
    ),
)  # fmt: skip
