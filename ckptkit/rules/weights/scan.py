"""Every value read once: checksums held against the bytes, and what the values of each tensor are (NaN, zero, constant, largest).

Policy: one pass over the files in pieces of 2 MiB, on two threads, whatever the checkpoint's size. Magnitudes are compared
as integers, which order as the floats do: the largest signed integer of a piece is its largest positive value, the largest
unsigned one its largest negative one, and both tell NaN and infinity. So a piece costs two reductions and no conversion.
"""

from __future__ import annotations

import os
import threading
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterator, Sequence

from ..._typing import TYPE_CHECKING, Any, NamedTuple
from ...containers import Checkpoint
from ...errors import CorruptError
from ...findings import Finding
from ...support.arrays import numpy_dtype
from ...support.files import LINE, checksum, in_line, memory
from ...support.threads import on_threads
from ...tensors import DTYPES, Check, Extent, StoredTensor
from .signs import Signs, Tracker

if TYPE_CHECKING:
    from numpy.typing import NDArray

PIECE = 2 << 20  # bytes read at once: with smaller pieces two threads wait for each other between calls
PART = 16 << 20  # bytes of a tensor without checksum that one thread takes
DETAIL = 1 << 16  # elements up to which a tensor's mean is taken

# dtype -> (bytes, bits of infinity or of the first NaN, whether those bits are infinity)
_FORMS = {
    "F64": (8, 0x7FF << 52, True), "F32": (4, 0x7F800000, True), "F16": (2, 0x7C00, True), "BF16": (2, 0x7F80, True),
    "F8_E5M2": (1, 0x7C, True), "F8_E4M3": (1, 0x7F, False),
}  # fmt: skip


class Values(NamedTuple):
    """What the elements of one stored tensor are. `first` is the place of the first NaN or infinity, in stored order."""

    size: int
    nan: int
    inf: int
    first: int | None
    largest: float  # of the finite magnitudes
    constant: bool
    value: float  # the first element
    mean: float | None  # of small tensors, without NaN and infinities
    negative: float | None  # the share of negative elements, of small tensors
    signs: Signs

    @property
    def zero(self) -> bool:
        return self.size > 0 and self.largest == 0 and not self.nan and not self.inf


class Scan(NamedTuple):
    """The outcome of `survey`: error findings of checksums that do not hold, and the values by stored name."""

    damaged: list[Finding]
    values: dict[str, Values]


class _Tally:
    """The running state of one tensor in one job."""

    __slots__ = ("constant", "count", "first", "head", "inf", "mean", "nan", "negative", "top", "tracker")

    def __init__(self, tensor: StoredTensor) -> None:
        self.tracker = Tracker(tensor.spec.dtype, tensor.spec.shape if tensor.strides is None else (), tensor.spec.numel)
        self.count = self.nan = self.inf = self.top = 0
        self.first: int | None = None
        self.head: int | None = None
        self.constant = True
        self.mean: float | None = None
        self.negative: float | None = None

    def add(self, other: _Tally) -> None:
        """Take in what another job found of the same tensor."""
        self.count += other.count
        self.nan += other.nan
        self.inf += other.inf
        self.top = max(self.top, other.top)
        self.first = other.first if self.first is None else self.first if other.first is None else min(self.first, other.first)
        self.constant = self.constant and other.constant and (self.head is None or self.head == other.head)
        self.head = other.head if self.head is None else self.head
        self.tracker.add(other.tracker)


class _Run(NamedTuple):
    """Bytes to read: of a tensor from element `start` on, or of none (what lies between tensors under one checksum)."""

    extent: Extent
    tensor: StoredTensor | None
    start: int


class _Job(NamedTuple):
    check: Check | None
    runs: list[_Run]

    @property
    def size(self) -> int:
        return sum(r.extent.length for r in self.runs)


def scannable(tensor: StoredTensor) -> bool:
    """Whether a tensor is of a floating type whose values can be told by their bits."""
    return tensor.spec.dtype in _FORMS and tensor.spec.numel > 0


def survey(checkpoint: Checkpoint, names: Collection[str], *, checks: bool = True, jobs: int | None = None) -> Scan:
    """Hold all checksums of a checkpoint against its bytes and take the values of the tensors `names`, in one reading.

    `jobs` is how many threads (default: the processors, at most 4). Imports numpy if there are names.
    """
    tensors = [t for n in names if scannable(t := checkpoint.tensors[n])]
    todo, odd = _plan(tensors, list(checkpoint.checks()) if checks else [])
    todo.sort(key=lambda j: -j.size)
    found: list[tuple[int, Finding]] = []
    tallies: dict[str, _Tally] = {}
    lock, local = threading.Lock(), threading.local()

    def do(numbered: tuple[int, _Job]) -> None:
        buffer = getattr(local, "buffer", None)
        if buffer is None:
            buffer = local.buffer = memory(PIECE + LINE)
        number, job = numbered
        mine, finding = _do(checkpoint, job, buffer)
        with lock:
            if finding is not None:
                found.append((number, finding))
            for name, tally in mine.items():
                tallies.setdefault(name, _Tally(checkpoint.tensors[name])).add(tally)
                if tally.mean is not None:
                    tallies[name].mean, tallies[name].negative = tally.mean, tally.negative

    for path in checkpoint.files:
        checkpoint.fd(path)  # opened before the threads ask for them
    for path in {r.extent.path for j in todo for r in j.runs}:
        checkpoint.fd(path)
    on_threads(do, enumerate(todo), jobs)
    for t in odd:
        tallies[t.name] = _of_array(checkpoint, t)
    order = {c.where: i for i, c in enumerate(checkpoint.checks())} if found else {}
    findings = [f for _, f in sorted(found, key=lambda x: order.get(x[1].where, 0))]
    return Scan(findings, {t.name: _values(t, tallies[t.name]) for t in tensors if t.name in tallies})


def damaged(check: Check, got: int | None) -> Finding:
    """The finding of a checksum that does not hold; `got` is None where the file ends before its bytes do."""
    where = check.extents[0] if check.extents else None
    place = f" (bytes {where.offset} to {where.offset + where.length} of {os.path.basename(where.path)})" if where else ""
    said = "ends too early" if got is None else f"{check.kind} is {got:08x}, the file says {check.expected:08x}"
    return Finding("error", "checksum", check.where, f"damaged: {said}{place}", "download or copy it again")


def _plan(tensors: Sequence[StoredTensor], checks: Sequence[Check]) -> tuple[list[_Job], list[StoredTensor]]:
    """Jobs that read every byte once, where tensors and checksums allow; and the tensors that only an array can show."""
    places: dict[str, list[_Run]] = {}
    odd = []
    alias: dict[tuple[str, int, int, str], str] = {}
    for t in tensors:
        size = _FORMS[t.spec.dtype][0]
        few = t.read is None and isinstance(t.extents, tuple)  # a tensor in pieces may have very many runs
        if not few or sum(e.length for e in t.extents) != t.spec.nbytes or any(e.length % size for e in t.extents):
            odd.append(t)
            continue
        at = 0
        for e in t.extents:
            if e.length and alias.setdefault((e.path, e.offset, e.length, t.name), t.name) == t.name:
                places.setdefault(e.path, []).append(_Run(e, t, at))
            at += e.length // size
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
                    runs.append(_Run(Extent(e.path, at, offset - at), None, 0))
                runs.append(r)
                taken.add(id(r))
                at = offset + length
            if end > at:
                runs.append(_Run(Extent(e.path, at, end - at), None, 0))
        jobs.append(_Job(check, runs))
    return [*jobs, *_loose([r for runs in places.values() for r in runs if id(r) not in taken])], odd


def _loose(runs: Sequence[_Run]) -> Iterator[_Job]:
    """Runs under no checksum in jobs of about PART bytes: large ones cut, small ones together."""
    group: list[_Run] = []
    size = 0
    for r in runs:
        assert r.tensor is not None
        path, offset, length = r.extent
        item = _FORMS[r.tensor.spec.dtype][0]
        while length:
            n = min(length, PART)
            group.append(_Run(Extent(path, offset, n), r.tensor, r.start + (offset - r.extent.offset) // item))
            size += n
            offset, length = offset + n, length - n
            if size >= PART:
                yield _Job(None, group)
                group, size = [], 0
    if group:
        yield _Job(None, group)


def _do(checkpoint: Checkpoint, job: _Job, buffer: memoryview) -> tuple[dict[str, _Tally], Finding | None]:
    """Read the runs of one job; the tallies of the tensors met, and a finding if the checksum does not hold."""
    step: Callable[[memoryview, int], int] | None = checksum(job.check.kind) if job.check is not None else None
    crc = 0
    tallies: dict[str, _Tally] = {}
    for extent, tensor, start in job.runs:
        fd, at, end = checkpoint.fd(extent.path), extent.offset, extent.offset + extent.length
        tally = tallies.setdefault(tensor.name, _Tally(tensor)) if tensor is not None else None
        while at < end:
            piece = in_line(buffer, at)[: min(PIECE, end - at)]
            have = os.preadv(fd, [piece], at)
            while 0 < have < len(piece):
                more = os.preadv(fd, [piece[have:]], at + have)
                if not more:
                    break
                have += more
            if have < len(piece):
                if job.check is not None:
                    return {}, damaged(job.check, None)
                raise CorruptError(f"ends at byte {at + have:,}, {end - at - have:,} short", path=extent.path)
            if step is not None:
                crc = step(piece, crc)
            if tally is not None and tensor is not None:
                size = _FORMS[tensor.spec.dtype][0]
                _take(tally, piece, tensor.spec.dtype, start + (at - extent.offset) // size)
                if tensor.spec.numel <= DETAIL and tensor.spec.nbytes == len(piece):
                    _detail(tally, piece, tensor)
            at += len(piece)
    if job.check is not None and crc != job.check.expected:
        return {}, damaged(job.check, crc)
    return tallies, None


def _take(tally: _Tally, piece: memoryview, dtype: str, start: int) -> None:
    """Take in the elements of one piece; `start` is the place of its first in the tensor."""
    import numpy as np

    size, limit, _ = _FORMS[dtype]
    signed = np.frombuffer(piece, f"<i{size}")
    unsigned: NDArray[Any] = signed.view(f"<u{size}")
    sign = 1 << (8 * size - 1)
    high, low = int(signed.max()), int(unsigned.max())
    top = max(high, low - sign, 0)
    if tally.head is None:
        tally.head = int(unsigned[0])
    if tally.constant:
        head = np.uint64(tally.head).astype(unsigned.dtype)
        tally.constant = bool(unsigned[-1] == head and unsigned[len(unsigned) // 2] == head and (unsigned == head).all())
    if top >= limit:
        top = _bad(tally, unsigned, dtype, start)
    tally.top = max(tally.top, top)
    tally.count += len(signed)
    tally.tracker.take(unsigned, start)


def _bad(tally: _Tally, unsigned: NDArray[Any], dtype: str, start: int) -> int:
    """Count what is no number; the bits of the largest magnitude that is one."""
    import numpy as np

    size, limit, infinite = _FORMS[dtype]
    magnitude = unsigned & unsigned.dtype.type((1 << (8 * size - 1)) - 1)
    bad = magnitude >= limit
    inf = int(np.count_nonzero(magnitude == limit)) if infinite else 0
    tally.inf += inf
    tally.nan += int(np.count_nonzero(bad)) - inf
    if tally.first is None:
        tally.first = start + int(bad.argmax())
    fine = magnitude[~bad]
    return int(fine.max()) if len(fine) else 0


def _detail(tally: _Tally, piece: memoryview, tensor: StoredTensor) -> None:
    import numpy as np

    x = np.frombuffer(piece, numpy_dtype(tensor.spec.dtype)).astype(np.float64)
    x = x[np.isfinite(x)]
    if len(x):
        tally.mean, tally.negative = float(x.mean()), float((x < 0).mean())


def _of_array(checkpoint: Checkpoint, tensor: StoredTensor) -> _Tally:
    tally = _Tally(tensor)
    size, at = _FORMS[tensor.spec.dtype][0], 0
    for raw in _pieces(checkpoint, tensor):
        _take(tally, raw, tensor.spec.dtype, at // size)
        if at == 0 and tensor.spec.numel <= DETAIL:
            _detail(tally, raw, tensor)
        at += len(raw)
    return tally


def _pieces(checkpoint: Checkpoint, tensor: StoredTensor) -> Iterator[memoryview]:
    """The row-major bytes of a tensor, at most PIECE at once."""
    if not tensor.boxes:
        raw = memoryview(checkpoint.array(tensor.name).tobytes())
        yield from (raw[at : at + PIECE] for at in range(0, len(raw), PIECE))
        return
    held = bytearray()
    for e in tensor.extents:
        for at in range(0, e.length, PIECE):
            held += checkpoint.read_extent(Extent(e.path, e.offset + at, min(PIECE, e.length - at)))
            if len(held) >= PIECE:
                yield memoryview(held)[:PIECE]
                held = held[PIECE:]
    if held:
        yield memoryview(held)


def _values(tensor: StoredTensor, t: _Tally) -> Values:
    return Values(
        t.count,
        t.nan,
        t.inf,
        t.first,
        _float(t.top, tensor.spec.dtype),
        t.constant,
        _float(t.head or 0, tensor.spec.dtype),
        t.mean,
        t.negative,
        t.tracker.signs(),
    )


def _float(bits: int, dtype: str) -> float:
    """The number that the bits of one element mean."""
    import numpy as np

    return float(np.frombuffer(bits.to_bytes(DTYPES[dtype].bits // 8, "little"), numpy_dtype(dtype))[0])
