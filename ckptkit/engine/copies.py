"""Plans by columns as jobs: many tensors, each a run of bytes that is copied as it is.

Policy: what a job copies is a list of numbers and not an object for each tensor. Small neighbours whose bytes are neighbours in their
source too are one read and one write; what lies one after another on both sides is one run. Anything else is left to `jobs`.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import islice
from operator import add

from .._typing import Any, NamedTuple
from ..plan.columns import Sources, Tasks
from ..plan.values import Plan
from ..support.files import CHUNK
from ..tensors import DTYPES, TensorSpec

SMALL = 256 << 10  # slots up to this many bytes are gathered with their neighbours
APART = 16 << 10  # small slots or source runs further apart than this are not taken together


class Copies(NamedTuple):
    """Small neighbouring tensors [offset, offset + length) of one file, in their order; each is a run of `source`, whose bytes ascend
    too."""

    file: int
    offset: int
    length: int
    names: Sequence[str]
    offsets: Sequence[int]
    lengths: Sequence[int]
    source: str
    starts: Sequence[int]
    place: int  # of the first among all tensors of the file


Kind = tuple[TensorSpec, str, int, int]  # what is written, the source's type, bytes of the slot and of the source
_new = tuple.__new__


class Runs(NamedTuple):
    """What a plan copies, by columns, in the order of the target's bytes."""

    names: Sequence[str]
    files: Sequence[int]
    offsets: Sequence[int]
    lengths: Sequence[int]
    sources: Sequence[str]
    starts: Sequence[int]


def runs_of(plan: Plan) -> Runs | None:
    """The plan's runs, each kind of them checked once; None where a task may be anything else than a whole source, or is wrong."""
    found = _by_columns(plan) if isinstance(plan.tasks, Tasks) and isinstance(plan.sources, Sources) else _one_by_one(plan)
    if found is None:
        return None
    out, kinds = found
    if not all(map(_is_whole, kinds)) or min(out.files) < 0 or max(out.files) >= len(plan.layout.files):
        return None
    if min(out.offsets) < 0 or min(out.starts) < 0:
        return None
    if not _ascend(out):
        order = sorted(range(len(out.names)), key=list(zip(out.files, out.offsets, strict=True)).__getitem__)
        columns: list[list[Any]] = [[column[i] for i in order] for column in out]
        out = Runs(*columns)
    return out if _ascend(out) else None


def _by_columns(plan: Plan) -> tuple[Runs, set[Kind]] | None:
    """The runs of a plan that is by columns, and which kinds of tensors are copied."""
    tasks, sources = plan.tasks, plan.sources
    assert isinstance(tasks, Tasks) and isinstance(sources, Sources)
    if len(tasks) != len(sources) or len(tasks) < 2:
        return None
    kinds = set(zip(tasks.specs, sources.dtypes, tasks.lengths, sources.lengths, strict=True))
    return Runs(tasks.names, tasks.files, tasks.offsets, tasks.lengths, sources.paths, sources.offsets), kinds


def _one_by_one(plan: Plan) -> tuple[Runs, set[Kind]] | None:
    """The same of a plan of an object for each tensor."""
    tasks, sources = tuple(plan.tasks), tuple(plan.sources)
    if len(tasks) < 2:
        return None
    names, slots, dtypes, shapes, pieces, encodes = zip(*tasks, strict=True)
    if any(encodes) or set(map(len, pieces)) != {1}:
        return None
    which, loops, starts, to, ops, _, _ = zip(*[p[0] for p in pieces], strict=True)
    if any(starts) or any(to) or set(ops) != {"copy"} or min(which) < 0 or max(which) >= len(sources):
        return None
    held = [sources[i] for i in which]
    if set(map(len, (s[2] for s in held))) != {1} or any(map(_turns, set(loops))):
        return None
    specs = [_new(TensorSpec, (d, s)) for d, s in zip(dtypes, shapes, strict=True)]
    if any((loop[0][0] if loop else 1) != spec.numel for loop, spec in set(zip(loops, specs, strict=True))):
        return None
    files, offsets, lengths = zip(*slots, strict=True)
    paths, places, sizes = zip(*[s[2][0] for s in held], strict=True)
    return Runs(names, files, offsets, lengths, paths, places), set(zip(specs, [s[1] for s in held], lengths, sizes, strict=True))


def _turns(loops: tuple[tuple[int, int, int], ...]) -> bool:
    """Whether elements are not copied one after another."""
    return len(loops) > 1 or any(loop[1:] != (1, 1) for loop in map(tuple, loops))


def _is_whole(kind: Kind) -> bool:
    """Whether so many bytes of a type and shape are just those of a source."""
    spec, stored, length, size = kind
    d = DTYPES[spec[0]]
    return spec[0] == stored and d.block == 1 and d.bits % 8 == 0 and 0 < spec.nbytes == length == size


def _ascend(runs: Runs) -> bool:
    """Whether each tensor begins where the one before has ended, or later, in its file or another."""
    ends = map(add, runs.offsets, runs.lengths)
    if runs.files[0] == runs.files[-1] and len(set(runs.files)) == 1:
        return all(map(int.__le__, ends, islice(runs.offsets, 1, None)))
    places = zip(runs.files, ends, strict=True)
    return all(f < g or (f == g and end <= at) for (f, end), g, at in zip(places, runs.files[1:], runs.offsets[1:], strict=False))


def borders(runs: Runs) -> list[int]:
    """Where tensors are no neighbours of those before them: another file, or bytes further on, or of elsewhere in the source."""
    ends, stops = map(add, runs.offsets, runs.lengths), map(add, runs.starts, runs.lengths)
    both = zip(ends, islice(runs.offsets, 1, None), stops, islice(runs.starts, 1, None), strict=False)
    apart = [i for i, (end, at, stop, start) in enumerate(both, 1) if at - end > APART or not 0 <= start - stop <= APART]
    if len(set(runs.files)) > 1 or len(set(runs.sources)) > 1:
        other = zip(runs.files, runs.files[1:], runs.sources, runs.sources[1:], strict=False)
        apart = sorted({*apart, *(i for i, (f, g, p, q) in enumerate(other, 1) if f != g or p != q)})
    return apart


def gathered(runs: Runs, apart: Sequence[int]) -> list[Copies]:
    """All of `runs`, none of which is large, in jobs of at most CHUNK bytes on both sides."""
    ends, stops = list(map(add, runs.offsets, runs.lengths)), list(map(add, runs.starts, runs.lengths))
    first = {file: i for i, file in reversed([*enumerate(runs.files)])} if runs.files[0] != runs.files[-1] else {runs.files[0]: 0}
    out, i = [], 0
    for last in [*apart, len(ends)]:
        while i < last:
            j = bisect_right(ends, runs.offsets[i] + CHUNK, i, last)
            j = bisect_right(stops, runs.starts[i] + CHUNK, i, j)
            names, offsets, lengths, starts = runs.names[i:j], runs.offsets[i:j], runs.lengths[i:j], runs.starts[i:j]
            file, length, source = runs.files[i], ends[j - 1] - offsets[0], runs.sources[i]
            out.append(Copies(file, offsets[0], length, names, offsets, lengths, source, starts, i - first[file]))
            i = j
    return out


def joined(runs: Runs) -> list[tuple[str, int, int, int, str, int]]:
    """(name of the first, file, offset, bytes, source, start) of what lies one after another on both sides."""
    ends, stops = map(add, runs.offsets, runs.lengths), map(add, runs.starts, runs.lengths)
    rest = zip(islice(runs.offsets, 1, None), islice(runs.starts, 1, None), runs.files, runs.files[1:], runs.sources, runs.sources[1:],
               strict=False)  # fmt: skip
    cuts = [i for i, (end, stop, (at, start, f, g, p, q)) in enumerate(zip(ends, stops, rest, strict=False), 1)
            if end != at or stop != start or f != g or p != q]  # fmt: skip
    first = [0, *cuts]
    until = [runs.offsets[i - 1] + runs.lengths[i - 1] for i in [*cuts, len(runs.offsets)]]
    return [(runs.names[i], runs.files[i], runs.offsets[i], end - runs.offsets[i], runs.sources[i], runs.starts[i])
            for i, end in zip(first, until, strict=True)]  # fmt: skip
