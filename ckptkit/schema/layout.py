"""The layout language: where named axes lie in a stored tensor.

    "hidden (heads head_dim)"     two dimensions; the second flattens two axes, heads the slower one
    "1 hidden"                    `1` is a unit dimension
    "*(heads head_dim) hidden"    several parts follow one another along the starred dimension
    "(groups *per_group head_dim) hidden"   several parts are interleaved on the starred axis
    "(heads *(nope value)) rank"  within each head the parts follow one another, each with those of the starred axes that it has
    "hidden (intermediate *1)"    the parts alternate, element by element
    "*{expert} hidden *(intermediate)"   every expert's parts: a star before a placeholder joins all its places along a dimension,
                                  beside which one other star may stand
    "(*{expert} intermediate) hidden"   the same without a dimension of its own: what follows the placeholder lies within each place
    "intermediate@layer hidden"   an axis that has a size of its own in each layer

A layout never says how to move elements. Its stored shape, the loop nest between two layouts, and both directions of
every conversion follow from it. An axis that a part lacks counts as 1. No numpy: shapes and strides are integers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from math import prod

from .._typing import TYPE_CHECKING, NamedTuple
from ..errors import UndecidedError
from .templates import count_name

if TYPE_CHECKING:
    from .loops import Loop

Axes = tuple[str, ...]


class LayoutError(ValueError):
    """A layout string or a table of them that contradicts itself: a defect of an architecture file, not of a checkpoint."""


_JOINED: dict[tuple[Axes, ...], Axes] = {}


class Layout(NamedTuple):
    """A parsed layout. `join` is the starred run of axes: (dimension, first, behind the last), dimension -1 where no star is.

    `holder` is the placeholder that a starred dimension runs through ("" where none is); the axis that counts it is that dimension's first.
    `by` are the placeholders that axes' sizes depend on.
    """

    dims: tuple[Axes, ...]
    join: tuple[int, int, int] = (-1, 0, 0)
    holder: str = ""
    holder_dim: int = -1
    by: Axes = ()

    @property
    def axes(self) -> Axes:
        """All axes, slowest first; not the one that counts a placeholder's places."""
        if self.holder_dim < 0:
            found = _JOINED.get(self.dims)  # few layouts are asked again and again
            if found is None:
                found = _JOINED[self.dims] = tuple(a for dim in self.dims for a in dim)
            return found
        return tuple(a for i, dim in enumerate(self.dims) for a in dim[i == self.holder_dim :])

    @property
    def joins(self) -> bool:
        """Whether the layout says how several parts are joined."""
        return self.join[0] >= 0

    def at(self, place: Mapping[str, int]) -> Layout:
        """The layout at one place: "intermediate@layer" as "intermediate@3"."""
        return _local(self, tuple(place.get(p, -1) for p in self.by)) if self.by else self


@cache
def _local(layout: Layout, numbers: tuple[int, ...]) -> Layout:
    own = {p: n for p, n in zip(layout.by, numbers, strict=True) if n >= 0}
    dims = tuple(tuple(local(a, own) for a in dim) for dim in layout.dims)
    return layout._replace(dims=dims, by=tuple(p for p in layout.by if p not in own))


def local(axis: str, place: Mapping[str, int]) -> str:
    """ "intermediate@layer" at layer 3: "intermediate@3"."""
    name, at, holder = axis.partition("@")
    return f"{name}@{place[holder]}" if at and holder in place else axis


def general(axis: str) -> str:
    """The axis that one of a place belongs to: "intermediate" of "intermediate@3" and of "intermediate@layer"."""
    return axis.partition("@")[0]


_WORD = re.compile(r"\s*(\*?)(?:\{(\w+)\}|([\w@]+)|(\()|(\)))")


def _words(text: str) -> list[tuple[str, str, str, str, str]]:
    found, at = [], 0
    text = text.strip()
    while at < len(text):
        m = _WORD.match(text, at)
        if m is None:
            raise LayoutError(f"{text!r}: {text[at:].split()[0]!r} is no axis name")
        found.append(m.groups())
        at = m.end()
    return found  # type: ignore[return-value]


@cache
def parse(text: str) -> Layout:
    """The Layout of a string in the language above. Raises LayoutError on nonsense."""
    dims: list[list[str]] = []
    join: list[tuple[int, int, int]] = []
    holder, holder_dim = "", -1
    open_at: list[tuple[bool, int]] = []  # of the brackets that are open: whether starred, and the axis they begin at
    for star, placeholder, word, opens, closes in _words(text):
        if closes:
            if not open_at or star:
                raise LayoutError(f"{text!r}: unbalanced parentheses")
            starred, first = open_at.pop()
            if starred:
                join.append((len(dims) - 1, first, len(dims[-1])))
            continue
        if not open_at:
            dims.append([])
        if opens:
            if len(open_at) == 2 or (open_at and not star):
                raise LayoutError(f"{text!r}: unbalanced parentheses")
            open_at.append((bool(star), len(dims[-1])))
        elif placeholder:
            if not star or holder or dims[-1] or len(open_at) > 1 or any(starred for starred, _ in open_at):
                raise LayoutError(f"{text!r}: {{{placeholder}}} is to be starred, the first of a dimension, and the only one")
            holder, holder_dim = placeholder, len(dims) - 1
            dims[-1].append(count_name(placeholder))
        else:
            if word != "1":
                if not word.replace("@", "_", 1).isidentifier():
                    raise LayoutError(f"{text!r}: {word!r} is no axis name")
                dims[-1].append(word)
            if star:
                join.append((len(dims) - 1, len(dims[-1]) - (word != "1"), len(dims[-1])))
    if open_at:
        raise LayoutError(f"{text!r}: unbalanced parentheses")
    flat = [a for d in dims for a in d]
    if len(set(flat)) != len(flat):
        raise LayoutError(f"{text!r}: an axis stands twice")
    if len(join) > 1 or (join and join[0][0] == holder_dim):
        raise LayoutError(f"{text!r}: more than one star")
    by = tuple(dict.fromkeys(p for a in flat if (p := a.partition("@")[2]) and not p.isdigit()))
    return Layout(tuple(map(tuple, dims)), join[0] if join else (-1, 0, 0), holder, holder_dim, by)


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

    def by_place(self) -> dict[str, tuple[int, ...]]:
        """The axes that have a size of their own in each layer, as lists: "intermediate" -> (256, 512), where all are known."""
        found: dict[str, dict[int, int]] = {}
        for axis, n in self.axis.items():
            name, at, place = axis.partition("@")
            if at and place.isdigit():
                found.setdefault(name, {})[int(place)] = n
        return {name: tuple(n[i] for i in range(len(n))) for name, n in found.items() if n.keys() == set(range(len(n)))}

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
    """The dimensions of `layout` with only the axes that `part` has, and the one that counts a placeholder's places."""
    have = set(part.axes)
    return [tuple(a for k, a in enumerate(dim) if a in have or (not k and i == layout.holder_dim)) for i, dim in enumerate(layout.dims)]


def stored_shape(layout: Layout, parts: Sequence[Layout], sizes: Sizes) -> tuple[int, ...]:
    """The shape of a stored tensor that holds `parts` (their canonical layouts) in `layout`. Raises UndecidedError."""
    own = [_own(layout, p) for p in parts]
    join = layout.join[0]
    return tuple(
        sum(_need(sizes, o[i]) for o in own) if i == join else _need(sizes, max((o[i] for o in own), key=len))
        for i in range(len(layout.dims))
    )


def terms(layout: Layout, parts: Sequence[Layout]) -> list[list[Axes]]:
    """Each dimension as a sum of products of axes, one for each part that is joined there."""
    own = [_own(layout, p) for p in parts]
    if len(own) == 1:
        return [[dim] for dim in own[0]]
    join = layout.join[0]
    return [[*dim] if i == join else [max(dim, key=len)] for i, dim in enumerate(zip(*own, strict=True))]


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
    """Whether two axes of a part follow each other in a stored dimension with nothing of another part between them."""
    have = part.axes
    for d, dim in enumerate(layout.dims):
        if first in dim:
            if second not in dim:
                return False
            i, j = dim.index(first), dim.index(second)
            if i > j or any(a in have for a in dim[i + 1 : j]):
                return False
            on, start, stop = layout.join
            return on != d or ((i >= stop) == (j >= stop) and (i >= start) == (j >= start))
    return False


def region(
    layout: Layout,
    parts: Sequence[Layout],
    which: int,
    runs: Sequence[Axes],
    sizes: Sizes,
    dim_strides: Sequence[int] | None = None,
    index: int = 0,
) -> Region:
    """Where part `which` of `parts` lies in the stored tensor, in the atoms `runs` (see `atoms`).

    `dim_strides`, in elements, are those of a tensor that is not row-major (a PyTorch view); `index` is the place along the
    placeholder that a starred dimension runs through.
    """
    shape = stored_shape(layout, parts, sizes)
    mine = set(parts[which].axes)
    strides: dict[Axes, int] = {}
    offset = 0
    step = 1
    by_last = {r[-1]: r for r in runs}

    def along(axes: Axes, inner: int) -> int:
        for a in reversed(axes):
            if a in mine and a in by_last:
                strides[by_last[a]] = inner
                inner *= _need(sizes, by_last[a])
        return inner

    for i in range(len(layout.dims) - 1, -1, -1):
        if dim_strides is not None:
            step = dim_strides[i]
        dim, (on, start, stop) = layout.dims[i], layout.join
        if i == layout.holder_dim:
            offset += index * along(dim, step)
        elif i != on or len(parts) == 1:
            along(dim, step)
        else:
            inner = along(dim[stop:], step)
            widths = [_need(sizes, tuple(a for a in dim[start:stop] if a in p.axes)) for p in parts]
            offset += sum(widths[:which]) * inner
            along(dim[start:stop], inner)
            along(dim[:start], inner * sum(widths))
        step *= shape[i]
    return Region(offset, strides)


class Placed(NamedTuple):
    """A part in a stored tensor: the tensor's layout, the canonical layouts of all its parts, and which one is meant."""

    layout: Layout
    parts: tuple[Layout, ...]
    which: int
    strides: tuple[int, ...] | None = None  # of the stored tensor, in elements, where it is not row-major
    at: int = 0  # along the placeholder that a starred dimension runs through


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
    from .loops import Loop, simplify  # 0.3 ms that recognition does without

    part = source.parts[source.which]
    runs = atoms(part, (source.layout, target.layout), grown.axis if grown else "")
    a = region(source.layout, source.parts, source.which, runs, sizes, source.strides, source.at)
    b = region(target.layout, target.parts, target.which, runs, grown.sizes if grown else sizes, target.strides, target.at)
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
