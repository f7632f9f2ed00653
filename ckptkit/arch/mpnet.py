"""MPNet: BERT without segments, positions counted after the padding, and one bias of bucketed relative positions for all layers.

Source: transformers models/mpnet (names, classes; its buckets are always 32, whatever the table has).
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
from ckptkit.arch._libraries.transformers import EMBEDDINGS
from ckptkit.arch.roberta import MODULES, POSITIONS
from ckptkit.arch.roberta_prelayernorm import ALSO, KEYS
from ckptkit.schema import Architecture, Key, embedding

ARCHITECTURE = Architecture(
    name="mpnet",
    title="MPNet",
    modules={**without(MODULES, "embeddings.segment"), "encoder.position_bias": embedding("buckets heads")},
    traits=traits(positions="counted", pad=1, bucket_count=32, heads=ROBERTA_HEADS),
    relations=RELATIONS,
    fixed={"qa_labels": 2, "reserved": 2},
    variants={
        "mpnet-base": {"layers": 12, "hidden": 768, "heads": 12},
        "all-mpnet-base": {"layers": 12, "hidden": 768, "heads": 12, "vocab": 30527},
    },
    dialects=(
        hf(
            {
                **{k: v for k, v in EMBEDDINGS.items() if v not in ("embeddings.position", "embeddings.segment")},
                "~embeddings.position_embeddings.weight": POSITIONS,
                H + "attention.attn.q": L + "attention.query",
                H + "attention.attn.k": L + "attention.key",
                H + "attention.attn.v": L + "attention.value",
                H + "attention.attn.o": L + "attention.output",
                H + "attention.LayerNorm": L + "attention.norm",
                H + "intermediate.dense": L + "ffn.intermediate",
                H + "output.dense": L + "ffn.output",
                H + "output.LayerNorm": L + "ffn.norm",
                "~encoder.relative_attention_bias": "encoder.position_bias",
                **ROBERTA_HEAD_ROWS,
            },
            form(
                "mpnet",
                keys={**KEYS, "relative_attention_num_buckets": Key("buckets", required=False)},
                without=("segments",),
                defaults={"pad": 1, "buckets": 32},
                also=ALSO,
            ),
            classes("MPNet", ROBERTA_CLASSES, ("ForCausalLM",)),
            prefixes=("mpnet.", ""),
            again=ROBERTA_AGAIN,
        ),
    ),
)
