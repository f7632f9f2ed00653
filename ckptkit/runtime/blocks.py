"""The blocks: attention and feed-forward, as functions of an array library, a spec and a node with its leaves.

`ops` has keras.ops' names; a node has its leaves as attributes (`node.query(x)`), `node.drop(x)` and what its path says.
Arrays are [batch, position, width]; masks are boolean and broadcast to [batch, heads, query, key].
Source: google-research/bert modeling.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from statistics import NormalDist
from typing import Any

from . import ahead, side
from .distances import by_distance, distance_kinds
from .entities import scores as entity_scores
from .positions import position_bias
from .rotary import growth, turn
from .scales import scale, scales, times, weighed
from .spans import span_heads
from .spec import Spec
from .xl import scores as xl_scores

LOWEST, LOWEST_HALF = -1e30, -6e4  # what a hidden score becomes (in float16): finite, and its weight is exactly 0


def activate(ops: Any, name: str, x: Any) -> Any:
    """An activation by its canonical name; the two functions called gelu are apart."""
    if name == "gelu":
        return ops.gelu(x, approximate=False)
    if name == "gelu_tanh":
        return ops.gelu(x, approximate=True)
    if name == "quick_gelu":
        return x * ops.sigmoid(1.702 * x)
    if name == "gelu_10":
        return ops.clip(ops.gelu(x, approximate=False), -10.0, 10.0)
    if name == "relu2":
        return ops.square(ops.relu(x))
    return x if name == "linear" else getattr(ops, name)(x)


def learned(ops: Any, node: Any, x: Any) -> Any:
    """xIELU (arXiv 2411.13010): an activation with a parameter for each side of zero."""
    beta = node.held("beta")
    above, below = ops.softplus(node.held("alpha_p")), beta + ops.softplus(node.held("alpha_n"))
    bounded = ops.where(x < node.held("eps"), x, ops.zeros_like(x) + node.held("eps"))
    return ops.where(x > 0, above * x * x + beta * x, (ops.expm1(bounded) - x) * below + beta * x)


def attention(
    ops: Any,
    spec: Spec,
    node: Any,
    x: Any,
    memory: Any,
    mask: Any = None,
    bias: Any = None,
    relative: Any = None,
    turned: Any = None,
    keys: Any = None,
    entities: Any = None,
    further: Any = None,
) -> Any:
    """Multi-head attention of `x` to `memory` (a pair: for keys and for values). `bias` is added to the scores; `relative` [query, key,
    head_dim] to keys and values;

    `turned`: the angles of rotary positions (`rotary.table`); `keys`: another layer's keys and values, which stand for its own;
    `entities`: what stands after the words; `further`: "marked": which positions see all, by projections of their own, and what there is to
    see; "side": blocks of the text, that all see (side.py). Several heads of queries may share one of keys and values.
    """
    if node.has("position_bias"):  # of each layer (UMT5)
        encoder = node.path.startswith("encoder.")
        bias = position_bias(ops, spec, node.position_bias, ops.shape(x)[1], both=encoder)
    if keys is not None:
        (query,), (key, value) = projected(ops, spec, node, x, memory, turned, ("query",)), keys
    else:
        query, key, value = (low_rank if node.has("latent") else projected)(ops, spec, node, x, memory, turned)
    if node.has("relative"):  # of several streams
        return node.output(joined_heads(ops, ahead.attention(ops, spec, node, x, (query, key, value), mask)))
    marked, beside = (further.get(n) if further and node.has(m) else None for n, m in (("marked", "global_query"), ("side", "global_norm")))
    if beside is not None:
        more = projected(ops, spec, node, x, side.with_blocks(ops, node, beside, x), turned, ("key", "value"))
        key, value = (ops.concatenate(pair, axis=2) for pair in zip((key, value), more, strict=True))
    times = query.shape[1] // key.shape[1]
    if times > 1:
        key, value = ops.repeat(key, times, axis=1), ops.repeat(value, times, axis=1)
    xl = spec.traits.positions == "xl"
    scores = xl_scores(ops, spec, node, query, key, relative) if xl else ops.matmul(query, ops.transpose(key, (0, 1, 3, 2)))
    if entities is not None and node.has("word_to_entity"):
        scores = entity_scores(ops, spec, node, x, query, key, entities)
    apart = spec.traits.positions == "disentangled"
    if apart:
        scores = (scores + by_distance(ops, spec, node, query, key, relative)) / math.sqrt(1 + len(distance_kinds(spec)))
    elif relative is not None and not xl:
        scores = scores + ops.einsum("bhqd,qkd->bhqk", query, relative)
    scores = scores * score_scale(spec, query.shape[-1])
    if spec.traits.scaled_by_layer:
        scores = scores / float(node.number + 1)
    scores = capped(ops, scores, spec.traits.attention_cap)
    if beside is not None:
        bias, mask = side.joined(ops, scores, bias, mask, beside)
    if bias is not None:
        scores = scores + bias
    weights = weighted(ops, node, scores, mask)
    context = ops.matmul(weights, value)
    if marked is not None:
        context = of_marked(ops, spec, node, x, context, marked)
    if relative is not None and not apart and not xl:
        context = context + ops.einsum("bhqk,qkd->bhqd", weights, relative)
    if node.has("conv_kernel"):  # further heads that are convolutions
        context = ops.concatenate((context, span_heads(ops, spec, node, x)), axis=1)
    context = joined_heads(ops, context)
    return node.output(context * ops.sigmoid(node.gate(x)) if node.has("gate") else context)


def of_marked(ops: Any, spec: Spec, node: Any, x: Any, context: Any, given: tuple[Any, Any]) -> Any:
    """What heads give, with that of marked positions made anew: these see all that there is, by projections of their own (Longformer)."""
    marked, seen = given
    query, key, value = (split(ops, getattr(node, f"global_{name}")(x), spec.head_dim) for name in PROJECTED)
    scores = ops.matmul(query, ops.transpose(key, (0, 1, 3, 2))) * score_scale(spec, query.shape[-1])
    everywhere = ops.matmul(weighted(ops, node, scores, seen), value)
    return ops.where(ops.expand_dims(ops.expand_dims(marked != 0, 1), -1), everywhere, context)


def split(ops: Any, x: Any, width: int) -> Any:
    """[batch, head, position, width] of [batch, position, head * width]."""
    batch, length, whole = ops.shape(x)
    return ops.transpose(ops.reshape(x, (batch, length, whole // width, width)), (0, 2, 1, 3))


def joined_heads(ops: Any, context: Any) -> Any:
    """[batch, position, width] of [batch, head, position, head_dim]."""
    batch, heads, length, width = ops.shape(context)
    return ops.reshape(ops.transpose(context, (0, 2, 1, 3)), (batch, length, heads * width))


def weighted(ops: Any, node: Any, scores: Any, mask: Any) -> Any:
    """The weights of keys by scores, those that the mask hides left out; a layer's sinks are one more key, that has no value."""
    if mask is not None:
        scores = ops.where(mask, scores, LOWEST if "bfloat16" in str(scores.dtype) or "float16" not in str(scores.dtype) else LOWEST_HALF)
    if node.has("sinks"):
        sink = ops.reshape(node.held("sinks"), (1, -1, 1, 1)) + ops.zeros_like(scores[..., :1])
        return node.attention_drop(ops.softmax(ops.concatenate((scores, sink), axis=-1), axis=-1)[..., :-1])
    return node.attention_drop(ops.softmax(scores, axis=-1))


PROJECTED = ("query", "key", "value")


def projected(ops: Any, spec: Spec, node: Any, x: Any, memory: Any, turned: Any, names: Sequence[str] = PROJECTED) -> tuple[Any, ...]:
    """Queries, keys and values, [batch, head, position, head_dim], normed and turned as the modules and traits say. Without a projection
    of their own values are what keys are before they are normed."""
    out = []
    clip = float(str(spec.traits.clip))
    keys, values = memory if isinstance(memory, tuple) else (memory, memory)
    given = {"query": x, "key": keys, "value": values}
    for name in names:
        a = getattr(node, name if node.has(name) else "key")(given[name])
        norm: Any = getattr(node, f"{name}_norm") if node.has(f"{name}_norm") else None
        whole = norm is not None and len(norm.weight.shape) == 1 and norm.weight.shape[0] == a.shape[-1]
        if whole:
            a = norm(a)
        if clip:
            a = ops.clip(a, -clip, clip)
        batch, length, width = ops.shape(a)
        wide = spec.head_dim_of(node.path)
        a = ops.reshape(a, (batch, length, width // wide, wide))
        late = spec.traits.qk_norm == "after"
        if norm is not None and not whole and not late:
            a = norm(a)
        if name == "value" and spec.traits.bare_values:
            a = bare(ops, spec, None, a)
        a = ops.transpose(a, (0, 2, 1, 3))
        if node.has(f"{name}_norms"):  # one for each head
            every = getattr(node, f"{name}_norms")
            a = ops.stack([getattr(every, str(i))(a[:, i]) for i in range(a.shape[1])], axis=1)
        if turned is not None and (name != "value" or spec.traits.turned_values):
            a = turn(ops, a, turned, spec.traits.pairs, spec.traits.rotary_planes)
        if norm is not None and not whole and late:
            a = norm(a)
        if spec.traits.unit_heads and turned is not None and name != "value":
            a = a * ops.rsqrt(ops.mean(ops.square(a), axis=-1, keepdims=True) + float(str(spec.traits.norm_eps)))
        grown = growth(ops, turned, a) if turned is not None else warmed(ops, spec, a)
        out.append(a if grown is None or name != "query" else a * grown)
    return tuple(out)


def warmed(ops: Any, spec: Spec, like: Any) -> Any:
    """By how much queries that are not turned grow with their position (arXiv 2501.19399), [1, 1, position, 1]; None where they do not."""
    traits = spec.traits
    if not traits.temperature:
        return None
    at = ops.cast(ops.arange(ops.shape(like)[2]), "float32")
    grown = 1 + float(str(traits.temperature_scale)) * ops.log(1 + ops.floor((at + 1) / float(str(traits.temperature_floor))))
    return ops.cast(ops.reshape(grown, (1, 1, -1, 1)), like.dtype)


def low_rank(ops: Any, spec: Spec, node: Any, x: Any, memory: Any, turned: Any) -> tuple[Any, Any, Any]:
    """Queries, keys and values through narrow layers (DeepSeek's multi-head latent attention); the turned part of keys is one for all
    heads."""
    sizes = spec.sizes

    def heads(a: Any, width: int) -> Any:
        batch, length, all_ = ops.shape(a)
        return ops.transpose(ops.reshape(a, (batch, length, all_ // width, width)), (0, 2, 1, 3))

    if node.has("query_a"):
        narrow = node.query_a_norm(node.query_a(x))
        nope, rope = node.query_b_nope(narrow), node.query_b_rope(narrow)
    else:
        nope, rope = node.query_nope(x), node.query_rope(x)
    nope, rope = heads(nope, sizes["nope"]), heads(rope, sizes["rope"])
    latent = node.latent_norm(node.latent(memory))
    key, value = heads(node.key_nope(latent), sizes["nope"]), heads(node.value(latent), sizes["value_dim"])
    shared = heads(node.key_rope(memory), sizes["rope"])
    if turned is not None:
        rope, shared = (turn(ops, a, turned, spec.traits.pairs) for a in (rope, shared))
    query = ops.concatenate((nope, rope), axis=-1)
    return query, ops.concatenate((key, ops.repeat(shared, key.shape[1], axis=1)), axis=-1), value


def score_scale(spec: Spec, width: int) -> float:
    """What scores are multiplied by; `width`: of a query."""
    own, of = float(str(spec.traits.score_scale)), float(str(spec.traits.score_scale_of))
    if own:
        return own
    if of:
        return 1.0 / math.sqrt(of)
    return (1.0 / math.sqrt(width) if spec.traits.scaled else 1.0) * float(str(spec.traits.score_growth))


def capped(ops: Any, x: Any, cap: object) -> Any:
    """A soft cap: nearly x where that is small, never more than `cap`."""
    most = float(str(cap))
    return ops.tanh(x * (1 / most)) * most if most else x


def ffn(ops: Any, spec: Spec, node: Any, x: Any) -> Any:
    """The feed-forward half: widen, activate (times the other way in where it is gated), narrow."""
    word = str(spec.traits.activation)
    first, last = scales(spec, "ffn.parts", 2)
    way_in = times(first, node.gate(x) if node.has("gate") else node.intermediate(x))
    share = spec.layer(node.number).get("sparsity")
    way_in = cut(ops, way_in, share) if share else way_in
    wide = learned(ops, node.activation, way_in) if node.has("activation") else activate(ops, word, way_in)
    return times(last, node.output(node.inner_drop(wide * node.up(x) if node.has("gate") else wide)))


def cut(ops: Any, x: Any, share: float) -> Any:
    """What of each row lies above the value below which that share of it lies, were it normally distributed; zero for the rest."""
    mean = ops.mean(x, axis=-1, keepdims=True)
    deviation = ops.mean(ops.square(x - mean), axis=-1, keepdims=True) ** 0.5
    return ops.relu(x - (mean + deviation * NormalDist().inv_cdf(share)))


def own_input(ops: Any, spec: Spec, node: Any, x: Any, given: Any) -> Any:
    """What a layer makes of its own embedding (`given`: those of all layers, [batch, position, layer, width]) where x opens its gate."""
    part = node.own
    return part.norm(part.output(activate(ops, str(spec.traits.activation), part.gate(x)) * given[:, :, node.number]))


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
    turned: Any = None,
    padding: Any = None,
    positions: Any = None,
    keys: Any = None,
    own: Any = None,
    entities: Any = None,
    further: Any = None,
    crossing: Any = None,
) -> Any:
    """One layer: attention to itself or what mixes positions instead or beside it, attention to the encoder where it has a
    `cross_attention`, feed-forward or experts; each added to what came in. A layer of one part has that part's norm itself. `padding`,
    `positions`: [batch, position], for what mixes positions otherwise; `keys`: those of another layer, and its values; `own`: see
    `own_input`; `crossing`: what is added to the scores of the `cross_attention`."""
    traits = spec.traits
    if node.has("gau"):
        x = x + node.drop(node.gau(x, mask, turned))
        return bare(ops, spec, None, x)
    if node.has("bottleneck"):
        return narrowed(ops, spec, node, x, mask)
    steps: list[tuple[str, Any, Callable[[Any], Any]]] = []

    def attend(h: Any) -> Any:
        return node.attention(h, keyed(ops, spec, node, h, further or {}), mask, bias, relative, turned, keys, entities, further)

    def mix(h: Any) -> Any:
        return node.state(h, padding) if positions is None else node.state(h, padding, positions)

    def add(name: str, place: str, run: Callable[[Any], Any]) -> None:
        steps.append((name, node if node.has("norm") else getattr(node, place), run))

    attends = node.has("attention") and node.attention.has("output")
    if node.has("state") and attends:
        add("attention", "attention", lambda h: weighed(spec, "state", mix, h) + weighed(spec, "attention", attend, h))
    elif node.has("state"):
        add("state", "attention" if node.has("attention") else "state", lambda h: weighed(spec, "state", mix, h))
    elif attends:
        add("attention", "attention", lambda h: weighed(spec, "attention", attend, h))
    if node.has("cross_attention"):
        add("cross_attention", "cross_attention", lambda h: node.cross_attention(h, memory, memory_mask, crossing))
    if node.has("moe") and node.moe.has("dense_norm"):
        add("ffn", "ffn", lambda h: node.moe.dense_norm(node.ffn(h)) + node.moe.post_norm(node.moe(node.moe.norm(x), x)))
    elif node.has("moe"):
        beside = node.has("ffn") and node.ffn.has("output")
        run = (lambda h: node.moe(h) + node.ffn(h)) if beside else node.moe
        add("ffn", "ffn", lambda h: weighed(spec, "ffn", run, h))
    elif node.has("ffn"):
        add("ffn", "ffn", lambda h: weighed(spec, "ffn", node.ffn, h))
    if traits.parallel:
        first = entered(ops, spec, node.attention, x)
        own = any(node.ffn.has(n) for n in ("norm", "own_norm"))
        given = [first, entered(ops, spec, node.ffn, x) if own else first]
        for (_, part, step), h in zip(steps, given, strict=True):
            x = x + node.drop(left(spec, part, step(h)))
        return x
    for name, part, step in steps:
        if traits.norm == "after":
            x = x + node.drop(step(x))
            x = bare(ops, spec, None, x) if traits.bare_norm else part.norm(x)
        else:
            h = entered(ops, spec, part, x)
            kept = h if traits.residual_normed else x
            skip = float(str(traits.skip_scale)) * scale(spec, f"{name}.kept")
            x = (kept if skip == 1 else kept * skip) + node.drop(left(spec, part, step(h)))
            x = part.sum_norm(x) if part.has("sum_norm") else x
    if own is not None:
        x = x + own_input(ops, spec, node, x, own)
    return x * node.held("scale") if node.has("scale") else x


def keyed(ops: Any, spec: Spec, node: Any, h: Any, further: Mapping[str, Any]) -> Any:
    """What keys and values are of: what queries are of (`h`), with what was before it ("past", normed where `h` is), or "whole"."""
    if "past" not in further:
        return further.get("whole", h)
    past = further["past"]
    return ops.concatenate((past if spec.traits.norm == "after" else entered(ops, spec, node.attention, past), h), axis=1)


def narrowed(ops: Any, spec: Spec, node: Any, x: Any, mask: Any) -> Any:
    """One layer between two projections (MobileBERT): queries and keys have one of their own, values are of what came in; several
    feed-forwards."""
    ends = node.bottleneck
    y, shared = ends.input_norm(ends.input(x)), ends.shared_norm(ends.shared(x))
    y = node.attention.norm(y + node.attention(shared, (shared, x), mask))
    for i in range(spec.sizes.get("ffns", 0)):
        part = getattr(node.ffns, str(i))
        y = part.norm(y + ffn(ops, spec, part, y))
    y = node.ffn.norm(y + node.ffn(y))
    return ends.output_norm(x + node.drop(ends.output(y)))


def entered(ops: Any, spec: Spec, part: Any, x: Any) -> Any:
    """What a part of a block is given of `x`: normed where it has a norm before it."""
    if spec.traits.bare_norm:
        return bare(ops, spec, None, x)
    name = next((n for n in ("in_norm", "norm", "own_norm") if part.has(n)), "")
    return getattr(part, name)(x) if name else x


def left(spec: Spec, part: Any, y: Any) -> Any:
    """What a part of a block adds: normed where it has a norm after it, scaled."""
    y = part.post_norm(y) if part.has("post_norm") else y
    scale = float(str(spec.traits.residual_scale))
    return y if scale == 1 else y * scale


def bare(ops: Any, spec: Spec, node: Any, x: Any) -> Any:
    """A norm without parameters."""
    centred = x if spec.traits.norm_kind == "rms" else x - ops.mean(x, axis=-1, keepdims=True)
    return centred * ops.rsqrt(ops.mean(ops.square(centred), axis=-1, keepdims=True) + float(str(spec.traits.norm_eps)))
