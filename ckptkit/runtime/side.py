"""LongT5's blocks of the whole text (arXiv 2112.07916): beside what is near, a position sees a sum of every block of positions.

What is left after the last whole block counts for that one. Source: transformers models/longt5 (LongT5TransientGlobalAttention,
_make_global_fixed_block_ids).
"""

from __future__ import annotations

from typing import Any

from .positions import buckets
from .spec import Spec


def side(ops: Any, spec: Spec, node: Any, ids: Any, mask: Any = None) -> tuple[Any, Any, Any]:
    """(the bias of blocks by their distance, [batch, head, query, block]; which positions a block is of, [batch, position, block]; which
    blocks there are, [batch, 1, 1, block])."""
    length, wide = ops.shape(ids)[1], int(str(spec.traits.global_block))
    at = ops.arange(length)
    real = ops.cast(ids == ids if mask is None else mask != 0, "int32")
    ends = ops.cast(at % wide == wide - 1, "int32")
    last = ops.sum(real * ends, axis=1, keepdims=True) - 1
    own = (ops.cast(at // wide, "int32") + 1) * real - 1  # -1: padding
    own = ops.where(own < last, own, last)
    numbers = ops.cast(ops.arange(length // wide), "int32")
    there = ops.expand_dims(numbers, 0) <= ops.max(own, axis=1, keepdims=True)
    of = ops.expand_dims(own, -1)
    where = buckets(
        ops, numbers - of, both=True, count=int(str(spec.traits.bucket_count)) or spec.sizes["buckets"],
        farthest=int(str(spec.traits.bucket_distance)),
    )  # fmt: skip
    bias = ops.transpose(node(where), (0, 3, 1, 2))
    return bias, ops.cast(of == numbers, bias.dtype), ops.expand_dims(ops.expand_dims(there, 1), 1)


def with_blocks(ops: Any, node: Any, given: tuple[Any, Any, Any], x: Any) -> Any:
    """What stands for every block, [batch, block, hidden], of what goes into the layer."""
    return node.global_norm(ops.matmul(ops.transpose(given[1], (0, 2, 1)), x))


def joined(ops: Any, scores: Any, bias: Any, mask: Any, given: tuple[Any, Any, Any]) -> tuple[Any, Any]:
    """(bias, mask) of `scores` of near positions and then of blocks, from those of near positions."""
    count = ops.shape(given[0])[3]
    near = ops.zeros_like(scores[..., : ops.shape(scores)[3] - count])
    far = ops.zeros_like(scores[:, :1, :, ops.shape(scores)[3] - count :])
    bias = ops.concatenate((near + bias, given[0]), axis=-1)
    mask = near[:, :1] == 0 if mask is None else ops.logical_and(mask, near[:, :1] == 0)
    return bias, ops.concatenate((mask, ops.logical_and(given[2], far == 0)), axis=-1)
