"""The bytes of one unit, made in memory by the engine's own worker, and what is to be told of them.

Policy: the unit's own memory is what its sources are read into wherever they are copied as they lie; what comes of stores comes a little
ahead of the jobs that read it, and is let go with them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager

from .. import store
from .._typing import NamedTuple
from ..containers import Part
from ..engine.buffers import Buffer
from ..engine.copies import runs_of
from ..engine.jobs import Raw, jobs_of
from ..engine.output import write_parts
from ..engine.settings import Settings
from ..engine.sources import Unpacker, flats
from ..engine.spans import spans_of
from ..engine.worker import Worker
from ..limits import using
from ..plan.values import Plan
from ..store.files import InMemory
from ..support.files import checksum

MEMORY = 32 << 20  # bytes of a window that is turned round
AHEAD = 8 << 20  # bytes of stores that are on their way or wait; of a small unit less
PATH = "unit"


class Made(NamedTuple):
    """A unit's bytes: checksums and lost values by tensor, and how much was read."""

    data: memoryview
    crcs: dict[str, int]
    lost: dict[str, int]
    read: int


class Memory:
    """Memory of units that are over, for those that follow: pages cost far more the first time than ever after. What is longer than the
    others (`usual` bytes) is let go, and what waits for another unit before such a one is made."""

    def __init__(self, usual: int) -> None:
        self._usual = usual
        self._free: list[Buffer] = []

    @contextmanager
    def lent(self, size: int) -> Iterator[memoryview]:
        """`size` bytes, of whatever was there before, until the end of the block."""
        if size > self._usual:
            self._free.clear()
            yield Buffer().get(size)[:size]
            return
        try:
            buffer = self._free.pop()
        except IndexError:
            buffer = Buffer()
        yield buffer.get(self._usual)[:size]
        self._free.append(buffer)


def made(part: Plan, data: memoryview, *, clip: bool = False, sums: bool = True) -> Made:
    """Carry out the plan of a unit (`units.part_of`) into memory, `data`, whatever that holds."""
    limits = dict(pair for s in part.sources if s.encoded is not None for pair in s.encoded.limits)
    with using(**limits), closing(Unpacker()) as unpacker:
        _clear_gaps(part, data)
        kind = part.layout.checksum if sums else None
        sources, dtypes = flats(part.sources), tuple(s.dtype for s in part.sources)
        settings = Settings(
            (PATH,), sources, dtypes, checksum(kind) if kind else None, kind is not None, None, clip, [False], None, False, unpacker
        )
        with closing(InMemory(PATH, data, lambda _: part.target)) as files:
            worker = Worker(settings, files)
            jobs = sorted(jobs_of(part, sources, MEMORY, kind is not None, runs_of(part)), key=lambda j: j.offset)
            remote = any(store.is_url(path) for path, _, _ in part.inputs)
            if remote:
                files.expect([spans_of(job, sources, dtypes) for job in jobs], min(AHEAD, len(data) // 4))
            for k, job in enumerate(jobs):
                files.turn(k, forwards=isinstance(job, Raw))
                worker.do(job)
            worker.finish()
            known: list[Part] = sorted(part.layout.parts, key=lambda p: p.offset)
            write_parts(files, (PATH,), known)
        crcs = {t.name: worker.crcs.get(t.name, 0) for t in part.tasks} if kind is not None else {}
        return Made(data, crcs, worker.lost, files.fetched if remote else worker.bytes_read)


def _clear_gaps(part: Plan, data: memoryview) -> None:
    """Zeros where no tensor lies: what lies between them must not depend on what was there before."""
    end = 0
    for t in sorted(part.tasks, key=lambda t: t.slot.offset):
        if t.slot.offset > end:
            data[end : t.slot.offset] = bytes(t.slot.offset - end)
        end = max(end, t.slot.offset + t.slot.length)
    data[end:] = bytes(len(data) - end)
