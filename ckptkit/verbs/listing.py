"""A folder of checkpoints: what lies in it and below it, one row each. Headers only.

Runs with their checkpoint-N/, the hub's cache, the parts of a diffusers pipeline: each is read as if it had been named. What cannot be
read is a row too, with the reason.
"""

from __future__ import annotations

import os

from .. import store
from .._typing import NamedTuple
from ..configuration.pipeline import INDEX, absent
from ..containers import Place, below, locate
from ..errors import EXIT_OK, EXIT_USAGE, CheckpointError, NotFoundError, UsageError
from ..graph.examine import examine
from ..graph.reading import AS_FOUND, Reading
from ..schema import count_name
from ..support.shown import html_of, line, text_of


class Row(NamedTuple):
    """One checkpoint of a folder. `problem` says why it is not read; then only `path` is known."""

    path: str
    container: str = ""
    architecture: str = ""
    dialect: str = ""
    counts: tuple[tuple[str, int], ...] = ()  # its layers
    tensors: int = 0
    parameters: int = 0
    nbytes: int = 0
    problem: str = ""


class Listing(NamedTuple):
    """What lies in and below a folder."""

    path: str
    rows: tuple[Row, ...]

    def __repr__(self) -> str:
        return line(self, self.path, f"{len(self.rows)} checkpoints")

    def __str__(self) -> str:
        return text_of("listing", self)

    def _repr_html_(self) -> str:
        return html_of(self)

    @property
    def exit_code(self) -> int:
        """2 where one could not be read."""
        return EXIT_USAGE if any(row.problem for row in self.rows) else EXIT_OK


def is_collection(path: str | os.PathLike[str]) -> bool:
    """Whether a path is a folder that is no checkpoint itself, or not one alone, and has some in it."""
    folder = os.fspath(path)
    if not store.is_folder(folder):
        return False
    try:
        locate(folder)
    except (NotFoundError, UsageError):
        return bool(below(folder))
    except CheckpointError:
        return False
    return False


def list_folder(path: str | os.PathLike[str], reading: Reading = AS_FOUND) -> Listing:
    """Every checkpoint in a folder and below it. Raises NotFoundError where there is none."""
    folder = os.fspath(path)
    places = below(folder)
    if not places:
        raise NotFoundError("holds no checkpoint, nor does a folder below it", path=folder)
    lost = (Row(os.path.join(folder, n), problem=f"is not there; {INDEX} says that it is {cls}") for n, cls in absent(folder).items())
    return Listing(folder, (*(_row(p, reading) for p in places), *lost))


def _row(place: Place, reading: Reading) -> Row:
    if place.what:
        return Row(place.path, problem=f"is {place.what}, which this version does not read")
    try:
        with examine(place.path, reading) as s:
            r, tensors = s.graph.recognition, s.checkpoint.tensors
            names = map(count_name, r.architecture.counted) if r is not None else ()
            counts = tuple((c, s.graph.counts[c]) for c in names if c in s.graph.counts)
            return Row(
                place.path, s.checkpoint.container, r.architecture.name if r is not None else "", r.dialect.name if r is not None else "",
                counts, len(tensors), sum(tensors[n].spec.numel for n in s.counted()), sum(t.spec.nbytes for t in tensors.values()),
            )  # fmt: skip
    except CheckpointError as e:
        return Row(place.path, problem=e.message)
