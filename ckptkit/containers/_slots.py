"""The slots of very many tensors, by columns: a Slot is made when somebody looks at one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial

from ._interface import Slot


def slots_of(laid: Sequence[tuple[Sequence[str], int, Sequence[int], Sequence[int]]]) -> Slots:
    """The slots of several files: (names, the file, offsets, lengths) of each."""
    names, files, offsets, lengths = [], [], [], []  # type: list[str], list[int], list[int], list[int]
    for held, file, where, sizes in laid:
        names += held
        files += [file] * len(held)
        offsets += where
        lengths += sizes
    return Slots(names, files, offsets, lengths)


class Slots(Mapping[str, Slot]):
    """Name -> Slot, as a dict of as many: the names in their order, each tensor's file, offset and length."""

    __slots__ = ("_places", "files", "lengths", "names", "offsets")

    def __init__(self, names: Sequence[str], files: Sequence[int], offsets: Sequence[int], lengths: Sequence[int]) -> None:
        self.names, self.files, self.offsets, self.lengths = list(names), list(files), list(offsets), list(lengths)
        self._places: dict[str, int] | None = None

    @property
    def places(self) -> dict[str, int]:
        """Name -> its place in the columns."""
        if self._places is None:
            self._places = {name: i for i, name in enumerate(self.names)}
        return self._places

    def __getitem__(self, name: str) -> Slot:
        i = self.places[name]
        return Slot(self.files[i], self.offsets[i], self.lengths[i])

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)

    def __repr__(self) -> str:
        return repr(dict(zip(self.names, map(partial(tuple.__new__, Slot), zip(self.files, self.offsets, self.lengths)))))  # noqa: B905

    def __reduce__(self) -> tuple[object, ...]:
        return Slots, (self.names, self.files, self.offsets, self.lengths)
