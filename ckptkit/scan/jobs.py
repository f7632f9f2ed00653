"""What a pass over the weights reads, and in which jobs: every byte once, where tensors and checksums allow."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Iterator, Sequence

from .._typing import NamedTuple
from ..tensors import DTYPES, Check, Extent, StoredTensor

PIECE = 2 << 20  # bytes read at once: with smaller pieces two threads wait for each other between calls
PART = 16 << 20  # bytes of a tensor without checksum that one thread takes
SAMPLE = 64 << 10  # bytes of each of the runs that a sample is made of


class Run(NamedTuple):
    """Bytes to read: of a tensor from element `start` on, or of none (what lies between tensors under one checksum)."""

    extent: Extent
    tensor: StoredTensor | None
    start: int


class Job(NamedTuple):
    check: Check | None
    runs: list[Run]

    @property
    def size(self) -> int:
        return sum(r.extent.length for r in self.runs)


def item_size(tensor: StoredTensor) -> int:
    """Bytes of an element of a type of whole bytes."""
    return DTYPES[tensor.spec.dtype].bits // 8


def lies_in_runs(tensor: StoredTensor) -> bool:
    """Whether the bytes of a tensor are, each once, those of a few extents, none of which cuts an element."""
    if tensor.read is not None or not isinstance(tensor.extents, tuple) or DTYPES[tensor.spec.dtype].bits % 8:
        return False  # a tensor in pieces may have very many runs
    size = item_size(tensor)
    if sum(e.length for e in tensor.extents) != tensor.spec.nbytes or any(e.length % size for e in tensor.extents):
        return False
    return tensor.strides is None or _dense(tensor)


def _dense(tensor: StoredTensor) -> bool:
    """Whether the strides of a view are those of a turned array without gaps."""
    step = 1
    for stride, n in sorted(zip(tensor.strides or (), tensor.spec.shape, strict=True)):
        if n > 1 and stride != step:
            return False
        step *= n if n > 1 else 1
    return True


def plan(tensors: Sequence[StoredTensor], checks: Sequence[Check], whole: Collection[str]) -> list[Job]:
    """Jobs that read tensors that lie in runs, and all that checksums are of. Those named in `whole` are read in order by one job each."""
    places: dict[str, list[Run]] = {}
    for t in tensors:
        at = 0
        for e in t.extents:
            if e.length:
                places.setdefault(e.path, []).append(Run(e, t, at))
            at += e.length // item_size(t)
    for runs in places.values():
        runs.sort(key=lambda r: r.extent.offset)
    starts = {p: [r.extent.offset for r in runs] for p, runs in places.items()}
    taken: set[int] = set()
    jobs = []
    for check in checks:
        runs = []
        for e in check.extents:
            at, end = e.offset, e.offset + e.length
            here = places.get(e.path, [])
            for r in here[bisect_left(starts.get(e.path, []), at) :]:
                offset, length = r.extent.offset, r.extent.length
                if offset >= end:
                    break
                if offset < at or offset + length > end or id(r) in taken:
                    continue  # it overlaps another: read by itself
                if offset > at:
                    runs.append(Run(Extent(e.path, at, offset - at), None, 0))
                runs.append(r)
                taken.add(id(r))
                at = offset + length
            if end > at:
                runs.append(Run(Extent(e.path, at, end - at), None, 0))
        jobs.append(Job(check, runs))
    return [*jobs, *_loose([r for runs in places.values() for r in runs if id(r) not in taken], whole)]


def _loose(runs: Sequence[Run], whole: Collection[str]) -> Iterator[Job]:
    """Runs under no checksum in jobs of about PART bytes: large ones cut, small ones together."""
    group: list[Run] = []
    size = 0
    for r in runs:
        assert r.tensor is not None
        path, offset, length = r.extent
        item = item_size(r.tensor)
        part = length if r.tensor.name in whole else PART
        while length:
            n = min(length, part)
            group.append(Run(Extent(path, offset, n), r.tensor, r.start + (offset - r.extent.offset) // item))
            size += n
            offset, length = offset + n, length - n
            if size >= PART:
                yield Job(None, group)
                group, size = [], 0
    if group:
        yield Job(None, group)


def sampled(tensors: Sequence[StoredTensor], share: float) -> list[Job]:
    """Jobs that read about this share of each large tensor, in runs of 64 KiB that lie evenly over it; small tensors whole."""
    out = []
    for t in tensors:
        start = 0
        runs = []
        for e in t.extents:
            n = max(1, round(e.length * share / SAMPLE))
            step = e.length // n // item_size(t) * item_size(t)
            if n * SAMPLE >= e.length or step <= SAMPLE:
                runs.append(Run(e, t, start))
            else:
                for at in range(0, n * step, step):
                    runs.append(Run(Extent(e.path, e.offset + at, SAMPLE), t, start + at // item_size(t)))
            start += e.length // item_size(t)
        out.append(Job(None, runs))
    return out
