"""XLNet's scores (arXiv 1906.08237): by content, by the sinusoid of the distance, by segments. Transformer-XL's (1901.02860) are the first
two, Funnel's (2006.03236) all three.

Source: transformers models/xlnet modeling_xlnet.py (rel_attn_core, relative_positional_encoding).
"""

from __future__ import annotations

from typing import Any

from .distances import picked
from .spec import Spec


def table(ops: Any, spec: Spec, keys: Any, like: Any) -> Any:
    """The sinusoids of the distances from `keys` on down, [2 keys, hidden]."""
    width = spec.sizes["hidden"]
    distance = ops.cast(keys - ops.arange(2 * keys), "float32")
    clamp = int(str(spec.traits.clamp or 0))
    distance = ops.clip(distance, -clamp, clamp) if clamp > 0 else distance
    rates = ops.constant([10000.0 ** (-2 * i / width) for i in range(width // 2)], "float32")
    angle = ops.expand_dims(distance, -1) * rates
    return ops.cast(ops.concatenate((ops.sin(angle), ops.cos(angle)), axis=-1), like.dtype)


def far(ops: Any, spec: Spec, node: Any, ids: Any, like: Any, segments: Any = None) -> tuple[Any, Any, Any]:
    """(the table of distances, which of its rows is whose, [1, 1, query, key], whether two positions are of two segments, [batch, 1, query,
    key]). Without segments all are of one, which adds the same to all scores of a query."""
    length = ops.shape(ids)[1]
    of = ops.zeros_like(ids) if segments is None else segments
    apart = ops.expand_dims(ops.expand_dims(of, 1) != ops.expand_dims(of, 2), 1)
    at = ops.arange(length)
    row = length - (ops.expand_dims(at, 1) - ops.expand_dims(at, 0))
    return table(ops, spec, length, like), ops.expand_dims(ops.expand_dims(row, 0), 0), apart


def scores(ops: Any, spec: Spec, node: Any, query: Any, key: Any, given: tuple[Any, ...]) -> Any:
    """What each position gives each other, [batch, head, query, key], before it is scaled. `given`: the table, its rows, and as a model has
    them which pairs have the second row of the layer's segments, and what distance and segments are multiplied by."""
    heads, width = spec.heads, spec.head_dim
    rows, index, *more = given

    def moved(name: str) -> Any:
        return query + ops.reshape(node.held(name), (1, heads, 1, width))

    content = ops.matmul(moved("word_bias"), ops.transpose(key, (0, 1, 3, 2)))
    by_row = ops.transpose(ops.reshape(node.distance(rows), (-1, heads, width)), (1, 2, 0))
    by_place = picked(ops, ops.matmul(moved("distance_bias"), by_row), index)
    if more:
        by_segment = ops.matmul(moved("segment_bias"), ops.transpose(node.held("segments"), (1, 2, 0)))
        by_place = by_place + ops.where(more[0], by_segment[..., 1:], by_segment[..., :1])
    return content + (by_place * more[1] if len(more) > 1 else by_place)
