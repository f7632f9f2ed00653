"""`diff` whose values an engine compares."""

from __future__ import annotations

from functools import partial

from ..comparison.sides import sides_of
from ..fleet.engines import engine
from ..graph.examine import Subject
from ..graph.examine_two import examine_two
from ..support.progress import Watch
from . import spread
from .diff import Change, Diff, Tolerance, compared, diff_of

Two = tuple[spread.Same, spread.Same]


def diff_on(on: str, x: Subject, y: Subject, same: Two, tolerance: Tolerance, metadata: bool, watch: Watch) -> Diff:
    """The outcome of `diff` of two open checkpoints, whose values an engine compares."""
    sides = sides_of(x, y)
    size = {n: sides.left[n].spec.nbytes for n in sides.both}
    watch.total = sum(size.values())
    known = {}
    with engine(on) as workers:
        for changes in workers(partial(compare_some, same, tolerance), spread.pieces(size.items())):
            known.update({c.name: c for c in changes})
            watch(sum(size[c.name] for c in changes))
    return diff_of(x, y, tolerance, metadata, None, watch, known)


_pairs: list[tuple[tuple[spread.Same, spread.Same], tuple[Subject, Subject]]] = []


def compare_some(same: tuple[spread.Same, spread.Same], tolerance: Tolerance, names: tuple[str, ...]) -> list[Change]:
    """Compare some parameters. Called in the worker."""
    if not _pairs or _pairs[0][0] != same:
        a, b = same
        both = examine_two(a.path, b.path, a.reading, b.reading)
        for side, subject in zip(same, both, strict=True):
            spread.hold(side, subject)
        _pairs[:] = [(same, both)]
    return compared(*_pairs[0][1], tolerance, names)
