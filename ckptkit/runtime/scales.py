"""The numbers of a configuration by which parts of a layer are multiplied (`Traits.scales`).

"ffn.in", "ffn.out", "ffn.kept": what a part is given, what it gives, and what that is added to; likewise "attention" and "state".
"ffn.parts": the gate and what comes out. "state.parts": of Mamba 2, the gate, what goes in, B, C and the step.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..errors import UndecidedError
from .spec import Spec


def scale(spec: Spec, place: str) -> float:
    """The number at a place, 1 where there is none."""
    said = spec.traits.scales.get(place)
    return 1.0 if said is None else float(str(said))


def scales(spec: Spec, place: str, count: int) -> tuple[float, ...]:
    """The numbers at a place, ones where there are none. UndecidedError where there are not so many."""
    said = spec.traits.scales.get(place)
    if said is None:
        return (1.0,) * count
    if not isinstance(said, (list, tuple)) or len(said) != count or not all(isinstance(n, (int, float)) for n in said):
        raise UndecidedError(f"{place} is multiplied by {said!r}, which are not {count} numbers")
    return tuple(float(n) for n in said)


def times(number: float, x: Any) -> Any:
    """`x` itself where the number is 1."""
    return x if number == 1 else x * number


def weighed(spec: Spec, place: str, run: Callable[[Any], Any], x: Any) -> Any:
    """What a part gives of `x`, with the numbers of its place."""
    return times(scale(spec, f"{place}.out"), run(times(scale(spec, f"{place}.in"), x)))
