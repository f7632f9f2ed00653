"""bitsandbytes' LLM.int8: `weight` in 8-bit integers by rows, `SCB`, the largest magnitude of each row, `weight_format` 0.

Source: bitsandbytes `nn/modules.py` (Int8Params, maybe_rearrange_weight), `functional.py` (int8_vectorwise_dequant).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from .._typing import TYPE_CHECKING, Any
from ..tensors import TensorSpec
from ._codes import rows_of
from ._values import Fetch, Form, Mismatch, matrix

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

NAME = "bnb-8bit"
TITLE = "bitsandbytes, 8 bits (SCB)"
PARTS = {"codes": "@", "scales": "%SCB", "format": "%weight_format"}
KEY = ("scales",)
OPTIONAL = ("format",)
CODES = "codes"
METHODS = ("bitsandbytes",)


def claims(parts: Mapping[str, TensorSpec], words: Mapping[str, Any]) -> bool:
    """Whatever has SCB."""
    return True


def form(parts: Mapping[str, TensorSpec], words: Mapping[str, Any], content: Callable[[str], bytes]) -> Form:
    """By rows; a format of tiles for one kind of GPU is refused."""
    codes, scales = parts["codes"], parts["scales"]
    if codes.dtype != "I8" or len(codes.shape) != 2:
        raise Mismatch("codes", f"is {codes.dtype} {list(codes.shape)}, not a matrix of I8")
    if scales.shape != codes.shape[:1] or scales.dtype != "F32":
        raise Mismatch("scales", f"is {scales.dtype} {list(scales.shape)}, not F32 {list(codes.shape[:1])}")
    if "format" in parts:
        if parts["format"].numel != 1:
            raise Mismatch("format", f"is {list(parts['format'].shape)}, not one number")
        if any(content("format")):
            raise Mismatch("format", "names tiles of one kind of GPU; only rows (0) are read")
    return Form(NAME, codes.shape, *matrix(codes.shape), words.get("dtype", "F16"))


def decode(form: Form, fetch: Fetch, start: int, stop: int) -> Array:
    """code * SCB / 127, in float32 from left to right."""
    import numpy as np

    out: Array = rows_of(fetch, "codes", form.columns, start, stop).astype(np.float32)
    out *= fetch("scales", start, stop)[:, None]
    out /= np.float32(127)
    return out


def encode(rows: Array) -> tuple[Array, Array]:
    """(codes, SCB): the row's largest magnitude, and 127 * value / SCB to the nearest even."""
    import numpy as np

    most = np.abs(rows).max(axis=1).astype(np.float32)
    with np.errstate(all="ignore"):
        scaled = rows * np.where(most > 0, np.float32(127) / most, np.float32(0))[:, None]
    codes: Array = np.rint(scaled).astype(np.int8)
    return codes, most
