"""The blocks: attention, feed-forward, embeddings, as functions of an array library, a spec and a node with its leaves.

`ops` has keras.ops' names; a node has its leaves as attributes (`node.query(x)`), `node.drop(x)` and what its path says.
Arrays are [batch, position, width]; masks are boolean and broadcast to [batch, heads, query, key].
Sources: google-research/bert modeling.py, huawei-noah NEZHA modeling.py (relative positions), mesh_tensorflow
transformer_layers.py (buckets), fairseq and transformers modeling_roberta.py (counted positions).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from .spec import Spec

LOWEST, LOWEST_HALF = -1e30, -6e4  # what a hidden score becomes (in float16): finite, and its weight is exactly 0


def activate(ops: Any, name: str, x: Any) -> Any:
    """An activation by its canonical name; the two functions called gelu are apart."""
    if name == "gelu":
        return ops.gelu(x, approximate=False)
    if name == "gelu_tanh":
        return ops.gelu(x, approximate=True)
    if name == "quick_gelu":
        return x * ops.sigmoid(1.702 * x)
    return x if name == "linear" else getattr(ops, name)(x)


def embeddings(ops: Any, spec: Spec, node: Any, ids: Any, segments: Any = None, positions: Any = None) -> Any:
    """(embedded, what enters the first block, the word table): word + position + segment (+ the first task), normed; then projected."""
    x = node.word(ids)
    first = spec.traits.projected == "words"
    if first and node.has("project"):
        x = node.project(x)
    if node.has("position"):
        x = x + position_rows(ops, spec, node, place(ops, spec, ids) if positions is None else positions)
    if node.has("segment"):
        x = x + node.segment(ops.zeros_like(ids) if segments is None else segments)
    if node.has("task"):
        x = x + node.task(ops.zeros_like(ids))
    if node.has("norm"):
        x = node.norm(x)
    x = node.drop(x)
    return x, node.project(x) if node.has("project") and not first else x, node.word.weight


def position_rows(ops: Any, spec: Spec, node: Any, rows: Any) -> Any:
    """The rows of the position table, which may lie in two: those that padding uses, and those of real positions after them."""
    if not node.has("reserved"):
        return node.position(rows)
    first = spec.sizes["reserved"]
    real = node.position(ops.maximum(rows - first, 0))
    return ops.where(ops.expand_dims(rows >= first, -1), real, node.reserved(ops.minimum(rows, first - 1)))


def place(ops: Any, spec: Spec, ids: Any) -> Any:
    """The row of the position table for every token."""
    if spec.traits.positions == "counted":
        pad = int(str(spec.traits.pad))
        real = ops.cast(ids != pad, "int32")
        return ops.cumsum(real, axis=1) * real + pad
    return ops.expand_dims(ops.arange(ops.shape(ids)[1]), 0)


def attention(ops: Any, spec: Spec, node: Any, x: Any, memory: Any, mask: Any = None, bias: Any = None, relative: Any = None) -> Any:
    """Multi-head attention of `x` to `memory`. `bias` is added to the scores; `relative` [query, key, head_dim] to keys and values."""
    query, key, value = (_split(ops, spec, a) for a in (node.query(x), node.key(memory), node.value(memory)))
    scores = ops.matmul(query, ops.transpose(key, (0, 1, 3, 2)))
    if relative is not None:
        scores = scores + ops.einsum("bhqd,qkd->bhqk", query, relative)
    if spec.traits.scaled:
        scores = scores * (1.0 / math.sqrt(spec.head_dim))
    if spec.traits.scaled_by_layer:
        scores = scores / float(node.number + 1)
    if bias is not None:
        scores = scores + bias
    if mask is not None:
        scores = ops.where(mask, scores, LOWEST if "bfloat16" in str(scores.dtype) or "float16" not in str(scores.dtype) else LOWEST_HALF)
    weights = node.attention_drop(ops.softmax(scores, axis=-1))
    context = ops.matmul(weights, value)
    if relative is not None:
        context = context + ops.einsum("bhqk,qkd->bhqd", weights, relative)
    batch, _, length, _ = ops.shape(context)
    return node.output(ops.reshape(ops.transpose(context, (0, 2, 1, 3)), (batch, length, spec.heads * spec.head_dim)))


def _split(ops: Any, spec: Spec, x: Any) -> Any:
    batch, length, _ = ops.shape(x)
    return ops.transpose(ops.reshape(x, (batch, length, spec.heads, spec.head_dim)), (0, 2, 1, 3))


def ffn(ops: Any, spec: Spec, node: Any, x: Any) -> Any:
    """The feed-forward half: widen, activate (times the other way in where it is gated), narrow."""
    activation = str(spec.traits.activation)
    if node.has("gate"):
        x = activate(ops, activation, node.gate(x)) * node.up(x)
    else:
        x = activate(ops, activation, node.intermediate(x))
    return node.output(node.inner_drop(x))


def block(
    ops: Any,
    spec: Spec,
    node: Any,
    x: Any,
    mask: Any = None,
    bias: Any = None,
    relative: Any = None,
    memory: Any = None,
    memory_mask: Any = None,
) -> Any:
    """One layer: attention to itself, to the encoder where it has a `cross_attention`, feed-forward; each added to what came in."""
    after = spec.traits.norm == "after"
    steps: list[tuple[Any, Callable[[Any], Any]]] = [(node.attention, lambda h: node.attention(h, h, mask, bias, relative))]
    if node.has("cross_attention"):
        steps.append((node.cross_attention, lambda h: node.cross_attention(h, memory, memory_mask)))
    steps.append((node.ffn, node.ffn))
    for part, run in steps:
        if after:
            x = part.norm(x + node.drop(run(x)))
        else:
            x = x + node.drop(run(part.norm(x)))
    return x


def sinusoids(ops: Any, spec: Spec, length: Any, dtype: Any) -> Any:
    """NEZHA's relative positions [query, key, head_dim]: sinusoids of the distance, clipped."""
    width, far = spec.head_dim, int(str(spec.traits.distance))
    at = ops.arange(length)
    distance = ops.clip(ops.expand_dims(at, 0) - ops.expand_dims(at, 1), -far, far) + far
    column = ops.arange(width)
    rate = ops.exp(ops.cast(2 * (column // 2), "float32") * (-math.log(10000.0) / width))
    angle = ops.cast(ops.expand_dims(distance, -1), "float32") * rate
    return ops.cast(ops.where(column % 2 == 0, ops.sin(angle), ops.cos(angle)), dtype)


def buckets(ops: Any, distance: Any, *, both: bool, count: int, farthest: int) -> Any:
    """The bucket of every distance (key minus query): half of them exact, half logarithmic up to `farthest`; `both` directions or the
    past."""
    base = 0
    if both:
        count //= 2
        base = ops.cast(distance > 0, "int32") * count
        distance = ops.abs(distance)
    else:
        distance = ops.maximum(-distance, 0)
    exact = count // 2
    scaled = ops.log(ops.cast(ops.maximum(distance, 1), "float32") / exact) / math.log(farthest / exact) * (count - exact)
    far = ops.minimum(exact + ops.cast(scaled, "int32"), count - 1)
    return base + ops.where(distance < exact, ops.cast(distance, "int32"), far)


def position_bias(ops: Any, spec: Spec, node: Any, length: Any, *, both: bool, transposed: bool = False) -> Any:
    """T5's bias of a stack, [1, heads, query, key], from its table [buckets, heads], or UniLM's linear [heads, buckets]."""
    at = ops.arange(length)
    distance = ops.expand_dims(at, 0) - ops.expand_dims(at, 1)
    where = buckets(ops, distance, both=both, count=spec.sizes["buckets"], farthest=int(str(spec.traits.bucket_distance)))
    found = ops.take(ops.transpose(node.weight, (1, 0)), where, axis=0) if transposed else node(where)
    return ops.expand_dims(ops.transpose(found, (2, 0, 1)), 0)
