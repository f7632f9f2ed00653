"""GTE, version 1.5 and multilingual: BERT with turned positions and a gated feed-forward.

Source: transformers models/gte (names on disk, of which up_gate_proj is first what the gate multiplies; classes);
Alibaba-NLP/new-impl modeling.py, whose models are called `new`.
"""

from ckptkit.arch._libraries.decoder_words import may
from ckptkit.arch._libraries.decoders import ROPE
from ckptkit.arch._libraries.encoders import BERT_CLASSES, H, L, classes, form, hf, traits, without
from ckptkit.arch.bert import MODULES as BERT
from ckptkit.arch.nomic_bert import NO_NSP, ROTARY
from ckptkit.schema import Architecture, embedding, linear

QKV = tuple(L + f"attention.{part}" for part in ("query", "key", "value"))

MODULES = {
    **without(BERT, "embeddings.position", "nsp", "qa", L + "ffn.intermediate"),
    "embeddings.segment": embedding("segments hidden", optional=True),
    L + "ffn.gate": linear("intermediate", "hidden", bias=False),
    L + "ffn.up": linear("intermediate", "hidden", bias=False),
    L + "ffn.output": linear("hidden", "intermediate"),
}
SKIPPED = ("ForPreTraining", "ForNextSentencePrediction", "ForQuestionAnswering", "ForMultipleChoice", "ForCausalLM")

ARCHITECTURE = Architecture(
    name="gte",
    title="GTE",
    names=("new",),
    modules=MODULES,
    required=("rope_theta",),
    traits=traits(**ROTARY, heads=NO_NSP),
    relations=("hidden = heads head_dim", "pooled = hidden", "transformed = hidden"),
    variants={
        "gte-multilingual-base": {"layers": 12, "hidden": 768, "heads": 12, "vocab": 250048},
        "gte-base-en-v1.5": {"layers": 12, "hidden": 768, "heads": 12, "vocab": 30528},
        "gte-large-en-v1.5": {"layers": 24, "hidden": 1024, "heads": 16, "vocab": 30528},
    },
    dialects=(
        hf(
            {
                "~embeddings.word_embeddings": "embeddings.word",
                "~embeddings.token_type_embeddings": "embeddings.segment",
                "~embeddings.LayerNorm": "embeddings.norm",
                H + "attention.qkv_proj.weight": (*(f"{p}.weight" for p in QKV), "*(heads head_dim) hidden"),
                H + "attention.qkv_proj.bias": (*(f"{p}.bias" for p in QKV), "*(heads head_dim)"),
                H + "attention.o_proj": L + "attention.output",
                H + "attn_ln": L + "attention.norm",
                H + "mlp.up_gate_proj.weight": (L + "ffn.up.weight", L + "ffn.gate.weight", "*(intermediate) hidden"),
                H + "mlp.down_proj": L + "ffn.output",
                H + "mlp_ln": L + "ffn.norm",
                "~pooler.dense": "pooler",
                "lm_head.dense": "mlm.transform",
                "lm_head.norm": "mlm.norm",
                "lm_head.decoder.weight": "mlm.decoder.weight",
                "lm_head.decoder.bias | lm_head.bias": "mlm.decoder.bias",
                "classifier": "classifier",
            },
            form(
                "gte",
                keys={**ROPE, "max_position_embeddings": may("max_positions"), "type_vocab_size": may("segments")},
                defaults={"rope_theta": 160000.0, "attention_dropout": 0.0, "pad": 1},
                usual={"classifier_dropout": ...},
            ),
            classes("Gte", BERT_CLASSES, SKIPPED),
            prefixes=("gte.", "new.", ""),
            again={},
        ),
    ),
)
