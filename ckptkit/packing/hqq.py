"""HQQ: `W_q` and some eighteen small tensors of settings; the zero is subtracted before the scale multiplies.

Source: hqq `core/quantize.py`, `core/bitpack.py`. Codes of 8, 4, 2 and 1 bits share bytes by slabs of rows, the FIRST slab in the high
bits; ten of 3 bits share a 32-bit word the same way, the last rows padded. The weight is reshaped to groups (axis 1: a group is a row of
group_size; axis 0: a column), so a row of `W_q` is no row of the weight.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod

from .._typing import TYPE_CHECKING, Any
from ..errors import printable
from ..tensors import TensorSpec
from ._values import Fetch, Form, Mismatch, matrix

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

NAME = "hqq"
TITLE = "HQQ (W_q, scale, zero)"
SETTINGS = (
    "shape", "axis", "group_size", "nbits", "channel_wise", "compute_dtype", "encoded_state_dict", "offload_meta", "optimize", "packing",
    "quant_scale", "quant_zero", "round_zero", "stores_quant_config", "unpack_view_dtype", "view_as_float", "quant_config",
)  # fmt: skip
PARTS = {"codes": "%W_q", "scales": "%scale", "zeros": "%zero", **{s: f"%{s}" for s in SETTINGS}}
KEY = ("codes",)
OPTIONAL = tuple(s for s in SETTINGS if s not in ("shape", "nbits", "axis", "group_size"))
CODES = "codes"
METHODS = ("hqq",)
SLABS = {8: 1, 4: 2, 3: 10, 2: 4, 1: 8}  # how many codes share a byte, or for 3 bits a word
COMPUTED = ("torch.float32", "torch.float16", "torch.bfloat16")


def claims(parts: Mapping[str, TensorSpec], words: Mapping[str, Any]) -> bool:
    """Whatever has W_q."""
    return True


def _whole(role: str, parts: Mapping[str, TensorSpec], content: Callable[[str], bytes], default: int) -> int:
    """A setting that is one number."""
    if role not in parts:
        return default
    if parts[role].shape not in ((), (1,)) or parts[role].dtype not in ("I32", "I64", "U8", "BOOL", "I16"):
        raise Mismatch(role, f"is {parts[role].dtype} {list(parts[role].shape)}, not one whole number")
    return int.from_bytes(content(role), "little", signed=True)


def form(parts: Mapping[str, TensorSpec], words: Mapping[str, Any], content: Callable[[str], bytes]) -> Form:
    """The settings say all; scales that are quantised themselves are refused."""
    spec = parts["shape"]
    if spec.dtype not in ("I64", "I32") or len(spec.shape) != 1 or not 1 <= spec.numel <= 4:
        raise Mismatch("shape", f"is {spec.dtype} {list(spec.shape)}, no shape")
    width, raw = (8 if spec.dtype == "I64" else 4), content("shape")
    shape = tuple(int.from_bytes(raw[i : i + width], "little", signed=True) for i in range(0, len(raw), width))
    if not all(0 < n < 1 << 40 for n in shape):
        raise Mismatch("shape", f"says {list(shape)}")
    bits, axis = _whole("nbits", parts, content, 4), _whole("axis", parts, content, 1)
    if bits not in SLABS or axis not in (0, 1):
        raise Mismatch("nbits", f"says {bits} bits along axis {axis}; there are {', '.join(map(str, SLABS))} bits and two axes")
    words_of_bits = {
        "packing": ("3bit_32" if bits == 3 else f"{bits}bit_u8",), "unpack_view_dtype": ("torch.int32" if bits == 3 else "torch.uint8",),
        "compute_dtype": COMPUTED,
    }  # fmt: skip
    for role, may in words_of_bits.items():
        if role in parts and (said := content(role).decode("ascii", "replace")) not in may:
            raise Mismatch(role, f"says {printable(said, 40)!r}; codes of {bits} bits have {' or '.join(may)}")
    for role in ("quant_scale", "quant_zero"):
        if _whole(role, parts, content, 0):
            raise Mismatch(role, "says that the scales are quantised themselves, which is not read")
    n = prod(shape)
    group = _whole("group_size", parts, content, 0) or (shape[-1] if axis == 1 else shape[0])
    if group <= 0 or n % group:
        raise Mismatch("group_size", f"says groups of {group}, which {n:,} elements are no multiple of")
    high, wide = (n // group, group) if axis == 1 else (group, n // group)
    k = SLABS[bits]
    stored = (-(-high // k), wide)
    if parts["codes"].shape != stored or parts["codes"].dtype not in (("I32", "U32") if bits == 3 else ("U8",)):
        raise Mismatch("codes", f"is {parts['codes'].dtype} {list(parts['codes'].shape)}; {list(shape)} in {bits} bits has {list(stored)}")
    for role in ("scales", "zeros"):
        if parts[role].shape != ((n // group, 1) if axis == 1 else (1, n // group)) or parts[role].dtype not in ("F32", "F16", "BF16"):
            raise Mismatch(role, f"is {parts[role].dtype} {list(parts[role].shape)}, not one for each of {n // group:,} groups")
    options = {"bits": bits, "axis": axis, "wide": wide, "slab": stored[0], "round": parts["scales"].dtype}
    dtype = parts["scales"].dtype if parts["scales"].dtype != "F32" else words.get("dtype", "F32")
    return Form(NAME, shape, *matrix(shape), dtype, options=options)


def decode(form: Form, fetch: Fetch, start: int, stop: int) -> Array:
    """(code - zero) * scale, each step rounded to the scale's type."""
    import numpy as np

    from ._codes import rounded

    o = form.options
    bits, wide, slab = o["bits"], o["wide"], o["slab"]
    low, high = start * form.columns, stop * form.columns
    first, last = low // wide, (high - 1) // wide + 1  # rows of the matrix of groups
    per = SLABS[bits]
    codes: Array = np.empty((last - first, wide), np.float32)
    for s in range(first // slab, (last - 1) // slab + 1):
        a, b = max(first, s * slab), min(last, (s + 1) * slab)
        stored = fetch("codes", (a - s * slab) * wide, (b - s * slab) * wide)
        word = stored.view(np.uint32 if bits == 3 else np.uint8).reshape(b - a, wide)
        by = (27 - 3 * s) if bits == 3 else bits * (per - 1 - s)
        codes[a - first : b - first] = (word >> word.dtype.type(by)) & word.dtype.type((1 << bits) - 1)
    if o["axis"] == 1:
        scales, zeros = (fetch(r, first, last).astype(np.float32)[:, None] for r in ("scales", "zeros"))
    else:
        scales, zeros = (fetch(r, 0, wide).astype(np.float32)[None] for r in ("scales", "zeros"))
    out = rounded(rounded(codes - zeros, o["round"]) * scales, o["round"])
    return out.reshape(-1)[low - first * wide : high - first * wide].reshape(stop - start, form.columns)
