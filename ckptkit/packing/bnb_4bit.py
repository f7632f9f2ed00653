"""bitsandbytes' NF4 and FP4: two codes a byte, the HIGH half first, a scale for each block of the flattened weight, a map of sixteen
values.

Source: bitsandbytes `functional.py` (QuantState, dequantize_4bit). The shape, the block size and the type stand only in the quant state,
JSON in a tensor of bytes. With nested ("double") quantisation the scales are codes of a second map: absmax = nested_map[code] *
nested_absmax + nested_offset.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from math import prod

from .._typing import TYPE_CHECKING, Any
from ..tensors import DTYPE_ALIASES, TensorSpec
from ._values import Fetch, Form, Mismatch, matrix

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

NAME = "bnb-4bit"
TITLE = "bitsandbytes, 4 bits (NF4, FP4)"
PARTS = {
    "codes": "@", "scales": "@.absmax", "map": "@.quant_map", "nf4": "@.quant_state.bitsandbytes__nf4",
    "fp4": "@.quant_state.bitsandbytes__fp4", "nested_scales": "@.nested_absmax", "nested_map": "@.nested_quant_map",
}  # fmt: skip
KEY = ("map", "scales")
OPTIONAL = ("nf4", "fp4", "nested_scales", "nested_map")
CODES = "codes"
METHODS = ("bitsandbytes",)


def claims(parts: Mapping[str, TensorSpec], words: Mapping[str, Any]) -> bool:
    """Whatever has a map of values."""
    return True


def form(parts: Mapping[str, TensorSpec], words: Mapping[str, Any], content: Callable[[str], bytes]) -> Form:
    """The quant state says the shape; everything else follows from it."""
    role = "nf4" if "nf4" in parts else "fp4"
    if role not in parts:
        raise Mismatch("nf4", "is not there: only the quant state says the shape")
    if parts[role].numel > 4096 or parts[role].dtype not in ("U8", "I8"):
        raise Mismatch(role, f"is {parts[role].dtype} {list(parts[role].shape)}, no quant state")
    try:
        state = json.loads(content(role))
        shape, block, dtype = tuple(state["shape"]), state["blocksize"], DTYPE_ALIASES[state.get("dtype", "float16").rpartition(".")[2]]
        nested, offset = state.get("nested_blocksize"), float(state.get("nested_offset", 0.0))
    except (ValueError, KeyError, TypeError, AttributeError):
        raise Mismatch(role, "is no quant state: JSON with shape, blocksize and dtype") from None
    if not shape or not all(type(n) is int and 0 < n < 1 << 40 for n in shape) or type(block) is not int or not 0 < block <= 1 << 20:
        raise Mismatch(role, f"says the shape {shape!r} in blocks of {block!r}")
    n = prod(shape)
    size = {"U8": 1, "I8": 1, "BF16": 2, "F16": 2, "F32": 4}.get(parts["codes"].dtype, 0)
    if parts["codes"].numel * size != -(-n // 2) or parts["codes"].shape[1:] not in ((), (1,)):
        raise Mismatch(
            "codes", f"is {parts['codes'].dtype} {list(parts['codes'].shape)}; {list(shape)} in 4 bits needs {-(-n // 2):,} bytes"
        )
    if parts["map"].shape != (16,) or parts["map"].dtype != "F32":
        raise Mismatch("map", f"is {parts['map'].dtype} {list(parts['map'].shape)}, not F32 [16]")
    if parts["scales"].shape != (-(-n // block),):
        raise Mismatch("scales", f"is {list(parts['scales'].shape)}; {n:,} elements in blocks of {block} have {-(-n // block):,}")
    options: dict[str, Any] = {"block": block, "unit": size, "numel": n, "dtype": dtype}
    if parts["scales"].dtype in ("U8", "I8"):
        for part in ("nested_scales", "nested_map"):
            if part not in parts:
                raise Mismatch(part, "is not there: the scales are codes themselves")
        if type(nested) is not int or nested <= 0 or parts["nested_scales"].numel != -(-parts["scales"].numel // nested):
            raise Mismatch("nested_scales", f"is {list(parts['nested_scales'].shape)} for {parts['scales'].numel:,} scales in {nested!r}")
        if parts["nested_scales"].dtype != "F32":
            raise Mismatch("nested_scales", f"is {parts['nested_scales'].dtype}, not F32")
        if parts["nested_map"].shape != (256,) or parts["nested_map"].dtype != "F32":
            raise Mismatch("nested_map", f"is {list(parts['nested_map'].shape)}, not F32 [256]")
        options |= {"nested": nested, "offset": offset}
    elif parts["scales"].dtype != "F32":
        raise Mismatch("scales", f"is {parts['scales'].dtype}, not F32")
    elif "nested_scales" in parts or "nested_map" in parts:
        raise Mismatch("scales", "are numbers, and scales of codes of scales lie beside: which are meant?")
    rows, columns = matrix(shape)
    return Form(NAME, shape, rows, columns, dtype, options=options)


def decode(form: Form, fetch: Fetch, start: int, stop: int) -> Array:
    """map[code] * absmax of the block in float32, rounded to the type of the quant state."""
    import numpy as np

    from ._codes import rounded

    o = form.options
    low, high = start * form.columns, stop * form.columns
    unit = 2 * o["unit"]
    a, b = low // unit, -(-high // unit)
    raw = fetch("codes", a, b).view(np.uint8)
    codes = np.stack((raw >> 4, raw & 15), axis=-1).reshape(-1)[low - a * unit : high - a * unit]
    block = o["block"]
    first, last = low // block, (high - 1) // block + 1
    scales = fetch("scales", first, last)
    if "nested" in o:
        nested = o["nested"]
        c, d = first // nested, (last - 1) // nested + 1
        outer = fetch("nested_scales", c, d)[np.arange(first, last) // nested - c]
        scales = fetch("nested_map", 0, 256)[scales.view(np.uint8)] * outer + np.float32(o["offset"])
    out: Array = fetch("map", 0, 16)[codes] * np.repeat(scales, block)[low - first * block : high - first * block]
    return rounded(out, o["dtype"]).reshape(stop - start, form.columns)
