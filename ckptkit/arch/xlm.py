"""XLM: BERT without segments, its parts listed by kind and not by layer; a table of languages, which runs only where languages are given.

Source: transformers models/xlm (names, classes; the feed-forward is four times as wide); facebookresearch/XLM.
"""

from collections.abc import Mapping

from ckptkit.arch._libraries.decoder_words import may
from ckptkit.arch._libraries.encoders import L
from ckptkit.arch._libraries.transformers import BYTE_PAIRS, DERIVED
from ckptkit.arch.bert import DEFAULTS
from ckptkit.arch.bert import MODULES as BERT
from ckptkit.schema import TORCH, Architecture, Besides, Class, ConfigForm, Dialect, Files, Key, Reader, Writer, embedding, linear, when

A = "~attentions.{layer}."
PARTS = ("query", "key", "value", "output")
LEFT_OUT = ("pooler", "nsp", "mlm.transform", "mlm.norm", "mlm.decoder", "classifier", "embeddings.segment")
ROWS = "n_langs (use_lang_emb)"  # as many rows the table of languages has, if there is one


def has_table(languages: object, used: object) -> bool:
    """Whether there is a table of languages: for more than one, and where it is used."""
    return isinstance(languages, int) and languages > 1 and used is not False


def with_rows(raw: Mapping[str, object]) -> dict[str, object]:
    """Settings with the rows of that table."""
    return {**raw, **({ROWS: raw["n_langs"]} if has_table(raw.get("n_langs"), raw.get("use_lang_emb")) else {})}


ARCHITECTURE = Architecture(
    name="xlm",
    title="XLM",
    modules={
        **{k: m for k, m in BERT.items() if k not in LEFT_OUT},
        "embeddings.language": when("with_languages", embedding("languages hidden")),
        "lm_head": linear("vocab", "hidden", group="lm", tied={"weight": "embeddings.word.weight"}),
        "classification": linear("labels", "hidden", group="classification"),
        "choice": linear("one_score", "labels", group="choice"),
        "classifier": linear("labels", "hidden", group="classifier"),
    },
    traits={
        "encoder": L[:-1],
        "mask": "=causal",
        "heads": {"lm": "lm", "classification": "pooled", "choice": "kept", "classifier": "tokens", "qa": "tokens"},
        "runs_with": {"is_encoder": (True,), "asm": (False,)},
    },
    kinds={"with_languages": lambda values: [has_table(values.get("n_langs"), values.get("use_lang_emb"))]},
    relations=("hidden = heads head_dim", "intermediate = four hidden"),
    fixed={"qa_labels": 2, "one_score": 1, "four": 4},
    variants={
        "xlm-mlm-en-2048": {"layers": 12, "hidden": 2048, "heads": 16, "vocab": 30145},
        "xlm-mlm-ende-1024": {"layers": 6, "hidden": 1024, "heads": 8, "vocab": 64699},
        "xlm-mlm-100-1280": {"layers": 16, "hidden": 1280, "heads": 16, "vocab": 200000},
        "xlm-mlm-17-1280": {"layers": 16, "hidden": 1280, "heads": 16, "vocab": 200000},
    },
    dialects=(
        Dialect(
            name="hf",
            title="transformers (PyTorch)",
            style=TORCH,
            prefixes=("transformer.", ""),
            rows={
                "~embeddings": "embeddings.word",
                "~position_embeddings": "embeddings.position",
                "~lang_embeddings": "embeddings.language",
                "~layer_norm_emb": "embeddings.norm",
                **{A + (f"{part[0]}_lin" if part != "output" else "out_lin"): L + f"attention.{part}" for part in PARTS},
                "~layer_norm1.{layer}": L + "attention.norm",
                "~ffns.{layer}.lin1": L + "ffn.intermediate",
                "~ffns.{layer}.lin2": L + "ffn.output",
                "~layer_norm2.{layer}": L + "ffn.norm",
                "pred_layer.proj": "lm_head",
                "sequence_summary.summary": "classification",
                "logits_proj": "choice",
                "classifier": "classifier",
                "qa_outputs": "qa",
            },
            besides=Besides(derived={"~position_ids": DERIVED["~embeddings.position_ids"]}),
            classes=(
                Class("XLMWithLMHeadModel", frozenset({"lm"})),
                Class("XLMModel", frozenset()),
                Class("XLMForSequenceClassification", frozenset({"classification"})),
                Class("XLMForTokenClassification", frozenset({"classifier"})),
                Class("XLMForQuestionAnsweringSimple", frozenset({"qa"})),
                Class("XLMForMultipleChoice", frozenset({"classification", "choice"})),
            ),
            files=Files(metadata={"format": "pt"}, sidecars=BYTE_PAIRS),
            config=ConfigForm(
                filename="config.json",
                keys={
                    "vocab_size | n_words": "vocab", "emb_dim | hidden_size": "hidden", "n_layers | num_hidden_layers": "layers",
                    "n_heads | num_attention_heads": "heads", "max_position_embeddings": "positions", "n_langs": may("n_langs"),
                    ROWS: may("languages"),
                    "use_lang_emb": may("use_lang_emb"), "gelu_activation": Key("activation", words={True: "gelu", False: "relu"}),
                    "layer_norm_eps": "norm_eps", "causal": may("causal"), "is_encoder": may("is_encoder"), "asm": may("asm"),
                    "dropout": may("dropout"), "attention_dropout": may("attention_dropout"), "init_std": may("initializer_range"),
                    "pad_token_id | pad_index": may("pad"), "tie_word_embeddings": "tied",
                },
                reader=Reader(unfold=with_rows),
                writer=Writer(fold=lambda raw: {k: v for k, v in raw.items() if k != ROWS}),
                labels=True,
                marks={"model_type": "xlm"},
                defaults={
                    **DEFAULTS, "activation": "gelu", "norm_eps": 1e-12, "causal": False, "is_encoder": True, "asm": False, "tied": True,
                    "pad": 2, "n_langs": 1, "use_lang_emb": True,
                },
                usual={
                    **dict.fromkeys((
                        "embed_init_std", "end_n_top", "start_n_top", "lang_id", "lang2id", "id2lang", "mask_index", "mask_token_id",
                        "unk_index", "bos_index", "eos_index", "sinusoidal_embeddings", "summary_first_dropout",
                        "max_vocab", "min_count", "same_enc_dec", "share_inout_emb", "encoder_only",
                    ), ...),
                    "summary_type": "first", "summary_use_proj": True, "summary_activation": None, "summary_proj_to_labels": True,
                },
            ),
        ),
    ),
)  # fmt: skip
