"""Adjustments: values that a naming stores otherwise than the model computes with them, as named pairs of one form and its inverse.

Affine ones are all there are: canonical = stored * scale + offset. The engine computes them in double precision and rounds once. What
both sides store adjusted alike is copied to the bit. Nothing is lossless that rounds: `exact` says whether a dtype holds the result.
"""

from __future__ import annotations

from .._typing import NamedTuple
from ..errors import UndecidedError
from .layout import Sizes


class Adjust(NamedTuple):
    """canonical = stored * scale + offset; with an `axis` the scale is times a `power` of its size (the root of a head's width)."""

    scale: float = 1.0
    offset: float = 0.0
    axis: str = ""
    power: float = 1.0

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
        return Adjust(1.0 / self.scale, -self.offset / self.scale)

    def then(self, other: Adjust) -> Adjust:
        """This one, and `other` upon what it gives."""
        return Adjust(self.scale * other.scale, self.offset * other.scale + other.offset)

    @property
    def lossless(self) -> bool:
        """Whether there and back gives the same bits: a shift of sign or of the exponent does, a sum rounds."""
        from math import frexp

        return self.offset == 0.0 and abs(frexp(self.scale)[0]) == 0.5


PLAIN = Adjust()
LESS_ONE = Adjust(1.0, 1.0)  # a scale stored as its difference from one: Gemma's norms, LayerNorm1p
