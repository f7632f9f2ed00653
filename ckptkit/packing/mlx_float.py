"""MLX's float packings: mxfp4 (32 to a power of two), nvfp4 (16 to an E4M3 scale), mxfp8 (32 to a power of two). No biases.

Source: mlx `backend/cpu/quantized.cpp` (fp_quantize), `ops.cpp`. The codes lie in 32-bit words from the lowest bits on; scales are bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from .._typing import TYPE_CHECKING, Any
from ..tensors import TensorSpec
from ._codes import codes_of, fp4_values, power, rows_of
from ._values import Fetch, Form, Mismatch, matrix

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

NAME = "mlx-float"
TITLE = "MLX, small floats (mxfp4, nvfp4, mxfp8)"
PARTS = {"codes": "@", "scales": "%scales"}
KEY = ("scales",)
OPTIONAL: tuple[str, ...] = ()
CODES = "codes"
METHODS = ("mlx",)
MODES = {"mxfp4": (4, 32), "nvfp4": (4, 16), "mxfp8": (8, 32)}


def claims(parts: Mapping[str, TensorSpec], words: Mapping[str, Any]) -> bool:
    """Words beside scales that are bytes."""
    return parts["codes"].dtype == "U32" and parts["scales"].dtype == "U8"


def form(parts: Mapping[str, TensorSpec], words: Mapping[str, Any], content: Callable[[str], bytes]) -> Form:
    """The mode by the configuration; the shapes must agree."""
    mode = words.get("mode")
    if not isinstance(mode, str) or mode not in MODES:
        raise Mismatch("codes", f"is packed in the mode {mode!r}; config.json's quantization has to say one of {', '.join(MODES)}")
    bits, group = MODES[mode]
    if words.get("bits", bits) != bits or words.get("group_size", group) != group:
        raise Mismatch(
            "codes", f"is said to have {words.get('bits')} bits in groups of {words.get('group_size')}; {mode} has {bits} in {group}"
        )
    codes = parts["codes"].shape
    if not codes:
        raise Mismatch("codes", "is one number")
    shape = (*codes[:-1], codes[-1] * 32 // bits)
    want = (*shape[:-1], shape[-1] // group)
    if parts["scales"].shape != want or shape[-1] % group:
        raise Mismatch("scales", f"is {list(parts['scales'].shape)}; {list(shape)} in {mode} has {list(want)}")
    return Form(NAME, shape, *matrix(shape), words.get("dtype", "BF16"), options={"mode": mode, "words": codes[-1]})


def decode(form: Form, fetch: Fetch, start: int, stop: int) -> Array:
    """code * scale, exact in float32."""
    import ml_dtypes
    import numpy as np

    mode, words = form.options["mode"], form.options["words"]
    bits, group = MODES[mode]
    packed = rows_of(fetch, "codes", words, start, stop)
    if bits == 4:
        out: Array = fp4_values()[codes_of(packed, 4, form.columns)]
    else:
        out = packed.view(np.uint8).view(ml_dtypes.float8_e4m3fn).astype(np.float32)
    scales = rows_of(fetch, "scales", form.columns // group, start, stop)
    each = scales.view(ml_dtypes.float8_e4m3fn).astype(np.float32) if mode == "nvfp4" else power(scales)
    out.reshape(stop - start, -1, group)[...] *= each[..., None]
    return out
