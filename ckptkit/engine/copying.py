"""The bytes of neighbouring small tensors from one read into the memory that one write takes, and their checksums."""

from __future__ import annotations

from itertools import accumulate
from operator import add, ne

from .._typing import TYPE_CHECKING
from ..errors import CheckpointError
from ..support.columns import scatter
from ..support.files import Checksum
from .buffers import Buffer
from .copies import Copies
from .settings import Written

if TYPE_CHECKING:
    from ..store.files import Files



BEHIND = 1 << 20  # bytes that may stand behind the last tensor of a job


def fetch(job: Copies, files: Files, spare: Buffer, memory: memoryview) -> int:
    """Fill `memory`, which is the job's part of its file, zeros between the tensors; the bytes that were read."""
    start, size, filled = job.starts[0], job.starts[-1] + job.lengths[-1] - job.starts[0], sum(job.lengths)
    if filled == job.length == size:
        files.read(job.source, start, memory)
        return size
    if filled < job.length:
        memory[:] = bytes(job.length)  # what lies between must not depend on what was here before
    held = spare.get(size)[:size]
    files.read(job.source, start, held)
    scatter(memory, job.offset, job.offsets, held, start, job.starts, job.lengths)
    return size


def put_behind(job: Copies, memory: memoryview, contents: list[bytes]) -> int:
    """Put what stands behind each tensor in its place in `memory`, which begins with the job's part of its file; how far that then goes.
    Raises CheckpointError where it does not fit between them."""
    ends, sizes = list(map(add, job.offsets, job.lengths)), list(map(len, contents))
    if len(sizes) != len(ends) or any(map(ne, map(add, ends, sizes[:-1]), job.offsets[1:])):
        raise CheckpointError(f"{job.names[0]!r}: what stands behind it and others was laid out otherwise: a mistake of the container")
    size = job.length + sizes[-1]
    starts = list(accumulate(sizes, initial=0))[:-1]
    scatter(memory[:size], job.offset, ends, memoryview(b"".join(contents)), 0, starts, sizes)
    return size


def sums_of(job: Copies, memory: memoryview, step: Checksum) -> list[int]:
    """The checksum of each tensor's bytes."""
    base = job.offset
    return [step(memory[at - base : end - base], 0) for at, end in zip(job.offsets, map(add, job.offsets, job.lengths), strict=True)]


def written(job: Copies, memory: memoryview, step: Checksum, sums: list[int]) -> list[Written]:
    """What is to be read back: all that was written at once, or, where headers will come to lie between the tensors, each of them, with
    `sums` where they are known."""
    if sum(job.lengths) == job.length:
        return [(job.file, job.offset, job.length, step(memory, 0), job.names[0])]
    places = zip(job.offsets, job.lengths, sums or sums_of(job, memory, step), job.names, strict=True)
    return [(job.file, at, n, crc, name) for at, n, crc, name in places]
