"""The bytes of objects that a series of jobs is known to need: requests for them go out in the order of the jobs, some ahead of them.

Policy: nothing is fetched that no job asks for but small gaps, and no byte twice: what a later job needs too is kept until then. Long runs
that a target in memory gets as they are come to their place at once. What is on its way or waits elsewhere is bounded; a job that needs
more at once than is held ahead of it may, up to a larger bound, beyond which what was read to its end is let go, and fetched again if it is
asked for again.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from operator import attrgetter

from .._typing import TYPE_CHECKING, Any
from ..errors import CheckpointError

if TYPE_CHECKING:
    from concurrent.futures import Future

GAP = 64 << 10  # bytes between two runs up to which they are one request
PART = 4 << 20  # bytes of a request
LONG = 1 << 20  # bytes of a run from which on it comes to its place at once
HELD = 4  # times what is fetched ahead that a job may hold
Span = tuple[int, int, int | None]  # (from, to, where the target has what is at 0, if it has it as it is)
Spans = Mapping[str, Sequence[Span]]  # of each run, by the object's address


class Request:
    """Bytes [start, stop) of an object, for the jobs from the `first` to the `last`."""

    __slots__ = ("begun", "data", "first", "future", "last", "path", "place", "start", "stop", "used")

    def __init__(self, path: str, start: int, stop: int, place: int | None, jobs: int) -> None:
        self.path, self.start, self.stop, self.first, self.last = path, start, stop, jobs, -1
        self.place = place  # where in the target, if it comes there at once
        self.future: Future[None] | None = None
        self.data = memoryview(b"")
        self.begun = self.used = False  # whether it was asked for at all, whether it was read to its end

    def __len__(self) -> int:
        return self.stop - self.start


class Coming:
    """The requests of `jobs`, each of which tells the runs that it reads of objects; `ahead` bytes of them come before they are asked
    for. `target` is the memory that is written, if it is some."""

    def __init__(self, blobs: Mapping[str, Any], jobs: Sequence[Spans], ahead: int, target: memoryview | None = None) -> None:
        self._blobs, self._ahead, self._target = blobs, max(ahead, PART), target
        paths = dict.fromkeys(p for spans in jobs for p in spans)
        self._of = {path: _requests(path, jobs, direct=target is not None) for path in paths}
        self._starts = {path: [r.start for r in found] for path, found in self._of.items()}
        self._order = sorted((r for found in self._of.values() for r in found), key=lambda r: (r.first, r.start))
        self._next, self._turn, self._forwards = 0, 0, False
        self._here: list[Request] = []  # on their way, or waiting
        self._spare: list[bytearray] = []
        self.total = 0  # bytes that were asked for
        self._go_on()

    def turn(self, job: int, *, forwards: bool) -> None:
        """The jobs before this one are done; whether it reads each byte once, in their order."""
        self._turn, self._forwards = job, forwards
        for r in [r for r in self._here if r.last < job]:
            self._drop(r)
        self._go_on()

    def read(self, path: str, at: int, into: memoryview) -> bool:
        """Fill `into`; False where that is not what a job was to ask for."""
        requests, done = self._of.get(path, []), 0
        k = bisect_right(self._starts.get(path, ()), at) - 1
        if k < 0 or not _covered(requests, k, at, at + len(into)):
            return False
        while done < len(into):
            r = requests[k]
            data = self._bytes(r)
            skip = at + done - r.start
            n = min(len(r) - skip, len(into) - done)
            into[done : done + n] = data[skip : skip + n]  # onto itself, where it came to its place
            done += n
            if skip + n == len(r):
                r.used = True
                if self._forwards and r.last <= self._turn:
                    self._drop(r)
                    self._go_on()
            k += 1
        return True

    def _bytes(self, r: Request) -> memoryview:
        if r.future is None:
            for old in [x for x in self._here if x.used]:
                if sum(map(len, self._here)) + len(r) <= HELD * self._ahead:
                    break
                self._drop(old)
            self._begin(r)
        assert r.future is not None
        r.future.result()
        return r.data

    def _begin(self, r: Request) -> None:
        if r.place is not None and self._target is not None:
            r.data = self._target[r.place : r.place + len(r)]
        else:
            large = 2 * len(r) > PART  # whose memory is used again
            r.data = memoryview(self._spare.pop() if self._spare and large else bytearray(PART if large else len(r)))[: len(r)]
        r.begun, r.used = True, False
        r.future = self._blobs[r.path].fill(r.start, r.data)
        self._here.append(r)
        self.total += len(r)

    def _go_on(self) -> None:
        """Ask for what comes next, as long as not too much is held."""
        held = sum(map(_weight, self._here))
        while self._next < len(self._order):
            r = self._order[self._next]
            if not r.begun and r.last >= self._turn:
                if held + _weight(r) > self._ahead:
                    return
                self._begin(r)
                held += _weight(r)
            self._next += 1

    def _drop(self, r: Request) -> None:
        self._here.remove(r)
        memory = r.data.obj
        if r.place is None and r.future is not None and r.future.done() and isinstance(memory, bytearray) and len(memory) == PART:
            self._spare.append(memory)
        r.future, r.data = None, memoryview(b"")

    def close(self) -> None:
        """Wait for what is on its way: nothing is written to memory after this."""
        self._next = len(self._order)
        for r in self._here:
            if r.future is not None and not r.future.cancel():
                try:
                    r.future.result()
                except CheckpointError:
                    continue
        self._here.clear()


def _weight(r: Request) -> int:
    """Bytes that a request counts: half where they take no memory but that of the target."""
    return len(r) if r.place is None else len(r) // 2


def _covered(requests: Sequence[Request], k: int, at: int, end: int) -> bool:
    """Whether the requests from the k-th on have all of [at, end)."""
    while at < end:
        if k == len(requests) or not requests[k].start <= at < requests[k].stop:
            return False
        at, k = requests[k].stop, k + 1
    return True


def _requests(path: str, jobs: Sequence[Spans], *, direct: bool) -> list[Request]:
    """The requests for an object, in its order: runs that touch or nearly do are fetched together."""
    wanted = sorted((a, b, k, to) for k, spans in enumerate(jobs) for a, b, to in spans.get(path, ()))
    out: list[Request] = []
    for start, stop, to in _merged([(a, b, to if direct else None) for a, b, _, to in wanted]):
        for a in range(start, stop, PART):
            out.append(Request(path, a, min(a + PART, stop), None if to is None else a + to, len(jobs)))
    for a, b, job, _ in wanted:
        k = bisect_right(out, a, key=attrgetter("start")) - 1
        while k < len(out) and out[k].start < b:
            out[k].first, out[k].last = min(out[k].first, job), max(out[k].last, job)
            k += 1
    return out


def _merged(runs: Sequence[Span]) -> list[Span]:
    """The runs, which are in order, as some that do not touch but where what follows goes elsewhere: long ones that go to one place as
    they are, and others with small gaps."""
    exact: list[Span] = []
    for a, b, to in runs:
        if exact and (a < exact[-1][1] or (a == exact[-1][1] and to == exact[-1][2])):
            last = exact[-1]
            exact[-1] = last[0], max(last[1], b), to if to == last[2] else None
        else:
            exact.append((a, b, to))
    out: list[Span] = []
    for a, b, to in exact:
        to = to if b - a >= LONG else None
        if out and to is None and out[-1][2] is None and a - out[-1][1] <= GAP:
            out[-1] = out[-1][0], b, None
        else:
            out.append((a, b, to))
    return out
