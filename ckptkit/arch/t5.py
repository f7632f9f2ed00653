"""T5 1.0 and 1.1 (and Flan-T5): encoder-decoder, bucketed relative positions, norms without a shift, linears without bias.

Source: tensorflow/mesh transformer/transformer.py, transformer_layers.py and google-research/text-to-text-transfer-transformer
t5/models/gin (names, sizes, operative_config.gin); transformers models/t5 (PyTorch names and classes, its configuration);
bojone/bert4keras models.py T5_Base and bojone/t5_in_bert4keras (its configuration).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ckptkit.arch._libraries import bert4keras as b4k
from ckptkit.arch._libraries import gguf_others
from ckptkit.arch._libraries import keras_hub as hub
from ckptkit.arch._libraries.bert4torch_memory import of_two_stacks
from ckptkit.arch._libraries.t5x import t5x
from ckptkit.arch._libraries.transformers import HF_ACTIVATIONS, PIECES, flax, of_bert4torch, of_layers, tf
from ckptkit.schema import (
    FLAX,
    HDF5,
    TORCH,
    Architecture,
    Besides,
    Class,
    ConfigForm,
    Dialect,
    Files,
    Key,
    Reader,
    Repeat,
    Style,
    Vocabulary,
    embedding,
    linear,
    norm,
    when,
)
from ckptkit.schema.library_names import Layer, objects

E = "encoder.layers.{layer}."
D = "decoder.layers.{decoder_layer}."


def _attention(group: str) -> dict[str, object]:
    return {
        **{k: linear("heads head_dim", "hidden", bias=False, group=group) for k in ("query", "key", "value")},
        "output": linear("hidden", "heads head_dim", bias=False, group=group),
        "norm": norm("hidden", bias=False, group=group),
    }


def _ffn(group: str) -> dict[str, object]:
    """1.0: `intermediate` is activated. 1.1: `gate` is activated and multiplied with `up`."""
    return {
        "intermediate": when("not gated", linear("intermediate", "hidden", bias=False, group=group)),
        "gate": when("gated", linear("intermediate", "hidden", bias=False, group=group)),
        "up": when("gated", linear("intermediate", "hidden", bias=False, group=group)),
        "output": linear("hidden", "intermediate", bias=False, group=group),
        "norm": norm("hidden", bias=False, group=group),
    }


MODULES = {
    "embeddings.word": embedding("vocab hidden"),
    "encoder.position_bias": embedding("buckets heads"),
    **{E + "attention." + k: m for k, m in _attention("core").items()},
    **{E + "ffn." + k: m for k, m in _ffn("core").items()},
    "encoder.norm": norm("hidden", bias=False),
    "decoder.position_bias": embedding("buckets heads", group="decoder"),
    **{D + "attention." + k: m for k, m in _attention("decoder").items()},
    **{D + "cross_attention." + k: m for k, m in _attention("decoder").items()},
    **{D + "ffn." + k: m for k, m in _ffn("decoder").items()},
    "decoder.norm": norm("hidden", bias=False, group="decoder"),
    "lm_head": linear("vocab", "hidden", bias=False, group="decoder", tied={"weight": "embeddings.word.weight"}),
    "qa": linear("qa_labels", "hidden", group="qa"),
    "classification.dense": linear("pooled", "hidden", group="classification"),
    "classification.output": linear("labels", "pooled", group="classification"),
    "classifier": linear("labels", "hidden", group="classifier"),
}

MESH: Style = {
    "linear": {"weight": ("transposed", ""), "bias": ("canonical", "/bias")},
    "norm": {"weight": ("canonical", "/scale")},
    "embedding": {"weight": ("canonical", "/embedding")},
}
_PARTS = {"query": "q", "key": "k", "value": "v", "output": "o"}
_FFN = {"intermediate": "wi", "gate": "wi_0", "up": "wi_1", "output": "wo"}
# (canonical module, stored block, stored layers: (canonical part, index, stored part))
_STACKS = (
    ("encoder", "layer", (("attention", 0, "SelfAttention"), ("ffn", 1, "DenseReluDense"))),
    (
        "decoder",
        "decoder_layer",
        (("attention", 0, "SelfAttention"), ("cross_attention", 1, "EncDecAttention"), ("ffn", 2, "DenseReluDense")),
    ),
)


def _stack_rows(join: str, block: str, layer: str, kernel: str, norms: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """The rows of both stacks, for the naming that writes {stack}/{block}/{layer}/{part}/{tensor} with `join` between."""
    for stack, holder, parts in _STACKS:
        for part, index, stored in parts:
            at = f"{stack}{join}{block.replace('N', holder)}{join}{layer.format(index)}{join}"
            ours = f"{stack}.layers.{{{holder}}}.{part}."
            for k, name in (_FFN if part == "ffn" else _PARTS).items():
                yield f"{at}{stored}{join}{name}{kernel if part == 'ffn' else ''}", ours + k
            yield " | ".join(at + n for n in norms), ours + "norm"


def mesh_rows(norms: tuple[str, ...], final: tuple[str, ...]) -> dict[str, str | tuple[str, ...]]:
    """Mesh TensorFlow's names; `norms` and `final` are those of its norms, the first of which is written."""
    rows: dict[str, str | tuple[str, ...]] = {"shared": "embeddings.word"}
    rows.update(_stack_rows("/", "block_{N:3}", "layer_{:03d}", "/kernel", norms))
    for stack in ("encoder", "decoder"):
        bias = (f"{stack}.position_bias.weight", "heads buckets")
        rows[f"{stack}/block_000/layer_000/SelfAttention/relative_attention_bias"] = bias
        rows[" | ".join(f"{stack}/{n}" for n in final)] = f"{stack}.norm"
    rows["decoder/logits/kernel"] = "lm_head"
    return rows


HF_ROWS: dict[str, str | tuple[str, ...]] = {
    "shared": "embeddings.word",
    **dict(_stack_rows(".", "block.{N}", "layer.{}", "", ("layer_norm",))),
    **{f"{s}.block.0.layer.0.SelfAttention.relative_attention_bias": f"{s}.position_bias" for s in ("encoder", "decoder")},
    **{f"{s}.final_layer_norm": f"{s}.norm" for s in ("encoder", "decoder")},
    "lm_head": "lm_head",
    "qa_outputs": "qa",
}
# transformers' classes of these heads keep the model itself under "transformer"
HF_HEADS = {
    "classification_head.dense": "classification.dense",
    "classification_head.out_proj": "classification.output",
    "classifier": "classifier",
}

# "gated-gelu" is the tanh approximation in transformers, whatever "gelu" is elsewhere
FEED_FORWARD = {
    **{w: (a, False) for w, a in HF_ACTIVATIONS.items()},
    "gated-gelu": ("gelu_tanh", True),
    **{f"gated-{w}": (a, True) for w, a in HF_ACTIVATIONS.items() if w != "gelu"},
}
KEYS: dict[str, str | Key] = {
    "vocab_size": "vocab",
    "d_model": "hidden",
    "d_kv": "head_dim",
    "d_ff": "intermediate",
    "num_layers": "layers",
    "num_decoder_layers": "decoder_layers",
    "num_heads": "heads",
    "relative_attention_num_buckets": "buckets",
    "relative_attention_max_distance": "max_distance",
    "dropout_rate": "dropout",
    "eos_token_id": Key("eos", required=False),
    "layer_norm_epsilon": "norm_eps",
    "initializer_factor": "initializer_factor",
    "feed_forward_proj": Key("activation", words=FEED_FORWARD, more=("gated",)),
    "dense_act_fn": Key("activation", words=HF_ACTIVATIONS),
    "is_gated_act": "gated",
    "tie_word_embeddings": "tied",
    "scale_decoder_outputs": Key("scaled", required=False),  # before the head: once read off the tying, its own key since
}
DEFAULTS: dict[str, object] = {
    "decoder_layers": "=layers", "buckets": 32, "max_distance": 128, "dropout": 0.1, "norm_eps": 1e-6, "initializer_factor": 1.0,
    "tied": True, "scaled": "=tied",
}  # fmt: skip
TABLE = {"buckets": lambda _: 32}  # class T5_Encoder
SELF: Mapping[str, object] = {"cross_bias": False}  # only scores of a stack with itself have its table's added, but in bert4keras
UNREAD = {"n_positions": ...}
ALSO: dict[str, object] = {"decoder_start_token_id": 0, "eos_token_id": 1, "is_encoder_decoder": True, "pad_token_id": 0, "use_cache": True}


def read_gin(text: str) -> dict[str, object]:
    """The model's sizes in an operative_config.gin, under the keys of `KEYS`."""
    from ckptkit.support.gin import bindings, value

    found = bindings(text)

    def of(name: str, stack: str = "encoder") -> object:
        return value(found, stack, name)

    said = {
        "d_model": of("Unitransformer.d_model"),
        "d_kv": of("SelfAttention.key_value_size"),
        "d_ff": of("DenseReluDense.hidden_size"),
        "num_heads": of("SelfAttention.num_heads"),
        "num_layers": of("make_layer_stack.num_layers"),
        "num_decoder_layers": of("make_layer_stack.num_layers", "decoder"),
        "relative_attention_num_buckets": of("SelfAttention.relative_attention_num_buckets"),
        "dropout_rate": of("DenseReluDense.dropout_rate"),
        "layer_norm_epsilon": of("sublayer_rms_norm.epsilon") or of("LayerStack.norm_epsilon") or 1e-6,
        "tie_word_embeddings": of("Unitransformer.shared_embedding_and_softmax_weights", "decoder"),
        "feed_forward_proj": GIN_ACTIVATIONS.get(str(of("DenseReluDense.activation"))),
    }
    return {k: v for k, v in said.items() if v is not None}


GIN = {"operative_config.gin": read_gin}
GIN_ACTIVATIONS = {
    "relu": "relu", "gelu": "gelu_new", "swish": "silu", "['relu']": "relu", "['gelu', 'linear']": "gated-gelu",
    "['relu', 'linear']": "gated-relu", "['swish', 'linear']": "gated-silu",  # mesh's "gelu" is the tanh approximation
}  # fmt: skip
B4K_ACTIVATIONS: Mapping[str | tuple[str, ...], object] = {
    **{a: (m, False) for a, m in (*((w, w) for w in ("relu", "gelu_tanh", "tanh", "linear")), ("gelu_erf", "gelu"), ("gelu", "gelu_tanh"))},
    **{
        (a, "linear"): (m, True)
        for a, m in (("gelu", "gelu_tanh"), ("gelu_tanh", "gelu_tanh"), ("gelu_erf", "gelu"), ("relu", "relu"), ("swish", "silu"))
    },
}
MESH_STRAY = "decoder/block_000/layer_001/EncDecAttention/relative_attention_bias"
AGAIN = "what bert4torch keeps in each layer of the first one's table"
IGNORED = "an unused bias that older versions of transformers kept"


def _b4k_rows() -> Iterator[tuple[str, str | tuple[str, ...]]]:
    """bert4keras' Keras layers, in the order of its model."""
    yield "Embedding-Token", "embeddings.word"
    for stack, holder, name in (("encoder", "layer", "Encoder"), ("decoder", "decoder_layer", "Decoder")):
        layer, ours = f"{name}-Transformer-{{{holder}}}-", f"{stack}.layers.{{{holder}}}."
        yield f"{name}-Embedding-Relative-Position", f"{stack}.position_bias"
        yield from ((k, v) for k, v in b4k.before(layer, ours).items() if "FeedForward" not in k)
        if stack == "decoder":
            yield f"{layer}MultiHeadCrossAttention-Norm", ours + "cross_attention.norm"
            yield from b4k.attention(layer + "MultiHeadCrossAttention", ours + "cross_attention").items()
        yield f"{layer}FeedForward-Norm", ours + "ffn.norm"
        for place, part in (("1of2", "intermediate"), ("1of3", "gate"), ("2of3", "up"), ("last", "output")):
            yield f"{layer}FeedForward/{place}", f"{ours}ffn.{part}"
        yield f"{name}-Output-Norm", f"{stack}.norm"
    yield "Decoder-Output-LM", "lm_head"


HEAD = frozenset({"lm_head.weight"})  # which its model of 1.1 has, tied or not
B4K_ROWS: dict[str, str | tuple[str, ...]] = dict(_b4k_rows())


def _hub_rows() -> Iterator[tuple[str, str | tuple[str, ...]]]:
    """keras_hub's T5: in a gated layer the activated projector is the gate, elsewhere the only one."""
    yield "token_embedding", "embeddings.word"
    yield "token_embedding/1", ("lm_head.weight", "hidden vocab")
    for stack, holder in (("encoder", "layer"), ("decoder", "decoder_layer")):
        layer, ours = f"transformer_{stack}_layer_{{{holder}}}/", f"{stack}.layers.{{{holder}}}."
        for theirs, mine in (("self_attention", "attention"), ("cross_attention", "cross_attention"))[: 1 + (stack == "decoder")]:
            for part in ("query", "key", "value", "output"):
                yield f"{layer}{theirs}/{part}_projector", f"{ours}{mine}.{part}"
            yield f"{layer}{theirs}_layer_norm", f"{ours}{mine}.norm"
        for part, name in (
            ("intermediate", "input_projector"),
            ("gate", GATED_INPUT),
            ("up", "gate_projector"),
            ("output", "output_projector"),
            ("norm", "layer_norm"),
        ):
            yield layer + name, f"{ours}ffn.{part}"
        yield f"transformer_{stack}_layer_0/self_attention", f"{stack}.position_bias"
        yield f"{stack}_output_layer_norm", f"{stack}.norm"


GATED_INPUT = "gated_input_projector"
HUB_ROWS: dict[str, str | tuple[str, ...]] = dict(_hub_rows())
HUB_NAMES = objects(
    hub.TOKENS,
    Layer("transformer_encoder_layer_{}", "t5_transformer_layer"),
    Layer("transformer_decoder_layer_{}", "t5_transformer_layer", mark="cross_attention"),
    Layer("encoder_output_layer_norm", "t5_layer_norm"),
    Layer("decoder_output_layer_norm", "t5_layer_norm"),
    beside={"input_projector": ("gate_projector", GATED_INPUT)},
)
GELU_TANH = ("keras_hub>gelu_approximate", "keras_nlp>gelu_approximate", "gelu_approximate")
HUB_ACTIVATIONS = {w: w for w in ("relu", "gelu", "silu", "tanh", "linear")} | dict.fromkeys(GELU_TANH, "gelu_tanh")
HUB_KEYS: dict[str, str | Key] = {
    "vocabulary_size": "vocab",
    "num_layers": Key("layers", more=("decoder_layers",)),
    "num_heads": "heads",
    "hidden_dim": "hidden",
    "intermediate_dim": "intermediate",
    "key_value_dim": Key("head_dim", required=False),  # null: hidden / heads
    "dropout": "dropout",
    "activation": Key("activation", words=HUB_ACTIVATIONS),
    "use_gated_activation": "gated",
    "layer_norm_epsilon": "norm_eps",
    "tie_embedding_weights": "tied",
}


def dialects(
    model_type: str, classes: tuple[Class, ...], norms: tuple[str, ...], final: tuple[str, ...], keys: Mapping[str, str | Key],
    defaults: Mapping[str, object],
    implied: Mapping[str, object] = {},
) -> tuple[Dialect, ...]:  # fmt: skip
    """T5's namings, for a model type: mesh, bert4keras (the same names, its own configuration) and hf, whose code takes `implied`."""
    mesh = Dialect(
        name="mesh",
        title="Mesh TensorFlow (google-research/text-to-text-transfer-transformer)",
        style=MESH,
        container="tf",
        filename="model.ckpt",
        rows=mesh_rows(norms, final),
        besides=Besides(strays={MESH_STRAY: "an unused bias of the cross-attention"}),
        classes=classes,
        config=ConfigForm(
            "config.json", keys, marks={"model_type": model_type}, implied=SELF, defaults=defaults, also=ALSO, reader=Reader(texts=GIN)
        ),
    )
    bert4keras = mesh._replace(
        name="bert4keras",
        title="bert4keras (Mesh TensorFlow's names)",
        classes=(),
        unties=HEAD, unties_where="gated",
        config=ConfigForm(
            filename="config.json",
            keys={
                "vocab_size": "vocab",
                "hidden_size": "hidden",
                "attention_head_size": "head_dim",
                "num_hidden_layers": Key("layers", more=("decoder_layers",)),
                "num_attention_heads": "heads",
                "intermediate_size": "intermediate",
                "hidden_act": Key("activation", words=B4K_ACTIVATIONS, more=("gated",)),
                "hidden_dropout_prob": "dropout",
                "cross_position_bias": "cross_bias",
            },
            implied={"norm_eps": 1e-6, "scaled": True},  # class T5_Decoder: 1.1's head, which it never ties, as well
            defaults={"decoder_layers": "=layers", "dropout": 0.1, "gated": defaults["gated"], "cross_bias": True}, follows=TABLE,
        ),
    )
    hf = Dialect(
        name="hf",
        title="transformers (PyTorch)",
        style=TORCH,
        prefixes=("", "transformer."),
        rows={**{f"~{k}": v for k, v in HF_ROWS.items()}, **HF_HEADS},
        besides=Besides(
            repeats={
                "~encoder.embed_tokens.weight": "embeddings.word.weight",
                "~decoder.embed_tokens.weight": Repeat("embeddings.word.weight", "decoder"),
            },
            strays={"~decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight": IGNORED, **of_layers(AGAIN)},
        ),
        classes=classes,
        files=Files(metadata={"format": "pt"}, sidecars=PIECES),
        config=ConfigForm(
            "config.json", keys, marks={"model_type": model_type}, implied={**SELF, **implied}, defaults=defaults, also=ALSO, labels=True,
            usual=UNREAD, reader=Reader(unfold=of_bert4torch(KEYS, model_type)),
        ),
    )
    scale = ("canonical", "/weight")
    trunk = hf._replace(prefixes=("",), rows=HF_ROWS, classes=tuple(c for c in classes if not c.groups & {"classification", "classifier"}))
    return (
        mesh,
        bert4keras,
        hf,
        *(of_two_stacks(hf, MODULES, gated=g) for g in (False, True)),
        t5x(hf),
        tf(
            MODULES,  # type: ignore[arg-type]
            trunk, "", tied=True, style={**HDF5, "norm": {"weight": scale}}, weights=(), shared={"encoder": "", "decoder": "decoder"},
        ),
        flax(MODULES, trunk, style={**FLAX, "norm": {"weight": scale}}, without=("qa",)),  # type: ignore[arg-type]
        b4k.weights(B4K_ROWS, bert4keras.config)._replace(unties=HEAD, unties_where="gated"),
    )


HUB = hub.backbone(
    ("T5Backbone",),
    "t5.t5_backbone",
    HUB_NAMES,
    HUB_ROWS,
    keys=HUB_KEYS,
    implied={"buckets": 32, "max_distance": 128, **SELF},
    needs=("decoder",),
    tasks=("Seq2SeqLM",),
    words=Vocabulary(hub.PIECES),
    defaults={"dropout": 0.1, "norm_eps": 1e-6, "gated": True, "tied": True, "decoder_layers": "=layers"},
)


def classes(prefix: str) -> tuple[Class, ...]:
    """transformers' classes; the one with the head first, since a tied head is in no file."""
    return (
        Class(prefix + "ForConditionalGeneration", frozenset({"decoder"})),
        Class(prefix + "Model", frozenset({"decoder"}), without=frozenset({"lm_head.weight"})),
        Class(prefix + "EncoderModel", frozenset()),
        Class(prefix + "ForQuestionAnswering", frozenset({"decoder", "qa"})),
        Class(prefix + "ForSequenceClassification", frozenset({"decoder", "classification"})),
        Class(prefix + "ForTokenClassification", frozenset({"classifier"})),
    )


GATED = {
    "small": {"layers": 8, "hidden": 512, "heads": 6, "intermediate": 1024},
    "base": {"layers": 12, "hidden": 768, "heads": 12, "intermediate": 2048},
    "large": {"layers": 24, "hidden": 1024, "heads": 16, "intermediate": 2816},
    "xl": {"layers": 24, "hidden": 2048, "heads": 32, "intermediate": 5120},
    "xxl": {"layers": 24, "hidden": 4096, "heads": 64, "intermediate": 10240},
}

TRAITS = {
    "encoder": E[:-1],
    "decoder": D[:-1],
    "norm": "before",
    "norm_kind": "rms",
    "scaled": False,  # the initialisation makes up for it
    "positions": "bucketed",
    "bucket_distance": "=max_distance",
    "eos": "=eos",
    "attention_dropout": "=dropout",
    "heads": {"decoder": "part", "lm": "lm at lm_head", "qa": "tokens", "classification": "ended", "classifier": "tokens"},
    "head_scaled": "=scaled",
    "cross_distances": "=cross_bias",
    # mesh_tensorflow transformer_layers.py: the queries so small that unscaled scores are of size one
    "init": {
        "*.attention.query.weight": "normal query", "*.cross_attention.query.weight": "normal query",
        "embeddings.word.weight": "normal 1.0",
        "*.position_bias.weight": "normal hidden**-0.5", "lm_head.weight": "normal 1.0", "*.weight": "normal in**-0.5",
    },
}  # fmt: skip

ARCHITECTURE = Architecture(
    name="t5",
    title="T5",
    called=("t5.1.0", "t5.1.1"),
    modules=MODULES,  # type: ignore[arg-type]
    traits=TRAITS,
    relations=("pooled = hidden",),
    fixed={"qa_labels": 2},
    variants={
        "t5-small": {"layers": 6, "hidden": 512, "heads": 8, "intermediate": 2048},
        "t5-base": {"layers": 12, "hidden": 768, "heads": 12, "intermediate": 3072},
        "t5-large": {"layers": 24, "hidden": 1024, "heads": 16, "intermediate": 4096},
        "t5-3b": {"layers": 24, "hidden": 1024, "heads": 32, "intermediate": 16384},
        "t5-11b": {"layers": 24, "hidden": 1024, "heads": 128, "intermediate": 65536},
        **{f"{family}-{size}": v for family in ("t5-v1.1", "flan-t5") for size, v in GATED.items()},
    },
    dialects=(
        gguf_others.t5(),
        gguf_others.t5(gated=True),
        *dialects(
            "t5",
            classes("T5"),
            ("layer_norm", "rms_norm"),
            ("final_layer_norm", "rms_norm"),
            KEYS,
            {**DEFAULTS, "activation": "relu", "gated": False},
        ),
        HUB,
    ),
)
