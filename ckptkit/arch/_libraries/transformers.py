"""What transformers' TensorFlow and Flax classes make of its PyTorch names, and the rows that its BERT-like encoders share.

Source: transformers 4.30 modeling_tf_utils.py, modeling_tf_pytorch_utils.py (how a TF weight is called in PyTorch), modeling_flax_utils.py,
modeling_flax_pytorch_utils.py, and files that its classes wrote. TF: every part of a path is a Keras layer, a numbered one
"layer_._0"; Flax: the same parts as nested keys. Both store linear weights (in, out).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from ckptkit.schema import FLAX, HDF5, Besides, Derived, Dialect, Files, Key, Module, Repeat, Style
from ckptkit.schema.layout import parse
from ckptkit.schema.library_names import AGAIN, tensorflow

Rows = Mapping[str, str | tuple[str, ...]]

L = "encoder.layers.{layer}."
H = "~encoder.layer.{layer}."

EMBEDDINGS: dict[str, str | tuple[str, ...]] = {
    "~embeddings.word_embeddings": "embeddings.word",
    "~embeddings.position_embeddings": "embeddings.position",
    "~embeddings.token_type_embeddings": "embeddings.segment",
    "~embeddings.LayerNorm": "embeddings.norm",
}
LAYERS: dict[str, str | tuple[str, ...]] = {
    H + "attention.self.query": L + "attention.query",
    H + "attention.self.key": L + "attention.key",
    H + "attention.self.value": L + "attention.value",
    H + "attention.output.dense": L + "attention.output",
    H + "attention.output.LayerNorm": L + "attention.norm",
    H + "intermediate.dense": L + "ffn.intermediate",
    H + "output.dense": L + "ffn.output",
    H + "output.LayerNorm": L + "ffn.norm",
}
DERIVED = {"~embeddings.position_ids": Derived("arange", "1 positions"), "~embeddings.token_type_ids": Derived("zeros", "1 positions")}
HF_ACTIVATIONS = {
    "gelu": "gelu", "gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "gelu_fast": "gelu_tanh", "gelu_python": "gelu",
    "relu": "relu", "tanh": "tanh", "linear": "linear", "silu": "silu", "swish": "silu",
}  # fmt: skip
HF_KEYS: dict[str, str | Key] = {
    "hidden_act": Key("activation", words=HF_ACTIVATIONS),
    "layer_norm_eps": "norm_eps",
    "tie_word_embeddings": "tied",
    "pad_token_id": "pad",
}

_NUMBERED = re.compile(r"\.(\{\w+\}|\d+)(?=\.|$)")


def turned(layout: str) -> str:
    """The layout of a transposed matrix: "hidden vocab" of "vocab hidden"."""
    return " ".join(f"({' '.join(d)})" if len(d) > 1 else d[0] for d in reversed(parse(layout).dims))


def _renamed(rows: Rows, words: Mapping[str, str]) -> dict[str, str | tuple[str, ...]]:
    out = {}
    for key, value in rows.items():
        for word, other in words.items():
            key = other + key.removeprefix(word) if key.startswith(word) else key
        out[key] = value
    return out


def _one(modules: Mapping[str, Module], value: str | tuple[str, ...], style: Style) -> tuple[str, str | tuple[str, ...]] | None:
    """(ending, what it holds) of a row for a single parameter of a module, as the style has it; None for a row of another kind."""
    if not isinstance(value, str) or value in modules:
        return None
    module, _, suffix = value.rpartition(".")
    form, ending, *_ = style[modules[module].kind][suffix]
    layout = dict(modules[module].params)[suffix]
    return ending, (value, turned(layout)) if form == "transposed" else value


# what its tokenizers keep beside a model (`Files.sidecars`)
_TOKENIZER = {"transformers' tokenizer": "tokenizer.json"}
WORD_PIECES = {"word pieces": "vocab.txt", **_TOKENIZER}
BYTE_PAIRS = {"bpe vocabulary": "vocab.json", "bpe merges": "merges.txt", **_TOKENIZER}
PIECES = {"sentence pieces": "spiece.model", **_TOKENIZER}


def tf(
    modules: Mapping[str, Module], hf: Dialect, prefix: str, *, words: Mapping[str, str] = {},
    weights: tuple[str, ...] = ("embeddings.word",), tied: bool = False, shared: Mapping[str, str] = {},
    style: Style = HDF5, rows: Rows | None = None, repeats: Mapping[str, str | Repeat] = {},
) -> Dialect:  # fmt: skip
    """The dialect of transformers' TF classes.

    `words` are first parts of names that differ; `weights` the embeddings whose variable is called "weight"; `tied` whether a tied
    weight has a variable of its own where it is untied (elsewhere the class uses the embeddings); `shared` the layers that hold the
    embeddings once more and the group that each is of ("": always); `rows` those of `hf` that hold more than modules.
    """
    out: dict[str, str | tuple[str, ...]] = {}
    again: dict[str, Repeat] = {}
    for key, value in {**_renamed(hf.rows, words), **(rows or {})}.items():
        name = _NUMBERED.sub("_\0_\\1", key).replace(".", "/").replace("\0", ".") if "/" not in key else key
        one = _one(modules, value, style)
        module = modules.get(value) if isinstance(value, str) else None
        if one is not None:
            param = value if isinstance(value, str) else value[0]
            owner, _, suffix = param.rpartition(".")
            if suffix not in modules[owner].tied or tied:
                out[name.removesuffix("/" + suffix) + one[0]] = one[1]
        elif module is not None and module.tied and not tied:
            out |= {name + style[module.kind][s][1]: f"{value}.{s}" for s, _ in module.params if s not in module.tied}
        elif value in weights:
            out[f"{name}/weight | {name}/embeddings"] = f"{value}.weight"
        else:
            out[name] = value
        if (
            module is not None
            and isinstance(value, str)
            and value.startswith("embeddings.")
            and (key.startswith("~embeddings.") or key[0] != "~")
        ):
            for suffix, _ in module.params:
                endings = ("/weight", "/embeddings") if value in weights else style[module.kind][suffix][1:]
                for layer, group in shared.items():
                    paths = [f"{AGAIN}{layer}/{name.replace('~', prefix)}{e}" for e in endings]
                    again[" | ".join(paths)] = Repeat(f"{value}.{suffix}", group)
    return Dialect(
        name="hf_tf",
        title="transformers (TensorFlow)",
        alias="hf",
        style=style,
        prefixes=(prefix,),
        container="hdf5",
        filename="tf_model.h5",
        files=Files(spelling=tensorflow, sidecars=hf.files.sidecars, ties=False),
        library=hf.library,
        rows=out,
        besides=Besides(repeats={**again, **repeats}),
        lacks=hf.lacks,
        classes=hf.classes,
        config=hf.config,
    )


def flax(
    modules: Mapping[str, Module],
    hf: Dialect,
    *,
    style: Style = FLAX,
    rows: Rows | None = None,
    without: tuple[str, ...] = (),
    prefixed: bool = False,
) -> Dialect:
    """The dialect of transformers' Flax classes; `rows` as in `tf`, `without` the groups that have no class there, `prefixed` as in
    `Dialect`."""
    out: dict[str, str | tuple[str, ...]] = {}
    for key, value in {**hf.rows, **(rows or {})}.items():
        name = key.replace(".", "/")
        one = _one(modules, value, style)
        out[name.rpartition("/")[0] + one[0] if one is not None and key.endswith((".weight", ".bias")) and one[0] else name] = (
            value if one is None else one[1]
        )
    return Dialect(
        name="hf_flax",
        title="transformers (Flax)",
        alias="hf",
        style=style,
        prefixes=tuple(p.replace(".", "/") for p in hf.prefixes),
        prefixed=prefixed,
        container="flax",
        rows=out,
        lacks=hf.lacks,
        classes=tuple(c for c in hf.classes if not c.groups & set(without)),
        files=Files(sidecars=hf.files.sidecars),
        library=hf.library,
        config=hf.config,
    )


def of_bert4torch(keys: Mapping[str, str | Key], model_type: str) -> Callable[[Mapping[str, object]], dict[str, object] | None]:
    """What makes a form's keys of bert4torch's settings, which say `model` and BERT's words; None of those of others."""

    def unfold(raw: Mapping[str, object]) -> dict[str, object] | None:
        if not isinstance(raw.get("model"), str) or "hidden_size" not in raw:
            return None
        from .bert4torch_keys import settings

        return settings(raw, keys, model_type)

    return unfold


def of_layers(what: str) -> dict[str, str]:
    """bert4torch's T5 has in every layer the table of distances of the first, and saves them all under its own names."""
    holders = {"encoder": "layer", "decoder": "decoder_layer"}
    kept = ("relative_positions_encoding.weight", "relative_positions.relative_position")
    return {f"{s}.{s}Layer.{{{h}}}.multiHeadAttention.{name}": what for s, h in holders.items() for name in kept}
