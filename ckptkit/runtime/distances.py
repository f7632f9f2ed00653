"""DeBERTa's attention to distances (arXiv 2006.03654): content to position, position to content, over one table of distances.

Distances beyond the middle of the table are in logarithmic buckets in version 2. Source: transformers models/deberta and models/deberta_v2
modeling_*.py (`make_log_bucket_position`, `disentangled_attention_bias`).
"""

from __future__ import annotations

import math
from typing import Any

from ..errors import UndecidedError
from .spec import Spec


def distance_kinds(spec: Spec) -> tuple[str, ...]:
    """What weighs distances: "c2p", "p2c", or both."""
    said: Any = spec.traits.distance_kinds
    words = said.lower().split("|") if isinstance(said, str) else said or ()
    return tuple(w.strip() for w in words)


def row_of(ops: Any, spec: Spec, length: Any, rows: int) -> Any:
    """The row of the table for every distance, query minus key: [query, key]."""
    half = rows // 2
    at = ops.arange(length)
    distance = ops.expand_dims(at, 1) - ops.expand_dims(at, 0)
    buckets, farthest = int(str(spec.traits.bucket_count or 0)), int(str(spec.traits.bucket_distance))
    if buckets > 0:
        farthest = farthest if farthest > 0 else spec.sizes.get("positions") or int(str(spec.values["max_positions"]))
        middle = buckets // 2
        far = ops.cast(ops.maximum(ops.abs(distance), middle), "float32")
        grown = ops.ceil(ops.log(far / middle) / math.log((farthest - 1) / middle) * (middle - 1)) + middle
        sign = ops.where(distance > 0, 1, -1)
        distance = ops.where(ops.abs(distance) <= middle, distance, ops.cast(grown, "int32") * sign)
    return ops.clip(distance + half, 0, rows - 1)


def by_distance(ops: Any, spec: Spec, node: Any, query: Any, key: Any, table: Any) -> Any:
    """What distances add to the scores before they are scaled, [batch, head, query, key]; `table` is [distance, hidden]."""
    if table is None:
        return 0.0
    kinds = distance_kinds(spec)
    rows = table.shape[0]
    _fits(spec, node, kinds, rows)
    index = row_of(ops, spec, ops.shape(query)[2], rows)
    index = ops.expand_dims(ops.expand_dims(index, 0), 0)

    def split(x: Any) -> Any:
        return ops.transpose(ops.reshape(x, (rows, spec.heads, spec.head_dim)), (1, 2, 0))  # [head, head_dim, distance]

    out: Any = 0.0
    if "c2p" in kinds:
        by_row = ops.matmul(query, split((node.key if spec.traits.shared_keys else node.pos_key)(table)))
        out = out + picked(ops, by_row, index)
    if "p2c" in kinds:
        by_row = ops.matmul(key, split((node.query if spec.traits.shared_keys else node.pos_query)(table)))
        found = picked(ops, by_row, ops.transpose(index, (0, 1, 3, 2)))
        out = out + ops.transpose(found, (0, 1, 3, 2))
    return out


def _fits(spec: Spec, node: Any, kinds: tuple[str, ...], rows: int) -> None:
    """UndecidedError where the weights have not what the configuration says of distances."""
    for kind, part in (("c2p", "pos_key"), ("p2c", "pos_query")):
        if kind in kinds and not spec.traits.shared_keys and not node.has(part):
            raise UndecidedError(f"the configuration says {kind}, with projections of its own; the weights hold no {part}")
    buckets, farthest = int(str(spec.traits.bucket_count or 0)), int(str(spec.traits.bucket_distance))
    positions = spec.values.get("positions")
    most = buckets if buckets > 0 else farthest if farthest > 0 else positions if isinstance(positions, int) else 0
    if most and rows != 2 * most:
        raise UndecidedError(f"the configuration says {most} distances to either side; the weights hold a table of {rows}")


def picked(ops: Any, by_row: Any, index: Any) -> Any:
    """Of [batch, head, position, distance] the entries at [1, 1, position, other position]."""
    everywhere = index + ops.cast(ops.zeros_like(by_row[..., :1]), index.dtype)
    return ops.take_along_axis(by_row, everywhere, axis=3)
