"""Several streams of hidden states, [batch, position, stream, hidden], where others have one; and what layers share.

altup (Gemma 3n; Alternating Updates, arXiv 2301.13310): a layer predicts all streams, runs on one of them, and corrects all by what that
became. Beside attention lies a detour of low rank, and each layer's own embedding is added to all streams but the first.
hyper (DeepSeek V4; manifold-constrained hyper-connections): each part of a layer is given one mix of the streams, and what it gives is
added to all of them, which are mixed anew by a matrix whose rows and columns add up to one.
Source: transformers models/gemma3n (Gemma3nTextAltUp, Gemma3nTextDecoderLayer), deepseek_v4 (DeepseekV4HyperConnection, ...HyperHead).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from . import blocks
from .spec import Spec

LEAST = 1e-5  # of a stream's mean square, by whose root it is divided


def spread(ops: Any, spec: Spec, node: Any, x: Any) -> Any:
    """The streams that go into the first layer: the embeddings, and projections of them as large as they are, or the same again."""
    if spec.traits.streams == "hyper":
        return ops.repeat(ops.expand_dims(x, 2), spec.sizes["streams"], axis=2)
    others = [matched(ops, getattr(node, str(i))(x), x) for i in range(spec.sizes["streams"])]
    return ops.stack([x, *others], axis=2)


def gathered(ops: Any, spec: Spec, node: Any, x: Any) -> Any:
    """What the streams that come out of the last layer are together, [batch, position, hidden]: the mean of the first and of projections
    of the others as large as it is, or a mix by weights that follow from them."""
    if node.has("mix"):
        mixed = mixes(ops, spec, node, x)
        return collapsed(ops, spec, x, mixed * node.held("scale") + node.held("bias"))
    first = x[:, :, 0]
    others = [matched(ops, getattr(node, str(i))(x[:, :, i + 1]), first) for i in range(spec.sizes["streams"])]
    return ops.mean(ops.stack([first, *others], axis=2), axis=2)


def matched(ops: Any, x: Any, like: Any) -> Any:
    """x, as large as another is."""
    want, have = (ops.mean(ops.square(a), axis=-1, keepdims=True) for a in (like, x))
    return x * want**0.5 / ops.maximum(have, LEAST) ** 0.5


def by_layer(ops: Any, spec: Spec, node: Any, ids: Any, embedded: Any) -> Any:
    """Every layer's own embedding, [batch, position, layer, width]: of the word (a word that is not in the table is the first), and of
    what the embeddings are."""
    width = node.by_layer_norm.weight.shape[0]
    rows, columns = node.by_layer.weight.shape

    def apart(a: Any) -> Any:
        batch, length, _ = ops.shape(a)
        return ops.reshape(a, (batch, length, columns // width, width))

    words = apart(node.by_layer(ops.where(ids < rows, ids, ops.zeros_like(ids)))) * width**0.5
    made = node.by_layer_norm(apart(node.by_layer_projection(embedded) * spec.sizes["hidden"] ** -0.5))
    return (made + words) * 2**-0.5


def lent(ops: Any, spec: Spec, node: Any, x: Any, turned: Any = None) -> tuple[Any, ...]:
    """The keys and values of a layer, which later ones take."""
    if spec.traits.streams == "altup":
        x = predicted(ops, spec, node.streams, x)[:, :, active(spec)]
    x = blocks.entered(ops, spec, node.attention, x)
    return blocks.projected(ops, spec, node.attention, x, x, turned, ("key", "value"))


def block(ops: Any, spec: Spec, node: Any, x: Any, *given: Any, **options: Any) -> Any:
    """One layer of one stream (`blocks.block`) or of several."""
    return BLOCKS[spec.traits.streams](ops, spec, node, x, *given, **options)


def active(spec: Spec) -> int:
    """The stream that layers run on."""
    return int(str(spec.traits.stream_active))


def modalities(ops: Any, spec: Spec, node: Any, x: Any) -> Any:
    """By what streams are mixed, [batch, position, stream], each between -1 and 1."""
    return ops.tanh(node.router(node.router_norm(x) * (1 / spec.sizes["hidden"])))


def predicted(ops: Any, spec: Spec, node: Any, x: Any) -> Any:
    """The streams as a layer expects them: each with a share of all of them added."""
    count = spec.sizes["inputs"]
    mixed = node.predict(modalities(ops, spec, node, x[:, :, active(spec)]))
    batch, length, _ = ops.shape(mixed)
    return x + ops.matmul(ops.reshape(mixed, (batch, length, count, count)), x)


def corrected(ops: Any, spec: Spec, node: Any, x: Any, became: Any) -> Any:
    """The streams after the one that a layer runs on became what it is now: each takes a share of the difference."""
    shares = node.correct(modalities(ops, spec, node, became)) + 1.0
    return x + ops.expand_dims(became - x[:, :, active(spec)], 2) * ops.expand_dims(shares, -1)


def alternating(ops: Any, spec: Spec, node: Any, x: Any, *given: Any, keys: Any = None, own: Any = None) -> Any:
    """A layer of Gemma 3n; `given` as in `blocks.block`."""
    mask, bias, relative, _, _, turned = given
    x = predicted(ops, spec, node.streams, x)
    one = x[:, :, active(spec)]
    h = blocks.entered(ops, spec, node.attention, one)
    detour = h + node.detour.norm(node.detour.up(node.detour.down(h)))
    one = one + node.drop(blocks.left(spec, node.attention, node.attention(h, h, mask, bias, relative, turned, keys)))
    one = (one + detour) * (1 / math.sqrt(2))
    one = one + node.drop(blocks.left(spec, node.ffn, node.ffn(blocks.entered(ops, spec, node.ffn, one))))
    x = corrected(ops, spec, node.streams, x, one)
    first = x[:, :, active(spec)]
    first = first * node.streams.held("scale") if spec.traits.stream_scaled else first
    added = ops.expand_dims(blocks.own_input(ops, spec, node, first, own), 2)
    return ops.concatenate((x[:, :, :1], x[:, :, 1:] + added), axis=2)


def mixes(ops: Any, spec: Spec, node: Any, x: Any) -> Any:
    """The numbers from which the weights of streams are made, of all streams together."""
    batch, length, count, width = ops.shape(x)
    flat = blocks.bare(ops, spec, None, ops.reshape(x, (batch, length, count * width)))
    return ops.matmul(flat, ops.transpose(node.held("mix"), (1, 0)))


def collapsed(ops: Any, spec: Spec, x: Any, mixed: Any) -> Any:
    """One mix of the streams, [batch, position, hidden]."""
    weights = ops.sigmoid(mixed) + float(str(spec.traits.stream_eps))
    return ops.sum(ops.expand_dims(weights, -1) * x, axis=2)


def balanced(ops: Any, spec: Spec, x: Any) -> Any:
    """Matrices of which columns add up to one, and rows nearly (Sinkhorn and Knopp)."""
    eps = float(str(spec.traits.stream_eps))
    x = ops.softmax(x, axis=-1) + eps
    x = x / (ops.sum(x, axis=-2, keepdims=True) + eps)
    for _ in range(int(str(spec.traits.stream_rounds)) - 1):
        x = x / (ops.sum(x, axis=-1, keepdims=True) + eps)
        x = x / (ops.sum(x, axis=-2, keepdims=True) + eps)
    return x


def connected(ops: Any, spec: Spec, node: Any, x: Any, run: Callable[[Any], Any]) -> Any:
    """The streams after a part of a layer (`run`) was given a mix of them; `node` holds what mixes them."""
    count = x.shape[2]
    mixed, bias, scale = mixes(ops, spec, node, x), node.held("bias"), node.held("scale")
    before, after, between = (
        mixed[..., a:b] * scale[i] + bias[a:b] for i, (a, b) in enumerate(((0, count), (count, 2 * count), (2 * count, mixed.shape[-1])))
    )
    given = run(collapsed(ops, spec, x, before))
    batch, length, _ = ops.shape(mixed)
    matrix = balanced(ops, spec, ops.reshape(between, (batch, length, count, count)))
    added = ops.expand_dims(2 * ops.sigmoid(after), -1) * ops.expand_dims(given, 2)
    return added + ops.matmul(ops.transpose(matrix, (0, 1, 3, 2)), x)


def hyper(ops: Any, spec: Spec, node: Any, x: Any, *given: Any, ids: Any = None) -> Any:
    """A layer of DeepSeek V4; `given` as in `blocks.block`, `ids`: the words, by which some layers choose experts."""
    mask, bias, relative, _, _, turned = given

    def attend(h: Any) -> Any:
        h = blocks.entered(ops, spec, node.attention, h)
        return node.drop(node.attention(h, h, mask, bias, relative, turned))

    def feed(h: Any) -> Any:
        return node.drop(node.moe(blocks.entered(ops, spec, node.ffn, h), None, ids))

    return connected(ops, spec, node.ffn_streams, connected(ops, spec, node.attention_streams, x, attend), feed)


BLOCKS: dict[str, Callable[..., Any]] = {"": blocks.block, "altup": alternating, "hyper": hyper}
