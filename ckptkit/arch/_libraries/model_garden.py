"""Namings of BERT-like encoders in TensorFlow 2's object-based checkpoints: the TensorFlow Model Garden's, and Keras models'.

Source: tensorflow/models official/nlp: modeling/networks/{bert_encoder,albert_encoder}.py, modeling/layers/
{transformer_encoder_block,masked_lm,cls_head}.py, modeling/models/bert_pretrainer.py (what its checkpoint_items are called),
configs/encoders.py (the keys of params.yaml), modeling/activations/gelu.py (its gelu is the tanh approximation).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ckptkit._typing import NamedTuple
from ckptkit.arch._libraries.keras_functional import spelling
from ckptkit.schema import GOOGLE, Besides, ConfigForm, Dialect, Files, Key, Lack, Library, Objects, Reader, Writer

Rows = dict[str, "str | tuple[str, ...]"]
GRAPH = {"tensorflow_object_graph": ""}  # a written bundle gets an object graph, made from the names
PARAMS = "params.yaml"
ACTIVATIONS = {"gelu": "gelu_tanh", "relu": "relu", "tanh": "tanh", "linear": "linear", "swish": "silu", "silu": "silu"}
KEYS: dict[str, str | Key] = {
    "vocab_size": "vocab",
    "hidden_size": "hidden",
    "num_layers": "layers",
    "num_attention_heads": "heads",
    "hidden_activation": Key("activation", words=ACTIVATIONS),
    "intermediate_size": "intermediate",
    "dropout_rate": "dropout",
    "attention_dropout_rate": "attention_dropout",
    "max_position_embeddings": "positions",
    "type_vocab_size": "segments",
    "initializer_range": "initializer_range",
    "mlm_activation": Key("mlm_activation", words=ACTIVATIONS, required=False),
}
BESIDE = ("mlm_activation",)  # keys of the model, which stand beside its encoder


def attention(at: str, module: str, query: str, key: str, value: str, output: str) -> Rows:
    """The rows of a Keras MultiHeadAttention at `at`: kernels (hidden, heads, head_dim), the output's (heads, head_dim, hidden)."""
    rows: Rows = {}
    for local, name in ((query, "query"), (key, "key"), (value, "value")):
        rows[f"{at}{local}/kernel"] = (f"{module}{name}.weight", "hidden heads head_dim")
        rows[f"{at}{local}/bias"] = (f"{module}{name}.bias", "heads head_dim")
    rows[f"{at}{output}/kernel"] = (f"{module}output.weight", "heads head_dim hidden")
    rows[f"{at}{output}/bias"] = f"{module}output.bias"
    return rows


def block(at: str, module: str) -> Rows:
    """The rows of a Model Garden TransformerEncoderBlock at `at`, whose canonical modules begin with `module`."""
    return {
        **attention(f"{at}/_attention_layer/", f"{module}attention.", "_query_dense", "_key_dense", "_value_dense", "_output_dense"),
        f"{at}/_attention_layer_norm": f"{module}attention.norm",
        f"{at}/_intermediate_dense": f"{module}ffn.intermediate",
        f"{at}/_output_dense": f"{module}ffn.output",
        f"{at}/_output_layer_norm": f"{module}ffn.norm",
    }


# --- configurations ------------------------------------------------------------------------------------------------


def params_form(kind: str, keys: Mapping[str, str | Key], defaults: Mapping[str, object]) -> ConfigForm:
    """The form of an experiment's params.yaml, whose encoder is of a `kind` (bert, albert)."""
    return ConfigForm(
        filename=PARAMS,
        keys=keys,
        implied={"norm_eps": 1e-12},
        defaults=defaults,
        reader=Reader(texts={PARAMS: _mapping}, unfold=_encoder_of(kind)),
        writer=Writer(text=_params_text(kind)),
    )


def _mapping(text: str) -> dict[str, object]:
    """What a params.yaml says; its reader is imported where there is one."""
    from ckptkit.support.yaml import yaml_mapping

    return yaml_mapping(text)


def _encoder_of(kind: str) -> Callable[[Mapping[str, object]], dict[str, object] | None]:
    def unfold(raw: Mapping[str, object]) -> dict[str, object] | None:
        found: object = raw
        beside: dict[str, object] = {}
        for step in ("task", "model", "encoder"):
            if isinstance(found, Mapping):
                beside |= {k: "linear" if found[k] is None else found[k] for k in BESIDE if k in found}  # null: no activation
                found = found.get(step, found)
        found = found.get(kind) if isinstance(found, Mapping) else None
        if not isinstance(found, Mapping):
            return None
        return {**beside, **{str(k): v for k, v in found.items()}, **{k: v for k, v in raw.items() if k == "ckptkit"}}

    return unfold


def _value_text(value: object) -> str:
    """JSON is YAML but for numbers like 1e-05, which it takes for text without a point."""
    import json

    text = json.dumps(value, ensure_ascii=False)
    return text.replace("e", ".0e") if isinstance(value, float) and "e" in text and "." not in text else text


def _params_text(kind: str) -> Callable[[Mapping[str, object]], str]:
    def text(raw: Mapping[str, object]) -> str:
        own = {k: v for k, v in raw.items() if k != "ckptkit"}
        lines = [f"        {k}: {_value_text(v)}" for k, v in sorted(own.items()) if k not in BESIDE]
        lines += [f"    {k}: {_value_text(own[k])}" for k in BESIDE if k in own]
        import json

        kept = f"# ckptkit: {json.dumps(raw['ckptkit'], ensure_ascii=False)}\n" if "ckptkit" in raw else ""
        return f"{kept}task:\n  model:\n    encoder:\n      type: {kind}\n      {kind}:\n" + "\n".join(lines) + "\n"

    return text


# --- BERT ----------------------------------------------------------------------------------------------------------

L = "encoder.layers.{layer}."
PREFIXES = ("encoder/", "encoder_network/", "")
OWN_POOLER = "the encoder's own pooler, which pretraining with a sentence head does not use: that head has one of its own"
HALF_HEAD = "the pooler of a sentence head whose output is not there; the encoder has one of its own"
# BertEncoder is a functional model, which numbers its layers; BertEncoderV2 is a layer, which keeps them by attribute
FUNCTIONAL = {
    "word": "~layer_with_weights-0", "position": "~layer_with_weights-1", "segment": "~layer_with_weights-2",
    "norm": "~layer_with_weights-3",
    "layer": "~layer_with_weights-{layer+4}", "pooler": "~layer_with_weights-{#layer+4}",
}  # fmt: skip
BY_ATTRIBUTE = {
    "word": "~_embedding_layer", "position": "~_position_embedding_layer", "segment": "~_type_embedding_layer",
    "norm": "~_embedding_norm_layer",
    "layer": "~_transformer_layers/{layer}", "pooler": "~_pooler_layer",
}  # fmt: skip
# what the first classification head of a BertPretrainerV2 is called in its checkpoint_items, and by its attributes
HEADS = (
    ("next_sentence..pooler_dense", "classification_heads/0/dense", "pooler"),
    ("next_sentence..logits", "classification_heads/0/out_proj", "nsp"),
)


def _embeddings(own: Mapping[str, str]) -> Rows:
    """The rows of the embeddings of an encoder whose objects are called as `own` says."""
    return {
        f"{own['word']}/embeddings": "embeddings.word.weight",
        f"{own['position']}/embeddings": "embeddings.position.weight",
        f"{own['segment']}/embeddings": "embeddings.segment.weight",
        own["norm"]: "embeddings.norm",
    }


def _encoder(own: Mapping[str, str]) -> Rows:
    """The rows of such an encoder, but for the pooler."""
    return {**_embeddings(own), **block(own["layer"], L)}


def _masked_lm(at: str) -> Rows:
    """The rows of a MaskedLM layer at `at`."""
    return {f"{at}/dense": "mlm.transform", f"{at}/layer_norm": "mlm.norm", f"{at}/output_bias.Sbias | {at}/bias": "mlm.decoder.bias"}


BERT_FORM = params_form("bert", KEYS, {"dropout": 0.1, "attention_dropout": 0.1, "initializer_range": 0.02})


def _model_garden(name: str, title: str, own: Mapping[str, str], other: Mapping[str, str], *, pretraining: bool) -> Dialect:
    """A Model Garden BERT encoder whose objects are called as `own` says, in a graph that knows them as `other` too."""
    rows: Rows = {**_encoder(own), **_masked_lm("masked_lm")}
    pooler = own["pooler"]
    aliases = {other[k]: own[k] for k in own if k != "pooler"} | {"masked_lm/embedding_table": f"{own['word']}/embeddings"}
    if pretraining:
        rows |= {f"{item} | {attribute}": module for item, attribute, module in HEADS}
        aliases[pooler] = f"={HEADS[0][0]}"
        unused = {pooler: OWN_POOLER}
    else:
        rows[pooler] = "pooler"
        unused = dict.fromkeys(HEADS[0][:2], HALF_HEAD)
    aliases[other["pooler"]] = pooler
    aliases |= {attribute: item for item, attribute, _ in HEADS} | {item: attribute for item, attribute, _ in HEADS}
    return Dialect(
        name=name,
        title=title,
        style=GOOGLE,
        prefixes=PREFIXES,
        container="tf",
        filename="bert_model.ckpt-1",
        rows=rows,
        besides=Besides(
            strays={f"{t}/{w}": why for t, why in unused.items() for w in ("kernel", "bias")},
            repeats={"masked_lm/embedding_table": "embeddings.word.weight"},
        ),
        files=Files(metadata=GRAPH, objects=Objects(aliases=aliases, roots=("encoder", "encoder_network"))),
        alias=name.removesuffix("_pretraining").removesuffix("_encoder"),
        config=BERT_FORM,
    )


def _by_variable(layer: str, module: str) -> Rows:
    """The rows of an encoder by its variables' own names, which Keras' HDF5 files and SavedModels say where they number the objects."""
    return {
        "~word_embeddings/embeddings": "embeddings.word.weight",
        "~position_embedding/embeddings": "embeddings.position.weight",
        "~type_embeddings/embeddings": "embeddings.segment.weight",
        "~embeddings/layer_norm": "embeddings.norm",
        **attention(f"{layer}self_attention/", f"{module}attention.", "query", "key", "value", "attention_output"),
        f"{layer}self_attention_layer_norm": f"{module}attention.norm",
        f"{layer}intermediate": f"{module}ffn.intermediate",
        f"{layer}output": f"{module}ffn.output",
        f"{layer}output_layer_norm": f"{module}ffn.norm",
        "~pooler_transform": "pooler",
        "cls/predictions/transform/dense": "mlm.transform",
        "cls/predictions/transform/LayerNorm": "mlm.norm",
        "cls/predictions/output_bias/bias": "mlm.decoder.bias",
    }


OWN_NAMES: tuple[str, ...] = ("", "bert_encoder_v2/", "bert_encoder/", "albert_encoder/")

# the functional models around an encoder, which is their first layer with weights
FIRST, SECOND, THIRD = (f"layer_with_weights-{i}" for i in range(3))


class Task(NamedTuple):
    suffix: str
    model: str  # the Model Garden's class
    like: str  # transformers' class
    head: Rows


TASKS = (
    Task("classifier", "BertClassifier", "BertForSequenceClassification", {f"{SECOND}/out_proj": "classifier"}),
    Task("tokens", "BertTokenClassifier", "BertForTokenClassification", {SECOND: "classifier"}),
    Task("span", "BertSpanLabeler", "BertForQuestionAnswering", {f"{SECOND}/{FIRST}": "qa"}),
    Task("pretrainer", "BertPretrainer", "BertForPreTraining", {f"{SECOND}/{FIRST}": "nsp", **_masked_lm(THIRD)}),
)


def _task(encoder: str, version: str, own: Mapping[str, str], other: Mapping[str, str], task: Task) -> Dialect:
    """A Model Garden model for a task: an encoder whose objects are called as `own` says, in a graph that knows them as `other` too, and
    a head."""
    table = {f"{THIRD}/embedding_table": f"{own['word']}/embeddings"} if "mlm.norm" in task.head.values() else {}
    return Dialect(
        name=f"tfm{version}_{task.suffix}",
        title=f"TF Model Garden {task.model} of a {encoder} (TensorFlow 2)",
        style=GOOGLE,
        prefixes=(f"{FIRST}/",),
        container="tf",
        filename="bert_model.ckpt-1",
        rows={**_encoder(own), own["pooler"]: "pooler", **task.head},
        besides=Besides(repeats=dict.fromkeys(table, "embeddings.word.weight")),
        library=Library(like=task.like),
        files=Files(metadata=GRAPH, objects=Objects(aliases={other[k]: own[k] for k in own} | table, root="model/")),
        alias=f"tfm{version}",
        config=BERT_FORM,
    )


KERAS_ROWS: Rows = {
    "word_embeddings/embeddings": "embeddings.word.weight",
    "token_type_embeddings/embeddings": "embeddings.segment.weight",
    "embeddings_LayerNorm": "embeddings.norm",
    **attention("layer_{layer}_attention/", L + "attention.", "query", "key", "value", "attention_output"),
    "layer_{layer}_attention_LayerNorm": L + "attention.norm",
    "layer_{layer}_intermediate": L + "ffn.intermediate",
    "layer_{layer}_output": L + "ffn.output",
    "layer_{layer}_output_LayerNorm": L + "ffn.norm",
    "pooler": "pooler",
}


def _keras(name: str, title: str, objects: Objects) -> tuple[Dialect, Dialect]:
    """A functional Keras model without positions: its variables' own names, its layers numbered as `objects` says; and in a weights file
    of Keras' own."""
    dialect = Dialect(
        name=name,
        title=title,
        style=GOOGLE,
        container="tf",
        filename="model.ckpt",
        rows=KERAS_ROWS,
        lacks={"embeddings.position.weight": Lack(0.0, {"positions": 512}, why="the model has no positions")},
        files=Files(metadata=GRAPH, objects=objects),
        config=ConfigForm(
            filename="config.json",
            keys={k: v for k, v in KEYS.items() if k not in ("hidden_activation", "max_position_embeddings", *BESIDE)},
            implied={"activation": "gelu", "norm_eps": 1e-12},
            defaults={"dropout": 0.0, "attention_dropout": 0.0, "initializer_range": 0.02},
        ),
    )
    file = dialect._replace(
        name=f"{name}_h5", title=f"{title}, weights (.weights.h5)", alias=name, container="hdf5", filename="model.weights.h5",
        files=Files(spelling=spelling("" if name == "keras3" else "_")),
    )  # fmt: skip
    return dialect, file


def _numbered(to: str, first: tuple[str, str, str], layer: int, at: tuple[int, int, int, int, int], pooler: str) -> dict[str, str]:
    """Object paths of such a model: embeddings and their norm, then `layer` numbers a layer, of which five have weights."""
    paths = {n: to + i for n, i in zip(("word_embeddings", "token_type_embeddings", "embeddings_LayerNorm"), first, strict=True)}
    of = {
        n: f"{to}{{layer*{layer}+{i}}}"
        for n, i in zip(("attention", "attention_LayerNorm", "intermediate", "output", "output_LayerNorm"), at, strict=True)
    }
    paths |= {f"layer_{{layer}}_{n}": path for n, path in of.items()}
    for local, dense in (
        ("query", "_query_dense"),
        ("key", "_key_dense"),
        ("value", "_value_dense"),
        ("attention_output", "_output_dense"),
    ):
        paths[f"layer_{{layer}}_attention/{local}"] = f"{of['attention']}/{dense}"
    return {**paths, "pooler": to + pooler}


BERT_DIALECTS = (
    _model_garden("tfm_encoder", "TF Model Garden BertEncoder (TensorFlow 2)", FUNCTIONAL, BY_ATTRIBUTE, pretraining=False),
    _model_garden(
        "tfm_pretraining", "TF Model Garden BertPretrainerV2 of a BertEncoder (TensorFlow 2)", FUNCTIONAL, BY_ATTRIBUTE, pretraining=True
    ),
    _model_garden("tfm_v2_encoder", "TF Model Garden BertEncoderV2 (TensorFlow 2)", BY_ATTRIBUTE, FUNCTIONAL, pretraining=False),
    _model_garden(
        "tfm_v2_pretraining",
        "TF Model Garden BertPretrainerV2 of a BertEncoderV2 (TensorFlow 2)",
        BY_ATTRIBUTE,
        FUNCTIONAL,
        pretraining=True,
    ),
    Dialect(
        name="tfm_names",
        title="TF Model Garden BERT by its variables' own names",
        style=GOOGLE,
        prefixes=OWN_NAMES,
        container="tf",
        filename="bert_model.ckpt-1",
        rows={**_by_variable("~transformer/layer_{layer}/", L), "sentence_prediction/logits": "classifier"},
        config=BERT_FORM,
    ),
    *(_task("BertEncoder", "", FUNCTIONAL, BY_ATTRIBUTE, task) for task in TASKS),
    *(_task("BertEncoderV2", "_v2", BY_ATTRIBUTE, FUNCTIONAL, task) for task in TASKS[:3]),
    *_keras(
        "keras3",
        "Keras 3 functional model",
        Objects(
            paths=_numbered("_operations/", ("2", "3", "5"), 7, (6, 8, 9, 10, 12), "{#layer*7+7}"),
            words={"kernel": "_kernel", "embeddings": "_embeddings"},
            root="model/",
            tell="#/_embeddings",
        ),
    ),
    *_keras(
        "tf_keras",
        "tf_keras functional model",
        Objects(
            paths=_numbered("layer_with_weights-", ("0", "1", "2"), 5, (3, 4, 5, 6, 7), "{#layer*5+3}"),
            root="model/",
            tell="layer_with_weights-#/embeddings",
        ),
    ),
)


# --- ALBERT --------------------------------------------------------------------------------------------------------


def either(one: Rows, other: Rows) -> Rows:
    """Rows that are met under two names, those of `one` written."""
    return {f"{a} | {b.removeprefix('~')}": what for (a, what), b in zip(one.items(), other, strict=True)}


def albert(module: str, lacks: Mapping[str, Lack]) -> tuple[Dialect, ...]:
    """A Model Garden AlbertEncoder: one layer for all, numbered after the projection, which is there where the embeddings are narrower;
    and by its variables' own names."""
    layer, one = "~layer_with_weights-{}", "{group!}{inner_group!}"
    objects = Dialect(
        name="tfm",
        title="TF Model Garden AlbertEncoder (TensorFlow 2)",
        style=GOOGLE,
        prefixes=PREFIXES,
        container="tf",
        filename="albert_model.ckpt-1",
        rows={
            f"{FUNCTIONAL['word']}/embeddings": "embeddings.word.weight",
            f"{FUNCTIONAL['position']}/embeddings": "embeddings.position.weight",
            f"{FUNCTIONAL['segment']}/embeddings": "embeddings.segment.weight",
            FUNCTIONAL["norm"]: "embeddings.norm",
            layer.format(4): "embeddings.project",
            **either(block(layer.format(5) + one, module), block(layer.format(4) + one, module)),
            **either({layer.format(6): "pooler"}, {layer.format(5): "pooler"}),
            "masked_lm/dense": "mlm.transform",
            "masked_lm/layer_norm": "mlm.norm",
            "masked_lm/output_bias.Sbias | masked_lm/bias": "mlm.decoder.bias",
        },
        besides=Besides(repeats={"masked_lm/embedding_table": "embeddings.word.weight"}),
        lacks=lacks,
        limits={"groups": (1, "its layers share one set of weights"), "inner_groups": (1, "its one group is one layer")},
        files=Files(metadata=GRAPH, objects=Objects(
            aliases={"~_embedding_layer": FUNCTIONAL["word"], "masked_lm/embedding_table": f"{FUNCTIONAL['word']}/embeddings"},
            roots=("encoder", "encoder_network"),
        )),
        config=params_form(
            "albert", {**KEYS, "embedding_width": "embedding"},
            {"dropout": 0.0, "attention_dropout": 0.0, "initializer_range": 0.02, "groups": 1, "inner_groups": 1},
        ),
    )  # fmt: skip
    # a BERT whose embeddings are narrower: as many groups as layers, each of one layer of its own
    alone = {"inner_groups": (1, "each of its layers has weights of its own")}
    form = params_form(
        "bert", {**{k: v for k, v in KEYS.items() if k != "num_layers"}, "num_layers": Key("layers", more=("groups",)),
            "embedding_width": "embedding"},
        {"dropout": 0.1, "attention_dropout": 0.1, "initializer_range": 0.02, "inner_groups": 1},
    )  # fmt: skip
    factored = [
        objects._replace(
            name=f"tfm_bert{version}",
            title=f"TF Model Garden {title} with an embedding_width (TensorFlow 2)",
            alias="",
            filename="bert_model.ckpt-1",
            rows={**_embeddings(own), project: "embeddings.project", **block(blocks, module), pooler: "pooler", **_masked_lm("masked_lm")},
            besides=Besides(repeats={"masked_lm/embedding_table": "embeddings.word.weight"}),
            limits=alone,
            config=form,
            files=Files(
                metadata=GRAPH,
                objects=Objects(aliases={"masked_lm/embedding_table": f"{own['word']}/embeddings"}, roots=("encoder", "encoder_network")),
            ),
        )
        for version, title, own, project, blocks, pooler in (
            ("", "BertEncoder", FUNCTIONAL, layer.format(4), layer.format("{group+5}") + "{inner_group!}", layer.format("{#group+5}")),
            (
                "_v2",
                "BertEncoderV2",
                BY_ATTRIBUTE,
                "~_embedding_projection",
                "~_transformer_layers/{group}{inner_group!}",
                "~_pooler_layer",
            ),
        )
    ]
    names = {"~embedding_projection": "embeddings.project", **_by_variable("~transformer/{group!}{inner_group!}", module)}
    variables = objects._replace(
        name="tfm_names",
        title="TF Model Garden ALBERT by its variables' own names",
        prefixes=OWN_NAMES,
        rows=names,
        besides=Besides(),
        files=Files(),
    )
    return objects, variables, *factored
