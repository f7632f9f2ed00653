"""BigBird: BERT whose attention is to blocks of a long text; of a text that has few blocks it is to all of it, as in BERT.

Source: transformers models/big_bird (names, classes, from what length on attention is sparse).
"""

from ckptkit.arch._libraries.decoder_words import may
from ckptkit.arch._libraries.encoders import BERT_FIXED, BERT_HEAD_ROWS, RELATIONS, L, classes, form, hf, traits
from ckptkit.arch._libraries.transformers import EMBEDDINGS, LAYERS
from ckptkit.arch.bert import MODULES
from ckptkit.schema import Architecture, Class, linear, norm

HEADS = {
    "pooler": "pooler", "mlm": "lm", "nsp": "pooled", "classification": "first with =activation", "classifier": "pooled", "qa": "answers",
}  # fmt: skip
ATTENTION = {f"{L}attention.{part}": linear("heads head_dim", "hidden", bias="use_bias") for part in ("query", "key", "value")}
OWN = {
    "classification.dense": linear("pooled", "hidden", group="classification"),
    "classification.output": linear("labels", "pooled", group="classification"),
    "qa.intermediate": linear("intermediate", "hidden", group="qa"),
    "qa.dense": linear("hidden", "intermediate", group="qa"),
    "qa.norm": norm("hidden", group="qa"),
    "qa.output": linear("qa_labels", "hidden", group="qa"),
}
CLASSES = (
    ("Model", frozenset({"pooler"})),
    ("ForPreTraining", frozenset({"pooler", "mlm", "nsp"})),
    ("ForMaskedLM", frozenset({"pooler", "mlm"})),
    ("ForCausalLM", frozenset({"pooler", "mlm"})),
    ("ForSequenceClassification", frozenset({"pooler", "classification"})),
    ("ForMultipleChoice", frozenset({"pooler", "classifier"})),
)
TOKENS = Class("BigBirdForTokenClassification", frozenset({"pooler", "classifier"}), kinds={"classifier": "tokens"})

ARCHITECTURE = Architecture(
    name="big_bird",
    title="BigBird",
    modules={**{k: m for k, m in MODULES.items() if k != "qa"}, **ATTENTION, **OWN},
    traits=traits(
        heads=HEADS,
        embedding_scale="=rescale_embeddings",
        blocks="=attention_type",
        block_size="=block_size",
        block_count="=num_random_blocks",
        sep="=sep",
    ),
    relations=RELATIONS,
    fixed=BERT_FIXED,
    rank=5,
    variants={
        "bigbird-roberta-base": {"layers": 12, "hidden": 768, "heads": 12, "vocab": 50358},
        "bigbird-roberta-large": {"layers": 24, "hidden": 1024, "heads": 16, "vocab": 50358},
    },
    dialects=(
        hf(
            {
                **EMBEDDINGS,
                **LAYERS,
                **{k: v for k, v in BERT_HEAD_ROWS.items() if v not in ("qa", "pooler")},
                "~pooler": "pooler",
                "classifier.dense": "classification.dense",
                "classifier.out_proj": "classification.output",
                "qa_classifier.intermediate.dense": "qa.intermediate",
                "qa_classifier.output.dense": "qa.dense",
                "qa_classifier.output.LayerNorm": "qa.norm",
                "qa_classifier.qa_outputs": "qa.output",
            },
            form(
                "big_bird",
                keys={
                    "use_bias": may("use_bias"), "rescale_embeddings": may("rescale_embeddings"), "attention_type": may("attention_type"),
                    "block_size": may("block_size"), "num_random_blocks": may("num_random_blocks"),
                    "sep_token_id": may("sep"),
                },
                defaults={
                    "activation": "gelu_tanh", "use_bias": True, "rescale_embeddings": False, "attention_type": "block_sparse",
                    "block_size": 64, "num_random_blocks": 3, "sep": 66,
                },
                usual={"classifier_dropout": ...},
            ),
            (*classes("BigBird", CLASSES), TOKENS, Class("BigBirdForQuestionAnswering", frozenset({"qa"}))),
            prefixes=("bert.", ""),
        ),
    ),
)  # fmt: skip
