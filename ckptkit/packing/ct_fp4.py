"""compressed-tensors' small floats: nvfp4-pack-quantized (16 to a scale, one scale above all), mxfp4-pack-quantized (32 to a power of two)
and mxfp6-pack-quantized (the same in six bits, E2M3).

Source: compressed-tensors `compressors/nvfp4`, `compressors/mxfp6`, `quantization/lifecycle/forward.py`. Two
codes of four bits a byte, the low half first; four of six bits in three bytes, the lowest bits first. Here
`weight_global_scale` DIVIDES the group's scale; ModelOpt's `weight_scale_2` multiplies it (`modelopt_nvfp4`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from .._typing import TYPE_CHECKING, Any
from ..tensors import TensorSpec
from ._codes import fp4_values, fp6_values, nibbles, numbers, rounded, rows_of, six_bits, spread
from ._values import Fetch, Form, Mismatch, matrix

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

NAME = "ct-fp4"
TITLE = "compressed-tensors, small floats (nvfp4-pack-quantized, mxfp4-pack-quantized, mxfp6-pack-quantized)"
PARTS = {
    "codes": "@_packed", "scales": "@_scale", "global": "@_global_scale", "input": "%input_global_scale", "input_scale": "%input_scale",
}  # fmt: skip
KEY = ("codes",)
OPTIONAL = ("global", "input", "input_scale")
CODES = "codes"
METHODS = ("compressed-tensors",)


def claims(parts: Mapping[str, TensorSpec], words: Mapping[str, Any]) -> bool:
    """Bytes called `weight_packed`."""
    return parts["codes"].dtype == "U8"


def form(parts: Mapping[str, TensorSpec], words: Mapping[str, Any], content: Callable[[str], bytes]) -> Form:
    """Groups of 16 with E4M3 scales and a scale above them, or of 32 with powers of two."""
    codes, scales = parts["codes"], parts["scales"]
    if not codes.shape:
        raise Mismatch("codes", "is one number")
    nv = scales.dtype == "F8_E4M3"
    six = not nv and scales.shape[-1:] != () and codes.shape[-1] == 24 * scales.shape[-1]
    shape = (*codes.shape[:-1], codes.shape[-1] * 4 // 3 if six else codes.shape[-1] * 2)
    rows, columns = matrix(shape)
    if not nv and scales.dtype not in ("U8", "F8_E8M0"):
        raise Mismatch("scales", f"is {scales.dtype}: 4-bit floats have scales of F8_E4M3 or powers of two")
    group = 16 if nv else 32
    want = (*shape[:-1], -(-columns // group))
    if scales.shape != want:
        raise Mismatch("scales", f"is {list(scales.shape)}, not {list(want)}")
    if nv and "global" not in parts:
        raise Mismatch("global", "is not there: groups of 16 have a scale above their own")
    if "global" in parts and (parts["global"].numel != 1 or parts["global"].dtype != "F32"):
        raise Mismatch("global", f"is {parts['global'].dtype} {list(parts['global'].shape)}, not one F32")
    return Form(NAME, shape, rows, columns, words.get("dtype", "BF16"), options={"group": group, "global": "global" in parts, "six": six})


def decode(form: Form, fetch: Fetch, start: int, stop: int) -> Array:
    """code * (scale / global): the quotient and the product in float32, then bfloat16 as in the library."""
    six = form.options["six"]
    stored = rows_of(fetch, "codes", form.columns * 3 // 4 if six else form.columns // 2, start, stop)
    group = form.options["group"]
    scales = numbers(rows_of(fetch, "scales", -(-form.columns // group), start, stop))
    if form.options["global"]:
        scales = scales / fetch("global", 0, 1)
    out: Array = fp6_values()[six_bits(stored)] if six else fp4_values()[nibbles(stored)]
    out *= spread(scales, group, form.columns)
    return rounded(out, "BF16")
