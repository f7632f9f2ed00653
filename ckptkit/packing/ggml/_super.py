"""ggml's K types and ternary types: 256 elements in a block, scales of sub-blocks packed into 4 or 6 bits.

Source: ggml-common.h and ggml-quants.c of llama.cpp (dequantize_row_q2_K, tq1_0, tq2_0, iq4_xs); the other K types are in `_common`.
"""

from __future__ import annotations

from ..._typing import TYPE_CHECKING, Any
from ._small import LEVELS, half, halves, levels

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]


def pairs(raw: Array, width: int) -> Array:
    """Codes of two bits: for each run of `width` bytes the lowest two bits of all, then the next two, ..."""
    import numpy as np

    shifts = np.array([0, 2, 4, 6], np.uint8)[:, None]
    out: Array = ((raw.reshape(len(raw), -1, 1, width) >> shifts) & 3).reshape(len(raw), -1)
    return out


def q2_k(raw: Array) -> Array:
    """Sixteen sub-blocks of 16: the scale is the low half of a byte, what is subtracted the high half."""
    codes = pairs(raw[:, 16:80], 32).astype("f4").reshape(-1, 16, 16)
    scale, least = half(raw, 80) * (raw[:, :16] & 15), half(raw, 82) * (raw[:, :16] >> 4)
    out: Array = codes * scale[..., None] - least[..., None]
    return out.reshape(-1, 256)


def iq4_xs(raw: Array) -> Array:
    """Eight sub-blocks of 32 with scales of six bits less 32, whose values are those of IQ4_NL."""
    import numpy as np

    high = np.ascontiguousarray(raw[:, 2:4]).view("<u2") >> (2 * np.arange(8, dtype=np.uint16)) & 3
    low = np.stack((raw[:, 4:8] & 15, raw[:, 4:8] >> 4), axis=-1).reshape(-1, 8)
    scale = half(raw, 0) * ((low | (high.astype(np.uint8) << 4)).astype(np.float32) - 32)
    out: Array = levels(LEVELS, halves(raw[:, 8:].reshape(-1, 8, 16))) * scale[..., None]
    return out.reshape(-1, 256)


def tq2_0(raw: Array) -> Array:
    return (pairs(raw[:, :64], 32).astype("f4") - 1) * half(raw, 64)


def tq1_0(raw: Array) -> Array:
    """Five digits to the base of three in a byte, read off the top by multiplying: three runs of 32, 16 and 4 bytes."""
    import numpy as np

    powers = np.array([1, 3, 9, 27, 81], np.uint8)[:, None]

    def digits(part: Array, count: int) -> Array:
        with np.errstate(over="ignore"):
            shifted = part[:, None] * powers[:count]
        return ((shifted.astype(np.uint16) * 3) >> 8).reshape(len(part), -1)

    codes = np.concatenate((digits(raw[:, :32], 5), digits(raw[:, 32:48], 5), digits(raw[:, 48:52], 4)), axis=1)
    return (codes.astype("f4") - 1) * half(raw, 52)
