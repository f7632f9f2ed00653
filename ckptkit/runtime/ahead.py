"""ProphetNet's decoder (arXiv 2001.04063): beside the stream of the words runs one for each word ahead that is predicted.

At each position the k-th further stream sees itself, the words before that by k fewer, and the first; its head gives the word k + 1 ahead
of what is there. All streams lie one after another along the text. Source: transformers models/prophetnet (ProphetNetNgramSelfAttention,
ProphetNetDecoder, ngram_attention_bias), to whose outputs this is held: it reads the bias that further streams get of their distances
with streams and heads in the place of positions, and so does this.
"""

from __future__ import annotations

import math
from typing import Any

from .distances import picked
from .positions import buckets
from .spec import Spec

LOWEST = -1e30


def streams(spec: Spec) -> int:
    """How many words ahead are predicted."""
    return spec.sizes["ahead"]


def spread(ops: Any, spec: Spec, node: Any, x: Any) -> Any:
    """The embedded words, and after them what goes into each further stream: [batch, (1 + streams) position, hidden]."""
    count = ops.shape(x)[1]
    rows = ops.minimum(ops.arange(count) + (int(str(spec.traits.pad)) + 2), spec.sizes["decoder_positions"] - 1)
    place = ops.expand_dims(node.position(rows), 0)
    nothing = ops.zeros_like(x)
    made = [
        node.drop(node.norm(nothing + place + ops.expand_dims(node.ahead.weight[i - 1 if i else streams(spec) - 1], 0)))
        for i in range(streams(spec))
    ]
    return ops.concatenate((x, *made), axis=1)


def words(ops: Any, spec: Spec, node: Any, x: Any, ids: Any) -> Any:
    """The stream of the words."""
    return x[:, : ops.shape(ids)[1]]


def further(ops: Any, spec: Spec, node: Any, x: Any, ids: Any) -> Any:
    """The further streams, one after another."""
    return x[:, ops.shape(ids)[1] :]


def attention(ops: Any, spec: Spec, node: Any, x: Any, given: tuple[Any, ...], mask: Any) -> Any:
    """What each head gives at each place of all streams, [batch, head, (1 + streams) position, head_dim]. `given`: queries, keys and values
    so; `mask`: what the words see of each other, [batch or 1, 1, query, key]."""
    batch, heads, whole, width = ops.shape(given[0])
    count, length = streams(spec), whole // (1 + streams(spec))
    rows = node.relative(x)
    kinds = rows.shape[-1] // given[0].shape[1]
    at = ops.arange(length)
    distance = ops.expand_dims(at, 0) - ops.expand_dims(at, 1)  # key minus query

    def by_distance(of_query: Any, distances: Any) -> Any:
        where = buckets(ops, distances, both=False, count=kinds, farthest=int(str(spec.traits.bucket_distance)))
        return picked(ops, of_query, ops.expand_dims(ops.expand_dims(where, 0), 0))

    def stream(i: int) -> tuple[Any, ...]:
        query, key, value = (a[:, :, i * length : (i + 1) * length] for a in given)
        return query * (1.0 / math.sqrt(width)), key, value

    query, words_key, words_value = stream(0)
    turned = ops.transpose(words_key, (0, 1, 3, 2))
    own = ops.transpose(ops.reshape(rows[:, :length], (batch, length, kinds, heads)), (0, 3, 1, 2))
    weights = weighed(ops, node, ops.matmul(query, turned) + by_distance(own, distance), mask)
    out = [ops.matmul(weights, words_value)]
    beyond = ops.transpose(ops.reshape(rows[:, length:], (batch, count, length, kinds, heads)), (0, 2, 1, 4, 3))
    beyond = ops.reshape(beyond, (batch, count, heads, length, kinds))  # as its library reads it
    real = mask[:, :, -1:]  # the last word sees all that are no padding
    for i in range(count):
        query, key, value = stream(i + 1)
        of_words = ops.matmul(query, turned) + by_distance(beyond[:, i], distance - 1)
        itself = ops.sum(query * key, axis=-1, keepdims=True) + beyond[:, i][..., :1]
        seen = (distance < 1 - i) | (ops.expand_dims(at, 0) == 0)
        seen = ops.logical_and(ops.expand_dims(ops.expand_dims(seen, 0), 0), real)
        seen = ops.concatenate((seen, seen[..., :1] | True), axis=-1)
        weights = weighed(ops, node, ops.concatenate((of_words, itself), axis=-1), seen)
        out.append(ops.matmul(weights[..., :length], words_value) + weights[..., length:] * value)
    return ops.concatenate(tuple(out), axis=2)


def weighed(ops: Any, node: Any, scores: Any, seen: Any) -> Any:
    return node.attention_drop(ops.softmax(ops.where(seen, scores, LOWEST), axis=-1))
