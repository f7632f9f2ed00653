"""DistilBERT: BERT distilled to half its layers, without segments, without a pooler.

Source: transformers models/distilbert (names, classes, configuration keys of its own).
"""

from ckptkit.arch._libraries import gguf_others
from ckptkit.arch._libraries import keras_hub as hub
from ckptkit.arch._libraries.transformers import HF_ACTIVATIONS, WORD_PIECES, flax, tf
from ckptkit.arch.bert import DEFAULTS, MLM_OWN
from ckptkit.arch.bert import MODULES as BERT
from ckptkit.schema import TORCH, Architecture, Besides, Class, ConfigForm, Derived, Dialect, Files, Key, linear

L = "encoder.layers.{layer}."
H = "~transformer.layer.{layer}."

MODULES = {
    **{k: m for k, m in BERT.items() if m.group in ("core", "mlm") and k != "embeddings.segment"},
    "classification.dense": linear("pooled", "hidden", group="classification"),  # before `classifier`, for whole sequences
    "classifier": linear("labels", "hidden", group="classifier"),
    "qa": linear("qa_labels", "hidden", group="qa"),
}

TRAITS = {
    "encoder": L[:-1],
    "own": MLM_OWN,
    "heads": {"mlm": "lm", "classification": "summary with relu", "classifier": "pooled_or_tokens", "qa": "tokens"},
}

HF = Dialect(
    name="hf",
    title="transformers (PyTorch)",
    style=TORCH,
    prefixes=("distilbert.", ""),
    rows={
        "~embeddings.word_embeddings": "embeddings.word",
        "~embeddings.position_embeddings": "embeddings.position",
        "~embeddings.LayerNorm": "embeddings.norm",
        H + "attention.q_lin": L + "attention.query",
        H + "attention.k_lin": L + "attention.key",
        H + "attention.v_lin": L + "attention.value",
        H + "attention.out_lin": L + "attention.output",
        H + "sa_layer_norm": L + "attention.norm",
        H + "ffn.lin1": L + "ffn.intermediate",
        H + "ffn.lin2": L + "ffn.output",
        H + "output_layer_norm": L + "ffn.norm",
        "vocab_transform": "mlm.transform",
        "vocab_layer_norm": "mlm.norm",
        "vocab_projector": "mlm.decoder",
        "pre_classifier": "classification.dense",
        "classifier": "classifier",
        "qa_outputs": "qa",
    },
    besides=Besides(derived={"~embeddings.position_ids": Derived("arange", "1 positions")}),
    classes=(
        Class("DistilBertModel", frozenset()),
        Class("DistilBertForMaskedLM", frozenset({"mlm"})),
        Class("DistilBertForSequenceClassification", frozenset({"classification", "classifier"})),
        Class("DistilBertForTokenClassification", frozenset({"classifier"})),
        Class("DistilBertForQuestionAnswering", frozenset({"qa"})),
        Class("DistilBertForMultipleChoice", frozenset({"classification", "classifier"}), labels=1),
    ),
    files=Files(metadata={"format": "pt"}, sidecars=WORD_PIECES),
    config=ConfigForm(
        filename="config.json",
        keys={
            "vocab_size": "vocab",
            "dim": "hidden",
            "n_layers": "layers",
            "n_heads": "heads",
            "hidden_dim": "intermediate",
            "max_position_embeddings": "positions",
            "activation": Key("activation", words=HF_ACTIVATIONS),
            "dropout": "dropout",
            "attention_dropout": "attention_dropout",
            "initializer_range": "initializer_range",
            "tie_word_embeddings": "tied",
            "pad_token_id": "pad",
        },
        labels=True,
        marks={"model_type": "distilbert"},
        implied={"norm_eps": 1e-12},
        defaults={**DEFAULTS, "activation": "gelu", "tied": True, "pad": 0},
    ),
)

ARCHITECTURE = Architecture(
    name="distilbert",
    title="DistilBERT",
    modules=MODULES,
    traits=TRAITS,
    relations=("hidden = heads head_dim", "pooled = hidden", "transformed = hidden"),
    fixed={"qa_labels": 2},
    variants={
        "distilbert-base": {"layers": 6, "hidden": 768, "heads": 12},
        "distilbert-base-uncased": {"layers": 6, "hidden": 768, "heads": 12, "vocab": 30522},
        "distilbert-base-cased": {"layers": 6, "hidden": 768, "heads": 12, "vocab": 28996},
        "distilbert-base-german-cased": {"layers": 6, "hidden": 768, "heads": 12, "vocab": 31102},
        "distilbert-base-multilingual-cased": {"layers": 6, "hidden": 768, "heads": 12, "vocab": 119547},
    },
    dialects=(
        HF,
        tf(MODULES, HF, "distilbert/", shared={"vocab_projector": "mlm"}),
        flax(MODULES, HF),
        gguf_others.bert(segments=False, defaults={"activation": "gelu", "tied": True}),
        hub.backbone(
            ("DistilBertBackbone",),
            "distil_bert.distil_bert_backbone",
            (hub.JOINT, hub.NORM, hub.ENCODER),
            {**hub.JOINT_EMBEDDINGS, **hub.LAYERS, **hub.MLM, "task/pooled_dense": "classification.dense", **hub.CLASSIFIER},
            keys=hub.SIZES,
            implied={"activation": "gelu", "norm_eps": 1e-12},
            needs=(),
            classifies=("classification", "classifier"),
            words=hub.WORD_PIECES,
        ),
    ),
)
