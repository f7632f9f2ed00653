"""bert4keras' own names: those of its Keras layers, in the HDF5 files that its models' save_weights writes.

Source: bert4keras 0.11.5 models.py, layers.py; keras 2.3.1 engine/saving.py. Keras loads such a file by the order of layers and of
weights in each, not by name, so rows stand in the models' order, and a norm's shift before its scale. Names: see `library_names.layers`.
"""

from __future__ import annotations

from collections.abc import Mapping

from ckptkit.schema import HDF5, Besides, ConfigForm, Derived, Dialect, Files, Key, Lack, Style
from ckptkit.schema.library_names import Spelling, layers

LAYERS_STYLE: Style = {
    **HDF5,
    "embedding": {"weight": ("canonical", "/embeddings")},
    "norm": {"bias": ("canonical", "/beta"), "weight": ("canonical", "/gamma")},
}

EMBEDDINGS: dict[str, str | tuple[str, ...]] = {
    "Embedding-Token": "embeddings.word",
    "Embedding-Segment": "embeddings.segment",
    "Embedding-Position": "embeddings.position",
    "Embedding-Norm": "embeddings.norm",
}
MLM: dict[str, str | tuple[str, ...]] = {"MLM-Dense": "mlm.transform", "MLM-Norm": "mlm.norm"}
MLM_BIAS: dict[str, str | tuple[str, ...]] = {"MLM-Bias/beta": "mlm.decoder.bias"}
POOLER: dict[str, str | tuple[str, ...]] = {"Pooler-Dense": "pooler"}


# its "gelu" is whichever of the two the program chose (set_gelu): written by name
ACTIVATIONS = {"gelu_tanh": "gelu_tanh", "gelu_erf": "gelu"}


def by_name(form: ConfigForm) -> ConfigForm:
    """A form of Google's with bert4keras' words for the activation before its own."""
    own = form.keys["hidden_act"]
    if not isinstance(own, Key) or own.more or own.words is None:
        return form
    return form._replace(keys={**form.keys, "hidden_act": own._replace(words={**ACTIVATIONS, **own.words})})


def attention(layer: str, ours: str) -> dict[str, str | tuple[str, ...]]:
    """The four dense layers of an attention: query, key, value, output."""
    return {
        f"{layer}/{place}": f"{ours}.{part}" for place, part in (("1of4", "query"), ("2of4", "key"), ("3of4", "value"), ("last", "output"))
    }


def after(stack: str, ours: str) -> dict[str, str | tuple[str, ...]]:
    """A layer whose norms stand behind attention and feed-forward; `stack` begins its name, `ours` is the canonical prefix."""
    at, ffn = stack + "MultiHeadSelfAttention", stack + "FeedForward"
    return {
        **attention(at, ours + "attention"),
        at + "-Norm": ours + "attention.norm",
        ffn + "/1of2": ours + "ffn.intermediate",
        ffn + "/last": ours + "ffn.output",
        ffn + "-Norm": ours + "ffn.norm",
    }


def before(stack: str, ours: str) -> dict[str, str | tuple[str, ...]]:
    """A layer whose norms stand before them."""
    rows = after(stack, ours)
    at, ffn = stack + "MultiHeadSelfAttention", stack + "FeedForward"
    norms = {k: rows[k] for k in (at + "-Norm", ffn + "-Norm")}
    body = {k: v for k, v in rows.items() if k not in norms}
    return {
        at + "-Norm": norms[at + "-Norm"], **{k: v for k, v in body.items() if k.startswith(at)},
        ffn + "-Norm": norms[ffn + "-Norm"], **{k: v for k, v in body.items() if k.startswith(ffn)},
    }  # fmt: skip


LAYERS = after("Transformer-{layer}-", "encoder.layers.{layer}.")


def weights(
    rows: Mapping[str, str | tuple[str, ...]], config: ConfigForm, *, lacks: Mapping[str, Lack] = {},
    derived: Mapping[str, Derived] = {},
    spelling: Spelling = layers, limits: Mapping[str, tuple[int, str]] = {},
) -> Dialect:  # fmt: skip
    """The dialect of a model's save_weights; `config` is the form of the TensorFlow checkpoint that bert4keras builds the model by."""
    return Dialect(
        name="bert4keras_h5",
        title="bert4keras (Keras layers)",
        alias="bert4keras",
        style=LAYERS_STYLE,
        container="hdf5",
        filename="model.h5",
        files=Files(spelling=spelling, ties=False),
        rows=rows,
        lacks=lacks,
        limits=limits,
        besides=Besides(derived=derived),
        config=by_name(config),
    )
