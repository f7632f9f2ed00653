"""ggml's block types of 16 to 128 elements: one or two half-precision scales, or a power of two, and the codes.

Source: ggml-common.h and ggml-quants.c of llama.cpp. A byte of codes holds two that lie half a block apart, the low half first.
Quantising is that of the `_ref` functions, which gguf-py repeats to the byte.
"""

from __future__ import annotations

from ..._typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

LEVELS = (-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113)  # of IQ4_NL and IQ4_XS
DOUBLED = (0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12)  # of MXFP4 and NVFP4: twice the value, so that it is an integer


def half(raw: Array, at: int) -> Array:
    """The half-precision number at a byte of every block, (n, 1) float32."""
    import numpy as np

    out: Array = np.ascontiguousarray(raw[:, at : at + 2]).view("<f2").astype(np.float32)
    return out


def halves(raw: Array) -> Array:
    """Codes of four bits: the low halves of the bytes along the last axis, then the high ones."""
    import numpy as np

    return np.concatenate((raw & 15, raw >> 4), axis=-1)


def levels(values: tuple[int, ...], codes: Array) -> Array:
    """What the codes stand for, float32."""
    import numpy as np

    out: Array = np.array(values, np.float32)[codes]
    return out


def fifth(raw: Array, at: int) -> Array:
    """The fifth bits of 32 codes, from four bytes at `at`: (n, 32), 16 where set."""
    import numpy as np

    out: Array = np.unpackbits(np.ascontiguousarray(raw[:, at : at + 4]), axis=1, bitorder="little") << 4
    return out


def q4_1(raw: Array) -> Array:
    return halves(raw[:, 4:]).astype("f4") * half(raw, 0) + half(raw, 2)


def q5_0(raw: Array) -> Array:
    return ((halves(raw[:, 6:]) | fifth(raw, 2)).astype("f4") - 16) * half(raw, 0)


def q5_1(raw: Array) -> Array:
    return (halves(raw[:, 8:]) | fifth(raw, 4)).astype("f4") * half(raw, 0) + half(raw, 2)


def iq4_nl(raw: Array) -> Array:
    return levels(LEVELS, halves(raw[:, 2:])) * half(raw, 0)


def mxfp4(raw: Array) -> Array:
    """The power of two is half of what the byte says, since the values are doubled."""
    import numpy as np

    scale: Array = np.ldexp(np.float32(1), raw[:, :1].astype(np.int32) - 128).astype(np.float32)
    return levels(DOUBLED, halves(raw[:, 1:])) * scale


def nvfp4(raw: Array) -> Array:
    """Four groups of 16, each with an E4M3 scale without a sign, halved since the values are doubled; 0x7F is zero."""
    import numpy as np

    code = raw[:, :4].astype(np.int32)
    exponent, mantissa = code >> 3 & 15, (code & 7).astype(np.float32)
    scale = np.where(exponent == 0, mantissa * np.float32(2**-10), np.ldexp(np.float32(8) + mantissa, exponent - 11)).astype(np.float32)
    scale[code == 0x7F] = 0
    out: Array = levels(DOUBLED, halves(raw[:, 4:].reshape(-1, 4, 8))) * scale[..., None]
    return out.reshape(-1, 64)


def q1_0(raw: Array) -> Array:
    import numpy as np

    bits = np.unpackbits(np.ascontiguousarray(raw[:, 2:]), axis=1, bitorder="little").astype(np.float32)
    return (2 * bits - 1) * half(raw, 0)


def q2_0(raw: Array) -> Array:
    import numpy as np

    codes = (raw[:, 2:, None] >> np.array([0, 2, 4, 6], np.uint8)) & 3
    return (codes.reshape(-1, 64).astype("f4") - 1) * half(raw, 0)


# --- the other way ---------------------------------------------------------------------------------------------


def _scale_bytes(scale: Array) -> Array:
    import numpy as np

    with np.errstate(over="ignore"):
        return scale.astype("<f2").view(np.uint8)


def _inverse(scale: Array) -> Array:
    import numpy as np

    with np.errstate(divide="ignore"):
        out: Array = np.where(scale == 0, np.float32(0), np.float32(1) / scale)
    return out


def joined(codes: Array) -> Array:
    """The inverse of `halves`, of 32 codes."""
    out: Array = (codes[:, :16] & 15) | (codes[:, 16:] << 4)
    return out


def _signed(blocks: Array, low: int, bias: float, top: int) -> tuple[Array, Array]:
    """(scale, codes) where the value of the largest magnitude gets the code 0."""
    import numpy as np

    at = np.abs(blocks).argmax(axis=1)[:, None]
    scale = np.take_along_axis(blocks, at, axis=1) / np.float32(low)
    codes: Array = np.trunc(blocks * _inverse(scale) + np.float32(bias)).astype(np.uint8).clip(0, top)
    return scale, codes


def _ranged(blocks: Array, steps: int) -> tuple[Array, Array, Array]:
    """(scale, least, codes) where the range of the block is cut into `steps`."""
    import numpy as np

    low, high = blocks.min(axis=1, keepdims=True), blocks.max(axis=1, keepdims=True)
    scale = (high - low) / np.float32(steps)
    codes: Array = np.trunc((blocks - low) * _inverse(scale) + np.float32(0.5)).astype(np.uint8).clip(0, steps)
    return scale, low, codes


def to_q4_0(blocks: Array) -> Array:
    import numpy as np

    scale, codes = _signed(blocks, -8, 8.5, 15)
    return np.concatenate((_scale_bytes(scale), joined(codes)), axis=1)


def to_q4_1(blocks: Array) -> Array:
    import numpy as np

    scale, low, codes = _ranged(blocks, 15)
    return np.concatenate((_scale_bytes(scale), _scale_bytes(low), joined(codes)), axis=1)


def to_q5_0(blocks: Array) -> Array:
    import numpy as np

    scale, codes = _signed(blocks, -16, 16.5, 31)
    return np.concatenate((_scale_bytes(scale), np.packbits(codes >> 4, axis=1, bitorder="little"), joined(codes)), axis=1)


def to_q5_1(blocks: Array) -> Array:
    import numpy as np

    scale, low, codes = _ranged(blocks, 31)
    high = np.packbits(codes >> 4, axis=1, bitorder="little")
    return np.concatenate((_scale_bytes(scale), _scale_bytes(low), high, joined(codes)), axis=1)


def to_q8_0(blocks: Array) -> Array:
    """Halves are rounded away from zero, as C's roundf does."""
    import numpy as np

    scale = np.abs(blocks).max(axis=1, keepdims=True) / np.float32(127)
    x = blocks * _inverse(scale)
    size = np.abs(x)
    whole = np.floor(size)
    codes = (np.sign(x) * (whole + np.floor(np.float32(2) * (size - whole)))).astype(np.int8)
    return np.concatenate((_scale_bytes(scale), codes.view(np.uint8)), axis=1)


def to_mxfp4(blocks: Array) -> Array:
    """The exponent of the largest magnitude less that of the largest value; of equally near values the first."""
    import numpy as np

    most = np.abs(blocks).max(axis=1)
    with np.errstate(divide="ignore"):
        exponent = np.where(most > 0, np.floor(np.log2(most)) - 2 + 127, 0).clip(0, 255).astype(np.uint8)
    scale = np.ldexp(np.float32(1), exponent.astype(np.int32) - 128).astype(np.float32)
    codes = np.empty(blocks.shape, np.uint8)
    values = np.array(DOUBLED, np.float32)
    for i in range(0, len(blocks), 4096):
        part = slice(i, i + 4096)
        codes[part] = np.abs(values * scale[part, None, None] - blocks[part][..., None]).argmin(axis=-1)
    return np.concatenate((exponent[:, None], joined(codes)), axis=1)
