"""Gated attention units, as GAU-alpha has them (arXiv 2202.10447; ZhuiyiTechnology/GAU-alpha)."""

from __future__ import annotations

import math
from typing import Any

from .blocks import LOWEST, activate, score_scale
from .rotary import turn
from .spec import Spec


def gated_unit(ops: Any, spec: Spec, node: Any, x: Any, mask: Any = None, turned: Any = None) -> Any:
    """A gated attention unit (arXiv 2202.10447): one head of which queries and keys are one narrow projection, scaled twice; what it gives
    is gated by a projection of what came in. Scores grow with the number of keys that are seen, at least 16 (GAU-alpha)."""
    word = str(spec.traits.activation)
    gate, value, base = (activate(ops, word, part(x)) for part in (node.gate, node.value, node.base))
    query, key = (turn(ops, ops.expand_dims(base * node.held(n), 1), turned, spec.traits.pairs) for n in ("query_scale", "key_scale"))
    scores = ops.matmul(query, ops.transpose(key, (0, 1, 3, 2))) * score_scale(spec, query.shape[-1])
    seen = ops.cast(mask, scores.dtype) + ops.zeros_like(scores) if mask is not None else ops.zeros_like(scores) + 1
    count = ops.maximum(ops.sum(seen, axis=-1, keepdims=True), 16)
    scores = ops.where(seen > 0, scores * ops.log(count) * (1 / math.log(512)), LOWEST)
    weights = node.attention_drop(ops.softmax(scores, axis=-1))
    return node.output(gate * ops.matmul(weights[:, 0], value))
