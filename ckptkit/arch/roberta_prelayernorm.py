"""RoBERTa whose norms stand before each part, and once more after the last layer.

Source: transformers models/roberta_prelayernorm (names, classes); princeton-nlp/DinkyTrain, whose models it holds.
"""

from ckptkit.arch._libraries.encoders import (
    RELATIONS,
    ROBERTA_AGAIN,
    ROBERTA_CLASSES,
    ROBERTA_HEAD_ROWS,
    ROBERTA_HEADS,
    H,
    L,
    classes,
    form,
    hf,
    traits,
)
from ckptkit.arch._libraries.transformers import BYTE_PAIRS, EMBEDDINGS, LAYERS
from ckptkit.arch.roberta import MODULES, POSITIONS
from ckptkit.schema import Architecture, Key, norm

NORMS = (H + "attention.output.LayerNorm", H + "output.LayerNorm")
KEYS: dict[str, str | Key] = {"max_position_embeddings": Key("positions", shift=-2)}
ALSO = {"bos_token_id": 0, "eos_token_id": 2}

ARCHITECTURE = Architecture(
    name="roberta_prelayernorm",
    title="RoBERTa-PreLayerNorm",
    names=("roberta-prelayernorm",),
    modules={**MODULES, "encoder.norm": norm("hidden")},
    traits=traits(norm="before", positions="counted", pad="=pad", heads=ROBERTA_HEADS),
    relations=RELATIONS,
    fixed={"qa_labels": 2, "reserved": 2},
    variants={"efficient_mlm": {"layers": 24, "hidden": 1024, "heads": 16}},
    dialects=(
        hf(
            {
                **{k: v for k, v in EMBEDDINGS.items() if v != "embeddings.position"},
                "~embeddings.position_embeddings.weight": POSITIONS,
                **{k: v for k, v in LAYERS.items() if k not in NORMS},
                H + "attention.LayerNorm": L + "attention.norm",
                H + "intermediate.LayerNorm": L + "ffn.norm",
                "~LayerNorm": "encoder.norm",
                **ROBERTA_HEAD_ROWS,
            },
            form("roberta-prelayernorm", keys=KEYS, defaults={"pad": 1}, also=ALSO),
            classes("RobertaPreLayerNorm", ROBERTA_CLASSES),
            prefixes=("roberta_prelayernorm.", ""),
            again=ROBERTA_AGAIN,
            sidecars=BYTE_PAIRS,
        ),
    ),
)
