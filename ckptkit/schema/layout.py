"""The layout language: where named axes lie in a stored tensor.

    "hidden (heads head_dim)"     two dimensions; the second flattens two axes, heads the slower one
    "1 hidden"                    `1` is a unit dimension
    "*(heads head_dim) hidden"    several parts follow one another along the starred dimension
    "(groups *per_group head_dim) hidden"   several parts are interleaved on the starred axis

A layout never says how to move elements. Its stored shape, the loop nest between two layouts, and both directions of
every conversion follow from it. An axis that a part lacks counts as 1. No numpy: shapes and strides are integers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from math import prod

from .._typing import NamedTuple
from ..errors import UndecidedError
from .loops import Loop, simplify

Axes = tuple[str, ...]


class LayoutError(ValueError):
    """A layout string or a table of them that contradicts itself: a defect of an architecture file, not of a checkpoint."""


class Layout(NamedTuple):
    """A parsed layout. At most one of `join_dim` (a dimension's index) and `join_axis` (an axis' name) is set."""

    dims: tuple[Axes, ...]
    join_dim: int = -1
    join_axis: str = ""

    @property
    def axes(self) -> Axes:
        """All axes, slowest first."""
        return tuple(a for dim in self.dims for a in dim)

    @property
    def joins(self) -> bool:
        """Whether the layout says how several parts are joined."""
        return self.join_dim >= 0 or bool(self.join_axis)


@cache
def parse(text: str) -> Layout:
    """The Layout of a string in the language above. Raises LayoutError on nonsense."""
    dims: list[Axes] = []
    join_dim, join_axis, stars = -1, "", 0
    rest = text.strip()
    while rest:
        starred = rest.startswith("*")
        if starred:
            rest = rest[1:]
        if rest.startswith("("):
            inside, close, rest = rest[1:].partition(")")
            if not close or "(" in inside:
                raise LayoutError(f"{text!r}: unbalanced parentheses")
            words = inside.split()
            if starred:
                join_dim, stars = len(dims), stars + 1
        else:
            word, _, rest = rest.partition(" ")
            words = [word] if word != "1" else []
            if starred:
                join_dim, stars = len(dims), stars + 1
        axes: list[str] = []
        for w in words:
            if w.startswith("*"):
                w, stars = w[1:], stars + 1
                join_axis = w
            if not w.isidentifier():
                raise LayoutError(f"{text!r}: {w!r} is no axis name")
            axes.append(w)
        dims.append(tuple(axes))
        rest = rest.strip()
    flat = [a for d in dims for a in d]
    if len(set(flat)) != len(flat):
        raise LayoutError(f"{text!r}: an axis stands twice")
    if stars > 1:
        raise LayoutError(f"{text!r}: more than one star")
    return Layout(tuple(dims), join_dim, join_axis)


class Sizes:
    """What is known of the axes: single sizes, and products of axes that nothing has told apart."""

    __slots__ = ("axis", "products")

    def __init__(self, axis: Mapping[str, int] | None = None, products: Mapping[frozenset[str], int] | None = None) -> None:
        self.axis: dict[str, int] = dict(axis or {})
        self.products: dict[frozenset[str], int] = dict(products or {})

    def product(self, axes: Sequence[str]) -> int | None:
        """The product of the sizes of `axes`; None where it is not known."""
        known, unknown = 1, []
        for a in axes:
            n = self.axis.get(a)
            if n is None:
                unknown.append(a)
            else:
                known *= n
        if not unknown:
            return known
        joint = self.products.get(frozenset(unknown))
        return None if joint is None else known * joint

    def copy(self) -> Sizes:
        return Sizes(self.axis, self.products)


def _need(sizes: Sizes, axes: Axes) -> int:
    n = sizes.product(axes)
    if n is None:
        unknown = [a for a in axes if a not in sizes.axis]
        raise UndecidedError(
            f"neither the tensors nor the configuration say how large {' x '.join(unknown)} is",
            hint=f"give it: --set {unknown[0]}=N",
        )
    return n


def _own(layout: Layout, part: Layout) -> list[Axes]:
    """The dimensions of `layout` with only the axes that `part` has."""
    have = set(part.axes)
    return [tuple(a for a in dim if a in have) for dim in layout.dims]


def stored_shape(layout: Layout, parts: Sequence[Layout], sizes: Sizes) -> tuple[int, ...]:
    """The shape of a stored tensor that holds `parts` (their canonical layouts) in `layout`. Raises UndecidedError."""
    own = [_own(layout, p) for p in parts]
    join = _join_dim(layout)
    return tuple(
        sum(_need(sizes, o[i]) for o in own) if i == join else _need(sizes, max((o[i] for o in own), key=len))
        for i in range(len(layout.dims))
    )


def _join_dim(layout: Layout) -> int:
    if layout.join_axis:
        return next(i for i, d in enumerate(layout.dims) if layout.join_axis in d)
    return layout.join_dim


def terms(layout: Layout, parts: Sequence[Layout], dim: int) -> list[Axes]:
    """Dimension `dim` as a sum of products of axes, one for each part that is joined there."""
    own = [_own(layout, p)[dim] for p in parts]
    return own if len(parts) > 1 and dim == _join_dim(layout) else [max(own, key=len)]


class Region(NamedTuple):
    """Where one part lies in a stored tensor: the first element and the step of every atom (a run of axes), in elements."""

    offset: int
    strides: dict[Axes, int]


def atoms(part: Layout, layouts: Sequence[Layout], apart: str = "") -> list[Axes]:
    """The axes of `part` in runs that no one of `layouts` takes apart, so that only a run's product need be known.

    The axis `apart` stands alone.
    """
    runs: list[list[str]] = []
    for dim in part.dims:
        for i, a in enumerate(dim):
            if i and apart not in (a, dim[i - 1]) and all(_adjacent(lay, dim[i - 1], a, part) for lay in layouts):
                runs[-1].append(a)
            else:
                runs.append([a])
    return [tuple(r) for r in runs]


def _adjacent(layout: Layout, first: str, second: str, part: Layout) -> bool:
    if layout.join_axis in (first, second):
        return False
    for dim in _own(layout, part):
        if first in dim:
            i = dim.index(first)
            return i + 1 < len(dim) and dim[i + 1] == second and _between(layout, first, second)
    return False


def _between(layout: Layout, first: str, second: str) -> bool:
    """Whether no interleaved axis of another part lies between two axes of this one."""
    flat = layout.axes
    return layout.join_axis not in flat[flat.index(first) + 1 : flat.index(second)]


def region(
    layout: Layout, parts: Sequence[Layout], index: int, runs: Sequence[Axes], sizes: Sizes, dim_strides: Sequence[int] | None = None
) -> Region:
    """Where part `index` of `parts` lies in the stored tensor, in the atoms `runs` (see `atoms`).

    `dim_strides`, in elements, are those of a tensor that is not row-major (a PyTorch view).
    """
    own = [_own(layout, p) for p in parts]
    shape = stored_shape(layout, parts, sizes)
    join = _join_dim(layout) if len(parts) > 1 else -1
    strides: dict[Axes, int] = {}
    offset = 0
    step = 1
    by_last = {r[-1]: r for r in runs}
    for i in range(len(layout.dims) - 1, -1, -1):
        if dim_strides is not None:
            step = dim_strides[i]
        inner = step
        mine = set(own[index][i])
        for a in reversed(layout.dims[i]):
            if layout.join_axis == a and len(parts) > 1:
                widths = [_need(sizes, (a,)) if a in p.axes else 1 for p in parts]
                offset += sum(widths[:index]) * inner
                if a in mine:
                    strides[by_last[a]] = inner
                inner *= sum(widths)
                continue
            if a in mine:
                if a in by_last:
                    strides[by_last[a]] = inner
                    inner *= _need(sizes, by_last[a])
            elif layout.join_axis and any(a in p.axes for p in parts):
                inner *= _need(sizes, (a,))
        if i == join and not layout.join_axis:
            offset += sum(_need(sizes, o[i]) for o in own[:index]) * step
        step *= shape[i]
    return Region(offset, strides)


class Placed(NamedTuple):
    """A part in a stored tensor: the tensor's layout, the canonical layouts of all its parts, and which one is meant."""

    layout: Layout
    parts: tuple[Layout, ...]
    which: int
    strides: tuple[int, ...] | None = None  # of the stored tensor, in elements, where it is not row-major


class Grown(NamedTuple):
    """An axis that has another size on the target's side, whose sizes these are; only what lies from `first` on along it is moved."""

    axis: str
    sizes: Sizes
    first: int = 0


def nest(source: Placed, target: Placed, sizes: Sizes, grown: Grown | None = None) -> tuple[tuple[Loop, ...], int, int]:
    """(loops, source offset, target offset) that move one part from where it lies to where it belongs, simplified.

    `sizes` are those of both sides, unless an axis is `grown`. Raises UndecidedError where the two sides tell axes apart
    whose sizes nothing says.
    """
    part = source.parts[source.which]
    runs = atoms(part, (source.layout, target.layout), grown.axis if grown else "")
    a = region(source.layout, source.parts, source.which, runs, sizes, source.strides)
    b = region(target.layout, target.parts, target.which, runs, grown.sizes if grown else sizes, target.strides)
    order = sorted(runs, key=lambda r: -b.strides[r])
    if grown is None or (grown.axis,) not in runs:
        loops = simplify(tuple(Loop(_need(sizes, r), a.strides[r], b.strides[r]) for r in order))
        return loops, a.offset, b.offset
    mine = (grown.axis,)
    first, stop = grown.first, min(_need(sizes, mine), _need(grown.sizes, mine))
    loops = simplify(tuple(Loop(max(0, stop - first) if r == mine else _need(sizes, r), a.strides[r], b.strides[r]) for r in order))
    return loops, a.offset + first * a.strides[mine], b.offset + first * b.strides[mine]


def numel(part: Layout, sizes: Sizes) -> int:
    """How many elements a part has."""
    return prod(_need(sizes, d) for d in part.dims)
