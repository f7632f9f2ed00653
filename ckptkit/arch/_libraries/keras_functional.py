"""The functional Keras model of `model_garden` in Keras' own weights file (.weights.h5), where layers go by class and count:
layers/dense_1/vars/0.

Source: keras/src/saving/saving_lib.py; tf_keras/src/saving/saving_lib.py, whose MultiHeadAttention keeps its parts as private attributes.
What class and count mean depends on the model, so such a file is read so only where a configuration of this form is beside it; Keras
3 says the layers' names in the file besides, which is asked first (`containers/keras/variable_names`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ckptkit.schema.library_names import Spelling

FIRST = (("word_embeddings", "embedding"), ("token_type_embeddings", "embedding"), ("embeddings_LayerNorm", "layer_normalization"))
EACH = (
    ("attention", "multi_head_attention"), ("attention_LayerNorm", "layer_normalization"), ("intermediate", "dense"), ("output", "dense"),
    ("output_LayerNorm", "layer_normalization"),
)  # fmt: skip
LAST = (("pooler", "dense"),)
VARIABLES = {"embedding": ("embeddings",), "layer_normalization": ("gamma", "beta")}
USUAL = ("kernel", "bias")
PARTS = {"query": "query_dense", "key": "key_dense", "value": "value_dense", "attention_output": "output_dense"}
SAID = ("num_layers", "hidden_size", "num_attention_heads")  # keys of a configuration of this form


def places(layers: int) -> dict[str, tuple[str, str]]:
    """The layers of a model -> (the group that Keras keeps each in, its class)."""
    every = [*FIRST, *((f"layer_{i}_{n}", kind) for i in range(layers) for n, kind in EACH), *LAST]
    met: dict[str, int] = {}
    out = {}
    for name, kind in every:
        n = met[kind] = met.get(kind, -1) + 1
        out[name] = (f"{kind}_{n}" if n else kind, kind)
    return out


def _stored(plain: str, held: Mapping[str, tuple[str, str]], private: str) -> str | None:
    layer, *part, variable = plain.split("/")
    if layer not in held or len(part) > 1 or (part and part[0] not in PARTS):
        return None
    group, kind = held[layer]
    names = VARIABLES.get(kind, USUAL)
    return (
        "/".join(("layers", group, *(private + PARTS[p] for p in part), "vars", str(names.index(variable)))) if variable in names else None
    )


def _without_weights(layers: int) -> list[str]:
    """The groups of what has no weights: inputs, sums, the slice of the first token, dropout, what is inside an attention, the model."""
    kinds = {"input_layer": 2, "add": 2 * layers + 1, "dropout": 2 * layers + 1, "slicing_op_lambda": 1}
    every = [f"{kind}_{i}" if i else kind for kind, n in kinds.items() for i in range(n)]
    at = [f"multi_head_attention_{i}" if i else "multi_head_attention" for i in range(layers)]
    return ["vars", *(f"layers/{n}/vars" for n in (*every, *at, *(f"{a}/{p}" for a in at for p in ("_dropout_layer", "_softmax"))))]


def spelling(private: str) -> Spelling:
    """`private` is what the attributes of an attention's parts begin with."""

    def stored(names: Sequence[str], cls: str) -> dict[str, str]:
        numbers = [int(n.split("_")[1]) for n in names if n.startswith("layer_") and n.split("_")[1].isdecimal()]
        held = places(max(numbers, default=-1) + 1)
        return {n: _stored(n, held, private) or n for n in names}

    def plain(names: Sequence[str], config: Mapping[str, object]) -> dict[str, str]:
        if any(k not in config for k in SAID):
            return {}
        count = len({n.split("/")[1] for n in names if n.startswith("layers/multi_head_attention")})
        every: dict[str, str] = {}
        for layer, (_, kind) in places(count).items():
            for part in PARTS if kind == "multi_head_attention" else ("",):
                for variable in VARIABLES.get(kind, USUAL):
                    own = f"{layer}/{part}/{variable}" if part else f"{layer}/{variable}"
                    every[own] = own
        back = {s: p for p, s in stored(list(every), "").items()}
        return {n: back[n] for n in names if n in back}

    def metadata(names: Sequence[str]) -> dict[str, str]:
        layers = sum(1 for n in names if n.endswith(f"/{private}query_dense/vars/0"))
        groups: dict[str, dict[str, str]] = {f"layers/{group}/vars": {"name": layer} for layer, (group, _) in places(layers).items()}
        if private:  # tf_keras gives no names, and misses the group of a layer that has no weights
            groups = {g: {} for g in (*groups, *_without_weights(layers))}
        import json

        return {"hdf5:groups": json.dumps(groups, separators=(",", ":"))}

    return Spelling("/vars/", plain, stored, metadata)
