"""Sentence embeddings: what the modules of sentence-transformers make of the last hidden states (see `graph.sentence`).

Source: sentence_transformers 5.1 models/{Pooling,Dense,LayerNorm,Normalize}.py.
"""

from __future__ import annotations

from typing import Any

from .blocks import LOWEST, activate
from .heads import at_last, mean
from .spec import Spec


def embedded(ops: Any, spec: Spec, node: Any, hidden: Any, mask: Any = None) -> Any:
    """A row for each text, [batch, width]."""
    x = hidden
    for i, step in enumerate(spec.traits.sentence):
        word, *more = str(step).split()
        part: Any = getattr(node, str(i)) if word in ("dense", "norm") else None
        if word == "pool":
            x = ops.concatenate(tuple(POOLS[how](ops, spec, x, mask) for how in more), axis=-1)
        elif word == "dense":
            x = activate(ops, more[0], part(x))
        elif word == "norm":
            x = part(x)
        else:  # to length one
            x = x / ops.maximum(ops.sum(ops.square(x), axis=-1, keepdims=True) ** 0.5, 1e-12)
    return x


def _real(ops: Any, x: Any, mask: Any) -> Any:
    """1 at real positions, [batch, position, 1]."""
    return ops.zeros_like(x[..., :1]) + 1 if mask is None else ops.expand_dims(ops.cast(mask != 0, x.dtype), -1)


def _first(ops: Any, spec: Spec, x: Any, mask: Any) -> Any:
    return x[:, 0]


def _largest(ops: Any, spec: Spec, x: Any, mask: Any) -> Any:
    return ops.max(ops.where(_real(ops, x, mask) > 0, x, LOWEST), axis=1)


def _mean(ops: Any, spec: Spec, x: Any, mask: Any) -> Any:
    return mean(ops, spec, None, x, mask)


def _sum_by_root(ops: Any, spec: Spec, x: Any, mask: Any) -> Any:
    real = _real(ops, x, mask)
    return ops.sum(x * real, axis=1) / ops.sum(real, axis=1) ** 0.5


def _rising(ops: Any, spec: Spec, x: Any, mask: Any) -> Any:
    at = ops.cast(ops.expand_dims(ops.expand_dims(ops.arange(ops.shape(x)[1]) + 1, 0), -1), x.dtype)
    weights = _real(ops, x, mask) * at
    return ops.sum(x * weights, axis=1) / ops.sum(weights, axis=1)


def _last(ops: Any, spec: Spec, x: Any, mask: Any) -> Any:
    return x[:, -1] if mask is None else at_last(ops, x, mask != 0)[:, 0]


POOLS = {
    "cls": _first, "max": _largest, "mean": _mean, "mean_sqrt_len_tokens": _sum_by_root, "weightedmean": _rising, "lasttoken": _last,
}  # fmt: skip
