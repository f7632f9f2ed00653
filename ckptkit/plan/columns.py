"""Plans of very many tensors that are each copied whole, by columns: a source, a target or a task is made when somebody looks at one.

To whoever does they are what tuples of as many values are: equal to them, with their text. Source i is copied to target i, which task i
makes. A plan of 90,000 tensors takes a tenth of the memory so, and of the time.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from functools import cache, partial
from itertools import repeat
from operator import index

from .._typing import Any
from ..containers import Slot, Slots
from ..schema.loops import Loop
from ..tensors import Extent, TensorSpec
from .values import Piece, Source, Task

_new = tuple.__new__
_USUAL = Piece(0, ())[2:]


@cache
def straight(n: int) -> tuple[Loop, ...]:
    """Every element in its place. One tuple for all tensors of a size: there may be tens of thousands."""
    return (Loop(n, 1, 1),) if n != 1 else ()


class _Columns(Sequence[Any]):
    """What the columns say, row by row."""

    __slots__ = ("names",)
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, names: Sequence[str]) -> None:
        self.names = list(names)

    @abstractmethod
    def made(self, rows: slice) -> Iterator[Any]:
        """The values of some rows."""

    def __getitem__(self, at: Any) -> Any:
        if isinstance(at, slice):
            return tuple(self.made(at))
        i = index(at) + (len(self) if index(at) < 0 else 0)
        if not 0 <= i < len(self):
            raise IndexError(at)
        return next(self.made(slice(i, i + 1)))

    def __iter__(self) -> Iterator[Any]:
        return self.made(slice(None))

    def __len__(self) -> int:
        return len(self.names)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, (tuple, _Columns)) and len(self) == len(other) and tuple(self) == tuple(other)

    def __repr__(self) -> str:
        return repr(tuple(self))

    @property
    def columns(self) -> list[list[Any]]:
        """All that there is to say, by columns."""
        return [getattr(self, s) for c in (_Columns, type(self)) for s in c.__slots__]

    def __reduce__(self) -> tuple[object, ...]:
        return _again, (type(self), self.columns)


def _again(kind: type[_Columns], columns: Sequence[list[Any]]) -> _Columns:
    """What `columns` are of."""
    out = kind.__new__(kind)
    for slot, column in zip((s for c in (_Columns, kind) for s in c.__slots__), columns, strict=True):
        setattr(out, slot, column)
    return out


class Sources(_Columns):
    """Sources that are one run of bytes each."""

    __slots__ = ("dtypes", "lengths", "offsets", "paths")

    def __init__(
        self, names: Sequence[str], dtypes: Sequence[str], paths: Sequence[str], offsets: Sequence[int], lengths: Sequence[int]
    ) -> None:
        super().__init__(names)
        self.dtypes, self.paths, self.offsets, self.lengths = list(dtypes), list(paths), list(offsets), list(lengths)

    def made(self, rows: slice) -> Iterator[Source]:
        none = repeat(None)
        extents = zip(map(partial(_new, Extent), zip(self.paths[rows], self.offsets[rows], self.lengths[rows], strict=True)), strict=True)
        return map(partial(_new, Source), zip(self.names[rows], self.dtypes[rows], extents, none, none, none, none, strict=False))


def _pieces(specs: Sequence[TensorSpec], rows: range) -> Iterator[tuple[Piece, ...]]:
    """The one piece of each: source i, element for element."""
    known = {spec: straight(spec.numel) for spec in set(specs)}
    return zip(map(partial(_new, Piece), zip(rows, map(known.__getitem__, specs), *map(repeat, _USUAL), strict=False)), strict=True)


class Targets(_Columns):
    """What `arrange` gives of each target: (name, spec, pieces)."""

    __slots__ = ("specs",)

    def __init__(self, names: Sequence[str], specs: Sequence[TensorSpec]) -> None:
        super().__init__(names)
        self.specs = list(specs)

    def made(self, rows: slice) -> Iterator[tuple[str, TensorSpec, tuple[Piece, ...]]]:
        specs = self.specs[rows]
        return zip(self.names[rows], specs, _pieces(specs, range(len(self))[rows]), strict=True)


def specs_of(targets: Sequence[tuple[str, TensorSpec, tuple[Piece, ...]]]) -> dict[str, TensorSpec]:
    """Name -> spec of each target."""
    return dict(zip(targets.names, targets.specs, strict=True)) if isinstance(targets, Targets) else {n: s for n, s, _ in targets}


def files_of(tasks: Sequence[Task]) -> set[int]:
    """The files that tasks write to."""
    return set(tasks.files) if isinstance(tasks, Tasks) else {t.slot.file for t in tasks}


class Tasks(_Columns):
    """Tasks that copy one source each."""

    __slots__ = ("files", "lengths", "offsets", "specs")

    def __init__(self, targets: Targets, slots: Slots) -> None:
        super().__init__(targets.names)
        self.specs = targets.specs
        self.files, self.offsets, self.lengths = slots.files, slots.offsets, slots.lengths
        if slots.names != self.names:  # a container's own order
            at = list(map(slots.places.__getitem__, self.names))
            self.files, self.offsets, self.lengths = ([column[i] for i in at] for column in (slots.files, slots.offsets, slots.lengths))

    def made(self, rows: slice) -> Iterator[Task]:
        specs = self.specs[rows]
        slots = map(partial(_new, Slot), zip(self.files[rows], self.offsets[rows], self.lengths[rows], strict=True))
        dtypes, shapes = [spec[0] for spec in specs], [spec[1] for spec in specs]
        columns = zip(self.names[rows], slots, dtypes, shapes, _pieces(specs, range(len(self))[rows]), repeat(None), strict=False)
        return map(partial(_new, Task), columns)

    def fill(self, slots: Mapping[str, Slot]) -> bool:
        """Whether these are the slots that the tasks write, all of them."""
        if not isinstance(slots, Slots) or len(slots) != len(self):
            return False
        places = slots.files, slots.offsets, slots.lengths
        if slots.names == self.names:
            return places == (self.files, self.offsets, self.lengths)
        return dict(zip(slots.names, zip(*places, strict=True), strict=True)) == dict(
            zip(self.names, zip(self.files, self.offsets, self.lengths, strict=True), strict=True)
        )


def said(rows: Sequence[Source] | Sequence[Task]) -> object:
    """What sources or tasks say, the same for those by columns and for as many objects of a plan that was read: of all that can be by
    columns these, which take a tenth of the time to look at."""
    if isinstance(rows, _Columns) or not rows:
        return rows.columns if isinstance(rows, _Columns) else rows
    held: list[Any] = list(rows)
    names = [row[0] for row in held]
    made: _Columns
    if isinstance(held[0], Source):
        if any(len(row[2]) != 1 for row in held):
            return rows
        made = Sources(names, [row[1] for row in held], *zip(*[row[2][0] for row in held], strict=True))
    else:
        specs = [_new(TensorSpec, row[2:4]) for row in held]
        made = Tasks(Targets(names, specs), Slots(names, *zip(*[row[1] for row in held], strict=True)))
    return made.columns if made == tuple(held) else rows
