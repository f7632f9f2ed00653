"""Nomic BERT: BERT with turned positions, a gated feed-forward and no biases in its layers.

Source: transformers models/nomic_bert (names on disk, of which fc11 is what the gate multiplies; classes); nomic-ai's own configurations,
whose keys are GPT-2's.
"""

from ckptkit.arch._libraries.decoder_words import may
from ckptkit.arch._libraries.decoders import ROPE
from ckptkit.arch._libraries.encoders import BERT_AGAIN, BERT_CLASSES, BERT_HEADS, MLM, L, classes, form, hf, traits, without
from ckptkit.arch._libraries.gguf_others import nomic_bert
from ckptkit.arch._libraries.transformers import DERIVED, HF_ACTIVATIONS
from ckptkit.arch.bert import MODULES as BERT
from ckptkit.schema import Architecture, Besides, Key, linear

N = "~encoder.layers.{layer}."
QKV = tuple(L + f"attention.{part}.weight" for part in ("query", "key", "value"))
ROTARY = {"positions": "rotary", "rotary": {"all": "rope"}, "runs_with": {"rope_part": (None, 1, 1.0)}}

MODULES = {
    **without(BERT, "embeddings.position", "nsp", "qa", L + "ffn.intermediate"),
    L + "attention.query": linear("heads head_dim", "hidden", bias=False),
    L + "attention.key": linear("heads head_dim", "hidden", bias=False),
    L + "attention.value": linear("heads head_dim", "hidden", bias=False),
    L + "attention.output": linear("hidden", "heads head_dim", bias=False),
    L + "ffn.gate": linear("intermediate", "hidden", bias=False),
    L + "ffn.up": linear("intermediate", "hidden", bias=False),
    L + "ffn.output": linear("hidden", "intermediate", bias=False),
}
NO_CLASSES = ("ForPreTraining", "ForNextSentencePrediction", "ForQuestionAnswering", "ForMultipleChoice")
NO_NSP = {k: v for k, v in BERT_HEADS.items() if k not in ("nsp", "qa")}

ARCHITECTURE = Architecture(
    name="nomic_bert",
    title="Nomic BERT",
    modules=MODULES,
    required=("rope_theta",),
    traits=traits(**ROTARY, heads=NO_NSP),
    relations=("pooled = hidden", "transformed = hidden"),
    variants={"nomic-embed-text": {"layers": 12, "hidden": 768, "heads": 12, "vocab": 30528}},
    dialects=(
        hf(
            {
                "~embeddings.word_embeddings": "embeddings.word",
                "~embeddings.token_type_embeddings": "embeddings.segment",
                "~emb_ln": "embeddings.norm",
                N + "attn.Wqkv.weight": (*QKV, "*(heads head_dim) hidden"),
                N + "attn.out_proj": L + "attention.output",
                N + "norm1": L + "attention.norm",
                N + "mlp.fc11": L + "ffn.up",
                N + "mlp.fc12": L + "ffn.gate",
                N + "mlp.fc2": L + "ffn.output",
                N + "norm2": L + "ffn.norm",
                "~pooler.dense": "pooler",
                MLM + "transform.dense": "mlm.transform",
                MLM + "transform.layer_norm": "mlm.norm",
                MLM + "decoder.weight": "mlm.decoder.weight",
                MLM + "bias": "mlm.decoder.bias",
                "classifier": "classifier",
            },
            form(
                "nomic_bert",
                keys={
                    **ROPE,
                    "head_dim": may("head_dim"),
                    "max_position_embeddings": may("max_positions"),
                    "hidden_act": Key("activation", words=HF_ACTIVATIONS),
                },
                defaults={
                    "activation": "silu", "rope_theta": 1000.0, "dropout": 0.0, "attention_dropout": 0.0, "head_dim": "=hidden / heads",
                },
                usual={"classifier_dropout": ...},
            ),
            classes("NomicBert", BERT_CLASSES, NO_CLASSES),
            prefixes=("nomic_bert.", ""),
            besides=Besides(repeats=BERT_AGAIN, derived=DERIVED),
        ),
        nomic_bert(),
    ),
)  # fmt: skip
