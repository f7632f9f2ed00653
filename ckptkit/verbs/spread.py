"""Reading weights on an engine: each worker opens the same checkpoint and looks at some of its tensors or parameters.

Policy: what travels is the place, how it is read, and names; what comes back is the outcome for each. A worker holds the files' stamps
against those that this process saw, so that no two look at different checkpoints.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from functools import partial

from .. import store
from .._typing import TYPE_CHECKING, NamedTuple
from ..errors import CheckpointError
from ..fleet.engines import engine
from ..graph.examine import Subject, examine
from ..graph.reading import Reading

if TYPE_CHECKING:
    from ..scan.survey import Asked, Scan
    from ..support.progress import Watch

PIECE = 64 << 20  # bytes that a worker is given at once


class Same(NamedTuple):
    """A checkpoint as every worker opens it: where, how it is read, and what its files were."""

    path: str
    reading: Reading
    stamps: tuple[tuple[str, int, int | str], ...]


def same_as(subject: Subject, path: str, reading: Reading) -> Same:
    """What has a worker open what `subject` is."""
    whole = reading._replace(config=store.absolute(reading.config)) if reading.config else reading
    return Same(store.absolute(path), whole, _stamps(subject))


def _stamps(subject: Subject) -> tuple[tuple[str, int, int | str], ...]:
    return tuple((store.absolute(f), *store.stamp(f)) for f in subject.checkpoint.files)


_held: list[tuple[Same, Subject]] = []


def opened(same: Same) -> Subject:
    """The checkpoint, opened once in each process. Raises CheckpointError where it is another one than this process's driver saw."""
    for known, subject in _held:
        if known == same:
            return subject
    subject = examine(same.path, same.reading)
    hold(same, subject)
    for _, old in _held:
        old.close()
    _held[:] = [(same, subject)]
    return subject


def hold(same: Same, subject: Subject) -> None:
    """Hold the files against those that the driver saw."""
    if _stamps(subject) != same.stamps:
        raise CheckpointError("has changed since it was opened", path=same.path, hint="begin again, once nothing writes to it")


def pieces(sizes: Iterable[tuple[str, int]]) -> list[tuple[str, ...]]:
    """Names in groups of about PIECE bytes, each the next ones."""
    out: list[tuple[str, ...]] = []
    group: list[str] = []
    held = 0
    for name, size in sizes:
        group.append(name)
        held += size
        if held >= PIECE:
            out.append(tuple(group))
            group, held = [], 0
    return [*out, tuple(group)] if group else out


# --- values and statistics -----------------------------------------------------------------------------------------


def elsewhere(on: str, same: Same, subject: Subject) -> Callable[[Collection[str], Collection[str], Watch], Scan]:
    """What a pass over the weights calls (`scan.survey.Asked`) to have the values and the statistics of tensors found by an engine."""

    def spread(values: Collection[str], statistics: Collection[str], watch: Watch) -> Scan:
        from ..scan.survey import Scan

        tensors, found = subject.checkpoint.tensors, Scan([], {}, {})
        size = {n: tensors[n].spec.nbytes for n in dict.fromkeys([*values, *statistics])}
        watch.total = sum(size.values())
        with engine(on) as workers:
            for names, scan in workers(partial(scan_some, same, frozenset(values), frozenset(statistics)), pieces(size.items())):
                found.values.update(scan.values)
                found.statistics.update(scan.statistics)
                watch(sum(size[n] for n in names))
        return found

    return spread


def asked_of(on: str, subject: Subject, path: str, reading: Reading, progress: Callable[[int, int], object] | None) -> Asked:
    """What is asked of a pass over the weights whose values an engine looks at."""
    from ..scan.survey import Asked

    return Asked(progress=progress, elsewhere=elsewhere(on, same_as(subject, path, reading), subject))


def scan_some(same: Same, values: frozenset[str], statistics: frozenset[str], names: tuple[str, ...]) -> tuple[tuple[str, ...], Scan]:
    """Look at some tensors. Called in the worker."""
    from ..scan.survey import Asked, survey

    checkpoint = opened(same).checkpoint
    asked = Asked(statistics=[n for n in names if n in statistics], jobs=1)
    return names, survey(checkpoint, [n for n in names if n in values], asked, checks=False)
