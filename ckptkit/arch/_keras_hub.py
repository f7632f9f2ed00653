"""keras_hub's backbones: the rows of its transformer layers, and the configuration of its presets.

Source: keras_hub 0.32 models/*/*_backbone.py, layers/modeling/transformer_encoder.py and transformer_decoder.py, utils/preset_utils.py; Keras 3
saving/saving_lib.py (names: see `spelling.objects`). A preset is a folder of config.json, metadata.json and model.weights.h5. Activations
and epsilons are the backbones' own, no preset can say them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ckptkit.schema import OBJECTS, ConfigForm, Dialect, Key, Lack
from ckptkit.spelling import Layer, Spelling, objects

VERSION = "0.32.0"

TOKENS = Layer("token_embedding", "reversible_embedding")
POSITIONS = Layer("position_embedding", "position_embedding")
SEGMENTS = Layer("segment_embedding", "embedding")
JOINT = Layer("embeddings", "token_and_position_embedding")  # both tables in one layer
NORM = Layer("embeddings_layer_norm", "layer_normalization")
ENCODER = Layer("transformer_layer_{}", "transformer_encoder")
DECODER = Layer("transformer_layer_{}", "transformer_decoder")
POOLER = Layer("pooled_dense", "dense")

EMBEDDINGS: dict[str, str | tuple[str, ...]] = {
    "token_embedding": "embeddings.word",
    "position_embedding": "embeddings.position",
    "segment_embedding": "embeddings.segment",
    "embeddings_layer_norm": "embeddings.norm",
}
JOINT_EMBEDDINGS: dict[str, str | tuple[str, ...]] = {
    "embeddings/token_embedding": "embeddings.word",
    "embeddings/position_embedding": "embeddings.position",
    "embeddings_layer_norm": "embeddings.norm",
}
POOLED: dict[str, str | tuple[str, ...]] = {"pooled_dense": "pooler"}

SIZES: dict[str, str | Key] = {
    "vocabulary_size": "vocab",
    "num_layers": "layers",
    "num_heads": "heads",
    "hidden_dim": "hidden",
    "intermediate_dim": "intermediate",
    "dropout": Key("dropout", more=("attention_dropout",)),
    "max_sequence_length": "positions",
}
WITH_SEGMENTS: dict[str, str | Key] = {**SIZES, "num_segments": "segments"}
DEFAULTS: dict[str, object] = {"dropout": 0.1, "attention_dropout": 0.1}


def layer_rows(layer: str, ours: str) -> dict[str, str | tuple[str, ...]]:
    """The rows of a TransformerEncoder or TransformerDecoder: `layer` its plain name, `ours` the canonical prefix."""
    rows: dict[str, str | tuple[str, ...]] = {}
    for part in ("query", "key", "value"):
        rows[f"{layer}/_self_attention_layer/{part}_dense/0"] = (f"{ours}attention.{part}.weight", "hidden heads head_dim")
        rows[f"{layer}/_self_attention_layer/{part}_dense/1"] = (f"{ours}attention.{part}.bias", "heads head_dim")
    rows[f"{layer}/_self_attention_layer/output_dense/0"] = (f"{ours}attention.output.weight", "heads head_dim hidden")
    rows[f"{layer}/_self_attention_layer/output_dense/1"] = f"{ours}attention.output.bias"
    rows[f"{layer}/_self_attention_layer_norm"] = ours + "attention.norm"
    rows[f"{layer}/_feedforward_intermediate_dense"] = ours + "ffn.intermediate"
    rows[f"{layer}/_feedforward_output_dense"] = ours + "ffn.output"
    rows[f"{layer}/_feedforward_layer_norm"] = ours + "ffn.norm"
    return rows


LAYERS = layer_rows("transformer_layer_{layer}", "encoder.layers.{layer}.")
POLICY = {"module": "keras", "class_name": "DTypePolicy", "config": {"name": "float32"}, "registered_name": None}


def backbone(
    names: tuple[str, ...], package: str, layers: Spelling | tuple[Layer, ...], rows: Mapping[str, str | tuple[str, ...]], *, keys: Mapping[str, str | Key] = WITH_SEGMENTS,
    implied: Mapping[str, object], defaults: Mapping[str, object] = DEFAULTS, lacks: Mapping[str, Lack] = {}, needs: tuple[str, ...] = ("pooler",),
    tasks: tuple[str, ...] = ("MaskedLM", "TextClassifier"), also: Mapping[str, object] = {},
) -> Dialect:  # fmt: skip
    """The dialect of one backbone: `names` its class and others of the same weights, `package` the module that it lies in."""
    return Dialect(
        name="keras_hub",
        title="keras_hub",
        style=OBJECTS,
        container="hdf5",
        filename="model.weights.h5",
        spelling=layers if isinstance(layers, Spelling) else objects(*layers),
        rows=rows,
        lacks=lacks,
        needs=frozenset(needs),
        writes_ties=False,
        config=ConfigForm(
            filename="config.json",
            keys=keys,
            implied=implied,
            defaults=defaults,
            also={"name": package.rpartition(".")[2], "trainable": True, "dtype": POLICY, **also},
            unfold=unfold(names),
            fold=fold(names[0], package),
            beside={"metadata.json": metadata(tasks)},
        ),
    )


def unfold(names: tuple[str, ...]) -> Callable[[Mapping[str, object]], dict[str, object] | None]:
    """The settings in a preset's config.json, or of the backbone in a task's; None if it is another class'."""

    def settings(raw: Mapping[str, object]) -> dict[str, object] | None:
        config = raw.get("config")
        if not isinstance(config, dict):
            return None
        if raw.get("class_name") in names:
            return {k: v["config"] if isinstance(v, dict) and v.get("class_name") == "function" else v for k, v in config.items()}
        inner = config.get("backbone")
        return settings(inner) if isinstance(inner, dict) else None

    return settings


def fold(name: str, package: str) -> Callable[[dict[str, object]], dict[str, object]]:
    """Settings as Keras serialises an object, and in them a function of keras_hub's own."""

    def serialised(raw: dict[str, object]) -> dict[str, object]:
        raw = {
            k: {"module": "builtins", "class_name": "function", "config": v, "registered_name": "function"} if isinstance(v, str) and v.startswith("keras_hub>") else v
            for k, v in raw.items()
        }
        return {"module": f"keras_hub.src.models.{package}", "class_name": name, "config": raw, "registered_name": f"keras_hub>{name}"}

    return serialised


def metadata(tasks: tuple[str, ...]) -> Callable[[Mapping[str, object]], dict[str, object]]:
    """A preset's metadata.json, without the date: the same source gives the same files."""

    def said(raw: Mapping[str, object]) -> dict[str, object]:
        return {"keras_hub_version": VERSION, "tasks": list(tasks)}

    return said
