"""The block types that most files have, decoded in place: Q4_0, Q8_0, and the K types of 3 to 6 bits.

Source: as of `_small` and `_super`. Each takes the blocks (n, bytes) and fills `out` (n, elements), float32; scales and codes are
multiplied in the order in which ggml does it.
"""

from __future__ import annotations

from ..._typing import TYPE_CHECKING, Any
from ._small import half

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]


def _halves_into(raw: Array, out: Array) -> None:
    """Codes of four bits: the low halves of the last axis into out[..., 0, :], the high ones into out[..., 1, :]."""
    out[..., 0, :] = raw & 15
    out[..., 1, :] = raw >> 4


def _six_bits(raw: Array) -> tuple[Array, Array]:
    """Eight scales and eight subtrahends of six bits out of twelve bytes."""
    import numpy as np

    a, b, c = raw[:, :4], raw[:, 4:8], raw[:, 8:12]
    scale = np.concatenate((a & 63, (c & 15) | ((a >> 6) << 4)), axis=1)
    least = np.concatenate((b & 63, (c >> 4) | ((b >> 6) << 4)), axis=1)
    return scale.astype(np.float32), least.astype(np.float32)


def _scale_and_shift(raw: Array, out: Array) -> None:
    """Eight sub-blocks of 32 codes: times their scales, less their subtrahends."""
    scale, least = _six_bits(raw[:, 4:16])
    scale *= half(raw, 0)
    least *= half(raw, 2)
    runs = out.reshape(-1, 8, 32)
    runs *= scale[..., None]
    runs -= least[..., None]


def q4_k(raw: Array, out: Array) -> None:
    """Eight sub-blocks of 32; 32 bytes hold two of them."""
    _halves_into(raw[:, 16:].reshape(-1, 4, 32), out.reshape(-1, 4, 2, 32))
    _scale_and_shift(raw, out)


def q5_k(raw: Array, out: Array) -> None:
    """As Q4_K, with a fifth bit for each code: bit k of 32 bytes is that of sub-block k."""
    import numpy as np

    low, codes = raw[:, 48:].reshape(-1, 4, 32), np.empty((len(raw), 8, 32), np.uint8)
    _halves_into(low, codes.reshape(-1, 4, 2, 32))
    fifth = np.ascontiguousarray(raw[:, 16:48])
    for k in range(8):
        codes[:, k] |= (fifth << (4 - k) if k < 4 else fifth >> (k - 4)) & 16
    out[:] = codes.reshape(-1, 256)
    _scale_and_shift(raw, out)


def q6_k(raw: Array, out: Array) -> None:
    """Sixteen sub-blocks of 16 with scales of eight bits; codes of six bits less 32, their upper two by themselves."""
    import numpy as np

    codes = np.empty((len(raw), 2, 4, 32), np.uint8)
    low, high = raw[:, :128].reshape(-1, 2, 2, 32), np.ascontiguousarray(raw[:, 128:192]).reshape(-1, 2, 32)
    np.bitwise_and(low, 15, out=codes[:, :, :2])
    np.right_shift(low, 4, out=codes[:, :, 2:])
    for k in range(4):
        codes[:, :, k] |= (high << (4 - 2 * k) if k < 2 else high >> (2 * k - 4)) & 48
    codes -= 32
    out[:] = codes.view(np.int8).reshape(-1, 256)
    scale = raw[:, 192:208].view("i1").astype("f4") * half(raw, 208)
    runs = out.reshape(-1, 16, 16)
    runs *= scale[..., None]


def q3_k(raw: Array, out: Array) -> None:
    """Sixteen sub-blocks of 16 with scales of six bits less 32; the third bit of a code lies by itself, less 4 where it is not set."""
    import numpy as np

    codes = np.empty((len(raw), 8, 32), np.uint8)
    low, third = np.ascontiguousarray(raw[:, 32:96]).reshape(-1, 2, 32), np.ascontiguousarray(raw[:, :32])
    for k in range(8):
        codes[:, k] = low[:, k // 4] >> (2 * (k % 4)) & 3
        codes[:, k] |= (third << (2 - k) if k < 2 else third >> (k - 2)) & 4
    codes -= 4
    out[:] = codes.view(np.int8).reshape(-1, 256)
    packed, upper = raw[:, 96:104], raw[:, 104:108, None] >> np.array([0, 2, 4, 6], np.uint8) & 3
    six = np.concatenate((packed & 15, packed >> 4), axis=1) | upper.transpose(0, 2, 1).reshape(-1, 16) << 4
    scale = half(raw, 108) * (six.astype(np.float32) - 32)
    runs = out.reshape(-1, 16, 16)
    runs *= scale[..., None]


def q4_0(raw: Array, out: Array) -> None:
    """32 codes less 8."""
    _halves_into(raw[:, 2:], out.reshape(-1, 2, 16))
    out -= 8
    out *= half(raw, 0)


def q8_0(raw: Array, out: Array) -> None:
    """32 codes of eight bits."""
    out[:] = raw[:, 2:].view("i1")
    out *= half(raw, 0)
