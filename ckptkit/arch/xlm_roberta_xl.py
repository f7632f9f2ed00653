"""XLM-RoBERTa-XL and -XXL: RoBERTa whose norms stand before each part, and once more after the last layer; none after the embeddings.

Source: transformers models/xlm_roberta_xl (names, classes).
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
    without,
)
from ckptkit.arch._libraries.transformers import EMBEDDINGS, LAYERS
from ckptkit.arch.roberta import MODULES, POSITIONS
from ckptkit.arch.roberta_prelayernorm import ALSO, KEYS, NORMS
from ckptkit.schema import Architecture, norm

ARCHITECTURE = Architecture(
    name="xlm_roberta_xl",
    title="XLM-RoBERTa-XL",
    names=("xlm-roberta-xl",),
    modules={**without(MODULES, "embeddings.norm"), "encoder.norm": norm("hidden")},
    traits=traits(norm="before", positions="counted", pad="=pad", heads=ROBERTA_HEADS),
    relations=RELATIONS,
    fixed={"qa_labels": 2, "reserved": 2},
    variants={
        "xlm-roberta-xl": {"layers": 36, "hidden": 2560, "heads": 32, "vocab": 250880},
        "xlm-roberta-xxl": {"layers": 48, "hidden": 4096, "heads": 32, "vocab": 250880},
    },
    dialects=(
        hf(
            {
                **{k: v for k, v in EMBEDDINGS.items() if v not in ("embeddings.position", "embeddings.norm")},
                "~embeddings.position_embeddings.weight": POSITIONS,
                **{k: v for k, v in LAYERS.items() if k not in NORMS},
                H + "attention.self_attn_layer_norm": L + "attention.norm",
                H + "LayerNorm": L + "ffn.norm",
                "~encoder.LayerNorm": "encoder.norm",
                **ROBERTA_HEAD_ROWS,
            },
            form("xlm-roberta-xl", keys=KEYS, defaults={"pad": 1, "norm_eps": 1e-5}, also=ALSO),
            classes("XLMRobertaXL", ROBERTA_CLASSES),
            prefixes=("roberta.", ""),
            again=ROBERTA_AGAIN,
        ),
    ),
)
