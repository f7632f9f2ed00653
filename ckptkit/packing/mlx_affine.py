"""MLX's affine packing: `weight` in 32-bit words, `scales` and `biases` for each group of columns, 2 to 8 bits.

Source: mlx `ops.cpp` (affine_quantize), `backend/cpu/quantized.cpp`; the configuration's `quantization`, with overrides by module, says
bits and group size, which the shapes alone do not tell. Codes follow one another from the lowest bit on and may straddle words. Experts
are stacked, one more axis in front.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from .._typing import TYPE_CHECKING, Any
from ..tensors import TensorSpec
from ._codes import codes_of, rounded, rows_of, spread, words_of
from ._values import Fetch, Form, Mismatch, matrix

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

NAME = "mlx-affine"
TITLE = "MLX, affine (scales and biases)"
PARTS = {"codes": "@", "scales": "%scales", "biases": "%biases"}
KEY = ("scales", "biases")
OPTIONAL: tuple[str, ...] = ()
CODES = "codes"
METHODS = ("mlx",)
SIGNED = True  # a scale is negative where the lowest value has the larger magnitude


def claims(parts: Mapping[str, TensorSpec], words: Mapping[str, Any]) -> bool:
    """Words beside scales and biases."""
    return parts["codes"].dtype == "U32"


def form(parts: Mapping[str, TensorSpec], words: Mapping[str, Any], content: Callable[[str], bytes]) -> Form:
    """Bits and group size by the configuration; the shapes must agree."""
    codes, scales = parts["codes"].shape, parts["scales"]
    bits, group = words.get("bits"), words.get("group_size")
    if bits not in (2, 3, 4, 5, 6, 8) or type(group) is not int or group <= 0:
        raise Mismatch("codes", f"is packed in {bits!r} bits and groups of {group!r}; config.json's quantization has to say both")
    if not codes or codes[-1] * 32 % bits:
        raise Mismatch("codes", f"is {list(codes)}, no whole number of codes of {bits} bits")
    shape = (*codes[:-1], codes[-1] * 32 // bits)
    want = (*shape[:-1], shape[-1] // group)
    for role in ("scales", "biases"):
        if parts[role].shape != want or shape[-1] % group:
            raise Mismatch(role, f"is {list(parts[role].shape)}; {list(shape)} in groups of {group} ({bits} bits) has {list(want)}")
        if parts[role].dtype not in ("F32", "F16", "BF16"):
            raise Mismatch(role, f"is {parts[role].dtype}, which is no type of scales")
    options = {"bits": bits, "group": group, "words": codes[-1], "round": scales.dtype}
    return Form(NAME, shape, *matrix(shape), scales.dtype, options=options)


def decode(form: Form, fetch: Fetch, start: int, stop: int) -> Array:
    """scale * code + bias, each step rounded to the scales' type."""
    import numpy as np

    bits, group, words, kind = (form.options[k] for k in ("bits", "group", "words", "round"))
    out = codes_of(rows_of(fetch, "codes", words, start, stop), bits, form.columns).astype(np.float32)
    many = form.columns // group
    out *= spread(rows_of(fetch, "scales", many, start, stop).astype(np.float32), group, form.columns)
    out = rounded(out, kind)
    out += spread(rows_of(fetch, "biases", many, start, stop).astype(np.float32), group, form.columns)
    return rounded(out, kind)


def encode(rows: Array, bits: int, group: int, dtype: str = "F32") -> tuple[Array, Array, Array]:
    """(words, scales, biases): the group's range over the codes, its larger end a multiple of the scale so that zero is a code.

    The scale is negative where the lowest value has the larger magnitude; the arithmetic is float32, as in MLX for any type.
    """
    import numpy as np

    w = rows.astype(np.float32).reshape(len(rows), -1, group)
    low, high = w.min(axis=-1), w.max(axis=-1)
    steps = np.float32((1 << bits) - 1)
    scales = np.maximum((high - low) / steps, np.float32(1e-7))
    side = np.abs(low) > np.abs(high)
    scales = np.where(side, scales, -scales)
    edge = np.where(side, low, high)
    with np.errstate(all="ignore"):
        zero = np.rint(edge / scales)
        scales = np.where(zero == 0, scales, edge / np.where(zero == 0, np.float32(1), zero))
    biases = np.where(zero == 0, np.float32(0), edge)
    scales, biases = scales.astype(np.float32), biases.astype(np.float32)
    codes = np.clip(np.rint((w - biases[..., None]) / scales[..., None]), 0, steps).astype(np.uint32)
    return words_of(codes.reshape(rows.shape), bits), rounded(scales, dtype), rounded(biases, dtype)


QUANTIZERS: Mapping[str, Mapping[str, Any]] = {f"mlx-{bits}": {"bits": bits, "group": 64} for bits in (2, 3, 4, 5, 6, 8)}


def encoded(shape: tuple[int, ...], dtype: str, settings: Mapping[str, Any]) -> dict[str, TensorSpec]:
    """Words, scales and biases; the columns must be whole groups."""
    bits, group = settings["bits"], settings["group"]
    if len(shape) < 2 or shape[-1] % group or dtype not in ("F32", "BF16", "F16"):
        raise Mismatch("codes", f"{dtype} {list(shape)} has no whole groups of {group} columns")
    each = TensorSpec(dtype, (*shape[:-1], shape[-1] // group))
    return {"codes": TensorSpec("U32", (*shape[:-1], shape[-1] * bits // 32)), "scales": each, "biases": each}


def rows_together(settings: Mapping[str, Any]) -> int:
    """Each row for itself."""
    return 1


def encode_rows(rows: Array, dtype: str, settings: Mapping[str, Any]) -> dict[str, Array]:
    """See `encode`."""
    from ._codes import to_dtype

    codes, scales, biases = encode(rows, settings["bits"], settings["group"], dtype)
    return {"codes": codes, "scales": to_dtype(scales, dtype), "biases": to_dtype(biases, dtype)}


def words(settings: Mapping[str, Any]) -> dict[str, Any]:
    """mlx-lm's words, twice as it writes them."""
    said = {"group_size": settings["group"], "bits": settings["bits"], "mode": "affine"}
    return {"quantization": said, "quantization_config": said}
