"""GPT-2: a decoder whose norms come first, one more norm at its end, the output tied to the word embeddings.

Sources: openai/gpt-2 src/model.py and hparams.json (TensorFlow names); transformers models/gpt2 (PyTorch names, classes, the
older masks); bert4keras models.py, class GPT2 (the names of its TensorFlow checkpoints), backend.py. There "gelu" is whichever
form the program chose (set_gelu), which no file says; it is read as the one that GPT models are trained with, and written by name.
karpathy/nanoGPT model.py, train.py: transformers' names with plain linear layers, with biases or without; which gelu it computed (the tanh
form until the middle of 2023, then the exact one) no file says, so it is asked for. `_libraries.uer` for UER-py.
"""

from __future__ import annotations

from collections.abc import Mapping

from ckptkit.arch._libraries import bert4keras as b4k
from ckptkit.arch._libraries import gguf_others, megatron_flat, uer
from ckptkit.arch._libraries import keras_hub as hub
from ckptkit.arch._libraries.bert4torch_memory import memory
from ckptkit.arch._libraries.megatron import megatron
from ckptkit.arch._libraries.transformers import BYTE_PAIRS, HF_ACTIVATIONS, flax, of_bert4torch, tf
from ckptkit.arch.bert import DEFAULTS
from ckptkit.arch.bert import SIZES as BERT_SIZES
from ckptkit.schema import (
    CONV1D,
    FLAX,
    GOOGLE,
    HDF5,
    TORCH,
    Architecture,
    Besides,
    Class,
    ConfigForm,
    Derived,
    Dialect,
    Files,
    Key,
    Lack,
    Library,
    Reader,
    Style,
    Vocabulary,
    Writer,
    embedding,
    linear,
    norm,
)
from ckptkit.schema.library_names import Layer

D = "decoder.layers.{layer}."

BLOCK = {
    D + "attention.norm": norm("hidden"),
    D + "attention.query": linear("heads head_dim", "hidden"),
    D + "attention.key": linear("heads head_dim", "hidden"),
    D + "attention.value": linear("heads head_dim", "hidden"),
    D + "attention.output": linear("hidden", "heads head_dim"),
    D + "ffn.norm": norm("hidden"),
    D + "ffn.intermediate": linear("intermediate", "hidden"),
    D + "ffn.output": linear("hidden", "intermediate"),
}
HEADS = {
    "lm_head": linear("vocab", "hidden", group="lm", bias=False, tied={"weight": "embeddings.word.weight"}),
    "multiple_choice": linear("choices", "hidden", group="multiple_choice"),
    "score": linear("labels", "hidden", group="score", bias=False),
}
MODULES = {
    "embeddings.word": embedding("vocab hidden"),
    "embeddings.position": embedding("positions hidden"),
    **BLOCK,
    "decoder.norm": norm("hidden"),
    **HEADS,
    "classifier": linear("labels", "hidden", group="classifier"),
    "qa": linear("qa_labels", "hidden", group="qa"),
}

# openai's own naming: a linear layer is a convolution of width one
OPENAI: Style = {
    "linear": {"weight": ("conv", "/w"), "bias": ("canonical", "/b")},
    "norm": {"weight": ("canonical", "/g"), "bias": ("canonical", "/b")},
    "embedding": {"weight": ("canonical", "")},
    "param": {"": ("canonical", "")},
}


def _joined(suffix: str, layout: str) -> tuple[str, ...]:
    return (*(f"{D}attention.{part}.{suffix}" for part in ("query", "key", "value")), layout)


O = "model/h{layer}/"  # noqa: E741
OPENAI_BLOCK: dict[str, str | tuple[str, ...]] = {
    O + "attn/c_attn/w": _joined("weight", "1 hidden *(heads head_dim)"),
    O + "attn/c_attn/b": _joined("bias", "*(heads head_dim)"),
    O + "attn/c_proj": D + "attention.output",
    O + "ln_1": D + "attention.norm",
    O + "mlp/c_fc": D + "ffn.intermediate",
    O + "mlp/c_proj": D + "ffn.output",
    O + "ln_2": D + "ffn.norm",
}
H = "~h.{layer}."
HF_BLOCK: dict[str, str | tuple[str, ...]] = {
    H + "ln_1": D + "attention.norm",
    H + "attn.c_attn.weight": _joined("weight", "hidden *(heads head_dim)"),
    H + "attn.c_attn.bias": _joined("bias", "*(heads head_dim)"),
    H + "attn.c_proj": D + "attention.output",
    H + "ln_2": D + "ffn.norm",
    H + "mlp.c_fc": D + "ffn.intermediate",
    H + "mlp.c_proj": D + "ffn.output",
}
# transformers' TF and Flax classes: its Conv1D has a bias with a unit dimension in one, (out, in) weights in the other
TF_CONV1D: Style = {**HDF5, "linear": {"weight": ("transposed", "/weight"), "bias": ("row", "/bias")}}
TF_BLOCK: dict[str, str | tuple[str, ...]] = {
    "~h_._{layer}/attn/c_attn/weight": _joined("weight", "hidden *(heads head_dim)"),
    "~h_._{layer}/attn/c_attn/bias": _joined("bias", "1 *(heads head_dim)"),
}
TF_HEADS: dict[str, str | tuple[str, ...]] = {  # these are Keras' Dense
    "multiple_choice_head/summary/kernel": ("multiple_choice.weight", "hidden choices"),
    "multiple_choice_head/summary/bias": "multiple_choice.bias",
    "score/kernel": ("score.weight", "hidden labels"),
}
FLAX_CONV1D: Style = {**FLAX, "linear": {"weight": ("canonical", "/kernel"), "bias": ("canonical", "/bias")}}
FLAX_BLOCK: dict[str, str | tuple[str, ...]] = {
    "~h/{layer}/attn/c_attn/kernel": _joined("weight", "*(heads head_dim) hidden"),
    "~h/{layer}/attn/c_attn/bias": _joined("bias", "*(heads head_dim)"),
}
HF_HEADS: dict[str, str | tuple[str, ...]] = {  # these are torch.nn.Linear, unlike the layers
    "lm_head.weight": "lm_head.weight",
    "multiple_choice_head.summary.weight": "multiple_choice.weight",
    "multiple_choice_head.summary.bias": "multiple_choice.bias",
    "score.weight": "score.weight",
}
HF_MASKS = {H + "attn.bias": Derived("causal", "1 1 queries positions")}
HF_STRAYS = {H + "attn.masked_bias": "the number that older versions put where the mask hides a score"}
HF_SIZES: dict[str, str | Key] = {
    "n_positions": "positions",
    "n_embd": "hidden",
    "n_layer": "layers",
    "n_head": "heads",
    "resid_pdrop": "dropout",
    "embd_pdrop": "embedding_dropout",
    "attn_pdrop": "attention_dropout",
    "layer_norm_epsilon": "norm_eps",
    "initializer_range": "initializer_range",
    "tie_word_embeddings": "tied",
}
HF_DEFAULTS = {**DEFAULTS, "embedding_dropout": 0.1, "activation": "gelu_tanh", "norm_eps": 1e-5, "tied": True}
# what its classes of two heads do by default; what nothing reads any more
HF_USUAL = {
    "summary_type": "cls_index",
    "summary_use_proj": True,
    "summary_proj_to_labels": True,
    "n_ctx": ...,
    "predict_special_tokens": ...,
    "pad_token_id": ...,  # which token is the last of a text that is classified; here the mask says it
}
HPARAMS: dict[str, str | Key] = {"n_vocab": "vocab", "n_ctx": "positions", "n_embd": "hidden", "n_head": "heads", "n_layer": "layers"}
OPENAI_IMPLIED = {"intermediate": "=4 hidden", "norm_eps": 1e-5, "tied": True}
B4K_KEYS: dict[str, str | Key] = {
    **{k: v for k, v in BERT_SIZES.items() if v != "segments"},
    "hidden_act": Key(
        "activation",
        words={
            "gelu_tanh": "gelu_tanh",
            "gelu_erf": "gelu",
            "gelu": "gelu_tanh",
            "relu": "relu",
            "tanh": "tanh",
            "swish": "silu",
            "linear": "linear",
        },
    ),
}


def end_of_text(values: Mapping[str, object]) -> int | None:
    """The token that begins and ends a text: the last of the published vocabulary; None for a smaller one, which has its own."""
    vocab = values.get("vocab")
    return 50256 if isinstance(vocab, int) and vocab > 50256 else None


def causal(shape: tuple[int, ...]) -> object:
    """The mask that older versions keep in every layer: ones on and below the diagonal."""
    import numpy as np

    return np.broadcast_to(np.tril(np.ones(shape[-2:])), shape)


B = "gpt/transformer/layer_{layer}/"

TRAITS = {
    "decoder": D[:-1],
    "norm": "before",
    "mask": "causal",
    "scaled": "=scaled",
    "scaled_by_layer": "=scaled_by_layer",
    "heads": {"lm": "lm", "multiple_choice": "last", "score": "last", "classifier": "tokens", "qa": "tokens"},
    "init": {"embeddings.position.weight": "normal 0.01", "*": "normal"},
}

HF_KEYS: dict[str, str | Key] = {
    "vocab_size": "vocab",
    **HF_SIZES,
    "n_inner": Key("intermediate", required=False),
    "activation_function": Key("activation", words=HF_ACTIVATIONS),
    "scale_attn_weights": "scaled",
    "scale_attn_by_inverse_layer_idx": "scaled_by_layer",
}


HF = Dialect(
    name="hf",
    title="transformers (PyTorch)",
    style=CONV1D,
    prefixes=("transformer.", ""),
    rows={
        "~wte": "embeddings.word",
        "~wpe": "embeddings.position",
        **HF_BLOCK,
        "~ln_f": "decoder.norm",
        **HF_HEADS,
        "classifier.weight": "classifier.weight",
        "classifier.bias": "classifier.bias",
        "qa_outputs.weight": "qa.weight",
        "qa_outputs.bias": "qa.bias",
    },
    besides=Besides(derived=HF_MASKS, strays=HF_STRAYS),
    files=Files(sidecars=BYTE_PAIRS, metadata={"format": "pt"}),
    classes=(
        Class("GPT2LMHeadModel", frozenset({"lm"})),
        Class("GPT2Model", frozenset()),
        Class("GPT2DoubleHeadsModel", frozenset({"lm", "multiple_choice"})),
        Class("GPT2ForSequenceClassification", frozenset({"score"})),
        Class("GPT2ForTokenClassification", frozenset({"classifier"})),
        Class("GPT2ForQuestionAnswering", frozenset({"qa"})),
    ),
    config=ConfigForm(
        filename="config.json",
        keys=HF_KEYS,
        labels=True,
        marks={"model_type": "gpt2"},
        defaults={**HF_DEFAULTS, "scaled": True, "scaled_by_layer": False, "intermediate": "=4 hidden"},
        also={"bos_token_id": end_of_text, "eos_token_id": end_of_text},
        usual=HF_USUAL,
        reader=Reader(unfold=of_bert4torch(HF_KEYS, "gpt2")),
    ),
)

# what the TF and Flax classes name alike
TRUNK = HF._replace(rows={k: v for k, v in HF.rows.items() if k.startswith("~") and "c_attn" not in k})

NANO_BLOCK: dict[str, str | tuple[str, ...]] = {
    **HF_BLOCK,
    H + "attn.c_attn.weight": _joined("weight", "*(heads head_dim) hidden"),
}
NANO_KEYS: dict[str, str | Key] = {
    "block_size": "positions",
    "vocab_size": "vocab",
    **{k: HF_SIZES[k] for k in ("n_embd", "n_layer", "n_head")},
    "dropout": Key("dropout", more=("embedding_dropout", "attention_dropout")),
}


def read_nanogpt(extras: Mapping[str, object]) -> dict[str, object] | None:
    """The settings in a checkpoint of nanoGPT's train.py."""
    said = extras.get("model_args")
    if not isinstance(said, Mapping) or "block_size" not in said:
        return None
    ours = extras.get("ckptkit")
    return {**{str(k): v for k, v in said.items()}, **({"ckptkit": dict(ours)} if isinstance(ours, Mapping) else {})}


def write_nanogpt(raw: dict[str, object]) -> dict[str, object]:
    """What nanoGPT's loader expects beside `model`: no word more among the settings, which are the arguments of its class."""
    ours = {"ckptkit": raw["ckptkit"]} if "ckptkit" in raw else {}
    return {"model_args": {k: v for k, v in raw.items() if k in NANO_KEYS or k == "bias"}, **ours}


def _nanogpt(*, bias: bool) -> Dialect:
    rows: dict[str, str | tuple[str, ...]] = {
        "~wte": "embeddings.word",
        "~wpe": "embeddings.position",
        **NANO_BLOCK,
        "~ln_f": "decoder.norm",
    }
    without = "nanoGPT with bias=False has no biases"
    if not bias:
        rows = {
            f"{k}.weight" if what in MODULES else k: f"{what}.weight" if what in MODULES else what
            for k, what in rows.items()
            if not k.endswith(".bias")
        }
    return Dialect(
        name="nanogpt" if bias else "nanogpt_nobias",
        title=f"nanoGPT (PyTorch{'' if bias else ', no biases'})",
        style=TORCH,
        prefixes=("transformer.",),
        container="torch",
        filename="ckpt.pt",
        rows={**rows, "lm_head.weight": "lm_head.weight"},
        besides=Besides(derived=HF_MASKS),
        files=Files(wrapper="model"),
        library=Library(needs=frozenset({"lm"})),
        lacks={} if bias else {f"{m}.bias": Lack(0.0, why=without) for m in (*BLOCK, "decoder.norm")},
        config=ConfigForm(
            filename="",
            keys=NANO_KEYS,
            marks={"bias": bias},
            implied={"intermediate": "=4 hidden", "norm_eps": 1e-5, "tied": True, "scaled": True, "scaled_by_layer": False},
            defaults={**DEFAULTS, "embedding_dropout": 0.0, "dropout": 0.0, "attention_dropout": 0.0},
            reader=Reader(extras=read_nanogpt),
            writer=Writer(extras=write_nanogpt),
        ),
    )


B4K_FORM = ConfigForm(
    filename="gpt_config.json",
    keys=B4K_KEYS,
    implied={"norm_eps": 1e-5, "tied": True, "scaled": True, "scaled_by_layer": False},
    defaults=DEFAULTS,
    usual={"type_vocab_size": ...},  # its GPT-2 takes no segments, whatever a configuration says
    also={"type_vocab_size": 0},
)

ARCHITECTURE = Architecture(
    name="gpt2",
    title="GPT-2",
    modules=MODULES,
    traits=TRAITS,
    relations=("hidden = heads head_dim",),
    fixed={"qa_labels": 2},
    derivations={"causal": causal},
    variants={
        "gpt2": {"layers": 12, "hidden": 768, "heads": 12},
        "gpt2-medium": {"layers": 24, "hidden": 1024, "heads": 16},
        "gpt2-large": {"layers": 36, "hidden": 1280, "heads": 20},
        "gpt2-xl": {"layers": 48, "hidden": 1600, "heads": 25},
        "distilgpt2": {"layers": 6, "hidden": 768, "heads": 12},
    },
    dialects=(
        gguf_others.gpt2(),
        *megatron(
            MODULES,
            heads="(heads *(head_dim))",
            keys={"max_position_embeddings": "positions"},
            implied={"activation": "gelu_tanh", "scaled": True, "scaled_by_layer": False},
            without=("kv_heads", "head_dim", "rope_theta", "max_positions"),
        ),
        Dialect(
            name="openai",
            title="openai/gpt-2 (TensorFlow)",
            style=OPENAI,
            container="tf",
            filename="model.ckpt",
            rows={
                "model/wte": "embeddings.word",
                "model/wpe": "embeddings.position",
                **OPENAI_BLOCK,
                "model/ln_f": "decoder.norm",
            },
            files=Files(sidecars={"bpe vocabulary": "encoder.json", "bpe merges": "vocab.bpe"}),
            config=ConfigForm(
                filename="hparams.json",
                keys=HPARAMS,
                implied={**OPENAI_IMPLIED, "activation": "gelu_tanh", "scaled": True, "scaled_by_layer": False},
            ),
        ),
        HF,
        memory(HF, MODULES),
        tf(MODULES, TRUNK, "transformer/", weights=(), style=TF_CONV1D, rows={**TF_BLOCK, **TF_HEADS}),
        flax(
            MODULES,
            TRUNK,
            style=FLAX_CONV1D,
            rows={**FLAX_BLOCK, "lm_head/kernel": ("lm_head.weight", "hidden vocab")},
            without=("multiple_choice", "score", "classifier", "qa"),
            prefixed=True,
        ),
        hub.backbone(
            ("GPT2Backbone",),
            "gpt2.gpt2_backbone",
            (hub.TOKENS, hub.POSITIONS, hub.DECODER, Layer("layer_norm", "layer_normalization")),
            {
                "token_embedding": "embeddings.word",
                "position_embedding": "embeddings.position",
                **hub.layer_rows("transformer_layer_{layer}", D),
                "layer_norm": "decoder.norm",
            },
            keys=hub.SIZES,
            implied={"activation": "gelu_tanh", "norm_eps": 1e-5, "tied": True, "scaled": True, "scaled_by_layer": False},
            needs=(),
            tasks=("CausalLM",),
            words=Vocabulary(hub.BYTE_PAIRS, ("<|endoftext|>",)),
        ),
        Dialect(
            name="bert4keras",
            title="bert4keras (TensorFlow)",
            style=GOOGLE,
            container="tf",
            filename="gpt_model.ckpt",
            rows={
                "gpt/embeddings/word_embeddings": "embeddings.word",
                "gpt/embeddings/position_embeddings": "embeddings.position",
                B + "attention/input/LayerNorm": D + "attention.norm",
                B + "attention/self/query": D + "attention.query",
                B + "attention/self/key": D + "attention.key",
                B + "attention/self/value": D + "attention.value",
                B + "attention/output/dense": D + "attention.output",
                B + "input/LayerNorm": D + "ffn.norm",
                B + "intermediate/dense": D + "ffn.intermediate",
                B + "output/dense": D + "ffn.output",
                "gpt/output/LayerNorm": "decoder.norm",
            },
            config=B4K_FORM,
        ),
        b4k.weights(
            {
                "Embedding-Token": "embeddings.word",
                "Embedding-Position": "embeddings.position",
                **b4k.before("Transformer-{layer}-", D),
                "Output-Norm": "decoder.norm",
            },
            B4K_FORM,
        ),
        _nanogpt(bias=True),
        _nanogpt(bias=False),
        uer.gpt2(D, DEFAULTS),
        megatron_flat.gpt2(HF, D, {"activation": "gelu_tanh", "norm_eps": 1e-5}),
    ),
)
