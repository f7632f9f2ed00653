"""How tensor-parallel ranks share the tensors of a naming: along which axis of its layout each is cut.

A rank's tensor has the layout of the whole, with the axis that is cut as long as the rank's share. So where the rank's elements lie in the
whole follows from the layout: one box where the axis is the slowest of its dimension, one for each part where several parts follow one
another along it (gate and up).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .._typing import NamedTuple
from .layout import Layout

Region = tuple[tuple[int, int], ...]  # (first, size) along each dimension


class Split(NamedTuple):
    """Which axes ranks share. `instead`: stored name template -> the axis along which this one may be cut too, where the sizes say so;
    `container`: what files of ranks are written in; `later`: whether the template of `instead` is cut otherwise in newer models (a
    canonical value, and from which on); `whole`: another container that keeps what the library says of a run."""

    axes: tuple[str, ...]
    instead: Mapping[str, str] = {}
    container: str = ""
    later: tuple[str, float] | None = None
    whole: str = ""


class Cut(NamedTuple):
    """One tensor's cut: the dimension, and in how many parts that follow one another along it each rank has a share."""

    dim: int
    parts: int = 1


def cut_of(layout: Layout, parts: Sequence[Layout], axes: Sequence[str]) -> Cut | None:
    """How a stored tensor is cut along the first of `axes` that is the slowest in one of its dimensions; None where none is."""
    for axis in axes:
        for d, dim in enumerate(layout.dims):
            if axis not in dim or d == layout.holder_dim:
                continue
            own = [[a for a in dim if a in p.axes] for p in parts]
            if any(o[:1] != [axis] for o in own):
                return None
            on, start, _ = layout.join
            if on != d or start > 0 or len(parts) == 1:
                return Cut(d)
            return Cut(d, len(parts)) if all(o == own[0] for o in own) else None
    return None


def regions(shape: Sequence[int], cut: Cut | None, rank: int, shares: Sequence[int]) -> list[tuple[Region, Region]]:
    """(where in the whole tensor, where in the rank's) each box of a rank lies. `shape` is the whole's, `shares` what each rank has of its
    dimension `cut.dim`, all parts together."""
    whole = tuple((0, n) for n in shape)
    if cut is None:
        return [(whole, whole)]
    d, parts = cut
    first, mine = sum(shares[:rank]) // parts, shares[rank] // parts
    step = sum(shares) // parts
    out = []
    for i in range(parts):
        there = (*whole[:d], (i * step + first, mine), *whole[d + 1 :])
        here = (*whole[:d], (i * mine, mine), *whole[d + 1 :])
        out.append((there, here))
    return out
