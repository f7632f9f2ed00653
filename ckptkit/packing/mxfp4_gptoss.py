"""gpt-oss: experts in MXFP4, `*_blocks` (experts, rows, groups, 16 bytes) and `*_scales` (experts, rows, groups).

Source: transformers `integrations/mxfp4.py` (convert_moe_packed_tensors). The low half of a byte comes first, a scale is a power of two for
32 values. The library transposes what it decodes: the weight is (experts, in, out).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from .._typing import TYPE_CHECKING, Any
from ..tensors import TensorSpec
from ._codes import fp4_values, nibbles, power, rows_of
from ._values import Fetch, Form, Mismatch

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

NAME = "mxfp4-experts"
TITLE = "MXFP4 of gpt-oss (blocks and scales)"
PARTS = {"codes": "@_blocks", "scales": "@_scales"}
KEY = ("codes",)
OPTIONAL: tuple[str, ...] = ()
CODES = "codes"
METHODS = ("mxfp4",)


def claims(parts: Mapping[str, TensorSpec], words: Mapping[str, Any]) -> bool:
    """Bytes in blocks of 16."""
    return parts["codes"].dtype == "U8" and parts["codes"].shape[-1:] == (16,)


def form(parts: Mapping[str, TensorSpec], words: Mapping[str, Any], content: Callable[[str], bytes]) -> Form:
    """(experts, groups * 32, rows), which lies the other way round in the blocks."""
    codes, scales = parts["codes"].shape, parts["scales"]
    if len(codes) not in (3, 4):
        raise Mismatch("codes", f"is {list(codes)}, not experts x rows x groups x 16")
    if scales.shape != codes[:-1] or scales.dtype not in ("U8", "F8_E8M0"):
        raise Mismatch("scales", f"is {scales.dtype} {list(scales.shape)}, not U8 {list(codes[:-1])}")
    experts, rows, columns = codes[:-3], codes[-3], codes[-2] * 32
    n = experts[0] if experts else 1
    strides = (*((rows * columns,) if experts else ()), 1, columns)
    return Form(NAME, (*experts, columns, rows), n * rows, columns, words.get("dtype", "BF16"), strides=strides)


def decode(form: Form, fetch: Fetch, start: int, stop: int) -> Array:
    """code * 2^(scale - 127)."""
    codes = nibbles(rows_of(fetch, "codes", form.columns // 2, start, stop)).reshape(stop - start, -1, 32)
    out: Array = fp4_values()[codes]
    out *= power(rows_of(fetch, "scales", form.columns // 32, start, stop))[..., None]
    return out.reshape(stop - start, form.columns)
