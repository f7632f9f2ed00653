"""Experts: which of them a token passes, with what weight, and what they give together.

Routers (`Traits.router`): softmax (over all, then the best are chosen), softmax_chosen (the best are chosen, then softmax over those),
sigmoid (each by itself), root_softplus (the root of softplus, each by itself), sigmoid_input (the same, and it is what
goes into an expert that is weighted, Llama 4), two_rounds (Phi-3.5-MoE). A learned correction, where there is one, changes who is chosen
and not the weights; experts may be chosen from the best groups only. Sources: transformers models/mixtral, qwen2_moe, granitemoe,
deepseek_v2, deepseek_v3, ernie4_5_moe, gpt_oss.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..errors import UndecidedError
from .blocks import activate, bare
from .spec import Spec

if TYPE_CHECKING:
    from ..schema.traits import Traits

TINY = 1e-20


def route(ops: Any, spec: Spec, node: Any, x: Any, ids: Any = None) -> Any:
    """The weight of every expert for every token, [token, expert]: zero where it is not chosen."""
    traits = spec.traits
    count, chosen = spec.sizes["experts"], int(str(traits.per_token))
    if not 0 < chosen <= count:
        raise UndecidedError(f"{chosen} of {count} experts are chosen, says the configuration")
    if node.has("router_scale"):  # which is given it normed
        x = bare(ops, spec, None, x) * node.held("router_scale") * spec.sizes["hidden"] ** -0.5
    logits = node.router(x)
    if traits.router == "two_rounds":
        return _two_rounds(ops, logits, count, 2 * float(str(traits.router_noise)))
    scores = logits
    if traits.router == "softmax":
        scores = ops.softmax(logits, axis=-1)
    elif traits.router == "sigmoid":
        scores = ops.sigmoid(logits)
    elif traits.router == "root_softplus":
        scores = ops.softplus(logits) ** 0.5
    if node.has("table"):
        return _normalised(ops, traits, scores * _told(ops, node, ids, count))
    by = scores
    if node.has("correction"):
        by = by + ops.reshape(node.held("correction"), (1, count))
    by = _best_groups(ops, spec, by, count)
    _, at = ops.top_k(by, chosen)
    picked = ops.sum(ops.cast(ops.expand_dims(at, -1) == ops.arange(count), "int32"), axis=1) > 0
    if traits.router == "softmax_chosen":
        return ops.softmax(ops.where(picked, logits, -1e30), axis=-1)
    weights = ops.where(picked, scores, 0.0)
    if traits.router == "sigmoid_input":
        return ops.where(picked, ops.sigmoid(logits), 0.0)
    weights = _normalised(ops, traits, weights)
    return weights * node.held("expert_scale") if node.has("expert_scale") else weights


def _normalised(ops: Any, traits: Traits, weights: Any) -> Any:
    if traits.normalised:
        weights = weights / ops.maximum(ops.sum(weights, axis=-1, keepdims=True), float(str(traits.least_sum)) or TINY)
    return weights * float(str(traits.routed_scale))


def _told(ops: Any, node: Any, ids: Any, count: int) -> Any:
    """How often a layer's table names each expert for each word, [token, expert]."""
    at = ops.cast(ops.take(node.held("table"), ops.reshape(ids, (-1,)), axis=0), "int32")
    return ops.sum(ops.cast(ops.expand_dims(at, -1) == ops.arange(count), "float32"), axis=1)


def _two_rounds(ops: Any, logits: Any, count: int, far: float) -> Any:
    """The best expert by a softmax over those near it, then the best of the others in the same way (SparseMixer, arXiv 2409.12136)."""
    left, weights = logits, 0.0
    for _ in range(2):
        top = ops.max(left, axis=-1, keepdims=True)
        near = (top - logits) / ops.maximum(ops.abs(logits), top) <= far
        gates = ops.softmax(ops.where(near, left, -1e30), axis=-1)
        best = ops.expand_dims(ops.argmax(left, axis=-1), -1) == ops.arange(count)
        weights = weights + ops.where(best, gates, 0.0)
        left = ops.where(best, -1e30, left)
    return weights


def _best_groups(ops: Any, spec: Spec, by: Any, count: int) -> Any:
    """Scores by which experts are chosen, with those outside the best groups far below all others."""
    groups, kept = int(str(spec.traits.expert_groups)), int(str(spec.traits.groups_per_token))
    if groups <= 1 or kept >= groups or spec.traits.limited in (False, "greedy"):
        return by
    grouped = ops.reshape(by, (-1, groups, count // groups))
    if spec.traits.group_score == "two":
        score = ops.sum(ops.top_k(grouped, min(2, count // groups))[0], axis=-1)
    else:
        score = ops.max(grouped, axis=-1)
    _, at = ops.top_k(score, kept)
    inside = ops.sum(ops.cast(ops.expand_dims(at, -1) == ops.arange(groups), "int32"), axis=1) > 0
    return ops.reshape(ops.where(ops.expand_dims(inside, -1), grouped, -1e30), (-1, count))


def expert(ops: Any, spec: Spec, node: Any, x: Any) -> Any:
    """One expert, or what every token passes beside them: a feed-forward, gated or not."""
    if not node.has("gate"):
        return node.output(activate(ops, str(spec.traits.activation), node.up(x)))
    gate, up = node.gate(x), node.up(x)
    limit = float(str(spec.traits.expert_limit))
    if limit:
        gate, up = ops.minimum(gate, limit), ops.clip(up, -limit, limit)
        slope = float(str(spec.traits.expert_slope))
        if slope:
            return node.output(gate * ops.sigmoid(gate * slope) * (up + 1))
    return node.output(activate(ops, str(spec.traits.activation), gate) * up)


def moe(ops: Any, spec: Spec, node: Any, x: Any, by: Any = None, ids: Any = None) -> Any:
    """The experts' outputs by their weights, and the shared feed-forward's. Experts may be narrower, between two projections. `by`: what
    routes them, where that is not what goes in; `ids`: the words, by which a layer with a table chooses experts."""
    shape = ops.shape(x)
    flat = ops.reshape(x, (-1, shape[-1]))
    capacity = int(str(spec.traits.expert_capacity))
    routed = flat if by is None else ops.reshape(by, (-1, shape[-1]))
    every = [_bound(ops, spec, getattr(node.experts, str(i))) for i in range(spec.sizes["experts"])]
    given = node.down(flat) if node.has("down") else flat
    weights = route(ops, spec, node, routed, ids)
    if capacity:
        weights = _with_room(ops, weights, shape, capacity)
    out = ops.weighted(every, given, weights, inside=spec.traits.router == "sigmoid_input")
    lost = float(str(spec.traits.expert_loss))
    out = out * (1 - lost) if lost else out
    out = node.up(out) if node.has("up") else out
    if node.has("shared"):
        beside = expert(ops, spec, node.shared, flat)
        out = out + (ops.sigmoid(node.shared_gate(flat)) * beside if node.has("shared_gate") else beside)
    return ops.reshape(out, shape)


def _with_room(ops: Any, weights: Any, shape: Any, capacity: int) -> Any:
    """The weights without those of tokens for which an expert has no room: it takes the first `capacity` of a text, padding too."""
    by_text = ops.reshape(weights, (*shape[:-1], weights.shape[-1]))
    taken = ops.cumsum(ops.cast(by_text > 0, "int32"), axis=1) <= capacity
    return ops.reshape(ops.where(taken, by_text, ops.zeros_like(by_text)), (-1, weights.shape[-1]))


def _bound(ops: Any, spec: Spec, node: Any) -> Any:
    return lambda x: expert(ops, spec, node, x)
