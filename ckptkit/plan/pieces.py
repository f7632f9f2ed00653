"""Plans over tensors in pieces: each nest of loops over such a tensor becomes one for every piece that it needs, over that piece's bytes.

Policy: what a target does not need of a tensor is not read, and nobody puts the whole tensor together. Loops are taken apart along the
axes of the stored tensor, where a box is a range of each; what the box leaves of them is a nest again. A nest that runs across axes in a
way that no layout gives (it is not known how many elements of each axis it takes) goes by the tensor's runs instead.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import product

from ..schema.loops import Loop, cut, reach, simplify
from ..tensors import Box, StoredTensor, row_major_strides
from .values import Piece

Axis = list[tuple[int, int, int]]  # loops along one axis of the source: (size, target stride, positions)
Part = tuple[int, tuple[Loop, ...], int, int]  # which box, loops, source offset, target offset


def by_boxes(
    loops: Sequence[tuple[int, int, int]], source: int, target: int, shape: tuple[int, ...], boxes: Sequence[Box]
) -> list[Part] | None:
    """A nest over a row-major tensor of `shape` as nests over the boxes that tile it; None where it is not along the tensor's axes."""
    if any(n == 0 for n, _, _ in loops) or 0 in shape:
        return []
    taken = _by_axis(loops, source, shape)
    if taken is None:
        return None
    axes, free, digits = taken
    out: list[Part] = []
    for which, box in enumerate(boxes):
        strides = box.strides or row_major_strides(box.shape)
        found = []
        for along, digit, low, n in zip(axes, digits, box.offset, box.shape, strict=True):
            found.append(list(cut(tuple(along), 0, digit, low, low + n)))
            if not found[-1]:
                break
        else:
            for parts in product(*found):
                out.append((which, *_nest(parts, free, box, strides, target)))
    return out


def _nest(
    parts: Sequence[tuple[tuple[tuple[int, int, int], ...], int, int]], free: Axis, box: Box, strides: tuple[int, ...], target: int
) -> tuple[tuple[Loop, ...], int, int]:
    """(loops, source offset, target offset) over the bytes of a box."""
    loops = [Loop(n, 0, t) for n, t, _ in free]
    at = 0
    for (along, to, position), first, stride in zip(parts, box.offset, strides, strict=True):
        loops += [Loop(n, q * stride, t) for n, t, q in along]
        at += (position - first) * stride
        target += to
    loops.sort(key=lambda x: -abs(x.target))
    return simplify(tuple(loops)), at, target


def _by_axis(loops: Sequence[tuple[int, int, int]], source: int, shape: tuple[int, ...]) -> tuple[list[Axis], Axis, list[int]] | None:
    """(the loops along each axis of the source, those along none, the first position on each axis)."""
    whole = row_major_strides(shape)
    axes: list[Axis] = [[] for _ in shape]
    free: Axis = []
    todo = [(n, s, t) for n, s, t in loops if n != 1]
    while todo:
        n, s, t = todo.pop()
        if s == 0:
            free.append((n, t, 0))
            continue
        axis = next((d for d, w in enumerate(whole) if w <= s and shape[d] > 1), None)
        if axis is None or s % whole[axis]:
            return None
        q, size = s // whole[axis], shape[axis]
        if q * (n - 1) < size:
            axes[axis].append((n, t, q))
        elif size % q == 0 and n % (size // q) == 0 and axis:
            inner = size // q
            todo += [(inner, s, t), (n // inner, s * inner, t * inner)]
        else:
            return None
    digits = [source // w % n for w, n in zip(whole, shape, strict=True)]
    for along, digit, n in zip(axes, digits, shape, strict=True):
        along.sort(key=lambda x: -x[2])
        if digit + reach(along, 2) > n:
            return None
    return axes, free, digits


def over_boxes(
    targets: Sequence[tuple[str, object, tuple[Piece, ...]]], names: Sequence[str], boxed: Mapping[str, StoredTensor]
) -> tuple[list[tuple[Piece, ...]], list[tuple[str, Box | None]]]:
    """(the pieces of every target, the sources that they now count: (name, which box of it or None)).

    `names` are the sources by their numbers before, `boxed` those of them that are in pieces.
    """
    sources: dict[tuple[str, int], int] = {}

    def number(name: str, which: int) -> int:
        return sources.setdefault((name, which), len(sources))

    def turned(p: Piece) -> Iterator[Piece]:
        if p.source < 0:
            yield p
            return
        name = names[p.source]
        t = boxed.get(name)
        parts = by_boxes(p.loops, p.source_offset, p.target_offset, t.spec.shape, t.boxes) if t is not None else None
        if parts is None:
            yield p._replace(source=number(name, -1))
            return
        for which, loops, a, b in parts:
            yield p._replace(source=number(name, which), loops=loops, source_offset=a, target_offset=b)

    pieces = [tuple(q for p in ps for q in turned(p)) for _, _, ps in targets]
    return pieces, [(name, boxed[name].boxes[which] if which >= 0 else None) for name, which in sources]
