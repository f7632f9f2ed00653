"""Positions that are computed: sinusoids, buckets of distances, slopes. What is learned of them lies in `embeddings` and in the stacks.

Sources: huawei-noah NEZHA modeling.py (relative positions), mesh_tensorflow transformer_layers.py (buckets), fairseq
sinusoidal_positional_embedding.py, ALiBi (arXiv 2108.12409).
"""

from __future__ import annotations

import math
from typing import Any

from .spec import Spec


def sinusoids(ops: Any, spec: Spec, length: Any, dtype: Any) -> Any:
    """NEZHA's relative positions [query, key, head_dim]: sinusoids of the distance, clipped."""
    width, far = spec.head_dim, int(str(spec.traits.distance))
    at = ops.arange(length)
    distance = ops.clip(ops.expand_dims(at, 0) - ops.expand_dims(at, 1), -far, far) + far
    column = ops.arange(width)
    rate = ops.exp(ops.cast(2 * (column // 2), "float32") * (-math.log(10000.0) / width))
    angle = ops.cast(ops.expand_dims(distance, -1), "float32") * rate
    return ops.cast(ops.where(column % 2 == 0, ops.sin(angle), ops.cos(angle)), dtype)


def sine_rows(ops: Any, spec: Spec, at: Any, dtype: Any) -> Any:
    """Fairseq's fixed positions, [batch or 1, position, hidden]: sines and then cosines, counted from after `pad`."""
    half = spec.sizes["hidden"] // 2
    rates = ops.constant([math.exp(-math.log(10000.0) * i / (half - 1)) for i in range(half)], "float32")
    angle = ops.expand_dims(ops.cast(at, "float32") + (int(str(spec.traits.pad)) + 1), -1) * rates
    return ops.cast(ops.concatenate((ops.sin(angle), ops.cos(angle)), axis=-1), dtype)


def wave_rows(ops: Any, spec: Spec, at: Any, dtype: Any) -> Any:
    """The sines and then the cosines of every position, [batch or 1, position, hidden]."""
    width = spec.sizes["hidden"]
    rates = ops.constant([10000.0 ** (-2 * i / width) for i in range((width + 1) // 2)], "float32")
    angle = ops.expand_dims(ops.cast(at, "float32"), -1) * rates
    return ops.cast(ops.concatenate((ops.sin(angle), ops.cos(angle)[..., : width // 2]), axis=-1), dtype)


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


def position_bias(ops: Any, spec: Spec, node: Any, length: Any, *, both: bool, keys: Any = None, transposed: bool = False) -> Any:
    """T5's bias of a stack, [1, heads, query, key], from its table [buckets, heads], or UniLM's linear [heads, buckets]. `keys`: how many,
    where there are not `length`."""
    at = ops.arange(length)
    distance = ops.expand_dims(at if keys is None else ops.arange(keys), 0) - ops.expand_dims(at, 1)
    where = buckets(ops, distance, both=both, count=int(str(spec.traits.bucket_count)) or spec.sizes["buckets"],
        farthest=int(str(spec.traits.bucket_distance)))  # fmt: skip
    found = ops.take(ops.transpose(node.weight, (1, 0)), where, axis=0) if transposed else node(where)
    return ops.expand_dims(ops.transpose(found, (2, 0, 1)), 0)


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
