"""Mixers: what a layer has instead of attention, or beside it. State spaces, linear attention, short convolutions.

Each is written without a loop over positions, so that one text runs in every framework and in programs of open length: a recurrence by
doubling, or, where a head has one decay, as attention whose weights fall with what lies between two positions. Both are the authors'
recurrences in exact arithmetic. Padded positions (`padding`, [batch, position]) give nothing to those after them.
Sources: Mamba (arXiv 2312.00752), Mamba 2 (2405.21060, its quadratic form), gated delta networks (2412.06464), Kimi Linear (2510.26692),
Griffin (2402.19427), lightning attention (2401.04658); transformers models/mamba, falcon_mamba, jamba, mamba2, falcon_h1, nemotron_h,
qwen3_next, lfm2, kimi_linear, recurrent_gemma, minimax.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from ..errors import UndecidedError
from .blocks import activate
from .scales import scales, times
from .spec import Spec

LONGEST = 20  # an open length is at most two to that many positions
UNIT = 1e-6  # what is added to the squared length of queries and keys that are made one long


def state(ops: Any, spec: Spec, node: Any, x: Any, padding: Any = None, positions: Any = None) -> Any:
    """What the mixer of a layer makes of [batch, position, hidden]. `positions`: their numbers, for one that begins anew at 0."""
    more = () if positions is None else (positions,)
    return MIXERS[spec.traits.mixer](ops, spec, node, x, padding, *more)


def masked(ops: Any, x: Any, padding: Any) -> Any:
    """Nothing at padded positions."""
    return x if padding is None else x * ops.cast(ops.expand_dims(padding != 0, -1), x.dtype)


def wide(ops: Any, x: Any) -> Any:
    """In float32, unless it is float64: what is narrower cannot hold a sum over many positions."""
    return x if "float64" in str(x.dtype) else ops.cast(x, "float32")


def convolved(ops: Any, spec: Spec, convolution: Any, x: Any) -> Any:
    """Convolved along the text, and activated."""
    return activate(ops, str(spec.traits.state_activation or spec.traits.activation), convolution(x))


def recurrence(ops: Any, decay: Any, given: Any) -> Any:
    """h[t] = decay[t] * h[t - 1] + given[t] along axis 1, h before the first being zero: [batch, position, ...] both."""
    length = ops.shape(given)[1]
    steps = max(length - 1, 0).bit_length() if isinstance(length, int) else LONGEST
    at = ops.arange(length)
    for shift in (1 << i for i in range(steps)):
        earlier, there = ops.maximum(at - shift, 0), ops.reshape(at >= shift, (1, -1, *[1] * (len(given.shape) - 2)))
        given = given + ops.where(there, decay * ops.rows(given, earlier), 0.0)
        decay = ops.where(there, decay * ops.rows(decay, earlier), decay)
    return given


def fading(ops: Any, logs: Any) -> Any:
    """exp of the sum of `logs` [batch, head, position] after a position (column) up to another (row); zero for columns after the row."""
    at = ops.arange(ops.shape(logs)[2])
    row, column = ops.expand_dims(at, 1), ops.expand_dims(at, 0)
    between = ops.cumsum(ops.where(row > column, ops.expand_dims(logs, -1), 0.0), axis=-2)  # exact where a difference of sums is not
    return ops.where(row >= column, ops.exp(between), 0.0)


def mamba(ops: Any, spec: Spec, node: Any, x: Any, padding: Any = None) -> Any:
    """Mamba 1: a decay for each channel and column of its state, by the step that a position takes."""
    x = masked(ops, x, padding)
    gate = node.gate(x)
    inner = masked(ops, convolved(ops, spec, node.conv, node.input(x)), padding)
    step, b, c = (
        _normed(ops, spec, node, name, a) for name, a in (("step", node.step_low(inner)), ("b", node.b(inner)), ("c", node.c(inner)))
    )
    step, b, c, u = (wide(ops, a) for a in (ops.softplus(node.step(step)), b, c, inner))
    rate = -ops.exp(wide(ops, node.held("a_log")))
    decay = ops.exp(ops.expand_dims(step, -1) * rate)
    states = recurrence(ops, decay, ops.expand_dims(step * u, -1) * ops.expand_dims(b, 2))
    y = ops.sum(states * ops.expand_dims(c, 2), axis=-1) + u * wide(ops, node.held("d"))
    return node.out(ops.cast(y, x.dtype) * ops.silu(gate))


def _normed(ops: Any, spec: Spec, node: Any, name: str, x: Any) -> Any:
    """Step, B or C of Mamba 1, normed where the family norms them: with a scale (Jamba) or without one (Falcon Mamba)."""
    if node.has(f"{name}_norm"):
        return getattr(node, f"{name}_norm")(x)
    eps = float(str(spec.traits.state_eps))
    return x * ops.rsqrt(ops.mean(ops.square(x), axis=-1, keepdims=True) + eps) if eps else x


def mamba2(ops: Any, spec: Spec, node: Any, x: Any, padding: Any = None) -> Any:
    """Mamba 2: heads with one decay each; B and C are shared by the heads of a group."""
    x = masked(ops, x, padding)
    heads, groups = node.held("a_log").shape[0], int(str(spec.traits.state_groups))
    by = dict(zip(("gate", "input", "b", "c", "step"), scales(spec, "state.parts", 5), strict=True))
    given = {name: times(number, getattr(node, name)(x)) for name, number in by.items()}
    parts = (convolved(ops, spec, getattr(node, f"conv_{name}"), given[name]) for name in ("input", "b", "c"))
    u, b, c = (wide(ops, masked(ops, a, padding)) for a in parts)
    if groups < 1 or b.shape[-1] % groups or heads % groups:
        raise UndecidedError(f"{b.shape[-1]} columns of B and {heads} heads do not make {groups} groups, as the configuration says")
    step = ops.softplus(wide(ops, given["step"] + node.held("step_bias")))
    step = ops.clip(step, *limits(spec.traits.step_limit))
    batch, length, inner = ops.shape(u)
    u = ops.reshape(u, (batch, length, heads, inner // heads))
    b, c = (ops.reshape(a, (batch, length, groups, a.shape[-1] // groups)) for a in (b, c))
    y = decayed(ops, u * ops.expand_dims(step, -1), b, c, step * -ops.exp(wide(ops, node.held("a_log"))))
    y = ops.reshape(y + u * ops.expand_dims(wide(ops, node.held("d")), -1), (batch, length, inner))
    return node.out(ops.cast(gated_norm(ops, spec, node, y, given["gate"], groups), x.dtype))


def decayed(ops: Any, value: Any, key: Any, query: Any, logs: Any) -> Any:
    """Linear attention that fades: values [batch, position, head, width], keys and queries [batch, position, group, size], the logarithm of
    the decay at each position [batch, position, head]."""
    scores = ops.einsum("blgn,bmgn->bglm", query, key)
    times = value.shape[2] // key.shape[2]
    scores = ops.repeat(scores, times, axis=1) if times > 1 else scores
    return ops.einsum("bhlm,bmhp->blhp", scores * fading(ops, ops.transpose(logs, (0, 2, 1))), value)


def gated_norm(ops: Any, spec: Spec, node: Any, y: Any, gate: Any, groups: int) -> Any:
    """Gated, and before or after that the root mean square norm of each group of columns, where there is a norm."""
    gate, late = ops.silu(wide(ops, gate)), bool(spec.traits.gate_late)
    if not node.has("norm"):
        return y * gate
    batch, length, width = ops.shape(y)
    parts = ops.reshape(y if late else y * gate, (batch, length, groups, width // groups))
    parts = parts * ops.rsqrt(ops.mean(ops.square(parts), axis=-1, keepdims=True) + node.norm.eps)
    normed = ops.reshape(parts, (batch, length, width)) * wide(ops, node.norm.weight)
    return normed * gate if late else normed


def limits(said: object) -> tuple[float, float]:
    """The least and the most that a step may be, or the least alone; transformers writes the infinite as {"__float__": "Infinity"}."""
    if said is None:
        return 0.0, math.inf
    if isinstance(said, (int, float)):
        return float(said), math.inf
    found = [float(str(x.get("__float__") if isinstance(x, dict) else x)) for x in said] if isinstance(said, (list, tuple)) else []
    if len(found) != 2:
        raise UndecidedError(f"time_step_limit is {said!r}, not two numbers")
    return found[0], found[1]


def delta(ops: Any, spec: Spec, node: Any, x: Any, padding: Any = None) -> Any:
    """The gated delta rule: each position overwrites, by its strength, what the state holds under its key."""
    x = masked(ops, x, padding)
    parts = (convolved(ops, spec, getattr(node, f"conv_{name}"), getattr(node, name)(x)) for name in ("query", "key", "value"))
    query, key, value = (wide(ops, a) for a in parts)
    heads, keys, values, width = node.held("a_log").shape[0], key.shape[-1], value.shape[-1], spec.sizes["key_dim"]
    query, key = (_unit(ops, _heads(ops, a, width, heads * width // keys)) for a in (query, key))
    value = _heads(ops, value, values // heads, 1)
    strength = ops.transpose(wide(ops, ops.sigmoid(node.strength(x))), (0, 2, 1))
    fall = -ops.exp(wide(ops, node.held("a_log"))) * ops.softplus(wide(ops, node.decay(x)) + wide(ops, node.held("step_bias")))
    fade, turned = fading(ops, ops.transpose(fall, (0, 2, 1))), ops.transpose(key, (0, 1, 3, 2))
    own, seen = ops.matmul(key, turned) * fade, ops.matmul(query * width**-0.5, turned) * fade
    out = delta_rule(ops, seen, own, value, ops.expand_dims(strength, -1))
    out = node.norm(ops.cast(ops.transpose(out, (0, 2, 1, 3)), x.dtype))
    batch, length, _ = ops.shape(x)
    return node.out(ops.reshape(out, (batch, length, values)) * ops.silu(node.gate(x)))


def _heads(ops: Any, x: Any, width: int, times: int) -> Any:
    """[batch, head, position, width], each head `times` times."""
    batch, length, every = ops.shape(x)
    x = ops.transpose(ops.reshape(x, (batch, length, every // width, width)), (0, 2, 1, 3))
    return ops.repeat(x, times, axis=1) if times > 1 else x


def _unit(ops: Any, x: Any) -> Any:
    return x * ops.rsqrt(ops.sum(ops.square(x), axis=-1, keepdims=True) + UNIT)


def delta_rule(ops: Any, seen: Any, own: Any, value: Any, strength: Any) -> Any:
    """The rule for all positions at once: what each writes is what solves a triangular system. All [batch, head, position, ...]; `seen`
    and `own`: how much of the key of each earlier position is in the query, and in the key, of a position, as far as it has not faded."""
    at = ops.arange(ops.shape(own)[2])
    below = ops.expand_dims(at, 1) > ops.expand_dims(at, 0)
    return ops.matmul(seen, ops.solve_unit_lower(ops.where(below, strength * own, 0.0), strength * value))


def channel_delta(ops: Any, spec: Spec, node: Any, x: Any, padding: Any = None) -> Any:
    """Kimi's delta attention: the gated delta rule with a decay for every channel of a head's keys."""
    x = masked(ops, x, padding)
    parts = (convolved(ops, spec, getattr(node, f"conv_{name}"), getattr(node, name)(x)) for name in ("query", "key", "value"))
    width = spec.sizes["linear_dim"]
    query, key, value = (_heads(ops, wide(ops, a), width, 1) for a in parts)
    query, key = _unit(ops, query) * width**-0.5, _unit(ops, key)
    step = ops.softplus(wide(ops, node.forget(node.forget_low(x))) + wide(ops, node.held("step_bias")))
    fall = -ops.exp(ops.reshape(wide(ops, node.held("a_log")), (1, -1, 1, 1))) * _heads(ops, step, width, 1)
    strength = ops.expand_dims(ops.transpose(wide(ops, ops.sigmoid(node.strength(x))), (0, 2, 1)), -1)
    seen, own = 0.0, 0.0
    for i in range(width):  # one decay at a time, as those of all at once are as many numbers as channels times pairs of positions
        faded = fading(ops, fall[..., i]) * ops.expand_dims(key[..., i], 2)
        seen, own = (a + ops.expand_dims(b[..., i], -1) * faded for a, b in ((seen, query), (own, key)))
    out = ops.transpose(delta_rule(ops, seen, own, value, strength), (0, 2, 1, 3))
    gate = node.gate(node.gate_low(x))
    batch, length, every = ops.shape(gate)
    return node.out(ops.reshape(node.norm(ops.cast(out, x.dtype)), (batch, length, every)) * ops.sigmoid(gate))


def recurrent(ops: Any, spec: Spec, node: Any, x: Any, padding: Any = None, positions: Any = None) -> Any:
    """Griffin's gated linear recurrence (RG-LRU): a decay for each channel, by a gate of its head. Padded positions are as any others, and
    what has position 0 begins anew."""
    gate = activate(ops, str(spec.traits.activation), node.gate(x))
    inner = wide(ops, node.conv(node.input(x)))
    enters, fades = (ops.sigmoid(_by_head(ops, node, name, inner)) for name in ("input_gate", "recurrent_gate"))
    logs = -8.0 * fades * ops.softplus(wide(ops, node.held("decay")))
    at = ops.expand_dims(ops.arange(ops.shape(x)[1]), 0) if positions is None else positions
    first = ops.expand_dims(at == 0, -1)
    kept = 1.0 - ops.exp(2.0 * logs)
    root = ops.where(kept > 0, ops.where(kept > 0, kept, 1.0) ** 0.5, 0.0)  # whose slope at 0 is not infinite
    states = recurrence(ops, ops.where(first, 0.0, ops.exp(logs)), inner * enters * ops.where(first, 1.0, root))
    return node.out(ops.cast(states, x.dtype) * gate)


def _by_head(ops: Any, node: Any, name: str, x: Any) -> Any:
    """A linear layer for each head's columns of [batch, position, column]: its matrices [head, in, out]."""
    matrix, bias = wide(ops, node.held(name)), wide(ops, node.held(f"{name}_bias"))
    batch, length, width = ops.shape(x)
    parts = ops.reshape(x, (batch, length, matrix.shape[0], matrix.shape[1]))
    return ops.reshape(ops.einsum("blhi,hij->blhj", parts, matrix) + bias, (batch, length, width))


def lightning(ops: Any, spec: Spec, node: Any, x: Any, padding: Any = None) -> Any:
    """Lightning attention: linear attention that fades at one rate for each head (arXiv 2401.04658), normed and gated."""
    parts = (masked(ops, activate(ops, str(spec.traits.activation), part(x)), padding) for part in (node.query, node.key, node.value))
    query, key, value = (_heads(ops, wide(ops, a), spec.head_dim, 1) for a in parts)
    fade = _stored_fade(ops, spec, node, ops.shape(x)[1]) if node.has("query_decay") else _fade(ops, spec, node, ops.shape(x)[1])
    seen = ops.matmul(ops.matmul(query, ops.transpose(key, (0, 1, 3, 2))) * fade, value)
    batch, length, _ = ops.shape(x)
    out = node.norm(ops.cast(ops.reshape(ops.transpose(seen, (0, 2, 1, 3)), (batch, length, spec.heads * spec.head_dim)), x.dtype))
    return node.out(ops.sigmoid(node.gate(x)) * out)


def _slope(ops: Any, spec: Spec, node: Any) -> Any:
    """How fast each head fades, [head, 1, 1]: as stored, else by its number and that of the layer."""
    if node.has("slope"):
        return wide(ops, node.held("slope"))
    layer = 1.0 - node.number / (spec.sizes["layers"] - 1 + 1e-5) + 1e-5
    return ops.reshape(ops.constant([2.0 ** (-8.0 * (i + 1) / spec.heads) * layer for i in range(spec.heads)], "float32"), (-1, 1, 1))


def _fade(ops: Any, spec: Spec, node: Any, length: Any) -> Any:
    """What is left of each position (column) at each (row), [head, row, column]."""
    at = ops.arange(length)
    between = ops.expand_dims(at, 1) - ops.expand_dims(at, 0)
    slope = _slope(ops, spec, node)
    return ops.where(between >= 0, ops.exp(-slope * ops.cast(ops.maximum(between, 0), slope.dtype)), 0.0)


def _stored_fade(ops: Any, spec: Spec, node: Any, length: Any) -> Any:
    """The same of the stored tables, which are those of one block of positions: within it, and from its end and to its begin."""
    to_begin, to_end, within = (wide(ops, node.held(f"{n}_decay")) for n in ("query", "key", "diagonal"))
    size, slope, at = to_begin.shape[1], _slope(ops, spec, node), ops.arange(length)
    block, place = at // size, at % size
    blocks = ops.expand_dims(block, 1) - ops.expand_dims(block, 0)
    inside = ops.rows(ops.transpose(ops.rows(within[0], place), (0, 2, 1)), place)  # [head, column, row]
    whole = ops.exp(-slope * size * ops.cast(ops.maximum(blocks - 1, 0), slope.dtype))
    across = ops.rows(to_begin, place) * ops.transpose(ops.rows(to_end, place), (0, 2, 1)) * whole
    return ops.where(blocks == 0, ops.transpose(inside, (0, 2, 1)), ops.where(blocks > 0, across, 0.0))


def convolution(ops: Any, spec: Spec, node: Any, x: Any, padding: Any = None) -> Any:
    """A short convolution between two gates (LFM 2)."""
    x = masked(ops, x, padding)
    return node.out(node.c(x) * node.conv(node.b(x) * node.input(x)))


MIXERS: dict[str, Callable[..., Any]] = {
    "mamba": mamba, "mamba2": mamba2, "delta": delta, "convolution": convolution, "channel_delta": channel_delta, "recurrent": recurrent,
    "lightning": lightning,
}  # fmt: skip
