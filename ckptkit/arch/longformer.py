"""Longformer: RoBERTa whose positions see a window on either side, of a width for each layer. Some are global: all see them, and they see
all, by projections of their own. Which ones is said (`global_attention_mask`), or follows from a head: the first position of a text that
is classified, a question that is answered.

Source: transformers models/longformer (names, classes; `attention_window`).
"""

from ckptkit.arch._libraries.decoder_words import may
from ckptkit.arch._libraries.encoders import (
    RELATIONS,
    ROBERTA_AGAIN,
    ROBERTA_CLASSES,
    ROBERTA_HEAD_ROWS,
    H,
    L,
    classes,
    form,
    hf,
    traits,
)
from ckptkit.arch._libraries.transformers import BYTE_PAIRS, EMBEDDINGS, LAYERS
from ckptkit.arch.roberta import MODULES, POSITIONS
from ckptkit.arch.roberta_prelayernorm import ALSO, KEYS
from ckptkit.schema import Architecture, linear

PARTS = ("query", "key", "value")
HEADS = {"pooler": "pooler", "mlm": "lm", "classification": "first", "classifier": "pooled_or_tokens", "qa": "tokens"}

ARCHITECTURE = Architecture(
    name="longformer",
    title="Longformer",
    modules={**MODULES, **{f"{L}attention.global_{part}": linear("heads head_dim", "hidden") for part in PARTS}},
    traits=traits(
        positions="counted", pad="=pad", heads=HEADS, window="=window", window_kind="around", sliding="all",
        marks={"classification": "first", "qa": "question"}, sep="=sep",
    ),
    relations=RELATIONS,
    fixed={"qa_labels": 2, "reserved": 2},
    required=("window",),
    variants={
        "longformer-base-4096": {"layers": 12, "hidden": 768, "heads": 12, "vocab": 50265},
        "longformer-large-4096": {"layers": 24, "hidden": 1024, "heads": 16, "vocab": 50265},
    },
    dialects=(
        hf(
            {
                **{k: v for k, v in EMBEDDINGS.items() if v != "embeddings.position"},
                "~embeddings.position_embeddings.weight": POSITIONS,
                **LAYERS,
                **{f"{H}attention.self.{part}_global": f"{L}attention.global_{part}" for part in PARTS},
                **ROBERTA_HEAD_ROWS,
            },
            form(
                "longformer",
                keys={**KEYS, "attention_window": may("window"), "sep_token_id": may("sep")},
                defaults={"pad": 1, "window": 512, "sep": 2},
                usual={"onnx_export": ..., "attention_mode": "longformer", "ignore_attention_mask": ...},
                also=ALSO,
            ),
            classes("Longformer", ROBERTA_CLASSES, ("ForCausalLM",)),
            prefixes=("longformer.", ""),
            again=ROBERTA_AGAIN,
            sidecars=BYTE_PAIRS,
        ),
    ),
)  # fmt: skip
