"""Jina embeddings, version 3: RoBERTa with turned positions, query, key and value in one matrix.

Source: transformers models/jina_embeddings_v3 (names on disk, classes).
"""

from ckptkit.arch._libraries.decoder_words import may
from ckptkit.arch._libraries.decoders import ROPE
from ckptkit.arch._libraries.encoders import (
    RELATIONS,
    ROBERTA_AGAIN,
    ROBERTA_CLASSES,
    ROBERTA_HEAD_ROWS,
    ROBERTA_HEADS,
    L,
    classes,
    form,
    hf,
    traits,
    without,
)
from ckptkit.arch.nomic_bert import ROTARY, N
from ckptkit.arch.roberta import MODULES
from ckptkit.schema import Architecture

QKV = tuple(L + f"attention.{part}" for part in ("query", "key", "value"))

ARCHITECTURE = Architecture(
    name="jina_embeddings_v3",
    title="Jina embeddings v3",
    modules=without(MODULES, "embeddings.position", "embeddings.reserved"),
    required=("rope_theta",),
    traits=traits(**ROTARY, heads=ROBERTA_HEADS),
    relations=RELATIONS,
    fixed={"qa_labels": 2},
    variants={"jina-embeddings-v3": {"layers": 24, "hidden": 1024, "heads": 16, "vocab": 250002}},
    dialects=(
        hf(
            {
                "~embeddings.word_embeddings": "embeddings.word",
                "~embeddings.token_type_embeddings": "embeddings.segment",
                "~emb_ln": "embeddings.norm",
                N + "mixer.Wqkv.weight": (*(f"{p}.weight" for p in QKV), "*(heads head_dim) hidden"),
                N + "mixer.Wqkv.bias": (*(f"{p}.bias" for p in QKV), "*(heads head_dim)"),
                N + "mixer.out_proj": L + "attention.output",
                N + "norm1": L + "attention.norm",
                N + "mlp.fc1": L + "ffn.intermediate",
                N + "mlp.fc2": L + "ffn.output",
                N + "norm2": L + "ffn.norm",
                **ROBERTA_HEAD_ROWS,
            },
            form(
                "jina_embeddings_v3",
                keys={**ROPE, "max_position_embeddings": may("max_positions")},
                defaults={"rope_theta": 20000.0, "norm_eps": 1e-5, "pad": 1},
                usual={"classifier_dropout": ...},
            ),
            classes("JinaEmbeddingsV3", ROBERTA_CLASSES, ("ForMultipleChoice", "ForCausalLM")),
            prefixes=("roberta.", ""),
            again=ROBERTA_AGAIN,
        ),
    ),
)
