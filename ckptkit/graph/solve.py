"""Sizes by unification: each stored dimension is an equation in the named axes.

Tensors of one row (the same module in every layer) should have one shape; where they do not, the shape that agrees with
the rest of the model is taken for right and the others are reported. Every mismatch names the tensor, the dimension,
what it is and what it needs.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from math import prod

from .._typing import NamedTuple
from ..schema import Architecture, Row
from ..schema.layout import Axes, Layout, Sizes, terms

Shape = tuple[int, ...]


class Mismatch(NamedTuple):
    """A stored dimension that does not fit. `dim` is -1 where the number of dimensions is wrong."""

    name: str
    row: Row
    dim: int
    have: int
    want: int
    axes: Axes


class Solution(NamedTuple):
    """The sizes, the tensor and dimension each came from, and what contradicts them."""

    sizes: Sizes
    origin: dict[str, tuple[str, int]]
    mismatches: tuple[Mismatch, ...]
    broken: tuple[tuple[Axes, int, Axes, int], ...]  # relations of the architecture that do not hold: (left, value, right, value)


class _Equation(NamedTuple):
    name: str  # the first tensor it was read off
    dim: int
    terms: Sequence[Axes]
    size: int
    weight: int  # how many tensors say so


class _Stored(NamedTuple):
    """What is stored of a row."""

    row: Row
    dims: list[list[Axes]]  # each dimension as a sum of products of axes
    by_name: Mapping[str, Shape]
    counts: dict[Shape, int]


def solve(
    arch: Architecture,
    shapes: Mapping[Row, Mapping[str, Shape]],
    given: Mapping[str, int] | None = None,
    places: Mapping[str, Mapping[str, int]] | None = None,
) -> Solution:
    """The axis sizes that the stored `shapes` (row -> stored name -> shape) imply, with those that are `given`."""
    return System(arch, shapes, places).solve(given)


class System:
    """The equations in stored shapes, made once, to be solved with no sizes given or with some.

    `places` says where the tensors stand whose axes have a size of their own in each layer: "intermediate@3" is one.
    """

    def __init__(
        self, arch: Architecture, shapes: Mapping[Row, Mapping[str, Shape]], places: Mapping[str, Mapping[str, int]] | None = None
    ) -> None:
        self.arch = arch
        stored = [_stored(arch, row, by_name) for row, by_name in _by_place(shapes, places or {}).items()]
        self.stored = stored
        self.equations: dict[object, _Equation] = {}
        self.open: list[tuple[_Stored, list[Shape]]] = []
        # what may be tied to another comes last: between equals the first counts
        for held in sorted(stored, key=lambda s: all(arch.params[p].tied for p in s.row.parts)):
            right = [s for s in held.counts if len(s) == len(held.dims)]
            if len(right) == 1:
                _tell(self.equations, held, right[0])
            elif right:
                self.open.append((held, right))

    def solve(self, given: Mapping[str, int] | None = None) -> Solution:
        """The sizes that the stored shapes imply with those that are `given`."""
        arch = self.arch
        sizes = Sizes({**arch.fixed, **(given or {})})
        origin: dict[str, tuple[str, int]] = {}
        equations = self.equations
        _unify(equations.values(), sizes, origin, arch)
        if self.open:
            equations = dict(equations)
            for held, right in self.open:
                fits = [s for s in right if _fits(held.dims, s, sizes)]
                _tell(equations, held, max(fits or right, key=held.counts.__getitem__))
            _unify(equations.values(), sizes, origin, arch)
        if not given:
            _round_off(equations.values(), sizes)
        mismatches = [m for held in self.stored for m in _check(held, sizes)]
        broken = []
        for left, right_axes in arch.relations:
            a, b = sizes.product(left), sizes.product(right_axes)
            if a is not None and b is not None and a != b:
                broken.append((left, a, right_axes, b))
        return Solution(sizes, origin, tuple(mismatches), tuple(broken))


def _stored(arch: Architecture, row: Row, by_name: Mapping[str, Shape]) -> _Stored:
    parts = [_placed(arch.params[p].layout, row) for p in row.parts]
    counts: dict[Shape, int] = {}  # a Counter takes three times as long for the few that a row has
    for shape in by_name.values():
        counts[shape] = counts.get(shape, 0) + 1
    return _Stored(row, terms(row.layout, parts), by_name, counts)


def _tell(equations: dict[object, _Equation], held: _Stored, shape: Shape) -> None:
    """Add what tensors of this shape say. What was said before only weighs more."""
    weight = held.counts[shape]
    for i, (size, dim) in enumerate(zip(shape, held.dims, strict=True)):
        key = (size, *dim)
        known = equations.get(key)
        if known is None:
            equations[key] = _Equation(next(n for n, s in held.by_name.items() if s == shape), i, dim, size, weight)
        else:
            equations[key] = known._replace(weight=known.weight + weight)


def _by_place(shapes: Mapping[Row, Mapping[str, Shape]], places: Mapping[str, Mapping[str, int]]) -> Mapping[Row, Mapping[str, Shape]]:
    """Rows with axes of a size in each layer as one row for each place."""
    if not any(row.layout.by for row in shapes):
        return shapes
    out: dict[Row, dict[str, Shape]] = {}
    for row, by_name in shapes.items():
        for name, shape in by_name.items():
            here = row._replace(layout=row.layout.at(places.get(name, {}))) if row.layout.by else row
            out.setdefault(here, {})[name] = shape
    return out


def _placed(part: Layout, row: Row) -> Layout:
    """A part's layout at the place that its row stands for."""
    if not part.by:
        return part
    at = {p: int(n) for a in row.layout.axes for _, _, n in (a.partition("@"),) for p in part.by if n.isdigit()}
    return part.at(at)


def _first(votes: dict[int, int]) -> int:
    """What most say; the first among equals."""
    return max(votes, key=votes.__getitem__)


def _vote(votes: dict[int, int], value: int, weight: int) -> None:
    votes[value] = votes.get(value, 0) + weight


def _unify(equations: Collection[_Equation], sizes: Sizes, origin: dict[str, tuple[str, int]], arch: Architecture) -> None:
    """Solve what has one unknown, round by round; where equations disagree, the most tensors decide."""
    while True:
        votes: dict[str, dict[int, int]] = {}
        source: dict[tuple[str, int], tuple[str, int]] = {}
        joint: dict[frozenset[str], dict[int, int]] = {}
        for e in equations:
            unknown = {a for t in e.terms for a in t if a not in sizes.axis}
            if not unknown:
                continue
            if len(unknown) == 1:
                (axis,) = unknown
                const = sum(prod(sizes.axis[a] for a in t) for t in e.terms if axis not in t)
                factor = sum(prod(sizes.axis[a] for a in t if a != axis) for t in e.terms if axis in t)
                value, rest = divmod(e.size - const, factor) if factor else (0, 1)
                if rest == 0 and value >= 0:
                    _vote(votes.setdefault(axis, {}), value, e.weight)
                    source.setdefault((axis, value), (e.name, e.dim))
            else:
                inner = {frozenset(a for a in t if a not in sizes.axis) for t in e.terms}
                if len(inner) == 1:
                    factor = sum(prod(sizes.axis[a] for a in t if a in sizes.axis) for t in e.terms)
                    value, rest = divmod(e.size, factor) if factor else (0, 1)
                    if rest == 0:
                        _vote(joint.setdefault(next(iter(inner)), {}), value, e.weight)
        for left, right in arch.relations:
            for one, other in ((left, right), (right, left)):
                unknown_axes = [a for a in one if a not in sizes.axis]
                value_known = sizes.product(other)
                if value_known is None:
                    continue
                known = prod(sizes.axis[a] for a in one if a in sizes.axis)
                if len(unknown_axes) == 1 and unknown_axes[0] not in votes and known and value_known % known == 0:
                    votes[unknown_axes[0]] = {value_known // known: 0}
                elif len(unknown_axes) > 1 and known and value_known % known == 0:
                    _vote(joint.setdefault(frozenset(unknown_axes), {}), value_known // known, 0)
        new = False
        for axis, counter in votes.items():
            value = _first(counter)
            sizes.axis[axis] = value
            if (axis, value) in source:
                origin[axis] = source[axis, value]
            new = True
        for axes, counter in joint.items():
            if axes not in sizes.products:
                sizes.products[axes] = _first(counter)
                new = True
        if not new:
            return


def _round_off(equations: Iterable[_Equation], sizes: Sizes) -> None:
    """Give an axis that no equation fits without a rest ("tasks" where tasks x 32 is 33) the nearest size, so that the rest is a
    mismatch."""
    for e in equations:
        unknown = {a for t in e.terms for a in t if a not in sizes.axis}
        if len(unknown) == 1 and len(e.terms) == 1:
            factor = prod(sizes.axis[a] for a in e.terms[0] if a not in unknown)
            sizes.axis[unknown.pop()] = max(1, e.size // factor) if factor else 1


def _value(dim_terms: Sequence[Axes], sizes: Sizes) -> int | None:
    total = 0
    for t in dim_terms:
        n = sizes.product(t)
        if n is None:
            return None
        total += n
    return total


def _fits(dims: Sequence[Sequence[Axes]], shape: Shape, sizes: Sizes) -> bool:
    wants = [_value(d, sizes) for d in dims]
    return all(w is None or w == n for w, n in zip(wants, shape, strict=True))


def _check(held: _Stored, sizes: Sizes) -> Iterable[Mismatch]:
    row, dims, by_name, counts = held
    want = [_value(d, sizes) for d in dims]
    known = tuple(want)
    if len(counts) == 1 and known in counts:
        return ()
    out = []
    for name, shape in by_name.items():
        if shape == known:
            continue
        if len(shape) != len(dims):
            out.append(Mismatch(name, row, -1, len(shape), len(dims), ()))
            continue
        for i, (w, n) in enumerate(zip(want, shape, strict=True)):
            if w is not None and w != n:
                out.append(Mismatch(name, row, i, n, w, tuple(dict.fromkeys(a for t in dims[i] for a in t))))
    return out
