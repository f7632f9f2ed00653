"""AWQ (version gemv): `qweight` (out, in / 8), codes in their own order; `qzeros` and `scales` along the groups, padded to whole words.

Source: AutoAWQ `awq/modules/linear/gemv.py`. The names are those of version gemm, and only the configuration tells them apart.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from .._typing import TYPE_CHECKING, Any
from ..tensors import TensorSpec
from ._codes import codes_of, rounded, rows_of, spread
from ._values import Fetch, Form, Mismatch, group_size

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

NAME = "awq-gemv"
TITLE = "AWQ (version gemv)"
PARTS = {"codes": "%qweight", "zeros": "%qzeros", "scales": "%scales"}
KEY = ("codes", "zeros", "scales")
OPTIONAL: tuple[str, ...] = ()
CODES = "codes"
METHODS = ("awq",)
PADDED = {64: 2, 32: 4}  # group size -> words that a row of zero points is a multiple of


def claims(parts: Mapping[str, TensorSpec], words: Mapping[str, Any]) -> bool:
    """What the configuration calls so."""
    return words.get("quant_method") == "awq" and str(words.get("version", "")).lower() == "gemv"


def form(parts: Mapping[str, TensorSpec], words: Mapping[str, Any], content: Callable[[str], bytes]) -> Form:
    """Four bits; a row of zero points and scales is padded to whole words, and for small groups to more of them."""
    codes, zeros, scales = parts["codes"], parts["zeros"], parts["scales"]
    if words.get("bits", words.get("w_bit", 4)) != 4:
        raise Mismatch("codes", f"is said to have {words.get('bits', words.get('w_bit'))!r} bits; AWQ has four")
    if codes.dtype not in ("I32", "U32") or len(codes.shape) != 2:
        raise Mismatch("codes", f"is {codes.dtype} {list(codes.shape)}, not a matrix of 32-bit words")
    outputs, inputs = codes.shape[0], codes.shape[1] * 8
    size = group_size(words, "scales")
    group = size if size > 0 else inputs
    if inputs % group:
        raise Mismatch("codes", f"is {list(codes.shape)}: {inputs} inputs are no whole groups of {group}")
    multiple = PADDED.get(group, 1)
    wide = (inputs // group + 7) // 8  # words of a row
    wide = (wide + multiple - 1) // multiple * multiple
    if zeros.shape != (outputs, wide) or zeros.dtype not in ("I32", "U32"):
        raise Mismatch("zeros", f"is {zeros.dtype} {list(zeros.shape)}, not {[outputs, wide]}")
    if scales.shape != (outputs, wide * 8) or scales.dtype not in ("F16", "BF16", "F32"):
        raise Mismatch("scales", f"is {scales.dtype} {list(scales.shape)}, not {[outputs, wide * 8]}")
    options = {"group": group, "wide": wide, "round": scales.dtype}
    dtype = scales.dtype if scales.dtype != "F32" else words.get("dtype", "F16")
    return Form(NAME, (outputs, inputs), outputs, inputs, dtype, options=options)


def decode(form: Form, fetch: Fetch, start: int, stop: int) -> Array:
    """(code - zero) * scale, rounded to the scale's type."""
    import numpy as np

    o, groups = form.options, form.columns // form.options["group"]
    out = codes_of(rows_of(fetch, "codes", form.columns // 8, start, stop), 4, form.columns).astype(np.float32)
    zeros = codes_of(rows_of(fetch, "zeros", o["wide"], start, stop), 4, groups).astype(np.float32)
    scales = rows_of(fetch, "scales", o["wide"] * 8, start, stop)[:, :groups].astype(np.float32)
    out -= spread(zeros, o["group"], form.columns)
    out *= spread(scales, o["group"], form.columns)
    return rounded(out, o["round"])
