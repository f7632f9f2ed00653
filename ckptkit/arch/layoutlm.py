"""LayoutLM: BERT whose words also have a place on a page, in four tables; without boxes all are at its corner.

Source: transformers models/layoutlm (names, classes).
"""

from ckptkit.arch._libraries.encoders import BERT_CLASSES, BERT_FIXED, BERT_HEAD_ROWS, RELATIONS, classes, form, hf, traits
from ckptkit.arch._libraries.transformers import EMBEDDINGS, LAYERS
from ckptkit.arch.bert import MODULES
from ckptkit.schema import Architecture, Key, embedding

TABLES = tuple(f"embeddings.box_{side}" for side in "xyhw")
SKIPPED = ("ForPreTraining", "ForNextSentencePrediction", "ForMultipleChoice", "ForCausalLM")

ARCHITECTURE = Architecture(
    name="layoutlm",
    title="LayoutLM",
    modules={
        **{k: m for k, m in MODULES.items() if k.startswith("embeddings.") and k != "embeddings.norm"},
        **{table: embedding("places hidden") for table in TABLES},
        **{k: m for k, m in MODULES.items() if not k.startswith("embeddings.") or k == "embeddings.norm"},
    },
    traits=traits(),
    relations=RELATIONS,
    fixed=BERT_FIXED,
    variants={
        "layoutlm-base-uncased": {"layers": 12, "hidden": 768, "heads": 12, "vocab": 30522},
        "layoutlm-large-uncased": {"layers": 24, "hidden": 1024, "heads": 16, "vocab": 30522},
    },
    dialects=(
        hf(
            {
                **EMBEDDINGS,
                **{f"~embeddings.{table[-1]}_position_embeddings": table for table in TABLES},
                **LAYERS,
                **BERT_HEAD_ROWS,
            },
            form("layoutlm", keys={"max_2d_position_embeddings": Key("places")}),
            classes("LayoutLM", BERT_CLASSES, SKIPPED),
            prefixes=("layoutlm.", ""),
        ),
    ),
)
