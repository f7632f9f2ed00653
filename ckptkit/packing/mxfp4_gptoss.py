"""gpt-oss: experts in MXFP4, `*_blocks` (experts, rows, groups, 16 bytes) and `*_scales` (experts, rows, groups).

Source: transformers `integrations/mxfp4.py` (convert_moe_packed_tensors). The low half of a byte comes first, a scale is a power of two for
32 values. The library transposes what it decodes: the weight is (experts, in, out).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from .._typing import TYPE_CHECKING, Any
from ..errors import CorruptError
from ..tensors import TensorSpec
from ._codes import fp4_values, join_nibbles, nibbles, power, rows_of
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
    """code * 2^(scale - 127); with the option `codes_too`, code + 16 * scale, so that both can be told again (see `encode_rows`)."""
    codes = nibbles(rows_of(fetch, "codes", form.columns // 2, start, stop)).reshape(stop - start, -1, 32)
    if form.options.get("codes_too"):
        return with_scales(codes, rows_of(fetch, "scales", form.columns // 32, start, stop))
    out: Array = fp4_values()[codes]
    out *= power(rows_of(fetch, "scales", form.columns // 32, start, stop))[..., None]
    return out.reshape(stop - start, form.columns)


def with_scales(codes: Array, scales: Array) -> Array:
    """(rows, groups, 32) codes and (rows, groups) bytes of scales as one number each, code + 16 * scale, (rows, groups * 32) float32."""
    import numpy as np

    both = codes.astype(np.float32) + np.float32(16) * scales.view(np.uint8).astype(np.float32)[..., None]
    out: Array = both.reshape(len(codes), -1)
    return out


def apart(rows: Array) -> tuple[Array, Array]:
    """The inverse of `with_scales`: (rows, groups, 32) codes and (rows, groups) scales, bytes. CorruptError where a group has two."""
    import numpy as np

    whole = rows.reshape(len(rows), -1, 32).astype(np.uint16)
    scales = whole[..., 0] >> 4
    if (whole >> 4 != scales[..., None]).any():
        raise CorruptError("a group of MXFP4 would have two scales")
    return (whole & 15).astype(np.uint8), scales.astype(np.uint8)


def encoded(shape: tuple[int, ...], dtype: str, settings: Mapping[str, Any]) -> dict[str, TensorSpec]:
    """The parts of a weight of the shape (experts, rows, columns), in the order in which the blocks lie."""
    if shape[-1] % 32:
        raise Mismatch("codes", f"{list(shape)} has no rows of whole groups of 32")
    groups = (*shape[:-1], shape[-1] // 32)
    return {"codes": TensorSpec("U8", (*groups, 16)), "scales": TensorSpec("U8", groups)}


def rows_together(settings: Mapping[str, Any]) -> int:
    """Each row for itself."""
    return 1


def encode_rows(rows: Array, dtype: str, settings: Mapping[str, Any]) -> dict[str, Array]:
    """The parts of rows that `with_scales` made: the very codes and scales that another packing has of the same kind."""
    codes, scales = apart(rows)
    return {"codes": join_nibbles(codes), "scales": scales}


def words(settings: Mapping[str, Any]) -> dict[str, Any]:
    """transformers' words; attention, router, embeddings and head are never packed."""
    kept = ["model.layers.*.self_attn", "model.layers.*.mlp.router", "model.embed_tokens", "lm_head"]
    return {"quantization_config": {"quant_method": "mxfp4", "modules_to_not_convert": kept}}
