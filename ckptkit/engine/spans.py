"""Which bytes of stores a job reads, and which of them it writes as they are: known before it is done, so that they come together."""

from __future__ import annotations

from .._typing import TYPE_CHECKING
from ..schema.loops import reach
from ..support.urls import is_url
from ..tensors import DTYPES
from .copies import Copies
from .jobs import Batch, Job, Made, Raw, runs
from .sources import Flat

if TYPE_CHECKING:
    from ..store.coming import Span


def spans_of(job: Job, sources: tuple[Flat, ...], dtypes: tuple[str, ...]) -> dict[str, list[Span]]:
    """Address -> (from, to, where the target has what is at 0: None where it is not copied) of every run of an object that `job` reads.
    Files, and what is unpacked, are not told."""
    if isinstance(job, Copies):
        runs = zip(job.starts, job.lengths, job.offsets, strict=True)
        return {job.source: [(at, at + n, to - at) for at, n, to in runs]} if is_url(job.source) else {}
    out: dict[str, list[Span]] = {}
    for item in job.items if isinstance(job, Batch) else (job,):
        to = item.offset
        for path, at, n in _runs(item, sources, dtypes):
            if is_url(path) and n:
                out.setdefault(path, []).append((at, at + n, to - at if isinstance(item, Raw) else None))
            to += n
    return out


def _runs(item: Raw | Made, sources: tuple[Flat, ...], dtypes: tuple[str, ...]) -> list[tuple[str, int, int]]:
    if isinstance(item, Raw) or item.runs:
        return list(item.runs)
    out: list[tuple[str, int, int]] = []
    for segment in item.segments:
        for nest in segment.nests:
            if nest.source < 0:
                continue
            source = sources[nest.source]
            if source.packed is not None:
                out += [(e.path, e.offset, e.length) for _, _, extents in source.packed.parts for e in extents]
            elif source.extents:
                bits = DTYPES[dtypes[nest.source]].bits
                low = nest.source_offset + sum(min(0, (n - 1) * s) for n, s, _ in nest.loops)
                high = low + reach(nest.loops, 1)
                start = low * bits // 8
                out += runs(source, start, -(-high * bits // 8) - start)
    return out
