"""The bytes of one unit, made in memory by the engine's own worker, and what is to be told of them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager

from .. import store
from .._typing import NamedTuple
from ..containers import Part
from ..engine.jobs import jobs_of, ordered
from ..engine.output import write_parts
from ..engine.sources import Unpacker, flats
from ..engine.worker import Settings, Worker
from ..limits import using
from ..plan.values import Plan
from ..store.files import Files
from ..support.files import checksum, preallocate

MEMORY = 64 << 20  # bytes of buffers besides the unit itself


class Made(NamedTuple):
    """A unit's bytes: checksums and lost values by tensor, and how much was read."""

    data: memoryview
    crcs: dict[str, int]
    lost: dict[str, int]
    read: int


@contextmanager
def made(part: Plan, *, clip: bool = False, sums: bool = True) -> Iterator[Made]:
    """Carry out the plan of a unit (`units.part_of`) into memory; the bytes are good inside the `with`."""
    import mmap

    size = part.layout.files[0][1]
    limits = dict(pair for s in part.sources if s.encoded is not None for pair in s.encoded.limits)
    with _memory() as (path, fd), using(**limits), closing(Unpacker()) as unpacker:
        preallocate(fd, size, part.target)
        kind = part.layout.checksum if sums else None
        sources = flats(part.sources)
        remote = any(store.is_url(p) for p, _, _ in part.inputs)
        settings = Settings(
            (path,), sources, tuple(s.dtype for s in part.sources), checksum(kind) if kind else None, kind is not None, None, clip,
            [False], None, False, unpacker, MEMORY // 2 if remote else 0,
        )  # fmt: skip
        worker = Worker(settings, Files(lambda _: part.target))
        files = Files(lambda _: part.target)
        try:
            for job in ordered(jobs_of(part, sources, MEMORY // 2, kind is not None)):
                worker.do(job)
            worker.finish()
            known: list[Part] = sorted(part.layout.parts, key=lambda p: p.offset)
            write_parts(files, (path,), known)
        finally:
            files.close()
            worker.close()
        crcs = {t.name: worker.crcs.get(t.name, 0) for t in part.tasks} if kind is not None else {}
        with mmap.mmap(fd, size, access=mmap.ACCESS_READ) as mapped, memoryview(mapped) as data:
            yield Made(data, crcs, worker.lost, worker.bytes_read)


@contextmanager
def _memory() -> Iterator[tuple[str, int]]:
    """(a path by which this process opens it again, the descriptor) of a file in memory where the system can, which is gone after."""
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create("ckptkit-unit", os.MFD_CLOEXEC)
        try:
            yield f"/proc/self/fd/{fd}", fd
        finally:
            os.close(fd)
        return
    from tempfile import NamedTemporaryFile

    with NamedTemporaryFile(prefix="ckptkit-unit-") as file:
        yield file.name, file.fileno()
