"""ALiBi: scores that fall with the distance, by a slope for each head (arXiv 2108.12409; transformers models/bloom, mpt, falcon)."""

from __future__ import annotations

import math
from typing import Any

from .spec import Spec


def slopes(heads: int, most: float = 8.0) -> list[float]:
    """ALiBi's (arXiv 2108.12409), by head: powers of one number where heads are a power of two; then those of twice as many between."""
    whole = 2 ** int(math.log2(heads))
    out = [2.0 ** (-most * (i + 1) / whole) for i in range(whole)]
    return out + [2.0 ** (-most * (i + 1) / (2 * whole)) for i in range(0, 2 * (heads - whole), 2)]


def distance_bias(ops: Any, spec: Spec, ids: Any, dtype: Any, mask: Any = None) -> Any:
    """ALiBi: scores fall with the distance, [batch or 1, heads, query or 1, key]."""
    at = ops.expand_dims(ops.arange(ops.shape(ids)[1]), 0)
    slope = ops.constant(slopes(spec.heads), "float32")
    if spec.traits.alibi_kind == "distance":
        distance = ops.cast(ops.expand_dims(at, 1) - ops.expand_dims(at, 2), "float32")
        return ops.cast(ops.reshape(slope, (1, -1, 1, 1)) * ops.expand_dims(distance, 1), dtype)
    if mask is not None:
        real = ops.cast(mask != 0, "int32")
        at = (ops.cumsum(real, axis=1) - 1) * real
    place = ops.cast(ops.expand_dims(ops.expand_dims(at, 1), 1), "bfloat16")
    rounded = ops.cast(ops.reshape(ops.cast(slope, "bfloat16"), (1, -1, 1, 1)) * place, "float32")
    return ops.cast(rounded * (1 / math.sqrt(spec.head_dim)), dtype)
