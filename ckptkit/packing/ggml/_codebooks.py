"""ggml's IQ types: 256 elements in a block; eight or four values at once are an entry of a codebook, with signs beside.

Source: ggml-common.h and ggml-quants.c of llama.cpp (dequantize_row_iq2_xxs ... iq1_m).
"""

from __future__ import annotations

from ..._typing import TYPE_CHECKING, Any
from ._grids import eight_signs, grid, signs
from ._small import half

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]


def _seven_bits(words: Array) -> Array:
    """The four codes of seven bits in the low 28 of 32-bit words: (..., 4, 8) signs."""
    import numpy as np

    out: Array = signs()[(words[..., None] >> np.array([0, 7, 14, 21], np.uint32)) & 127]
    return out


def _two_scales(raw: Array) -> Array:
    """The low and the high half of every byte, side by side."""
    import numpy as np

    out: Array = np.stack((raw & 15, raw >> 4), axis=-1).reshape(len(raw), -1).astype(np.float32)
    return out


def iq2_xxs(raw: Array) -> Array:
    """Eight groups of 32: four entries in bytes, then signs and the scale in one word."""
    import numpy as np

    groups = raw[:, 2:66].reshape(-1, 8, 8)
    word = np.ascontiguousarray(groups[..., 4:]).view("<u4")[..., 0]
    scale = half(raw, 0) * (np.float32(0.5) + (word >> 28).astype(np.float32)) * np.float32(0.25)
    out: Array = grid("IQ2_XXS")[groups[..., :4]] * _seven_bits(word) * scale[..., None, None]
    return out.reshape(-1, 256)


def iq2_xs(raw: Array) -> Array:
    """Entries of nine bits with the signs in seven more; a scale for each 16."""
    import numpy as np

    codes = np.ascontiguousarray(raw[:, 2:66]).view("<u2")
    scale = half(raw, 0) * (np.float32(0.5) + _two_scales(raw[:, 66:74])) * np.float32(0.25)
    out: Array = (grid("IQ2_XS")[codes & 511] * signs()[codes >> 9]).reshape(-1, 16, 16) * scale[..., None]
    return out.reshape(-1, 256)


def iq2_s(raw: Array) -> Array:
    """Entries of ten bits, eight in one place and two in another; a byte of signs for each."""
    import numpy as np

    high = (raw[:, 66:74, None].astype(np.uint16) << np.array([8, 6, 4, 2], np.uint16)) & 0x300
    codes = raw[:, 2:34].astype(np.uint16) | high.reshape(-1, 32)
    scale = half(raw, 0) * (np.float32(0.5) + _two_scales(raw[:, 74:82])) * np.float32(0.25)
    out: Array = (grid("IQ2_S")[codes] * eight_signs(raw[:, 34:66])).reshape(-1, 16, 16) * scale[..., None]
    return out.reshape(-1, 256)


def iq3_xxs(raw: Array) -> Array:
    """Entries of four values; signs and the scale of each 32 in one word."""
    import numpy as np

    word = np.ascontiguousarray(raw[:, 66:98]).view("<u4")
    scale = half(raw, 0) * (np.float32(0.5) + (word >> 28).astype(np.float32)) * np.float32(0.5)
    entries = grid("IQ3_XXS")[raw[:, 2:66]].reshape(-1, 8, 4, 8)
    out: Array = entries * _seven_bits(word) * scale[..., None, None]
    return out.reshape(-1, 256)


def iq3_s(raw: Array) -> Array:
    """Entries of nine bits, the ninth in another place; a byte of signs for eight values, a scale for 32."""
    import numpy as np

    high = (raw[:, 66:74, None].astype(np.uint16) << np.arange(8, 0, -1, dtype=np.uint16)) & 0x100
    codes = raw[:, 2:66].astype(np.uint16) | high.reshape(-1, 64)
    scale = half(raw, 0) * (1 + 2 * _two_scales(raw[:, 106:110]))
    entries = grid("IQ3_S")[codes].reshape(-1, 32, 8) * eight_signs(raw[:, 74:106])
    out: Array = entries.reshape(-1, 8, 32) * scale[..., None]
    return out.reshape(-1, 256)


def iq1_s(raw: Array) -> Array:
    """Entries of eleven bits of -1, 0 and 1, shifted by an eighth up or down; three bits of scale for 32."""
    import numpy as np

    word = np.ascontiguousarray(raw[:, 34:50]).view("<u2")
    scale = half(raw, 0) * (2 * (word >> 12 & 7).astype(np.float32) + 1)
    shift = np.where(word & 0x8000, np.float32(-0.125), np.float32(0.125))
    high = (word[..., None] >> np.array([0, 3, 6, 9], np.uint16) & 7) << 8
    codes = raw[:, 2:34].astype(np.uint16) | high.reshape(-1, 32)
    out: Array = (grid("IQ1_S")[codes].reshape(-1, 8, 32) + shift[..., None]) * scale[..., None]
    return out.reshape(-1, 256)


def iq1_m(raw: Array) -> Array:
    """As IQ1_S, with a shift for each eight and a scale for 16; the block's scale lies in the top bits of the others."""
    import numpy as np

    word = np.ascontiguousarray(raw[:, 48:56]).view("<u2")
    top = word >> 12
    bits = (top[:, :1] | (top[:, 1:2] << 4) | (top[:, 2:3] << 8) | (top[:, 3:4] << 12)).astype("<u2")
    each = (word[..., None] >> np.array([0, 3, 6, 9], np.uint16) & 7).reshape(-1, 16).astype(np.float32)
    scale = bits.view("<f2").astype(np.float32) * (2 * each + 1)
    nibble = np.stack((raw[:, 32:48] & 15, raw[:, 32:48] >> 4), axis=-1).reshape(-1, 32)
    shift = np.where(nibble & 8, np.float32(-0.125), np.float32(0.125))
    codes = raw[:, :32].astype(np.uint16) | ((nibble & 7).astype(np.uint16) << 8)
    out: Array = (grid("IQ1_S")[codes] + shift[..., None]).reshape(-1, 16, 16) * scale[..., None]
    return out.reshape(-1, 256)
