"""BERT, also the Chinese RoBERTa-wwm-ext family, which is BERT-shaped and named so on disk.

Source: google-research/bert modeling.py, run_pretraining.py, run_classifier.py, run_squad.py (TensorFlow names);
transformers models/bert (PyTorch names and classes); pytorch_pretrained_bert (gamma and beta); `_libraries.model_garden` for TensorFlow 2;
NVIDIA/DeepLearningExamples PyTorch/LanguageModeling/BERT/modeling.py (a linear layer with its activation is a `dense_act`);
`_libraries.uer` for UER-py.
"""

from ckptkit.arch._libraries import bert4keras as b4k
from ckptkit.arch._libraries import gguf_others, uer
from ckptkit.arch._libraries import keras_hub as hub
from ckptkit.arch._libraries.bert4torch_memory import memory
from ckptkit.arch._libraries.model_garden import BERT_DIALECTS
from ckptkit.arch._libraries.paddle import paddle
from ckptkit.arch._libraries.transformers import DERIVED, HF_KEYS, WORD_PIECES, flax, tf
from ckptkit.arch._libraries.transformers import EMBEDDINGS as HF_EMBEDDINGS
from ckptkit.arch._libraries.transformers import HF_ACTIVATIONS as HF_ACTIVATIONS
from ckptkit.arch._libraries.transformers import LAYERS as HF_LAYERS
from ckptkit.schema import (
    GOOGLE,
    TORCH,
    Architecture,
    Besides,
    Class,
    ConfigForm,
    Dialect,
    Files,
    Key,
    Lack,
    Repeat,
    embedding,
    linear,
    norm,
)

L = "encoder.layers.{layer}."

MODULES = {
    "embeddings.word": embedding("vocab hidden"),
    "embeddings.position": embedding("positions hidden"),
    "embeddings.segment": embedding("segments hidden"),
    "embeddings.norm": norm("hidden"),
    L + "attention.query": linear("heads head_dim", "hidden"),
    L + "attention.key": linear("heads head_dim", "hidden"),
    L + "attention.value": linear("heads head_dim", "hidden"),
    L + "attention.output": linear("hidden", "heads head_dim"),
    L + "attention.norm": norm("hidden"),
    L + "ffn.intermediate": linear("intermediate", "hidden"),
    L + "ffn.output": linear("hidden", "intermediate"),
    L + "ffn.norm": norm("hidden"),
    "pooler": linear("pooled", "hidden", group="pooler"),
    "mlm.transform": linear("transformed", "hidden", group="mlm"),
    "mlm.norm": norm("transformed", group="mlm"),
    "mlm.decoder": linear("vocab", "transformed", group="mlm", tied={"weight": "embeddings.word.weight"}),
    "nsp": linear("nsp_labels", "pooled", group="nsp"),
    "classifier": linear("labels", "hidden", group="classifier"),
    "qa": linear("qa_labels", "hidden", group="qa"),
}

G = "bert/encoder/layer_{layer}/"

GOOGLE_ACTIVATIONS = {"gelu": "gelu_tanh", "relu": "relu", "tanh": "tanh", "linear": "linear"}
SIZES = {
    "vocab_size": "vocab",
    "hidden_size": "hidden",
    "num_hidden_layers": "layers",
    "num_attention_heads": "heads",
    "intermediate_size": "intermediate",
    "max_position_embeddings": "positions",
    "type_vocab_size": "segments",
    "hidden_dropout_prob": "dropout",
    "attention_probs_dropout_prob": "attention_dropout",
    "initializer_range": "initializer_range",
}
DEFAULTS = {"dropout": 0.1, "attention_dropout": 0.1, "initializer_range": 0.02}

MLM_OWN = {"mlm": {"activation": "=mlm_activation", "norm_eps": "=mlm_norm_eps"}}
TRAITS = {
    "encoder": "encoder.layers.{layer}",
    "own": MLM_OWN,
    "heads": {"pooler": "pooler", "mlm": "lm", "nsp": "pooled", "classifier": "pooled_or_tokens", "qa": "tokens"},
}

GOOGLE_FORM = ConfigForm(
    filename="bert_config.json",
    keys={**SIZES, "hidden_act": Key("activation", words=GOOGLE_ACTIVATIONS)},
    implied={"norm_eps": 1e-12},
    defaults=DEFAULTS,
)

HF = Dialect(
    name="hf",
    title="transformers (PyTorch)",
    style=TORCH,
    prefixes=("bert.", ""),
    rows={
        **HF_EMBEDDINGS,
        **HF_LAYERS,
        "~pooler.dense": "pooler",
        "cls.predictions.transform.dense": "mlm.transform",
        "cls.predictions.transform.LayerNorm": "mlm.norm",
        "cls.predictions.decoder.weight": "mlm.decoder.weight",
        "cls.predictions.bias": "mlm.decoder.bias",
        "cls.seq_relationship": "nsp",
        "classifier": "classifier",
        "qa_outputs": "qa",
    },
    besides=Besides(repeats={"cls.predictions.decoder.bias": Repeat("mlm.decoder.bias", apart=True)}, derived=DERIVED),
    classes=(
        Class("BertModel", frozenset({"pooler"})),
        Class("BertForPreTraining", frozenset({"pooler", "mlm", "nsp"})),
        Class("BertForMaskedLM", frozenset({"mlm"})),
        Class("BertForNextSentencePrediction", frozenset({"pooler", "nsp"})),
        Class("BertForSequenceClassification", frozenset({"pooler", "classifier"})),
        Class("BertForTokenClassification", frozenset({"classifier"})),
        Class("BertForQuestionAnswering", frozenset({"qa"})),
        Class("BertForMultipleChoice", frozenset({"pooler", "classifier"}), labels=1),
        Class("BertLMHeadModel", frozenset({"mlm"})),
    ),
    files=Files(metadata={"format": "pt"}, sidecars=WORD_PIECES),
    config=ConfigForm(
        filename="config.json",
        keys={**SIZES, **HF_KEYS},
        labels=True,
        marks={"model_type": "bert"},
        defaults={**DEFAULTS, "norm_eps": 1e-12, "activation": "gelu", "tied": True, "pad": 0},
    ),
)

NVIDIA = HF._replace(
    name="nvidia",
    title="NVIDIA DeepLearningExamples (PyTorch)",
    container="torch",
    filename="ckpt.pt",
    rows={
        name.replace("intermediate.dense", "intermediate.dense_act")
        .replace("pooler.dense", "pooler.dense_act")
        .replace("transform.dense", "transform.dense_act"): what
        for name, what in HF.rows.items()
    },
    classes=(),
    files=Files(wrapper="model", sidecars=WORD_PIECES),
    config=ConfigForm(
        filename="bert_config.json",
        keys={**SIZES, "hidden_act": Key("activation", words={"gelu": "gelu", "relu": "relu", "swish": "silu"})},
        implied={"norm_eps": 1e-12},
        defaults=DEFAULTS,
    ),
)

# UER-py's segments begin with one for padding, which no other naming has a place for
SEGMENT_OF_PADDING = {
    "embeddings.segment_of_padding.weight": Lack(
        0.0, {"padding_segments": 1}, harmless="its first row is the segment of padding, which is masked"
    )
}

ARCHITECTURE = Architecture(
    name="bert",
    title="BERT",
    called=("roberta", "roberta_wwm"),
    modules={**MODULES, "embeddings.segment_of_padding": embedding("padding_segments hidden", optional=True)},
    traits=TRAITS,
    relations=("hidden = heads head_dim", "pooled = hidden", "transformed = hidden"),
    fixed={"nsp_labels": 2, "qa_labels": 2, "padding_segments": 1},
    variants={
        "bert-tiny": {"layers": 2, "hidden": 128, "heads": 2},
        "bert-mini": {"layers": 4, "hidden": 256, "heads": 4},
        "bert-small": {"layers": 4, "hidden": 512, "heads": 8},
        "bert-medium": {"layers": 8, "hidden": 512, "heads": 8},
        "bert-base": {"layers": 12, "hidden": 768, "heads": 12},
        "bert-large": {"layers": 24, "hidden": 1024, "heads": 16},
        "bert-base-uncased": {"layers": 12, "hidden": 768, "heads": 12, "vocab": 30522},
        "bert-base-cased": {"layers": 12, "hidden": 768, "heads": 12, "vocab": 28996},
        "bert-base-multilingual-cased": {"layers": 12, "hidden": 768, "heads": 12, "vocab": 119547},
        "bert-base-chinese": {"layers": 12, "hidden": 768, "heads": 12, "vocab": 21128},
        "bert-large-uncased": {"layers": 24, "hidden": 1024, "heads": 16, "vocab": 30522},
        "bert-large-cased": {"layers": 24, "hidden": 1024, "heads": 16, "vocab": 28996},
        "chinese-roberta-wwm-ext-large": {"layers": 24, "hidden": 1024, "heads": 16, "vocab": 21128},
        "roberta_l24_zh_base": {"layers": 24, "hidden": 768, "heads": 12, "vocab": 21128},
        "all-MiniLM-L6": {"layers": 6, "hidden": 384, "heads": 12, "vocab": 30522},
    },
    dialects=(
        *(
            d._replace(lacks={**d.lacks, **SEGMENT_OF_PADDING})
            for d in (
                Dialect(
                    name="google",
                    title="google-research/bert (TensorFlow)",
                    alias="bert4keras",
                    style=GOOGLE,
                    container="tf",
                    filename="bert_model.ckpt",
                    rows={
                        "bert/embeddings/word_embeddings": "embeddings.word",
                        "bert/embeddings/position_embeddings": "embeddings.position",
                        "bert/embeddings/token_type_embeddings": "embeddings.segment",
                        "bert/embeddings/LayerNorm": "embeddings.norm",
                        G + "attention/self/query": L + "attention.query",
                        G + "attention/self/key": L + "attention.key",
                        G + "attention/self/value": L + "attention.value",
                        G + "attention/output/dense": L + "attention.output",
                        G + "attention/output/LayerNorm": L + "attention.norm",
                        G + "intermediate/dense": L + "ffn.intermediate",
                        G + "output/dense": L + "ffn.output",
                        G + "output/LayerNorm": L + "ffn.norm",
                        "bert/pooler/dense": "pooler",
                        "cls/predictions/transform/dense": "mlm.transform",
                        "cls/predictions/transform/LayerNorm": "mlm.norm",
                        "cls/predictions/output_bias": "mlm.decoder.bias",
                        "cls/seq_relationship/output_weights": "nsp.weight",
                        "cls/seq_relationship/output_bias": "nsp.bias",
                        "output_weights": "classifier.weight",
                        "output_bias": "classifier.bias",
                        "cls/squad/output_weights": "qa.weight",
                        "cls/squad/output_bias": "qa.bias",
                    },
                    config=GOOGLE_FORM,
                ),
                HF,
                paddle(HF, "bert."),
                memory(HF, MODULES),
                tf(
                    MODULES,
                    HF,
                    "bert/",
                    words={"cls.predictions": "mlm___cls.predictions", "cls.seq_relationship": "nsp___cls.seq_relationship"},
                    shared={"mlm___cls": "mlm"},
                ),
                flax(MODULES, HF),
                hub.backbone(
                    ("BertBackbone",),
                    "bert.bert_backbone",
                    (hub.TOKENS, hub.POSITIONS, hub.SEGMENTS, hub.NORM, hub.ENCODER, hub.POOLER),
                    {**hub.EMBEDDINGS, **hub.LAYERS, **hub.POOLED, **hub.MLM, **hub.CLASSIFIER},
                    implied={"activation": "gelu_tanh", "norm_eps": 1e-12},
                    tasks=("MaskedLM", "TextClassifier", "TextEmbedder"),
                    classifies=("classifier",),
                    words=hub.WORD_PIECES,
                ),
                b4k.weights(
                    {**b4k.EMBEDDINGS, **b4k.LAYERS, **b4k.MLM, **b4k.POOLER, **b4k.MLM_BIAS, "NSP-Proba": "nsp"},
                    GOOGLE_FORM,
                ),
                *BERT_DIALECTS,
                NVIDIA,
                gguf_others.bert(),
            )
        ),
        uer.bert(L, DEFAULTS),
    ),
)
