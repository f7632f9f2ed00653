"""Megatron's BERT: BERT whose norms stand before each part, and once more after the last layer; none after the embeddings.

Source: transformers models/megatron_bert (names, classes; its convert_megatron_bert_checkpoint.py).
"""

from ckptkit.arch._libraries.encoders import (
    BERT_CLASSES,
    BERT_FIXED,
    BERT_HEAD_ROWS,
    RELATIONS,
    H,
    L,
    classes,
    form,
    hf,
    traits,
    without,
)
from ckptkit.arch._libraries.transformers import EMBEDDINGS, LAYERS
from ckptkit.arch.bert import MODULES
from ckptkit.schema import Architecture, norm

NORMS = (H + "attention.output.LayerNorm", H + "output.LayerNorm")

ARCHITECTURE = Architecture(
    name="megatron_bert",
    title="Megatron BERT",
    names=("megatron-bert",),
    modules={**without(MODULES, "embeddings.norm"), "encoder.norm": norm("hidden")},
    traits=traits(norm="before"),
    relations=RELATIONS,
    fixed=BERT_FIXED,
    rank=6,  # the names of its layers' weights are BERT's, which is meant where nothing else is there
    variants={"megatron-bert-345m": {"layers": 24, "hidden": 1024, "heads": 16}},
    dialects=(
        hf(
            {
                **{k: v for k, v in EMBEDDINGS.items() if v != "embeddings.norm"},
                **{k: v for k, v in LAYERS.items() if k not in NORMS},
                H + "attention.ln": L + "attention.norm",
                H + "ln": L + "ffn.norm",
                "~encoder.ln": "encoder.norm",
                **BERT_HEAD_ROWS,
            },
            form("megatron-bert"),
            classes("MegatronBert", BERT_CLASSES),
            prefixes=("bert.", ""),
        ),
    ),
)
