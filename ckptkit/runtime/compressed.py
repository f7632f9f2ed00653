"""DeepSeek V4's attention: one head that is keys and values, near positions in a window, far ones compressed.

A compressed key is made of several neighbouring positions, by weights that follow from what they hold and from their place among them;
its own place is that of the first. heavy: of those positions. sparse: of twice as many, half of them the ones before (each position makes
two series of columns, one for the key after it and one for its own), and an indexer chooses for each query which of them it sees. A query
sees a compressed key when all that it is made of has been. What comes out is turned back by the place of the query.
Source: transformers models/deepseek_v4 (DeepseekV4Attention, DeepseekV4CSACompressor, DeepseekV4HCACompressor, DeepseekV4Indexer).
"""

from __future__ import annotations

from typing import Any

from . import blocks
from .rotary import table, turn
from .spec import Spec

LOWEST = -1e30
KINDS = ("sparse", "heavy")


def attention(ops: Any, spec: Spec, node: Any, x: Any, memory: Any, *given: Any) -> Any:
    """A layer's attention: DeepSeek V4's, or `blocks.attention`."""
    if not node.has("key_value"):
        return blocks.attention(ops, spec, node, x, memory, *given)
    mask, _, _, turned = given[:4]
    batch, length, _ = ops.shape(x)
    heads, width = spec.heads, spec.head_dim
    narrow = node.query_a_norm(node.query_a(x))
    query = ops.transpose(ops.reshape(node.query_b(narrow), (batch, length, heads, width)), (0, 2, 1, 3))
    query = turned_last(ops, blocks.bare(ops, spec, None, query), turned)
    key = turned_last(ops, ops.expand_dims(node.key_value_norm(node.key_value(x)), 1), turned)
    kind = next((k for k in KINDS if node.has(k)), "")
    if kind:
        part = getattr(node, kind)
        far = compressed(ops, spec, part, x)
        key = ops.concatenate((key, far), axis=2)
        ready = finished(ops, length, part.held("bias").shape[0])
        sees = chosen(ops, spec, part.indexer, x, narrow, ready, turned) if kind == "sparse" else ready
        every = ops.zeros_like(query[:, :1, :, :1]) == 0
        mask = ops.concatenate((ops.logical_and(mask, every), ops.logical_and(sees, every)), axis=-1)
    scores = ops.matmul(query, ops.transpose(key, (0, 1, 3, 2))) * blocks.score_scale(spec, width)
    context = ops.matmul(blocks.weighted(ops, node, scores, mask), key)
    context = turned_last(ops, context, ops.stack([turned[0], -turned[1]], axis=0))
    groups = spec.sizes["output_groups"]
    context = ops.reshape(ops.transpose(context, (0, 2, 1, 3)), (batch, length, groups, heads * width // groups))
    weight = ops.reshape(node.output_a.weight, (groups, -1, heads * width // groups))
    mixed = ops.einsum("blgi,goi->blgo", context, weight)
    return node.output_b(ops.reshape(mixed, (batch, length, groups * mixed.shape[-1])))


def turned_last(ops: Any, x: Any, turned: Any) -> Any:
    """The last columns of [batch, head, position, column] turned, as many as there are angles for."""
    kept = x.shape[-1] - 2 * turned.shape[-1]
    last = turn(ops, x[..., kept:], turned, "interleaved")
    return ops.concatenate((x[..., :kept], last), axis=-1) if kept else last


def compressed(ops: Any, spec: Spec, node: Any, x: Any) -> Any:
    """The compressed keys of a text, [batch, 1, key, column]; positions at its end that fill no key make none."""
    bias = node.held("bias")
    rate, columns = bias.shape
    width = node.norm.weight.shape[0]
    batch, length, _ = ops.shape(x)
    count = length // rate

    def windows(a: Any) -> Any:
        return ops.reshape(a[:, : count * rate], (batch, count, rate, columns))

    key, gate = windows(node.key(x)), windows(node.gate(x)) + bias
    if columns == 2 * width:  # the first series is for the key after, of which the first key has none
        key = ops.concatenate((later(ops, key[..., :width], 0.0), key[..., width:]), axis=2)
        gate = ops.concatenate((later(ops, gate[..., :width], LOWEST), gate[..., width:]), axis=2)
    made = ops.expand_dims(node.norm(ops.sum(key * ops.softmax(gate, axis=2), axis=2)), 1)
    wide = "float64" if "float64" in str(x.dtype) else "float32"
    said: Any = spec.traits.rotary["compress"]
    return turned_last(ops, made, table(ops, said, ops.expand_dims(ops.arange(count) * rate, 0), wide))


def later(ops: Any, x: Any, first: float) -> Any:
    """Each window (axis 1) in the place of the one after it; the first is filled."""
    length = ops.shape(x)[1]
    filled = ops.zeros_like(ops.sum(x, axis=1, keepdims=True)) + first
    return ops.concatenate((filled, x), axis=1)[:, :length]


def finished(ops: Any, length: Any, rate: int) -> Any:
    """Which compressed keys each query may see: those of which the last position is not after it, [1, 1, query, key]."""
    at, key = ops.arange(length), ops.arange(length // rate)
    return ops.expand_dims(ops.expand_dims(ops.expand_dims(key, 0) < ops.expand_dims((at + 1) // rate, 1), 0), 0)


def chosen(ops: Any, spec: Spec, node: Any, x: Any, narrow: Any, ready: Any, turned: Any) -> Any:
    """Which of the keys that are ready each query sees: those that the indexer finds best, [batch, 1, query, key]."""
    key = compressed(ops, spec, node, x)
    heads, width = node.weights.weight.shape[0], key.shape[-1]
    batch, length, _ = ops.shape(x)
    query = ops.transpose(ops.reshape(node.query(narrow), (batch, length, heads, width)), (0, 2, 1, 3))
    scores = ops.relu(ops.matmul(turned_last(ops, query, turned), ops.transpose(key, (0, 1, 3, 2)))) * width**-0.5
    weights = ops.expand_dims(ops.transpose(node.weights(x), (0, 2, 1)), -1) * heads**-0.5
    scores = ops.where(ready, ops.expand_dims(ops.sum(weights * scores, axis=1), 1), LOWEST)
    return ops.logical_and(ready, ops.highest(scores, int(str(spec.traits.index_count))))
