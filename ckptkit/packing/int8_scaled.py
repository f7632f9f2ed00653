"""8-bit integers with `weight_scale`: compressed-tensors' int-quantized, with and without zero points.

Source: compressed-tensors `compressors/quantized_compressors/naive_quantized.py` and `quantization/lifecycle/forward.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from .._typing import TYPE_CHECKING, Any
from ..tensors import TensorSpec
from ._scaled import OPTIONAL, PARTS, scaled_decode, scaled_form
from ._values import Fetch, Form, Mismatch

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
    """(codes, scales (rows, 1)), symmetric, one scale a row, in the weight's own `dtype`; see `row_scales`."""
    import numpy as np

    from ._scaled import row_scales

    x, scales = row_scales(rows, 127.5, dtype)
    codes: Array = np.clip(np.rint(x), -128, 127).astype(np.int8)
    return codes, scales


QUANTIZERS: Mapping[str, Mapping[str, Any]] = {"int8": {}}


def encoded(shape: tuple[int, ...], dtype: str, settings: Mapping[str, Any]) -> dict[str, TensorSpec]:
    """Codes of the weight's shape, and a scale for each row in the weight's own type."""
    if len(shape) != 2 or dtype not in ("F32", "BF16", "F16"):
        raise Mismatch("codes", f"{dtype} {list(shape)} is no matrix of 16 or 32 bits")
    return {"codes": TensorSpec("I8", shape), "scales": TensorSpec(dtype, (shape[0], 1))}


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

    return channel_words("int")
