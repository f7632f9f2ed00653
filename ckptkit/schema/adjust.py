"""Adjustments: values that a naming stores otherwise than the model computes with them, as named pairs of one form and its inverse.

Nearly all are affine: canonical = stored * scale + offset; the others are a named `curve`. The engine computes them in double precision
and rounds once. What both sides store adjusted alike is copied to the bit. Nothing is lossless that rounds.
"""

from __future__ import annotations

from .._typing import TYPE_CHECKING, Any, NamedTuple
from ..errors import UndecidedError, UnsupportedError
from .layout import Sizes

if TYPE_CHECKING:
    from numpy.typing import NDArray

CURVES = {"log_minus": "minus_exp", "minus_exp": "log_minus"}  # each with its inverse: log(-x), -exp(x)


class Adjust(NamedTuple):
    """canonical = stored * scale + offset; with an `axis` the scale is times a `power` of its size (the root of a head's width); or a
    `curve` of what is stored, alone."""

    scale: float = 1.0
    offset: float = 0.0
    axis: str = ""
    power: float = 1.0
    curve: str = ""

    def of(self, sizes: Sizes) -> Adjust:
        """The same in numbers alone. Raises UndecidedError where the size of its axis is not known."""
        if not self.axis:
            return self
        size = sizes.product((self.axis,))
        if size is None:
            raise UndecidedError(
                f"neither the tensors nor the configuration say how large {self.axis} is, with which values are scaled",
                hint=f"give it: --set {self.axis}=N",
            )
        return Adjust(self.scale * float(size) ** self.power, self.offset)

    def inverse(self) -> Adjust:
        """What takes the canonical value to the stored one."""
        if self.curve:
            return Adjust(curve=CURVES[self.curve])
        return Adjust(1.0 / self.scale, -self.offset / self.scale)

    def then(self, other: Adjust) -> Adjust:
        """This one, and `other` upon what it gives."""
        if self.curve or other.curve:
            if PLAIN not in (self, other):
                raise UnsupportedError("values that two namings store by different functions are not converted from one to the other")
            return self if other == PLAIN else other
        return Adjust(self.scale * other.scale, self.offset * other.scale + other.offset)

    @property
    def lossless(self) -> bool:
        """Whether there and back gives the same bits: a shift of sign or of the exponent does, a sum rounds."""
        from math import frexp

        return not self.curve and self.offset == 0.0 and abs(frexp(self.scale)[0]) == 0.5


def curved(values: NDArray[Any], curve: str) -> NDArray[Any]:
    """A curve of float64 values."""
    import numpy as np

    out: NDArray[Any] = np.log(-values) if curve == "log_minus" else -np.exp(values)
    return out


PLAIN = Adjust()
MINUS_EXP = Adjust(curve="log_minus")  # stored as minus its exponential: what decays in state-space layers, in GGUF files
LESS_ONE = Adjust(1.0, 1.0)  # a scale stored as its difference from one: Gemma's norms, LayerNorm1p
