"""ggml's K types and ternary types: 256 elements in a block, scales of sub-blocks packed into 4 or 6 bits.

Source: ggml-common.h and ggml-quants.c of llama.cpp (dequantize_row_q2_K ... q6_K, tq1_0, tq2_0, iq4_xs).
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


def q3_k(raw: Array) -> Array:
    """Sixteen sub-blocks of 16 with scales of six bits less 32; the third bit of a code lies by itself, less 4 where it is not set."""
    import numpy as np

    n = len(raw)
    codes = pairs(raw[:, 32:96], 32)
    bits = (raw[:, None, :32] >> np.arange(8, dtype=np.uint8)[:, None]) & 1
    value = codes.astype(np.float32) - 4 * (1 - bits.reshape(n, 256).astype(np.float32))
    low = halves(raw[:, 96:104])
    high = pairs(raw[:, 104:108], 4)
    scale = half(raw, 108) * ((low | (high << 4)).astype(np.float32) - 32)
    out: Array = value.reshape(-1, 16, 16) * scale[..., None]
    return out.reshape(-1, 256)


def _six_bits(raw: Array) -> tuple[Array, Array]:
    """Eight scales and eight subtrahends of six bits out of twelve bytes."""
    import numpy as np

    a, b, c = raw[:, :4], raw[:, 4:8], raw[:, 8:12]
    scale = np.concatenate((a & 63, (c & 15) | ((a >> 6) << 4)), axis=1)
    least = np.concatenate((b & 63, (c >> 4) | ((b >> 6) << 4)), axis=1)
    return scale.astype(np.float32), least.astype(np.float32)


def q4_k(raw: Array) -> Array:
    """Eight sub-blocks of 32; 32 bytes hold two of them."""
    scale, least = _six_bits(raw[:, 4:16])
    scale *= half(raw, 0)
    least *= half(raw, 2)
    out: Array = halves(raw[:, 16:].reshape(-1, 4, 32)).astype("f4").reshape(-1, 8, 32)
    out *= scale[..., None]
    out -= least[..., None]
    return out.reshape(-1, 256)


def q5_k(raw: Array) -> Array:
    """As Q4_K, with a fifth bit for each code."""
    import numpy as np

    scale, least = _six_bits(raw[:, 4:16])
    fifth = ((raw[:, None, 16:48] >> np.arange(8, dtype=np.uint8)[:, None]) & 1) << 4
    codes = halves(raw[:, 48:].reshape(-1, 4, 32)).reshape(-1, 8, 32) | fifth
    out: Array = codes.astype("f4") * (scale * half(raw, 0))[..., None] - (least * half(raw, 2))[..., None]
    return out.reshape(-1, 256)


def q6_k(raw: Array) -> Array:
    """Sixteen sub-blocks of 16 with scales of eight bits; codes of six bits less 32."""
    low = halves(raw[:, :128].reshape(-1, 2, 64)).reshape(-1, 256)
    high = pairs(raw[:, 128:192], 32)
    scale = raw[:, 192:208].view("i1").astype("f4") * half(raw, 208)
    out: Array = ((low | (high << 4)).astype("f4") - 32).reshape(-1, 16, 16) * scale[..., None]
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
