"""AWQ (version gemm): `qweight` (in, out / 8), `qzeros`, `scales`; four bits, in a word in the order 0 2 4 6 1 3 5 7.

Source: AutoAWQ `awq/utils/packing_utils.py`, `awq/modules/linear/gemm.py`. The matrix is (in, out), the weight's transpose.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from .._typing import TYPE_CHECKING, Any
from ..tensors import TensorSpec
from ._codes import rounded, rows_of
from ._values import Fetch, Form, Mismatch, group_size

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

NAME = "awq"
TITLE = "AWQ (version gemm)"
PARTS = {"codes": "%qweight", "zeros": "%qzeros", "scales": "%scales"}
KEY = ("codes",)
OPTIONAL: tuple[str, ...] = ()
CODES = "codes"
METHODS = ("awq", "auto-round", "intel/auto-round")
NIBBLE = (0, 4, 1, 5, 2, 6, 3, 7)  # the place in its word of each column


def claims(parts: Mapping[str, TensorSpec], words: Mapping[str, Any]) -> bool:
    """Words of which eight outputs share one."""
    codes, scales = parts["codes"].shape, parts["scales"].shape if "scales" in parts else ()
    if "order" in parts or words.get("quant_method") == "gptq" or str(words.get("version", "")).lower() == "gemv":
        return False
    return words.get("quant_method") == "awq" or (len(scales) == 2 and len(codes) == 2 and codes[1] * 8 == scales[1])


def form(parts: Mapping[str, TensorSpec], words: Mapping[str, Any], content: Callable[[str], bytes]) -> Form:
    """Four bits and the gemm order are all there is; another version is refused."""
    codes, zeros, scales = parts["codes"], parts["zeros"], parts["scales"]
    if str(words.get("version", "gemm")).lower() not in ("gemm", "exllama", "ipex"):
        raise Mismatch("codes", f"is packed as version {words['version']!r} says; only gemm and gemv are known")
    if words.get("bits", words.get("w_bit", 4)) != 4:
        raise Mismatch("codes", f"is said to have {words.get('bits', words.get('w_bit'))!r} bits; AWQ has four")
    if codes.dtype not in ("I32", "U32") or len(codes.shape) != 2:
        raise Mismatch("codes", f"is {codes.dtype} {list(codes.shape)}, not a matrix of 32-bit words")
    inputs, outputs = codes.shape[0], codes.shape[1] * 8
    if len(scales.shape) != 2 or scales.shape[1] != outputs or scales.dtype not in ("F16", "BF16", "F32"):
        raise Mismatch("scales", f"is {scales.dtype} {list(scales.shape)}, not groups x {outputs}")
    size = group_size(words, "scales")
    group = size if size > 0 else -(-inputs // max(scales.shape[0], 1))
    groups = -(-inputs // group) if group else 0
    if scales.shape[0] != groups or inputs % group:
        raise Mismatch("scales", f"is {list(scales.shape)}; {inputs} inputs in groups of {group} have {groups}")
    if zeros.shape != (groups, outputs // 8) or zeros.dtype not in ("I32", "U32"):
        raise Mismatch("zeros", f"is {zeros.dtype} {list(zeros.shape)}, not {[groups, outputs // 8]}")
    dtype = scales.dtype if scales.dtype != "F32" else words.get("dtype", "F16")
    options = {"group": group, "round": scales.dtype}
    return Form(NAME, (outputs, inputs), inputs, outputs, dtype, strides=(1, outputs), options=options)


def decode(form: Form, fetch: Fetch, start: int, stop: int) -> Array:
    """(code - zero) * scale, rounded to the scale's type."""
    import numpy as np

    outputs, group = form.columns, form.options["group"]
    low, high = start // group, (stop - 1) // group + 1
    shifts = np.array(NIBBLE, np.uint32) * np.uint32(4)

    def codes(role: str, a: int, b: int) -> Array:
        words = rows_of(fetch, role, outputs // 8, a, b).view(np.uint32)
        out: Array = ((words[..., None] >> shifts) & np.uint32(15)).astype(np.float32).reshape(b - a, outputs)
        return out

    which = np.arange(start, stop) // group - low
    scales = rows_of(fetch, "scales", outputs, low, high).astype(np.float32)
    return rounded((codes("codes", start, stop) - codes("zeros", low, high)[which]) * scales[which], form.options["round"])
