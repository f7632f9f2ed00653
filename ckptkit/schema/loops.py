"""Loop nests: how elements move between two row-major tensors. Integers only.

For each index (i0, i1, ...) below the sizes, target[target_offset + sum(ik * target_stride_k)] = source[source_offset +
sum(ik * source_stride_k)], in elements. A byte copy is the nest with a single loop of strides (1, 1); () is one element.
"""

from __future__ import annotations

from .._typing import NamedTuple


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
