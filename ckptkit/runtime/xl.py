"""XLNet's scores (arXiv 1906.08237): by content, by the sinusoid of the distance, by segments.

Source: transformers models/xlnet modeling_xlnet.py (rel_attn_core, relative_positional_encoding).
"""

from __future__ import annotations

from typing import Any

from .distances import picked
from .spec import Spec


def far(ops: Any, spec: Spec, node: Any, ids: Any, like: Any, segments: Any = None) -> tuple[Any, Any]:
    """(the sinusoids of the distances from the length on down, [2 length, hidden]; whether two positions are of two segments, [batch, 1,
    query, key]). Without segments all are of one, which adds the same to all scores of a query."""
    length, width = ops.shape(ids)[1], spec.sizes["hidden"]
    distance = ops.cast(length - ops.arange(2 * length), "float32")
    clamp = int(str(spec.traits.clamp or 0))
    distance = ops.clip(distance, -clamp, clamp) if clamp > 0 else distance
    rates = ops.constant([10000.0 ** (-2 * i / width) for i in range(width // 2)], "float32")
    angle = ops.expand_dims(distance, -1) * rates
    of = ops.zeros_like(ids) if segments is None else segments
    apart = ops.expand_dims(ops.expand_dims(of, 1) != ops.expand_dims(of, 2), 1)
    return ops.cast(ops.concatenate((ops.sin(angle), ops.cos(angle)), axis=-1), like.dtype), apart


def scores(ops: Any, spec: Spec, node: Any, query: Any, key: Any, given: tuple[Any, Any]) -> Any:
    """What each position gives each other, [batch, head, query, key], before it is scaled."""
    table, apart = given
    heads, width = spec.heads, spec.head_dim

    def moved(name: str) -> Any:
        return query + ops.reshape(node.held(name), (1, heads, 1, width))

    content = ops.matmul(moved("word_bias"), ops.transpose(key, (0, 1, 3, 2)))
    rows = ops.transpose(ops.reshape(node.distance(table), (-1, heads, width)), (1, 2, 0))
    length = ops.shape(query)[2]
    at = ops.arange(length)
    index = length - (ops.expand_dims(at, 1) - ops.expand_dims(at, 0))
    by_distance = picked(ops, ops.matmul(moved("distance_bias"), rows), ops.expand_dims(ops.expand_dims(index, 0), 0))
    by_segment = ops.matmul(moved("segment_bias"), ops.transpose(node.held("segments"), (1, 2, 0)))
    return content + by_distance + ops.where(apart, by_segment[..., 1:], by_segment[..., :1])
