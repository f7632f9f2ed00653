"""compressed-tensors' pack-quantized: integers of 1 to 8 bits in 32-bit words, with and without zero points, in order or by `g_idx`.

Source: compressed-tensors `compressors/pack_quantized`. Codes lie along the columns, lowest bits first, offset by half their range; zero
points are packed the same way but along the rows. `weight_shape` is the weight's shape; a row that is no multiple of a word is padded.
Of 3, 5, 6 and 7 bits, versions before 0.18 put 32 // bits codes into a word, later ones let a code straddle two words: the number of words
tells, and where it does not, the version that the configuration names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from .._typing import TYPE_CHECKING, Any
from ..tensors import TensorSpec
from ._codes import codes_of, held, numbers, rounded, rows_of, spread
from ._scaled import weights_of
from ._values import Fetch, Form, Mismatch, group_size, matrix

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

NAME = "ct-int"
TITLE = "compressed-tensors, integers in 32-bit words (pack-quantized)"
PARTS = {
    "codes": "@_packed", "scales": "@_scale", "shape": "@_shape", "zeros": "@_zero_point", "order": "@_g_idx", "input": "%input_scale",
    "input_zeros": "%input_zero_point",
}  # fmt: skip
KEY = ("codes",)
OPTIONAL = ("zeros", "order", "input", "input_zeros")
CODES = "codes"
METHODS = ("compressed-tensors",)


def claims(parts: Mapping[str, TensorSpec], words: Mapping[str, Any]) -> bool:
    """32-bit words beside `weight_shape`."""
    return parts["codes"].dtype in ("I32", "U32")


def form(parts: Mapping[str, TensorSpec], words: Mapping[str, Any], content: Callable[[str], bytes]) -> Form:
    """Bits by the configuration, else the only number that makes the words fit the shape."""
    codes, scales = parts["codes"], parts["scales"]
    if len(parts["shape"].shape) != 1 or parts["shape"].dtype not in ("I64", "I32") or parts["shape"].numel > 4:
        raise Mismatch("shape", f"is {list(parts['shape'].shape)}, not the two sizes of a weight")
    raw = content("shape")
    width = 8 if parts["shape"].dtype == "I64" else 4
    shape = tuple(int.from_bytes(raw[i : i + width], "little", signed=True) for i in range(0, len(raw), width))
    if len(shape) != len(codes.shape) or len(shape) < 2 or shape[:-1] != codes.shape[:-1] or shape[-1] <= 0:
        raise Mismatch("shape", f"says {list(shape)}; the codes are {list(codes.shape)}")
    rows, columns = matrix(shape)
    said = weights_of(words).get("num_bits", next((b for b in (4, 8, 2, 1, 3, 5, 6, 7) if codes.shape[-1] in _words(columns, b)), None))
    if type(said) is not int or not 1 <= said <= 8 or codes.shape[-1] not in _words(columns, said):
        raise Mismatch("codes", f"is {list(codes.shape)}, which {list(shape)} in {said or 'any number of'} bits is not")
    dense = _is_dense(columns, said, codes.shape[-1], words)
    groups = scales.shape[-1] if scales.shape else 0
    whole = scales.numel == 1 and len(scales.shape) < 3 and weights_of(words).get("strategy", "tensor") == "tensor"  # one scale for all
    if (scales.shape != (*shape[:-1], groups) and not whole) or not 0 < groups <= columns or scales.dtype not in ("BF16", "F16", "F32"):
        raise Mismatch("scales", f"is {scales.dtype} {list(scales.shape)}, no groups of {list(shape)}")
    group = group_size(weights_of(words), "scales")
    group = group if group > 0 else -(-columns // groups)
    if -(-columns // group) != groups:
        raise Mismatch("scales", f"is {list(scales.shape)}; {columns} columns in groups of {group} have another number")
    options = {"bits": said, "group": group, "groups": groups, "round": scales.dtype, "whole": whole, "dense": dense}
    if "order" in parts and parts["order"].shape != (columns,):
        raise Mismatch("order", f"is {list(parts['order'].shape)}, not [{columns}]")
    if "zeros" in parts:
        packed = (*shape[:-2], -(-shape[-2] * said // 32) if dense else -(-shape[-2] // (32 // said)), groups)
        if parts["zeros"].shape not in (packed, scales.shape):
            raise Mismatch("zeros", f"is {list(parts['zeros'].shape)}, not {list(packed)}")
        if parts["zeros"].shape == packed and parts["zeros"].dtype in ("I32", "U32"):
            options["zeros"] = "packed"
        elif parts["zeros"].dtype == "I8" and parts["zeros"].shape == scales.shape:
            options["zeros"] = "plain"
        else:
            raise Mismatch("zeros", f"is {parts['zeros'].dtype} {list(parts['zeros'].shape)}")
    elif weights_of(words).get("symmetric") is False:
        raise Mismatch("zeros", "is not there; the configuration says that the codes are not symmetric")
    options |= {"ordered": "order" in parts, "high": shape[-2], "words": codes.shape[-1]}
    return Form(NAME, shape, rows, columns, scales.dtype if scales.dtype != "F32" else words.get("dtype", "BF16"), options=options)


def _words(columns: int, bits: int) -> tuple[int, int]:
    """How many words a row has where codes straddle them, and where they do not."""
    return -(-columns * bits // 32), -(-columns // (32 // bits))


def _is_dense(columns: int, bits: int, stored: int, words: Mapping[str, Any]) -> bool:
    """Whether codes straddle words. Mismatch where neither the number of words nor the configuration's version tells."""
    dense, apart = _words(columns, bits)
    if 32 % bits == 0 or dense != apart:
        return 32 % bits != 0 and stored == dense
    version = str(words.get("version", "")).split(".")
    if len(version) < 2 or not all(v.isdigit() for v in version[:2]):
        raise Mismatch("codes", f"has codes of {bits} bits, and no version in the configuration says whether they straddle words")
    return (int(version[0]), int(version[1])) >= (0, 18)


def _dense_zeros(form: Form, fetch: Fetch, start: int, stop: int) -> Array:
    """The zero points of some rows where they straddle words, matrix by matrix."""
    import numpy as np

    o = form.options
    bits, groups, high = o["bits"], o["groups"], o["high"]
    each = -(-high * bits // 32)  # rows of words of one matrix
    out = np.empty((stop - start, groups), np.float32)
    for m in range(start // high, (stop - 1) // high + 1):
        a, b = max(start, m * high) - m * high, min(stop, (m + 1) * high) - m * high
        first = a // 32 * 32  # a word begins with a code there
        words = rows_of(fetch, "zeros", groups, m * each + first * bits // 32, m * each + -(-b * bits // 32))
        codes = codes_of(np.ascontiguousarray(words.T), bits, b - first).T
        out[m * high + a - start : m * high + b - start] = codes[a - first :]
    return out


def decode(form: Form, fetch: Fetch, start: int, stop: int) -> Array:
    """(code - zero) * scale, rounded to the scale's type."""
    import numpy as np

    o = form.options
    bits, groups, each = o["bits"], o["groups"], 32 // o["bits"]
    packed = rows_of(fetch, "codes", o["words"], start, stop).view(np.uint32)
    if o["dense"]:
        codes = codes_of(packed, bits, form.columns)
    else:
        shifts = np.arange(each, dtype=np.uint32) * np.uint32(bits)
        codes = ((packed[..., None] >> shifts) & np.uint32((1 << bits) - 1)).reshape(stop - start, -1)[:, : form.columns]
    low, high = (0, 1) if o["whole"] else (start, stop)
    scales = numbers(rows_of(fetch, "scales", groups, low, high))
    half = np.float32(1 << (bits - 1))
    zeros = np.full((stop - start, 1), half, np.float32)
    if o.get("zeros") == "plain":
        zeros = rows_of(fetch, "zeros", groups, low, high).astype(np.float32) + half
    elif o.get("zeros") == "packed" and o["dense"]:
        zeros = _dense_zeros(form, fetch, start, stop)
    elif o.get("zeros") == "packed":
        at = np.arange(start, stop)
        where = at // o["high"] * -(-o["high"] // each) + at % o["high"] // each
        first = int(where[0])
        words = rows_of(fetch, "zeros", groups, first, int(where[-1]) + 1).view(np.uint32)[where - first]
        by = (at % o["high"] % each * bits).astype(np.uint32)[:, None]
        zeros = ((words >> by) & np.uint32((1 << bits) - 1)).astype(np.float32)
    order = fetch("order", 0, form.columns) if o["ordered"] else None
    if order is not None and (order >= 0).any():  # all of them -1 is none
        order = held(order, groups, "g_idx")
        scales, zeros = scales[:, order], zeros[:, order] if zeros.shape[1] > 1 else zeros
    elif groups > 1:
        scales = spread(scales, o["group"], form.columns)
        zeros = spread(zeros, o["group"], form.columns) if zeros.shape[1] > 1 else zeros
    return rounded((codes.astype(np.float32) - zeros) * scales, o["round"])
