"""Sparse attention: which keys the indexer of a layer chooses for each query (DeepSeek V3.2; transformers models/deepseek_v32)."""

from __future__ import annotations

from typing import Any

from .blocks import LOWEST, entered
from .rotary import turn
from .spec import Spec


def indexed(ops: Any, spec: Spec, node: Any, x: Any, seen: Any, turned: Any) -> Any:
    """Which keys each query of a layer sees, of those that the mask `seen` shows: the ones that its indexer finds best (DeepSeek's sparse
    attention), [batch, 1, query, key]."""
    attention = node.attention
    x = entered(ops, spec, attention, x)
    indexer, query = attention.indexer, attention.query_a_norm(attention.query_a(x))
    key = indexer.key_norm(indexer.key(x))
    heads, width = indexer.weights.weight.shape[0], key.shape[-1]
    batch, length, _ = ops.shape(x)
    query = ops.transpose(ops.reshape(indexer.query(query), (batch, length, heads, width)), (0, 2, 1, 3))
    key = ops.expand_dims(key, 1)
    query, key = (turn(ops, a, turned, spec.traits.index_pairs) for a in (query, key))
    scores = ops.relu(ops.matmul(query, ops.transpose(key, (0, 1, 3, 2))) * width**-0.5)
    weights = ops.expand_dims(ops.transpose(indexer.weights(x), (0, 2, 1)), -1) * heads**-0.5
    scores = ops.where(seen, ops.expand_dims(ops.sum(weights * scores, axis=1), 1), LOWEST)
    return ops.logical_and(seen, ops.highest(scores, int(str(spec.traits.index_count))))
