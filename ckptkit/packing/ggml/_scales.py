"""The scale of each element of ggml's blocks, and the values that codes stand for under it: what errors are measured in.

Policy: no type says its scales twice. The bytes of a block that are codes are set to the code of one value, or of two a step apart, and the
block is decoded: what comes out is the scale, whatever blocks, sub-blocks and subtrahends it is made of. Of the types with codebooks the
indices and signs are cleared, so that every entry is the first one. Q1_0 has no steps: its codes are signs.
"""

from __future__ import annotations

from collections.abc import Callable

from ..._typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]


class Scale(NamedTuple):
    """How a type's scale is found: `codes` are runs of bytes (first, end) with what they are set to; `least` the same for the value a step
    below, None where codes of 0 give 0; `word` the bits of words (first, end, type, bits kept) that are scale beside codes; `entry` what
    the decoded value stands for. `whole`: where the half-precision scale of the whole block lies, None without; `grain`: by which part of
    it the scales of its sub-blocks may differ, `most` the largest of them in these, 0 where it is the only one. `allowed`: what rounding
    may be off, in steps: half a step; where codes count from a subtrahend, whose ends cannot be seen, a step; where entries of a codebook
    are chosen for eight or four values at once, what ggml's own choice was off for normal values."""

    codes: tuple[tuple[int, int, int], ...]
    least: tuple[tuple[int, int, int], ...] | None = None
    word: tuple[int, int, str, int] | None = None
    entry: float = 1.0
    whole: int | None = 0
    grain: float = 0.0
    most: float = 0.0
    allowed: float = 0.5


def _from_zero(whole: int, most: int, *runs: tuple[int, int, int]) -> Scale:
    """Codes that count from zero, less a subtrahend."""
    grain = float(most > 0)
    return Scale(runs, tuple((a, b, 0) for a, b, _ in runs), None, 1.0, whole, grain, most, 1.0 if most else 0.5)


SCALES = {
    "Q4_0": Scale(((2, 18, 0x99),)), "Q5_0": Scale(((2, 6, 0xFF), (6, 22, 0x11))), "Q8_0": Scale(((2, 34, 1),)),
    "Q4_1": _from_zero(0, 0, (4, 20, 0x11)), "Q5_1": _from_zero(0, 0, (4, 8, 0), (8, 24, 0x11)),
    "IQ4_NL": Scale(((2, 18, 0x88),)), "Q2_0": Scale(((2, 18, 0xAA),)),
    "TQ1_0": Scale(((0, 52, 0xFF),), whole=52), "TQ2_0": Scale(((0, 64, 0xAA),), whole=64),
    "MXFP4": Scale(((1, 17, 0x22),), whole=None), "NVFP4": Scale(((4, 36, 0x22),), whole=None, grain=2.0**-9),
    "Q2_K": _from_zero(80, 15, (16, 80, 0x55)), "Q4_K": _from_zero(0, 63, (16, 144, 0x11)),
    "Q5_K": _from_zero(0, 63, (16, 48, 0), (48, 176, 0x11)), "Q3_K": Scale(((0, 32, 0xFF), (32, 96, 0x55)), whole=108, grain=1, most=31),
    "Q6_K": Scale(((0, 128, 0x11), (128, 192, 0xAA)), whole=208, grain=1, most=127),
    "IQ4_XS": Scale(((8, 136, 0x88),), grain=1, most=31),
    "IQ2_XXS": Scale((), word=(2, 66, "<u8", 0xF << 60), entry=8, grain=0.25, most=3.875, allowed=1.75),
    "IQ2_XS": Scale(((2, 66, 0),), entry=8, grain=0.25, most=3.875, allowed=1.75),
    "IQ2_S": Scale(((2, 74, 0),), entry=8, grain=0.25, most=3.875, allowed=1.75),
    "IQ3_XXS": Scale(((2, 66, 0),), word=(66, 98, "<u4", 0xF << 28), entry=4, grain=0.5, most=7.75, allowed=3),
    "IQ3_S": Scale(((2, 106, 0),), grain=2, most=31, allowed=3),
    "IQ1_S": Scale(((2, 34, 0),), word=(34, 50, "<u2", 7 << 12), entry=-0.875, grain=2, most=15, allowed=5),
    "IQ1_M": Scale(((0, 48, 0),), entry=-0.875, whole=None, grain=2, most=15, allowed=5),
}  # fmt: skip
_BOTH: dict[str, tuple[float, ...]] = {
    "IQ2_XXS": (8, 25, 43), "IQ2_XS": (8, 25, 43), "IQ2_S": (8, 25, 43), "IQ3_XXS": (4, 12, 20, 28, 36, 44, 52, 62),
    "IQ3_S": (1, 3, 5, 7, 9, 11, 13, 15), "IQ1_S": (0.125, 0.875, 1.125), "IQ1_M": (0.125, 0.875, 1.125),
}  # fmt: skip
_RANGES = {
    "Q4_0": (-8, 7), "Q5_0": (-16, 15), "Q8_0": (-128, 127), "Q3_K": (-4, 3), "Q6_K": (-32, 31), "TQ1_0": (-1, 1), "TQ2_0": (-1, 1),
    "Q2_0": (-1, 2),
}  # fmt: skip
SHIFTED = {"Q4_1": 15, "Q5_1": 31, "Q2_K": 3, "Q4_K": 15, "Q5_K": 31}  # whose codes count from zero, less a subtrahend: the steps of it
EVERY = 8  # elements that share a scale in every type
_TINY = 2.0**-24  # the smallest half-precision number


def unit(name: str, raw: Array, decode: Callable[[str, Array], Array]) -> tuple[Array, Array]:
    """(n, bytes of a block) -> twice (n, elements of a block over `EVERY`), float32: the scale of so many elements each, and what it may be
    off by rounding, relative. Where a scale is zero, since the true one is too small for the type, the step is the largest value that the
    smallest scale gives: what rounds to nothing is less than half of it. `decode`: what decodes blocks of a type."""
    import numpy as np

    how = SCALES[name]
    with np.errstate(all="ignore"):
        top = decode(name, _set(raw, how.codes, how.word))[:, ::EVERY]
        least = decode(name, _set(raw, how.least, None))[:, ::EVERY] if how.least is not None else np.float32(0)
        out: Array = (top - least) / np.float32(how.entry)
        size = np.abs(out)
        if name == "NVFP4":
            return np.where(size > 0, out, np.float32(6 * how.grain)), np.full(size.shape, 1 / 16, np.float32)
        if name == "MXFP4":
            return out, np.zeros_like(size)
        whole = np.abs(_whole(name, how, raw))
        inexact = np.maximum(np.float32(2.0**-11), np.float32(_TINY / 2) / whole)
        tiny = np.float32(_TINY * (how.most + how.grain / 2 if how.most else 1))
        smallest = np.where(whole > 0, whole * np.float32(how.grain or 1), tiny)
        levels = SHIFTED.get(name) or float(np.abs(grid(name)).max())  # type: ignore[arg-type]
        coarse = np.where(size > 0, inexact + np.float32(how.grain / 2) * whole / size, np.float32(0))
        return np.where(size > 0, out, smallest * np.float32(levels)).astype(np.float32), coarse.astype(np.float32)


def _whole(name: str, how: Scale, raw: Array) -> Array:
    """(n, 1) float32: the scale of each whole block."""
    import numpy as np

    from ._small import half

    if how.whole is not None:
        return half(raw, how.whole)
    top = np.ascontiguousarray(raw[:, 48:56]).view("<u2") >> 12  # IQ1_M: in the top bits of four words
    bits = (top[:, :1] | (top[:, 1:2] << 4) | (top[:, 2:3] << 8) | (top[:, 3:4] << 12)).astype("<u2")
    out: Array = bits.view("<f2").astype(np.float32)
    return out


def _set(raw: Array, codes: tuple[tuple[int, int, int], ...], word: tuple[int, int, str, int] | None) -> Array:
    """Blocks with other codes."""
    import numpy as np

    out: Array = np.array(raw)
    for first, end, byte in codes:
        out[:, first:end] = byte
    if word is not None:
        first, end, kind, kept = word
        words = np.ascontiguousarray(out[:, first:end]).view(kind)
        out[:, first:end] = (words & np.array(kept, words.dtype)).view(np.uint8)
    return out


def grid(name: str) -> Array | None:
    """The values that codes stand for under a scale of 1, in order; None where they are whole numbers without bounds that count."""
    import numpy as np

    from .._codes import fp4_values
    from ._small import LEVELS

    if name in ("MXFP4", "NVFP4"):
        return np.unique(fp4_values()).astype(np.float32)
    if name in ("IQ4_NL", "IQ4_XS"):
        return np.array(LEVELS, np.float32)
    if name in _BOTH:
        return np.array(sorted({s * v for v in _BOTH[name] for s in (-1, 1)}), np.float32)
    if name in _RANGES:
        low, high = _RANGES[name]
        return np.arange(low, high + 1, dtype=np.float32)
    return None
