"""8-bit integers with `weight_scale`: compressed-tensors' int-quantized, with and without zero points.

Source: compressed-tensors `compressors/quantized_compressors/naive_quantized.py` and `quantization/lifecycle/forward.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from .._typing import TYPE_CHECKING, Any
from ..tensors import TensorSpec
from ._scaled import OPTIONAL, PARTS, scaled_decode, scaled_form
from ._values import Fetch, Form

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

__all__ = ["OPTIONAL", "PARTS"]

NAME = "int8-scaled"
TITLE = "8-bit integers with a scale for the tensor, its rows or groups (weight_scale)"
KEY = ("scales",)
CODES = "codes"
METHODS = ("compressed-tensors",)


def claims(parts: Mapping[str, TensorSpec], words: Mapping[str, Any]) -> bool:
    """8-bit integers beside `weight_scale`."""
    return parts["codes"].dtype == "I8"


def form(parts: Mapping[str, TensorSpec], words: Mapping[str, Any], content: Callable[[str], bytes]) -> Form:
    """The weight has the shape of its codes."""
    scale = parts["scales"].dtype
    return scaled_form(NAME, parts, words, scale if scale in ("BF16", "F16") else words.get("dtype", "BF16"))


def decode(form: Form, fetch: Fetch, start: int, stop: int) -> Array:
    """See `_scaled`."""
    return scaled_decode(form, fetch, start, stop)


def encode(rows: Array, dtype: str = "F32") -> tuple[Array, Array]:
    """(codes, scales (rows, 1)), symmetric: the largest magnitude over 127.5 is the scale, codes lie in -128 to 127."""
    import numpy as np

    from ._codes import rounded

    most = np.abs(rows).max(axis=1, keepdims=True).astype(np.float32)
    scales = rounded(most / np.float32(127.5), dtype)
    scales = np.where(scales > 0, scales, np.float32(1))
    codes: Array = np.clip(np.rint(rows / scales), -128, 127).astype(np.int8)
    return codes, scales
