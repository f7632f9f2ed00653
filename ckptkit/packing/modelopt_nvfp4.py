"""ModelOpt's NVFP4: `weight` in bytes, `weight_scale` of E4M3 for 16 columns, `weight_scale_2` over all, which MULTIPLIES.

Source: TensorRT-Model-Optimizer `torch/quantization/qtensor/nvfp4_tensor.py`; the configuration lies in hf_quant_config.json.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from .._typing import TYPE_CHECKING, Any
from ..tensors import TensorSpec
from ._codes import fp4_values, nibbles, rows_of, spread
from ._values import Fetch, Form, Mismatch, matrix

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

NAME = "modelopt-nvfp4"
TITLE = "NVFP4 of ModelOpt (weight_scale_2)"
PARTS = {"codes": "@", "scales": "@_scale", "global": "@_scale_2", "input": "%input_scale"}
KEY = ("scales", "global")
OPTIONAL = ("input",)
CODES = "codes"
METHODS = ("modelopt", "modelopt_fp4", "NVFP4")


def claims(parts: Mapping[str, TensorSpec], words: Mapping[str, Any]) -> bool:
    """Bytes beside two scales."""
    return parts["codes"].dtype == "U8"


def form(parts: Mapping[str, TensorSpec], words: Mapping[str, Any], content: Callable[[str], bytes]) -> Form:
    """Groups of 16 along the columns."""
    codes, scales = parts["codes"], parts["scales"]
    if not codes.shape:
        raise Mismatch("codes", "is one number")
    shape = (*codes.shape[:-1], codes.shape[-1] * 2)
    rows, columns = matrix(shape)
    if scales.dtype != "F8_E4M3" or scales.shape != (*shape[:-1], -(-columns // 16)):
        raise Mismatch("scales", f"is {scales.dtype} {list(scales.shape)}, not F8_E4M3 {[*shape[:-1], -(-columns // 16)]}")
    stacked = shape[:1] if len(shape) == 3 else ()
    if parts["global"].dtype != "F32" or parts["global"].shape not in ((), (1,), stacked):
        raise Mismatch("global", f"is {parts['global'].dtype} {list(parts['global'].shape)}, not one F32")
    each = shape[1] if parts["global"].numel > 1 else rows
    return Form(NAME, shape, rows, columns, words.get("dtype", "BF16"), options={"each": each})


def decode(form: Form, fetch: Fetch, start: int, stop: int) -> Array:
    """code * (scale * scale_2)."""
    import numpy as np

    codes = nibbles(rows_of(fetch, "codes", form.columns // 2, start, stop))
    scales = rows_of(fetch, "scales", -(-form.columns // 16), start, stop).astype(np.float32)
    each = form.options["each"]
    low, high = start // each, (stop - 1) // each + 1
    scales *= fetch("global", low, high)[np.arange(start, stop) // each - low][:, None]
    out: Array = fp4_values()[codes]
    out *= spread(scales, 16, form.columns)
    return out
