"""ConvBERT: half of the heads of each layer are convolutions whose kernels a position makes itself, of what stands around it.

Source: transformers models/convbert (names, classes; `head_ratio`); yitu-opensource/ConvBert.
"""

from ckptkit.arch._libraries.encoders import H, L, form, hf, traits, without
from ckptkit.arch._libraries.transformers import EMBEDDINGS, LAYERS
from ckptkit.arch.electra import NO_PROJECTION
from ckptkit.arch.roformer import ROFORMER
from ckptkit.schema import Architecture, Class, Key, embedding, linear, param

A = L + "attention."
S = H + "attention.self."

MODULES = {
    **without(ROFORMER, "pooler", "mlm.transform", "mlm.norm", "mlm.decoder"),
    "embeddings.position": embedding("positions embedding"),
    **{A + part: linear("conv_heads head_dim", "hidden") for part in ("query", "key", "value")},
    A + "output": linear("hidden", "two conv_heads head_dim"),
    A + "depthwise": param("hidden kernel"),
    A + "pointwise": param("(conv_heads head_dim) hidden"),
    A + "conv_bias": param("(conv_heads head_dim)"),
    A + "conv_kernel": linear("kernel_heads kernel", "conv_heads head_dim"),
    A + "conv_out": linear("conv_heads head_dim", "hidden"),
    **{k: ROFORMER[k] for k in ("mlm.transform", "mlm.norm", "mlm.decoder")},
    "summary": linear("pooled", "hidden", group="summary"),
}
CLASSES = (
    Class("ConvBertModel", frozenset()),
    Class("ConvBertForMaskedLM", frozenset({"mlm"})),
    Class("ConvBertForSequenceClassification", frozenset({"classification"})),
    Class("ConvBertForTokenClassification", frozenset({"classifier"})),
    Class("ConvBertForQuestionAnswering", frozenset({"qa"})),
    Class("ConvBertForMultipleChoice", frozenset({"summary", "classifier"}), labels=1, kinds={"classifier": "pooled"}),
)

ARCHITECTURE = Architecture(
    name="convbert",
    title="ConvBERT",
    modules=MODULES,
    traits=traits(
        attention_heads="conv_heads",
        own={"mlm": {"activation": "gelu"}},
        heads={
            "mlm": "lm", "classification": "first with =activation", "classifier": "tokens", "qa": "tokens", "summary": "summary with gelu",
        },
        runs_with={"linear_groups": (None, 1)},
    ),
    relations=(
        "hidden = two conv_heads head_dim", "heads = conv_heads head_ratio", "kernel_heads = conv_heads", "pooled = hidden",
        "transformed = embedding",
    ),
    fixed={"qa_labels": 2, "two": 2},
    variants={
        "conv-bert-small": {"layers": 12, "hidden": 256, "heads": 4, "embedding": 128},
        "conv-bert-medium-small": {"layers": 12, "hidden": 384, "heads": 8, "embedding": 128},
        "conv-bert-base": {"layers": 12, "hidden": 768, "heads": 12, "embedding": 768},
    },
    dialects=(
        hf(
            {
                **EMBEDDINGS,
                "~embeddings_project": "embeddings.project",
                **LAYERS,
                S + "key_conv_attn_layer.depthwise.weight": (A + "depthwise", "hidden 1 kernel"),
                S + "key_conv_attn_layer.pointwise.weight": (A + "pointwise", "(conv_heads head_dim) hidden 1"),
                S + "key_conv_attn_layer.bias": (A + "conv_bias", "(conv_heads head_dim) 1"),
                S + "conv_kernel_layer": A + "conv_kernel",
                S + "conv_out_layer": A + "conv_out",
                "generator_predictions.dense": "mlm.transform",
                "generator_predictions.LayerNorm": "mlm.norm",
                "generator_lm_head.weight": "mlm.decoder.weight",
                "generator_lm_head.bias": "mlm.decoder.bias",
                "classifier.dense": "classification.dense",
                "classifier.out_proj": "classification.output",
                "classifier": "classifier",
                "qa_outputs": "qa",
                "sequence_summary.summary": "summary",
            },
            form(
                "convbert",
                keys={
                    "embedding_size": Key("embedding", required=False), "head_ratio": Key("head_ratio", required=False),
                    "conv_kernel_size": Key("kernel"), "num_groups": Key("linear_groups", required=False),
                },
                defaults={"embedding": 768, "head_ratio": 2, "kernel": 9, "pad": 1},
                usual={
                    "summary_type": "first", "summary_use_proj": True, "summary_activation": "gelu", "summary_last_dropout": ...,
                },
            ),
            CLASSES,
            prefixes=("convbert.", ""),
            again={},
        )._replace(lacks=NO_PROJECTION),
    ),
)  # fmt: skip
