"""LUKE: RoBERTa that reads entities beside words, each at the places of its words; queries of their own for words of entities, entities of
words and entities of entities.

Source: transformers models/luke (names, classes; the head of words is not tied to them).
"""

from ckptkit.arch._libraries.encoders import RELATIONS, ROBERTA_HEAD_ROWS, H, L, form, hf, traits
from ckptkit.arch._libraries.transformers import BYTE_PAIRS, EMBEDDINGS, LAYERS
from ckptkit.arch.bert import MODULES as BERT
from ckptkit.schema import Architecture, Class, Key, Repeat, embedding, linear, norm, when

A, E = L + "attention.", "entity_embeddings."
MIXED = {A + "word_to_entity": "w2e_query", A + "entity_to_word": "e2w_query", A + "entity_to_entity": "e2e_query"}
MODULES = {
    **{k: m for k, m in BERT.items() if k not in ("nsp", "mlm.decoder", "classifier")},
    "mlm.decoder": linear("vocab", "transformed", group="mlm"),
    **{k: when("entity_aware", linear("heads head_dim", "hidden")) for k in MIXED},
    E + "word": embedding("entities entity_width"),
    E + "project": linear("hidden", "entity_width", bias=False)._replace(optional=True),
    E + "position": embedding("positions hidden"),
    E + "segment": embedding("segments hidden"),
    E + "norm": norm("hidden"),
    "entity_mlm.transform": linear("entity_width", "hidden", group="entity_mlm"),
    "entity_mlm.norm": norm("entity_width", group="entity_mlm"),
    "entity_mlm.decoder": linear("entities", "entity_width", group="entity_mlm", tied={"weight": E + "word.weight"}),
    "classifier": linear("labels", "classified", bias="classifier_bias", group="classifier"),  # of one, two or three hidden states
}
KEPT = {"classifier": "kept"}  # of entities

ARCHITECTURE = Architecture(
    name="luke",
    title="LUKE",
    modules=MODULES,
    traits=traits(
        positions="counted",
        pad="=pad",
        own={"mlm": {"activation": "gelu"}},
        heads={
            "pooler": "pooler", "mlm": "lm", "entity_mlm": "entities", "classifier": "pooled_or_tokens", "qa": "tokens",
        },
    ),
    relations=RELATIONS,
    fixed={"qa_labels": 2},
    variants={
        "luke-base": {"layers": 12, "hidden": 768, "heads": 12, "vocab": 50267},
        "luke-large": {"layers": 24, "hidden": 1024, "heads": 16, "vocab": 50267},
        "mluke-base": {"layers": 12, "hidden": 768, "heads": 12, "vocab": 250004},
        "mluke-large": {"layers": 24, "hidden": 1024, "heads": 16, "vocab": 250004},
    },
    dialects=(
        hf(
            {
                **EMBEDDINGS,
                **LAYERS,
                **{f"{H}attention.self.{name}": k for k, name in MIXED.items()},
                "~entity_embeddings.entity_embeddings": E + "word",
                "~entity_embeddings.entity_embedding_dense": E + "project",
                "~entity_embeddings.position_embeddings": E + "position",
                "~entity_embeddings.token_type_embeddings": E + "segment",
                "~entity_embeddings.LayerNorm": E + "norm",
                **{k: v for k, v in ROBERTA_HEAD_ROWS.items() if v in ("pooler", "mlm.transform", "mlm.norm", "qa")},
                "lm_head.decoder": "mlm.decoder",
                "entity_predictions.transform.dense": "entity_mlm.transform",
                "entity_predictions.transform.LayerNorm": "entity_mlm.norm",
                "entity_predictions.decoder.weight": "entity_mlm.decoder.weight",
                "entity_predictions.bias": "entity_mlm.decoder.bias",
                "classifier": "classifier",
            },
            form(
                "luke",
                keys={
                    "entity_vocab_size": "entities", "entity_emb_size": "entity_width",
                    "use_entity_aware_attention": Key("entity_aware", required=False),
                },
                defaults={"pad": 1, "entity_aware": True, "entity_width": 256, "entities": 500000},
                usual={"classifier_dropout": ..., "cls_entity_prediction": ...},
            )._replace(follows={"classified": lambda values: values.get("classified", values.get("hidden"))}),
            (
                Class("LukeModel", frozenset({"pooler"})),
                Class("LukeForMaskedLM", frozenset({"pooler", "mlm", "entity_mlm"})),
                Class("LukeForSequenceClassification", frozenset({"pooler", "classifier"})),
                Class("LukeForTokenClassification", frozenset({"classifier"})),
                Class("LukeForQuestionAnswering", frozenset({"qa"})),
                Class("LukeForMultipleChoice", frozenset({"pooler", "classifier"}), labels=1),
                *(Class(f"LukeForEntity{n}Classification", frozenset({"pooler", "classifier"}), kinds=KEPT) for n in ("", "Pair", "Span")),
            ),
            prefixes=("luke.", ""),
            again={"lm_head.bias": Repeat("mlm.decoder.bias", apart=True)},
            sidecars=BYTE_PAIRS,
        ),
    ),
)  # fmt: skip
