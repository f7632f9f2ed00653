"""ALBERT, versions 1 and 2: the layers of a group share one set of weights, the embeddings are narrower than the layers.

How many layers share the weights is in no tensor: only a configuration says it (`config_counts`). Layer i belongs to group
int(i / layers * groups), so there are no more groups than layers.

Source: google-research/albert modeling.py, run_pretraining.py, classifier_utils.py, squad_utils.py (TensorFlow names);
transformers models/albert (PyTorch names and classes).
"""

from collections.abc import Mapping

from ckptkit.arch._libraries import bert4keras as b4k
from ckptkit.arch._libraries import keras_hub as hub
from ckptkit.arch._libraries.bert4torch_memory import memory
from ckptkit.arch._libraries.model_garden import albert as albert_of_tf2
from ckptkit.arch._libraries.transformers import DERIVED, HF_KEYS, PIECES, flax, tf
from ckptkit.arch._libraries.transformers import EMBEDDINGS as HF_EMBEDDINGS
from ckptkit.arch.bert import ARCHITECTURE as BERT
from ckptkit.arch.bert import GOOGLE_ACTIVATIONS, MLM_OWN, SIZES
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
    Vocabulary,
    embedding,
    linear,
    norm,
)
from ckptkit.schema.library_names import Layer, layers, starting

L = "encoder.groups.{group}.inner_groups.{inner_group}."

MODULES = {
    "embeddings.word": embedding("vocab embedding"),
    "embeddings.position": embedding("positions embedding"),
    "embeddings.segment": embedding("segments embedding"),
    "embeddings.norm": norm("embedding"),
    "embeddings.project": linear("hidden", "embedding"),
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
    "sop": linear("sop_labels", "pooled", group="sop"),
    "classifier": linear("labels", "hidden", group="classifier"),
    "qa": linear("qa_labels", "hidden", group="qa"),
    # SQuAD 2: a start, an end that is given the start, and whether there is an answer at all
    "span.start": linear("one", "hidden", group="span"),
    "span.end.dense": linear("pooled", "two hidden", group="span"),
    "span.end.norm": norm("pooled", group="span"),
    "span.end.output": linear("one", "pooled", group="span"),
    "span.answer.dense": linear("pooled", "two hidden", group="span"),
    "span.answer.output": linear("one", "pooled", group="span", bias=False),
}

G = "bert/encoder/transformer/group_{group}/inner_group_{inner_group}/"
H = "~encoder.albert_layer_groups.{group}.albert_layers.{inner_group}."

KEYS: dict[str, str | Key] = {**SIZES, "embedding_size": "embedding", "num_hidden_groups": "groups", "inner_group_num": "inner_groups"}
DEFAULTS = {"dropout": 0, "attention_dropout": 0, "initializer_range": 0.02}

# the original projects the embeddings only where they are of another width than the layers
NO_PROJECTION = {
    "embeddings.project.weight": Lack(
        "identity", when=("embedding", "hidden"), why="the original has it only where the embeddings are narrower"
    ),
    "embeddings.project.bias": Lack(0.0, when=("embedding", "hidden"), why="the original has it only where the embeddings are narrower"),
}

BASE = {"layers": 12, "hidden": 768, "heads": 12, "embedding": 128}
LARGE = {"layers": 24, "hidden": 1024, "heads": 16, "embedding": 128}
XLARGE = {"layers": 24, "hidden": 2048, "heads": 16, "embedding": 128}
XXLARGE = {"layers": 12, "hidden": 4096, "heads": 64, "embedding": 128}

TRAITS = {
    "encoder": L[:-1],
    "repeats": "layers",
    "block_eps": "=block_norm_eps",
    "own": MLM_OWN,
    "heads": {
        "pooler": "pooler", "mlm": "lm", "sop": "pooled", "classifier": "pooled_or_tokens", "qa": "tokens", "span": "kept",
    },
}  # fmt: skip

GOOGLE_FORM = ConfigForm(
    filename="albert_config.json",
    keys={**KEYS, "hidden_act": Key("activation", words=GOOGLE_ACTIVATIONS)},
    implied={"norm_eps": 1e-12},
    defaults={**DEFAULTS, "groups": 1, "inner_groups": 1},
    also={"net_structure_type": 0, "gap_size": 0, "num_memory_blocks": 0, "down_scale_factor": 1},
)

ONE_GROUP = {
    "groups": (1, "bert4keras' ALBERT has one group of layers"),
    "inner_groups": (1, "bert4keras' ALBERT has one layer in its group"),
}
# bert4keras' norms of its layers add Keras' own epsilon
B4K_FORM = GOOGLE_FORM._replace(implied={"norm_eps": 1e-12, "block_norm_eps": 1e-7})

# bert4keras' albert_unshared, and its BERT of narrower embeddings: as many groups as layers, each of one layer of its own
UNSHARED = {"inner_groups": (1, "each of its layers has weights of its own")}
UNSHARED_FORM = GOOGLE_FORM._replace(
    keys={**{k: v for k, v in GOOGLE_FORM.keys.items() if v not in ("groups", "inner_groups", "layers")},
        "num_hidden_layers": Key("layers", more=("groups",))},
    defaults={**DEFAULTS, "inner_groups": 1}, also={},
)  # fmt: skip


def unshared(rows: Mapping[str, str | tuple[str, ...]]) -> dict[str, str | tuple[str, ...]]:
    """BERT's rows as ALBERT's: a layer is a group."""
    ours = {"nsp": "sop", "nsp.weight": "sop.weight", "nsp.bias": "sop.bias"}
    at = "encoder.layers.{layer}."
    return {k.replace("{layer}", "{group}{inner_group!}"): ours.get(v, v.replace(at, L)) for k, v in rows.items() if isinstance(v, str)}


B4K_LAYER = "Transformer-{group}-{inner_group}-"
HUB_KEYS: dict[str, str | Key] = {
    **hub.WITH_SEGMENTS,
    "embedding_dim": "embedding",
    "num_groups": "groups",
    "num_inner_repetitions": "inner_groups",
}
HUB_LAYER = "group_{group}_inner_layer_{inner_group}"

HF = Dialect(
    name="hf",
    title="transformers (PyTorch)",
    style=TORCH,
    prefixes=("albert.", ""),
    rows={
        **HF_EMBEDDINGS,
        "~encoder.embedding_hidden_mapping_in": "embeddings.project",
        H + "full_layer_layer_norm": L + "ffn.norm",
        H + "attention.query": L + "attention.query",
        H + "attention.key": L + "attention.key",
        H + "attention.value": L + "attention.value",
        H + "attention.dense": L + "attention.output",
        H + "attention.LayerNorm": L + "attention.norm",
        H + "ffn": L + "ffn.intermediate",
        H + "ffn_output": L + "ffn.output",
        "~pooler": "pooler",
        "predictions.bias": "mlm.decoder.bias",
        "predictions.LayerNorm": "mlm.norm",
        "predictions.dense": "mlm.transform",
        "predictions.decoder.weight": "mlm.decoder.weight",
        "sop_classifier.classifier": "sop",
        "classifier": "classifier",
        "qa_outputs": "qa",
    },
    besides=Besides(repeats={"predictions.decoder.bias": Repeat("mlm.decoder.bias", apart=True)}, derived=DERIVED),
    classes=(
        Class("AlbertModel", frozenset({"pooler"})),
        Class("AlbertForPreTraining", frozenset({"pooler", "mlm", "sop"})),
        Class("AlbertForMaskedLM", frozenset({"mlm"})),
        Class("AlbertForSequenceClassification", frozenset({"pooler", "classifier"})),
        Class("AlbertForTokenClassification", frozenset({"classifier"})),
        Class("AlbertForQuestionAnswering", frozenset({"qa"})),
        Class("AlbertForMultipleChoice", frozenset({"pooler", "classifier"}), labels=1),
    ),
    files=Files(metadata={"format": "pt"}, sidecars=PIECES),
    config=ConfigForm(
        filename="config.json",
        keys={**KEYS, **HF_KEYS},
        labels=True,
        marks={"model_type": "albert"},
        defaults={**DEFAULTS, "norm_eps": 1e-12, "activation": "gelu_tanh", "tied": True, "pad": 0, "groups": 1, "inner_groups": 1},
        also={"bos_token_id": 2, "eos_token_id": 3},
        usual=dict.fromkeys(("net_structure_type", "gap_size", "num_memory_blocks", "down_scale_factor", "layers_to_keep"), ...),
    ),
)

MEMORY = memory(HF, {**BERT.modules, "embeddings.project": ...})
TENSORFLOW = Dialect(
    name="google",
    title="google-research/albert (TensorFlow)",
    style=GOOGLE,
    container="tf",
    filename="model.ckpt-best",
    rows={
        "bert/embeddings/word_embeddings": "embeddings.word",
        "bert/embeddings/position_embeddings": "embeddings.position",
        "bert/embeddings/token_type_embeddings": "embeddings.segment",
        "bert/embeddings/LayerNorm": "embeddings.norm",
        "bert/encoder/embedding_hidden_mapping_in": "embeddings.project",
        G + "attention_1/self/query": L + "attention.query",
        G + "attention_1/self/key": L + "attention.key",
        G + "attention_1/self/value": L + "attention.value",
        G + "attention_1/output/dense": L + "attention.output",
        G + "LayerNorm": L + "attention.norm",
        G + "ffn_1/intermediate/dense": L + "ffn.intermediate",
        G + "ffn_1/intermediate/output/dense": L + "ffn.output",
        G + "LayerNorm_1": L + "ffn.norm",
        "bert/pooler/dense": "pooler",
        "cls/predictions/transform/dense": "mlm.transform",
        "cls/predictions/transform/LayerNorm": "mlm.norm",
        "cls/predictions/output_bias": "mlm.decoder.bias",
        "cls/seq_relationship/output_weights": "sop.weight",
        "cls/seq_relationship/output_bias": "sop.bias",
        "output_weights": "classifier.weight",
        "output_bias": "classifier.bias",
        "cls/squad/output_weights": "qa.weight",
        "cls/squad/output_bias": "qa.bias",
        "start_logits/dense": "span.start",
        "end_logits/dense_0": "span.end.dense",
        "end_logits/LayerNorm": "span.end.norm",
        "end_logits/dense_1": "span.end.output",
        "answer_class/dense_0": "span.answer.dense",
        "answer_class/dense_1": "span.answer.output",
    },
    lacks=NO_PROJECTION,
    config=GOOGLE_FORM,
)

ARCHITECTURE = Architecture(
    name="albert",
    title="ALBERT",
    called=("albert_unshared",),
    modules=MODULES,
    traits=TRAITS,
    relations=("hidden = heads head_dim", "pooled = hidden", "transformed = embedding"),
    fixed={"sop_labels": 2, "qa_labels": 2, "one": 1, "two": 2},
    rank=3,  # keras_hub numbers the layers of BERT, ELECTRA and ALBERT alike
    config_counts=("layers",),
    at_most=(("groups", "layers"),),
    variants={  # both versions have one shape
        "albert-base": BASE,
        "albert-large": LARGE,
        "albert-xlarge": XLARGE,
        "albert-xxlarge": XXLARGE,
        **{
            f"albert-{size}-{version}": {**shape, "vocab": 30000}
            for version in ("v2", "v1")
            for size, shape in (("base", BASE), ("large", LARGE), ("xlarge", XLARGE), ("xxlarge", XXLARGE))
        },
        "albert-tiny-zh": {"layers": 4, "hidden": 312, "heads": 12, "embedding": 128, "vocab": 21128},
        "albert-small-zh": {"layers": 6, "hidden": 384, "heads": 12, "embedding": 128, "vocab": 21128},
        "albert-base-zh": {**BASE, "vocab": 21128},
        "albert-large-zh": {**LARGE, "vocab": 21128},
        "albert-xlarge-zh": {**XLARGE, "vocab": 21128},
        "albert-xxlarge-zh": {**XXLARGE, "vocab": 21128},
    },
    dialects=(
        TENSORFLOW,
        HF,
        tf(
            MODULES,
            HF,
            "albert/",
            shared={"predictions": "mlm"},
            repeats={"predictions/decoder/bias": Repeat("mlm.decoder.bias", computes=True)},
        ),
        flax(MODULES, HF),
        MEMORY._replace(rows=unshared(MEMORY.rows), limits={"inner_groups": (1, "bert4torch's ALBERT has one layer in its group")}),
        hub.backbone(
            ("AlbertBackbone",),
            "albert.albert_backbone",
            (
                hub.TOKENS,
                hub.POSITIONS,
                hub.SEGMENTS,
                hub.NORM,
                Layer("embedding_projection", "dense"),
                Layer("group_{}_inner_layer_{}", "transformer_encoder", inner="num_inner_repetitions"),
                hub.POOLER,
            ),
            {
                **hub.EMBEDDINGS,
                "embedding_projection": "embeddings.project",
                **hub.layer_rows(HUB_LAYER, L),
                **hub.POOLED,
                **hub.MLM,
                **hub.CLASSIFIER,
            },
            keys=HUB_KEYS,
            implied={"activation": "gelu_tanh", "norm_eps": 1e-12, "mlm_activation": "gelu_tanh"},
            defaults=DEFAULTS,
            classifies=("classifier",),
            words=Vocabulary(
                hub.PIECES, otherwise="transformers' ALBERT lower-cases text, takes accents off and splits digits from commas first"
            ),
        ),
        b4k.weights(
            {
                **b4k.EMBEDDINGS,
                "Embedding-Mapping": "embeddings.project",
                **b4k.after(B4K_LAYER, L),
                **b4k.MLM,
                **b4k.POOLER,
                **b4k.MLM_BIAS,
                "NSP-Proba": "sop",
            },
            B4K_FORM,
            lacks=NO_PROJECTION,
            spelling=starting({"Transformer-0-0-": "Transformer-"}, layers),
            limits=ONE_GROUP,
        ),
        TENSORFLOW._replace(name="bert4keras", title="bert4keras (TensorFlow)", limits=ONE_GROUP, config=B4K_FORM),
        Dialect(
            name="bert4keras_unshared",
            title="bert4keras, embeddings narrower than BERT's layers (TensorFlow)",
            style=GOOGLE,
            container="tf",
            filename="bert_model.ckpt",
            rows={**unshared(BERT.dialects["google"].rows), "bert/encoder/embedding_hidden_mapping_in": "embeddings.project"},
            lacks=NO_PROJECTION,
            limits=UNSHARED,
            config=UNSHARED_FORM,
        ),
        b4k.weights(
            {**unshared(BERT.dialects["bert4keras_h5"].rows), "Embedding-Mapping": "embeddings.project"},
            UNSHARED_FORM,
            lacks=NO_PROJECTION,
            limits=UNSHARED,
        )._replace(
            name="bert4keras_unshared_h5", title="bert4keras, layers of ALBERT's width unshared (Keras layers)", alias="bert4keras_unshared"
        ),
        *albert_of_tf2(L, NO_PROJECTION),
    ),
)
