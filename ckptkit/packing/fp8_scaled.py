"""FP8 with `weight_scale`: compressed-tensors (float-quantized, naive-quantized), ModelOpt FP8, FBGEMM.

Source: compressed-tensors `quantization/lifecycle/forward.py` (dequantize), ModelOpt `torch/quantization`. The scale multiplies; the
product is rounded to the scale's own type. Static scales of inputs and outputs lie beside and do not change the weight.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from .._typing import TYPE_CHECKING, Any
from ..tensors import TensorSpec
from ._scaled import OPTIONAL, PARTS, scaled_decode, scaled_form
from ._values import Fetch, Form, Mismatch
from .fp8_block import FLOATS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

__all__ = ["OPTIONAL", "PARTS"]

NAME = "fp8-scaled"
TITLE = "FP8 with a scale for the tensor, its rows or groups (weight_scale)"
KEY = ("scales",)
CODES = "codes"
METHODS = ("compressed-tensors", "modelopt", "fbgemm_fp8", "fp8")


def claims(parts: Mapping[str, TensorSpec], words: Mapping[str, Any]) -> bool:
    """FP8 codes beside `weight_scale`."""
    return parts["codes"].dtype in FLOATS


def form(parts: Mapping[str, TensorSpec], words: Mapping[str, Any], content: Callable[[str], bytes]) -> Form:
    """The weight has the shape of its codes."""
    scale = parts["scales"].dtype
    return scaled_form(NAME, parts, words, scale if scale in ("BF16", "F16") else words.get("dtype", "BF16"))


def decode(form: Form, fetch: Fetch, start: int, stop: int) -> Array:
    """See `_scaled`."""
    return scaled_decode(form, fetch, start, stop)


def encode(rows: Array, dtype: str = "F32") -> tuple[Array, Array]:
    """(codes, scales (rows, 1)), symmetric, one scale a row, in the weight's own `dtype`; see `row_scales`."""
    import ml_dtypes
    import numpy as np

    from ._scaled import row_scales

    x, scales = row_scales(rows, 448, dtype)
    codes: Array = np.clip(x, -448, 448).astype(ml_dtypes.float8_e4m3fn)
    return codes, scales


QUANTIZERS: Mapping[str, Mapping[str, Any]] = {"fp8-channel": {}}


def encoded(shape: tuple[int, ...], dtype: str, settings: Mapping[str, Any]) -> dict[str, TensorSpec]:
    """Codes of the weight's shape, and a scale for each row in the weight's own type."""
    if len(shape) != 2 or dtype not in ("F32", "BF16", "F16"):
        raise Mismatch("codes", f"{dtype} {list(shape)} is no matrix of 16 or 32 bits")
    return {"codes": TensorSpec("F8_E4M3", shape), "scales": TensorSpec(dtype, (shape[0], 1))}


def rows_together(settings: Mapping[str, Any]) -> int:
    """Each row for itself."""
    return 1


def encode_rows(rows: Array, dtype: str, settings: Mapping[str, Any]) -> dict[str, Array]:
    """See `encode`."""
    from ._codes import to_dtype

    codes, scales = encode(rows, dtype)
    return {"codes": codes, "scales": to_dtype(scales, dtype)}


def words(settings: Mapping[str, Any]) -> dict[str, Any]:
    """compressed-tensors' words."""
    from ._scaled import channel_words

    return channel_words("float")
