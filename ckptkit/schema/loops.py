"""Loop nests: how elements move between two row-major tensors. Integers only.

For each index (i0, i1, ...) below the sizes, target[target_offset + sum(ik * target_stride_k)] = source[source_offset +
sum(ik * source_stride_k)], in elements. A byte copy is the nest with a single loop of strides (1, 1); () is one element.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from .._typing import NamedTuple

Plain = tuple[int, int, int]  # a Loop's fields: (size, source stride, target stride)


class Loop(NamedTuple):
    """One loop of a nest: how often, and the steps in elements on both sides."""

    size: int
    source: int
    target: int


def simplify(loops: tuple[Loop, ...]) -> tuple[Loop, ...]:
    """The same nest with unit loops dropped and neighbours that run on into each other merged."""
    out: list[Loop] = []
    for loop in loops:
        if loop.size == 1:
            continue
        if out and out[-1].source == loop.source * loop.size and out[-1].target == loop.target * loop.size:
            out[-1] = Loop(out[-1].size * loop.size, loop.source, loop.target)
        else:
            out.append(loop)
    return tuple(out)


def reach(loops: Sequence[Plain], side: int) -> int:
    """Elements from the lowest to the highest that a nest touches on one side (1 source, 2 target)."""
    return 1 + sum((loop[0] - 1) * abs(loop[side]) for loop in loops)


def cut(loops: tuple[Plain, ...], source: int, target: int, low: int, high: int) -> Iterator[tuple[tuple[Plain, ...], int, int]]:
    """The parts of a nest that write target elements low <= e < high, each a nest: (loops, source offset, target offset).

    Target strides must be positive and fall from the outermost loop to the innermost; no loop may be empty.
    """
    span = reach(loops, 2)
    if low <= target and target + span <= high:
        yield loops, source, target
        return
    if target >= high or target + span <= low:
        return
    n, s, t = loops[0]
    rest = loops[1:]
    inner = span - (n - 1) * t
    first, stop = max(0, (low - target - inner) // t + 1), min(n, -((target - high) // t))  # iterations that touch the range
    whole, end = max(first, -((target - low) // t)), min(stop, (high - inner - target) // t + 1)  # those wholly inside
    if end <= whole:
        whole = end = stop
    for i in range(first, whole):
        yield from cut(rest, source + i * s, target + i * t, low, high)
    if end > whole:
        yield ((end - whole, s, t), *rest), source + whole * s, target + whole * t
    for i in range(end, stop):
        yield from cut(rest, source + i * s, target + i * t, low, high)
