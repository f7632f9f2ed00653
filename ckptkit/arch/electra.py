"""ELECTRA: a discriminator and the generator it was trained against, in one TensorFlow checkpoint or each a model of its own.

The generator has no embedding tables of its own, it uses the discriminator's; where the embeddings are as wide as the
layers, nothing projects them. Without a configuration its heads follow from its width, as in the original code.

Source: google-research/electra model/modeling.py, run_pretraining.py, configure_pretraining.py, util/training_utils.py
(TensorFlow names and hyperparameters); transformers models/electra (PyTorch names and classes).
"""

from __future__ import annotations

from collections.abc import Mapping

from ckptkit.arch._libraries import bert4keras as b4k
from ckptkit.arch._libraries import keras_hub as hub
from ckptkit.arch._libraries.bert4torch_memory import memory
from ckptkit.arch._libraries.transformers import DERIVED, HF_KEYS, WORD_PIECES, flax, tf
from ckptkit.arch._libraries.transformers import EMBEDDINGS as HF_EMBEDDINGS
from ckptkit.arch._libraries.transformers import LAYERS as HF_LAYERS
from ckptkit.arch.bert import DEFAULTS, MLM_OWN, SIZES
from ckptkit.arch.bert import MODULES as BERT
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
    Reader,
    embedding,
    linear,
    norm,
)
from ckptkit.schema.library_names import Layer

L = "encoder.layers.{layer}."

MODULES = {
    "embeddings.word": embedding("vocab embedding"),
    "embeddings.position": embedding("positions embedding"),
    "embeddings.segment": embedding("segments embedding"),
    "embeddings.norm": norm("embedding"),
    "embeddings.project": linear("hidden", "embedding"),
    **{k: m for k, m in BERT.items() if k.startswith(L)},
    "pooler": linear("pooled", "hidden", group="pooler"),  # keras_hub's: the original has none
    "rtd.dense": linear("pooled", "hidden", group="rtd"),  # replaced token detection: what the discriminator learns
    "rtd.output": linear("rtd_labels", "pooled", group="rtd"),
    "mlm.transform": linear("transformed", "hidden", group="mlm"),
    "mlm.norm": norm("transformed", group="mlm"),
    "mlm.decoder": linear("vocab", "transformed", group="mlm", tied={"weight": "embeddings.word.weight"}),
    "classification.dense": linear("pooled", "hidden", group="classification"),
    "classification.output": linear("labels", "pooled", group="classification"),
    "summary": linear("pooled", "hidden", group="summary"),
    "classifier": linear("labels", "hidden", group="classifier"),
    "qa": linear("qa_labels", "hidden", group="qa"),
}

KEYS: dict[str, str | Key] = {**SIZES, "embedding_size": "embedding"}
# its gelu is the exact one, with erf
ACTIVATIONS = {"gelu": "gelu", "relu": "relu", "tanh": "tanh", "linear": "linear"}
MODEL_SIZES = {"small": (256, 12), "base": (768, 12), "large": (1024, 24)}  # model_size -> hidden, layers

NO_PROJECTION = {
    "embeddings.project.weight": Lack(
        "identity", when=("embedding", "hidden"), why="ELECTRA has it only where the embeddings are narrower"
    ),
    "embeddings.project.bias": Lack(0.0, when=("embedding", "hidden"), why="ELECTRA has it only where the embeddings are narrower"),
}


def heads_of(values: Mapping[str, object]) -> object:
    """One head for every 64 of the width, at least one."""
    hidden = values.get("hidden")
    return max(1, hidden // 64) if isinstance(hidden, int) else None


def _number(value: object, default: float) -> float:
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else default


def read_hyperparameters(raw: Mapping[str, object], part: str) -> dict[str, object] | None:
    """The model's settings out of the training's: those of both parts side by side, or a size with overrides and fractions."""
    settings, discriminator = raw.get(part), raw.get("discriminator")
    narrow = None
    if "discriminator" not in raw and ("model_hparam_overrides" in raw or "model_size" in raw):
        overrides, size = raw.get("model_hparam_overrides"), str(raw.get("model_size", "small"))
        hidden, layers = MODEL_SIZES.get(size, (0, 0))
        discriminator = _complete(
            {"hidden_size": hidden, "num_hidden_layers": layers, "vocab_size": raw.get("vocab_size", 30522)}, overrides
        )
        narrow = 128 if size == "small" else None
        settings = discriminator
        if part == "generator":
            hidden = round(_number(discriminator["hidden_size"], 0) * _number(raw.get("generator_hidden_size"), 0.25))
            layers = round(_number(discriminator["num_hidden_layers"], 0) * _number(raw.get("generator_layers"), 1.0))
            settings = {**discriminator, **_complete({"hidden_size": hidden, "num_hidden_layers": layers}, None)}
    if not isinstance(settings, Mapping) or not isinstance(discriminator, Mapping):
        return None
    width = raw.get("embedding_size") or narrow or discriminator.get("hidden_size")
    return {**settings, "embedding_size": width}


def _complete(sizes: dict[str, object], overrides: object) -> dict[str, object]:
    """A model's settings: `overrides` above what follows from the width, above `sizes`."""
    given = dict(overrides) if isinstance(overrides, Mapping) else {}
    hidden = given.get("hidden_size", sizes["hidden_size"])
    follows = {"intermediate_size": 4 * hidden if isinstance(hidden, int) else None, "num_attention_heads": heads_of({"hidden": hidden})}
    return {"hidden_act": "gelu", **sizes, **follows, **given}


def _google(part: str, scope: str, tables: str, heads: Mapping[str, str], untied: str = "") -> Dialect:
    g = f"{scope}/encoder/layer_{{layer}}/"
    return Dialect(
        name=f"google_{part}{untied}",
        title=f"google-research/electra's {part} (TensorFlow)",
        alias=f"google{untied}",
        part=part,
        style=GOOGLE,
        container="tf",
        filename="model.ckpt",
        rows={
            f"{tables}/embeddings/word_embeddings": "embeddings.word",
            f"{tables}/embeddings/position_embeddings": "embeddings.position",
            f"{tables}/embeddings/token_type_embeddings": "embeddings.segment",
            f"{tables}/embeddings/LayerNorm": "embeddings.norm",
            f"{scope}/embeddings_project": "embeddings.project",
            g + "attention/self/query": L + "attention.query",
            g + "attention/self/key": L + "attention.key",
            g + "attention/self/value": L + "attention.value",
            g + "attention/output/dense": L + "attention.output",
            g + "attention/output/LayerNorm": L + "attention.norm",
            g + "intermediate/dense": L + "ffn.intermediate",
            g + "output/dense": L + "ffn.output",
            g + "output/LayerNorm": L + "ffn.norm",
            **heads,
        },
        lacks=NO_PROJECTION,
        config=ConfigForm(
            filename=f"electra_config_{part}.json",
            keys={**KEYS, "hidden_act": Key("activation", words=ACTIVATIONS)},
            implied={"norm_eps": 1e-12},
            defaults=DEFAULTS,
            follows={"heads": heads_of} if part == "generator" else {},
            reader=Reader(unfold=lambda raw: read_hyperparameters(raw, part)),
        ),
    )


RTD = {"discriminator_predictions/dense": "rtd.dense", "discriminator_predictions/dense_1": "rtd.output"}
MLM = {
    "generator_predictions/dense": "mlm.transform",
    "generator_predictions/LayerNorm": "mlm.norm",
    "generator_predictions/output_bias": "mlm.decoder.bias",
}

TRAITS = {
    "encoder": L[:-1],
    "own": MLM_OWN,
    "heads": {
        "pooler": "pooler",
        "rtd": "detector", "mlm": "lm", "classification": "first with gelu", "summary": "summary with gelu",
        "classifier": "pooled_or_tokens", "qa": "tokens",
    },
}  # fmt: skip

HF = Dialect(
    name="hf",
    title="transformers (PyTorch)",
    style=TORCH,
    prefixes=("electra.", ""),
    rows={
        **HF_EMBEDDINGS,
        "~embeddings_project": "embeddings.project",
        **HF_LAYERS,
        "discriminator_predictions.dense": "rtd.dense",
        "discriminator_predictions.dense_prediction": "rtd.output",
        "generator_predictions.LayerNorm": "mlm.norm",
        "generator_predictions.dense": "mlm.transform",
        "generator_lm_head": "mlm.decoder",
        "classifier.dense": "classification.dense",
        "classifier.out_proj": "classification.output",
        "sequence_summary.summary": "summary",
        "classifier": "classifier",
        "qa_outputs": "qa",
    },
    besides=Besides(derived=DERIVED),
    lacks=NO_PROJECTION,
    classes=(
        Class("ElectraModel", frozenset()),
        Class("ElectraForPreTraining", frozenset({"rtd"})),
        Class("ElectraForMaskedLM", frozenset({"mlm"})),
        Class("ElectraForSequenceClassification", frozenset({"classification"})),
        Class("ElectraForTokenClassification", frozenset({"classifier"})),
        Class("ElectraForQuestionAnswering", frozenset({"qa"})),
        Class("ElectraForMultipleChoice", frozenset({"summary", "classifier"}), labels=1),
        Class("ElectraForCausalLM", frozenset({"mlm"})),
    ),
    files=Files(metadata={"format": "pt"}, sidecars=WORD_PIECES),
    config=ConfigForm(
        filename="config.json",
        keys={**KEYS, **HF_KEYS},
        labels=True,
        marks={"model_type": "electra"},
        usual={"summary_type": "first", "summary_use_proj": True, "summary_activation": "gelu"},
        defaults={**DEFAULTS, "norm_eps": 1e-12, "activation": "gelu", "tied": True, "pad": 0},
    ),
)

DISCRIMINATOR = _google("discriminator", "electra", "electra", RTD)
B4K_FORM = ConfigForm(
    "bert_config.json", {**KEYS, "hidden_act": Key("activation", words=ACTIVATIONS)}, implied={"norm_eps": 1e-12},
    defaults={**DEFAULTS, "activation": "gelu", "tied": True},
)  # fmt: skip

ARCHITECTURE = Architecture(
    name="electra",
    title="ELECTRA",
    rank=2,
    modules=MODULES,
    traits=TRAITS,
    relations=("hidden = heads head_dim", "pooled = hidden", "transformed = embedding"),
    fixed={"rtd_labels": 1, "qa_labels": 2},
    variants={
        "electra-small": {"layers": 12, "hidden": 256, "heads": 4, "embedding": 128},
        "electra-base": {"layers": 12, "hidden": 768, "heads": 12, "embedding": 768},
        "electra-large": {"layers": 24, "hidden": 1024, "heads": 16, "embedding": 1024},
        "electra-small-generator": {"layers": 12, "hidden": 64, "heads": 1, "embedding": 128},
        "electra-base-generator": {"layers": 12, "hidden": 256, "heads": 4, "embedding": 768},
        "electra-large-generator": {"layers": 24, "hidden": 256, "heads": 4, "embedding": 1024},
    },
    dialects=(
        HF,
        memory(HF, {k: m for k, m in MODULES.items() if m.group in ("core", "rtd")}),
        tf(MODULES, HF, "electra/", shared={"generator_lm_head": "mlm"}),
        flax(MODULES, HF),
        hub.backbone(
            ("ElectraBackbone",),
            "electra.electra_backbone",
            (
                hub.TOKENS,
                hub.POSITIONS,
                hub.SEGMENTS,
                hub.NORM,
                Layer("embeddings_projection", "dense", optional=True),
                hub.ENCODER,
                hub.POOLER,
            ),
            {**hub.EMBEDDINGS, "embeddings_projection": "embeddings.project", **hub.LAYERS, **hub.POOLED},
            keys={**{k: v for k, v in hub.WITH_SEGMENTS.items() if v != "vocab"}, "vocab_size": "vocab", "embedding_dim": "embedding"},
            implied={"activation": "gelu_tanh", "norm_eps": 1e-12},
            lacks=NO_PROJECTION,
            tasks=(),
            words=hub.WORD_PIECES,
        ),
        b4k.weights(
            {
                **b4k.EMBEDDINGS,
                "Embedding-Mapping": "embeddings.project",
                **b4k.LAYERS,
                "Discriminator-Dense": "rtd.dense",
                "Discriminator-Prediction": "rtd.output",
            },
            B4K_FORM,
            lacks=NO_PROJECTION,
        ),
        DISCRIMINATOR,
        _google("generator", "generator", "generator", MLM, "_untied"),  # trained with tables of its own, which is not the default
        _google("generator", "generator", "electra", MLM),
        DISCRIMINATOR._replace(
            name="bert4keras", title="bert4keras (TensorFlow)", alias="", part="", filename="electra_model.ckpt", config=B4K_FORM
        ),
    ),
)
