"""BigBird's attention to blocks of a long text (arXiv 2007.14062): a position sees its own block, those beside it, the first and the last;
these two see all. The random blocks of the paper are drawn in training; when a model is run, each of them is the first block once more.

A text of few blocks is seen as a whole. Source: transformers models/big_bird (bigbird_block_sparse_attention, whose random blocks are drawn
in training only; `max_tokens_to_attend`).
"""

from __future__ import annotations

import math
from typing import Any

from .spec import Spec


def applies(spec: Spec) -> bool:
    """Whether a long text is seen in blocks."""
    return spec.traits.blocks == "block_sparse"


def _most(spec: Spec) -> int:
    """How many positions are seen as a whole."""
    return (5 + 2 * int(str(spec.traits.block_count))) * int(str(spec.traits.block_size))


def _short(ops: Any, spec: Spec, length: Any) -> Any:
    """Whether a text is seen as a whole, as an array: its length may be open."""
    return ops.max(ops.arange(length)) < _most(spec)


def _numbers(ops: Any, spec: Spec, length: Any) -> tuple[Any, Any, Any]:
    """(each query's block, each key's, the last one's)."""
    size = int(str(spec.traits.block_size))
    block = ops.cast(ops.arange(length) // size, "int32")
    return ops.expand_dims(block, 1), ops.expand_dims(block, 0), (length - 1) // size


def seen(ops: Any, spec: Spec, length: Any) -> Any:
    """Which keys a query sees, [1, query, key]; None for a text that is known to be short."""
    if isinstance(length, int) and length <= _most(spec):
        return None
    query, key, last = _numbers(ops, spec, length)
    rule = (ops.abs(query - key) <= 1) | (key == 0) | (key == last) | (query == 0) | (query == last)
    return ops.expand_dims(rule | _short(ops, spec, length), 0)


def block_bias(ops: Any, spec: Spec, node: Any, ids: Any, like: Any) -> Any:
    """By how much the first block counts more for all but the first and the last, [1, 1, query, key]."""
    length = ops.shape(ids)[1]
    query, key, last = _numbers(ops, spec, length)
    more = ops.cast((key == 0) & (query > 0) & (query != last), like.dtype) * math.log(1 + int(str(spec.traits.block_count)))
    return ops.expand_dims(ops.expand_dims(more * (1 - ops.cast(_short(ops, spec, length), like.dtype)), 0), 0)
