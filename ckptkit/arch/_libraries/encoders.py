"""What the encoders of transformers share: the configuration's keys, the classes of BERT's heads and of RoBERTa's, traits.

A family's file says which modules it has and where its names differ from BERT's. Source: transformers 5.23 models/*/modeling_*.py and
configuration_*.py.
"""

from __future__ import annotations

from collections.abc import Mapping

from ckptkit.arch._libraries.transformers import DERIVED, HF_KEYS, WORD_PIECES
from ckptkit.arch.bert import DEFAULTS, MLM_OWN, SIZES
from ckptkit.schema import TORCH, Besides, Class, ConfigForm, Dialect, Files, Key, Module, Repeat

Rows = Mapping[str, str | tuple[str, ...]]

L = "encoder.layers.{layer}."
H = "~encoder.layer.{layer}."
MLM = "cls.predictions."

# the heads of BERT's classes, and of RoBERTa's
BERT_HEADS = {"pooler": "pooler", "mlm": "lm", "nsp": "pooled", "classifier": "pooled_or_tokens", "qa": "tokens"}
ROBERTA_HEADS = {
    "pooler": "pooler", "mlm": "lm", "classification": "first", "classifier": "pooled_or_tokens", "qa": "tokens",
}  # fmt: skip
BERT_HEAD_ROWS: Rows = {
    "~pooler.dense": "pooler",
    MLM + "transform.dense": "mlm.transform",
    MLM + "transform.LayerNorm": "mlm.norm",
    MLM + "decoder.weight": "mlm.decoder.weight",
    MLM + "bias": "mlm.decoder.bias",
    "cls.seq_relationship": "nsp",
    "classifier": "classifier",
    "qa_outputs": "qa",
}
ROBERTA_HEAD_ROWS: Rows = {
    "~pooler.dense": "pooler",
    "lm_head.dense": "mlm.transform",
    "lm_head.layer_norm": "mlm.norm",
    "lm_head.decoder.weight": "mlm.decoder.weight",
    "lm_head.bias": "mlm.decoder.bias",
    "classifier.dense": "classification.dense",
    "classifier.out_proj": "classification.output",
    "classifier": "classifier",
    "qa_outputs": "qa",
}
BERT_AGAIN = {MLM + "decoder.bias": Repeat("mlm.decoder.bias", apart=True)}
ROBERTA_AGAIN = {"lm_head.decoder.bias": Repeat("mlm.decoder.bias", apart=True)}
RELATIONS = ("hidden = heads head_dim", "pooled = hidden", "transformed = hidden")
BERT_FIXED = {"nsp_labels": 2, "qa_labels": 2}
BERT_CLASSES: tuple[tuple[str, frozenset[str]], ...] = (
    ("Model", frozenset({"pooler"})),
    ("ForPreTraining", frozenset({"pooler", "mlm", "nsp"})),
    ("ForMaskedLM", frozenset({"mlm"})),
    ("ForNextSentencePrediction", frozenset({"pooler", "nsp"})),
    ("ForSequenceClassification", frozenset({"pooler", "classifier"})),
    ("ForTokenClassification", frozenset({"classifier"})),
    ("ForQuestionAnswering", frozenset({"qa"})),
    ("ForMultipleChoice", frozenset({"pooler", "classifier"})),
    ("ForCausalLM", frozenset({"mlm"})),
)
ROBERTA_CLASSES: tuple[tuple[str, frozenset[str]], ...] = (
    ("Model", frozenset({"pooler"})),
    ("ForMaskedLM", frozenset({"mlm"})),
    ("ForSequenceClassification", frozenset({"classification"})),
    ("ForTokenClassification", frozenset({"classifier"})),
    ("ForQuestionAnswering", frozenset({"qa"})),
    ("ForMultipleChoice", frozenset({"pooler", "classifier"})),
    ("ForCausalLM", frozenset({"mlm"})),
)


def classes(stem: str, kinds: tuple[tuple[str, frozenset[str]], ...], without: tuple[str, ...] = ()) -> tuple[Class, ...]:
    """A family's classes: "MegatronBert" -> MegatronBertModel, ...; a choice has one score."""
    return tuple(Class(stem + name, groups, labels=1 if "Choice" in name else None) for name, groups in kinds if name not in without)


def form(
    model_type: str, *, keys: Mapping[str, str | Key] = {}, without: tuple[str, ...] = (), defaults: Mapping[str, object] = {},
    implied: Mapping[str, object] = {}, usual: Mapping[str, object] = {}, also: Mapping[str, object] = {},
) -> ConfigForm:  # fmt: skip
    """The configuration of a family with BERT's keys, further ones, and none for the canonical values in `without`."""
    every = {**SIZES, **HF_KEYS, **keys}
    usually = {**DEFAULTS, "norm_eps": 1e-12, "activation": "gelu", "tied": True, "pad": 0, **defaults}
    return ConfigForm(
        filename="config.json",
        keys={k: v for k, v in every.items() if (v if isinstance(v, str) else v.canonical) not in without},
        labels=True,
        marks={"model_type": model_type},
        defaults={k: v for k, v in usually.items() if k not in without},
        implied=implied,
        usual=usual,
        also=also,
    )


def hf(
    rows: Rows, config: ConfigForm, family: tuple[Class, ...], *, prefixes: tuple[str, ...], again: Mapping[str, Repeat] = BERT_AGAIN,
    sidecars: Mapping[str, str] = WORD_PIECES, besides: Besides | None = None,
) -> Dialect:  # fmt: skip
    """A family's names in transformers."""
    return Dialect(
        name="hf",
        title="transformers (PyTorch)",
        style=TORCH,
        prefixes=prefixes,
        rows=rows,
        besides=besides or Besides(repeats=again, derived=DERIVED),
        classes=family,
        files=Files(metadata={"format": "pt"}, sidecars=sidecars),
        config=config,
    )


def traits(**own: object) -> dict[str, object]:
    """The traits of an encoder of BERT's kind, with what is its own."""
    return {"encoder": L[:-1], "own": MLM_OWN, "heads": BERT_HEADS, **own}


def without(modules: Mapping[str, Module], *names: str) -> dict[str, Module]:
    """Modules without those of these names."""
    return {k: m for k, m in modules.items() if k not in names}
