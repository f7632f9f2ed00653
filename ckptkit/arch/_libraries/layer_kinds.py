"""Layers of several kinds: which modules each has, and what of the configuration says which is which."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from ckptkit.arch._libraries.decoder_words import D
from ckptkit.schema import Module, when

Values = Mapping[str, object]


def in_layers(switch: str, modules: Mapping[str, Module]) -> dict[str, Module]:
    """Modules of the layers of a kind: "moe@layer". Norms of the hidden states stay in every layer."""
    return {k: m if k.startswith((D + "ffn.norm", D + "attention.norm")) else when(switch, m) for k, m in modules.items()}


def dense_or_experts(dense: Mapping[str, Module], sparse: Mapping[str, Module]) -> dict[str, Module]:
    """Layers with one feed-forward, and layers with experts."""
    return {**in_layers("not moe@layer", dense), **in_layers("moe@layer", sparse)}


def first_dense(values: Values) -> Sequence[bool] | None:
    """Which layers have experts: all after the first dense ones."""
    n, k = values.get("layers"), values.get("first_dense")
    return [i >= k for i in range(n)] if isinstance(n, int) and isinstance(k, int) else None


def sparse_or_first_dense(values: Values) -> Sequence[bool] | None:
    """Which layers have experts: those that mlp_layer_types calls sparse, else all after the first dense ones."""
    said = of_types("mlp_layer_types", "sparse")(values)
    return first_dense(values) if said is None else said


def of_types(key: str, *words: str) -> Callable[[Values], Sequence[bool] | None]:
    """Which layers are of a kind by a list of words in the configuration ("layer_types")."""

    def read(values: Values) -> Sequence[bool] | None:
        said = values.get(key)
        return [w in words for w in said] if isinstance(said, (list, tuple)) else None

    return read
