"""What DeBERTa's two versions share: modules, heads, the keys of their relative positions, and the two namings of their head of words.

Source: transformers models/deberta, models/deberta_v2 (names, classes, `legacy`); microsoft/DeBERTa DeBERTa/deberta/*.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from ckptkit.arch._libraries.decoder_words import may
from ckptkit.arch._libraries.encoders import BERT_AGAIN, MLM, H, L, form, hf
from ckptkit.arch._libraries.transformers import EMBEDDINGS, HF_ACTIVATIONS, LAYERS, WORD_PIECES
from ckptkit.arch.bert import MODULES as BERT
from ckptkit.schema import Besides, Class, Dialect, Key, Lack, Module, embedding, linear, norm, when

Rows = Mapping[str, str | tuple[str, ...]]
Values = Mapping[str, object]

MODULES: dict[str, Module] = {
    "embeddings.word": embedding("vocab embedding"),
    "embeddings.position": when("with_positions", embedding("positions embedding")),
    "embeddings.segment": embedding("segments embedding", optional=True),
    "embeddings.project": linear("hidden", "embedding", bias=False),
    "embeddings.norm": norm("hidden"),
    "encoder.distances": when("with_distances", embedding("distances hidden")),
    **{k: m for k, m in BERT.items() if k.startswith(L)},
    "pooler": linear("pooled", "pooled_in", group="pooler"),
    "mlm.transform": linear("transformed", "hidden", group="mlm"),
    "mlm.norm": norm("transformed", group="mlm"),
    "mlm.decoder": BERT["mlm.decoder"],
    "classifier": linear("labels", "hidden", group="classifier"),
    "qa": BERT["qa"],
    "rtd.dense": linear("transformed", "hidden", group="rtd"),
    "rtd.norm": norm("transformed", group="rtd"),
    "rtd.output": linear("one", "transformed", group="rtd"),
}
RELATIONS = ("hidden = heads head_dim", "pooled = pooled_in", "transformed = embedding")
FIXED = {"qa_labels": 2, "one": 1}
TRAITS: dict[str, object] = {
    "encoder": L[:-1],
    "positions": "disentangled",
    "projected": "sum",
    "distance_kinds": "=pos_att_type",
    "bucket_distance": "=max_relative_positions",
    "bucket_count": "=position_buckets",
    "own": {"pooler": {"activation": "=pooler_activation"}},
    "heads": {"pooler": "summary", "mlm": "lm", "classifier": "pooled_or_tokens", "qa": "tokens", "rtd": "kept"},
}


def kinds_of(said: object) -> tuple[str, ...]:
    """The kinds of relative attention that a configuration lists, or writes as "p2c|c2p"."""
    words = said.lower().split("|") if isinstance(said, str) else said if isinstance(said, (list, tuple)) else ()
    return tuple(str(w).strip() for w in words)


def on(test: Callable[[Values], bool]) -> Callable[[Values], Sequence[bool] | None]:
    """A switch that stands as a configuration's values say."""
    return lambda values: [test(values)]


def how_many(values: Values) -> int | None:
    """The rows of the table of distances: of both directions, buckets where there are some."""
    spans = (values.get("position_buckets"), values.get("max_relative_positions"), values.get("positions"))
    each = next((n for n in spans if isinstance(n, int) and n > 0), None)
    return 2 * each if each is not None and has_distances(values) else None


def has_distances(values: Values) -> bool:
    return values.get("with_distances") is True


def own(kind: str) -> Callable[[Values], Sequence[bool] | None]:
    """Whether distances have a projection of their own, of queries or of keys."""
    return on(lambda v: has_distances(v) and not v.get("shared_keys") and kind in kinds_of(v.get("pos_att_type")))


SWITCHES: dict[str, Callable[[Values], Sequence[bool] | None]] = {
    "own_pos_key": own("c2p"),
    "own_pos_query": own("p2c"),
}
NO_PROJECTION = {
    "embeddings.project.weight": Lack(
        "identity", when=("embedding", "hidden"), why="there is a projection only where the embeddings are narrower than the layers"
    )
}
LEGACY: Rows = {
    MLM + "transform.dense": "mlm.transform",
    MLM + "transform.LayerNorm": "mlm.norm",
    MLM + "decoder.weight": "mlm.decoder.weight",
    MLM + "bias": "mlm.decoder.bias",
}
NEW: Rows = {
    "lm_predictions.lm_head.dense": "mlm.transform",
    "lm_predictions.lm_head.LayerNorm": "mlm.norm",
    "lm_predictions.lm_head.bias": "mlm.decoder.bias",
}
ROWS: Rows = {
    **EMBEDDINGS,
    "~embeddings.embed_proj": "embeddings.project",
    "~encoder.rel_embeddings": "encoder.distances",
    **{k: v for k, v in LAYERS.items() if ".self." not in k},
    "pooler.dense": "pooler",
    "classifier": "classifier",
    "qa_outputs": "qa",
    "mask_predictions.dense": "rtd.dense",
    "mask_predictions.LayerNorm": "rtd.norm",
    "mask_predictions.classifier": "rtd.output",
}
KEYS: Mapping[str, str | Key] = {
    "type_vocab_size": may("segments"),
    "embedding_size": may("embedding"),
    "relative_attention": may("with_distances"),
    "position_biased_input": may("with_positions"),
    "max_relative_positions": Key("max_relative_positions", required=False),
    "position_buckets": may("position_buckets"),
    "pos_att_type": may("pos_att_type"),
    "pooler_hidden_act": Key("pooler_activation", words=HF_ACTIVATIONS),
    "pooler_hidden_size": may("pooled"),
}
DEFAULTS: Mapping[str, object] = {
    "norm_eps": 1e-7, "with_distances": False, "with_positions": True, "max_relative_positions": -1, "position_buckets": -1,
    "pos_att_type": (), "pooler_activation": "gelu", "embedding": "=hidden", "pooled": "=hidden",
}  # fmt: skip
USUAL: Mapping[str, object] = {"pooler_dropout": ..., "attention_head_size": None}


def classes(stem: str, *more: Class) -> tuple[Class, ...]:
    return (
        Class(f"{stem}Model", frozenset()),
        Class(f"{stem}ForMaskedLM", frozenset({"mlm"})),
        Class(f"{stem}ForSequenceClassification", frozenset({"pooler", "classifier"})),
        Class(f"{stem}ForTokenClassification", frozenset({"classifier"})),
        Class(f"{stem}ForQuestionAnswering", frozenset({"qa"})),
        *more,
    )


def dialects(
    model_type: str, rows: Rows, family: tuple[Class, ...], keys: Mapping[str, str | Key] = {}, defaults: Mapping[str, object] = {}
) -> tuple[Dialect, ...]:
    """transformers' two namings: with the head of its own making, and with that of the authors (`legacy` false)."""
    config = form(model_type, keys={**KEYS, **keys}, defaults={**DEFAULTS, **defaults}, usual=USUAL)
    config = config._replace(follows={"distances": how_many})
    legacy = hf({**ROWS, **rows, **LEGACY}, config, family, prefixes=("deberta.", ""), again=BERT_AGAIN, sidecars=WORD_PIECES)
    legacy = legacy._replace(lacks=NO_PROJECTION, config=config._replace(marks={**config.marks, "legacy": True}))
    new = legacy._replace(
        name="hf_own_head",
        title="transformers (PyTorch), the authors' head",
        alias="hf",
        rows={**ROWS, **rows, **NEW},
        besides=Besides(derived=legacy.besides.derived),
        config=config._replace(marks={**config.marks, "legacy": False}),
    )
    return legacy, new


__all__ = ["FIXED", "MODULES", "RELATIONS", "SWITCHES", "TRAITS", "H", "classes", "dialects", "kinds_of", "on", "own"]
