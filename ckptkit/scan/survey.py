"""One pass over the weights, and all that is asked of it: checksums, the values that rules look at, statistics, digests.

Policy: one reading of the files in pieces of 2 MiB, on a few threads, in memory that does not grow with the checkpoint. Each thing that
is asked for takes in the same pieces. For the rules magnitudes are compared as integers, which order as the floats do: the largest
signed integer of a piece is its largest positive value, the largest unsigned one its largest negative one, and both tell NaN and
infinity. So a piece costs them two reductions and no conversion. What must be unpacked, and views with gaps, are read by themselves.
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Callable, Collection, Mapping, Sequence

from .._typing import TYPE_CHECKING, Any, NamedTuple, Protocol
from ..containers import Checkpoint
from ..errors import CorruptError
from ..findings import Finding
from ..limits import using
from ..support.arrays import numpy_dtype
from ..support.files import checksum
from ..support.kernels import kernels
from ..support.progress import Watch
from ..support.threads import on_threads
from ..tensors import DTYPES, Check, StoredTensor
from . import jobs as planned
from .chunks import chunks
from .damage import damaged
from .figures import Statistics
from .jobs import Job, item_size, lies_in_runs, plan, sampled
from .signs import Signs, Tracker
from .statistics import Running, has_statistics, mean_of, running
from .sums import Sums, together, wrong_ones
from .windows import SMALL, Window, reaches

if TYPE_CHECKING:
    from numpy.typing import NDArray


DETAIL = 1 << 16  # elements up to which a tensor's mean is taken

# dtype -> (bytes, bits of infinity or of the first NaN, whether those bits are infinity)
_FORMS = {
    "F64": (8, 0x7FF << 52, True), "F32": (4, 0x7F800000, True), "F16": (2, 0x7C00, True), "BF16": (2, 0x7F80, True),
    "F8_E5M2": (1, 0x7C, True), "F8_E4M3": (1, 0x7F, False),
}  # fmt: skip


class Hash(Protocol):
    """What takes bytes one after another: a hash."""

    def update(self, data: memoryview, /) -> object: ...


class Asked(NamedTuple):
    """What a pass is to give besides the values that rules look at. `digests` are given the bytes of the tensors they are named for, in
    order (of tensors that `is_in_order`). `share` below 1 is a sample: statistics alone, of about that share of each large tensor.
    `parts` are tensors that `statistics` may name though the checkpoint has them only as parts of others: the scales of packed weights."""

    statistics: Collection[str] = ()
    parts: Mapping[str, StoredTensor] = {}
    digests: Mapping[str, Hash] = {}
    share: float = 1.0
    progress: Callable[[int, int], object] | None = None
    cancelled: Callable[[], bool] | None = None
    jobs: int | None = None
    elsewhere: Callable[[Collection[str], Collection[str], Watch], Scan] | None = None  # (values, statistics of) which others look at


NOTHING_MORE = Asked()


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
    """The outcome of `survey`: error findings of checksums that do not hold, and by stored name the values and the statistics."""

    damaged: list[Finding]
    values: dict[str, Values]
    statistics: dict[str, Statistics]


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


def scannable(tensor: StoredTensor) -> bool:
    """Whether a tensor is of a floating type whose values can be told by their bits."""
    return tensor.spec.dtype in _FORMS and tensor.spec.numel > 0


def is_in_order(tensor: StoredTensor) -> bool:
    """Whether a pass meets the bytes of a tensor one after another, as its row-major form has them."""
    return lies_in_runs(tensor) and tensor.strides is None and len(tensor.extents) == 1


def survey(checkpoint: Checkpoint, names: Collection[str] = (), asked: Asked = NOTHING_MORE, *, checks: bool = True) -> Scan:
    """Hold all checksums of a checkpoint against its bytes, take the values of the tensors `names`, and what else is `asked`, in one
    reading. Imports numpy if there are tensors to look at. Raises CorruptError, CancelledError.
    """
    if asked.elsewhere is not None and asked.share >= 1 and not asked.digests:
        return _with_others(checkpoint, names, asked, asked.elsewhere, checks=checks)
    tensors = {**checkpoint.tensors, **asked.parts} if asked.parts else checkpoint.tensors
    values = dict.fromkeys(n for n in names if scannable(tensors[n])) if asked.share >= 1 else {}
    figures = dict.fromkeys(n for n in asked.statistics if has_statistics(tensors[n].spec.dtype))
    same = _once([*figures, *values], tensors)
    looked = [tensors[n] for n in dict.fromkeys([*values, *figures, *asked.digests]) if n in asked.digests or same.get(n, n) == n]
    in_runs = [t for t in looked if lies_in_runs(t)]
    if asked.share >= 1:
        held = list(checkpoint.checks()) if checks else []
        sums, held = together(held, planned.PIECE) if not in_runs else ([], held)
        todo = plan(in_runs, held, asked.digests.keys())
    else:
        sums, todo = [], sampled(in_runs, asked.share)
    every: list[Batch | Sums | StoredTensor] = [*batches(todo), *sums, *(t for t in looked if not lies_in_runs(t))]
    every.sort(key=lambda j: -(j.spec.nbytes if isinstance(j, StoredTensor) else j.size))
    watch = Watch(asked.progress, asked.cancelled)
    watch.total = sum(j.spec.nbytes if isinstance(j, StoredTensor) else j.size for j in every)
    expected: dict[str, int] = {}
    for job in todo:
        for r in job.runs:
            if r.tensor is not None:
                expected[r.tensor.name] = expected.get(r.tensor.name, 0) + r.extent.length // item_size(r.tensor)
    state = _Pass(checkpoint, values, figures, asked.digests, expected, watch)
    state.statistics = {n: running(tensors[n].spec, 0).result() for n in figures if not tensors[n].spec.numel}
    for path in {*checkpoint.files, *(r.extent.path for j in todo for r in j.runs), *(x.path for x in sums)}:
        checkpoint.blob(path)  # opened before the threads ask for them
    with using(**checkpoint.limits):
        on_threads(state.do, every, asked.jobs)
    order = {c.where: i for i, c in enumerate(checkpoint.checks())} if state.found else {}
    wrong = sorted(state.found, key=lambda x: order.get(x[0].where, 0))
    findings = damaged(wrong, checkpoint.tensors)
    found = {n: _values(tensors[n], state.tallies[m]) for n in values if (m := same.get(n, n)) in state.tallies}
    return Scan(findings, found, {n: state.statistics[m] for n in figures if (m := same.get(n, n)) in state.statistics})


def _with_others(
    checkpoint: Checkpoint, names: Collection[str], asked: Asked, elsewhere: Callable[..., Scan], *, checks: bool
) -> Scan:
    """`survey`, whose tensors others look at; the checksums are held here, and what is no tensor of the file."""
    apart = asked._replace(elsewhere=None, statistics=[n for n in asked.statistics if n in asked.parts])
    here = survey(checkpoint, [n for n in names if n in asked.parts], apart, checks=checks)
    wanted = ([n for n in some if n not in asked.parts] for some in (names, asked.statistics))
    there = elsewhere(*wanted, Watch(asked.progress, asked.cancelled))
    return Scan(here.damaged, {**there.values, **here.values}, {**there.statistics, **here.statistics})


def _once(names: Sequence[str], tensors: Mapping[str, StoredTensor]) -> dict[str, str]:
    """Of tensors that are the same bytes of the same file, the name of the first."""
    first: dict[object, str] = {}
    out = {}
    for n in names:
        t = tensors[n]
        if t.read is None and isinstance(t.extents, tuple) and not t.boxes:
            out[n] = first.setdefault((t.extents, t.spec, t.strides), n)
    return out


class Batch(NamedTuple):
    """Jobs that one thread does one after another: one of some size, or small ones that lie near each other."""

    jobs: list[Job]
    size: int  # bytes


def batches(todo: Sequence[Job]) -> list[Batch]:
    """Jobs as threads are to take them. Small ones go by where they lie, together up to a piece."""
    sizes = [j.size for j in todo]
    out = [Batch([j], n) for j, n in zip(todo, sizes, strict=True) if n > SMALL or not j.runs]
    small = [(j.runs[0].extent, i) for i, (j, n) in enumerate(zip(todo, sizes, strict=True)) if n <= SMALL and j.runs]
    group, size = [], 0
    for _, i in sorted(small):
        group.append(todo[i])
        size += sizes[i]
        if size >= planned.PIECE:
            out.append(Batch(group, size))
            group, size = [], 0
    return [*out, Batch(group, size)] if group else out


class _Pass:
    """What is known so far, and the work of one thread on one job."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        values: Mapping[str, None],
        figures: Mapping[str, None],
        digests: Mapping[str, Hash],
        expected: Mapping[str, int],
        watch: Watch,
    ) -> None:
        self.checkpoint, self.watch = checkpoint, watch
        self._wanted, self._figures, self._digests, self._expected = values, figures, digests, expected
        self.found: list[tuple[Check, int | None]] = []
        self.tallies: dict[str, _Tally] = {}
        self.statistics: dict[str, Statistics] = {}
        self._open: dict[str, Running] = {}  # of tensors that several jobs read
        self._lock, self._local = threading.Lock(), threading.local()

    def do(self, what: Batch | Sums | StoredTensor) -> None:
        if isinstance(what, StoredTensor):
            self._alone(what)
            return
        window = getattr(self._local, "window", None)
        if window is None:
            window = self._local.window = Window(planned.PIECE)
        if isinstance(what, Sums):
            self._sums(what, window)
            return
        ends = reaches([r.extent for job in what.jobs for r in job.runs])
        for job in what.jobs:
            took = _Taken({}, {}, {})
            wrong = self._read(job, window, ends[: len(job.runs)], took)
            del ends[: len(job.runs)]
            if wrong is None:
                self._keep(took)
                continue
            with self._lock:
                self.found.append(wrong)

    def _keep(self, took: _Taken) -> None:
        """Add what a job has found."""
        with self._lock:
            for name, tally in took.tallies.items():
                known = self.tallies.setdefault(name, tally)
                if known is not tally:  # another job has read another part of it
                    known.add(tally)
            self.statistics |= took.complete
            for name, part in took.running.items():
                if name in self._open:
                    self._open[name].add(part)
                else:
                    self._open[name] = part
                if self._open[name].count == self._expected[name]:
                    self.statistics[name] = self._open.pop(name).result()

    def _sums(self, job: Sums, window: Window) -> None:
        """Hold many small checksums against what one read gives."""
        found = wrong_ones(job, window.view(self.checkpoint.blob(job.path), job.start, job.size))
        with self._lock:
            self.found += found
        self.watch(job.size)

    def _read(self, job: Job, window: Window, ends: Sequence[int], took: _Taken) -> tuple[Check, int | None] | None:
        """Read the runs of one job; its checksum if that does not hold, and what it is (None where the file ends before)."""
        step: Callable[[memoryview, int], int] | None = checksum(job.check.kind) if job.check is not None else None
        crc = 0
        for (extent, tensor, start), reach in zip(job.runs, ends, strict=True):
            blob, at, end = self.checkpoint.blob(extent.path), extent.offset, extent.offset + extent.length
            tally, figures, digest = self._takers(tensor, took)
            while at < end:
                wanted = min(planned.PIECE, end - at)
                piece = window.view(blob, at, wanted, reach)
                if (have := len(piece)) < wanted:
                    if job.check is not None:
                        return job.check, None
                    raise CorruptError(f"ends at byte {at + have:,}, {end - at - have:,} short", path=extent.path)
                if step is not None:
                    crc = step(piece, crc)
                if tensor is not None:
                    first = start + (at - extent.offset) // item_size(tensor)
                    if tally is not None:
                        _take(tally, piece, tensor.spec.dtype, first)
                        if tensor.spec.numel <= DETAIL and tensor.spec.nbytes == len(piece):
                            _detail(tally, piece, tensor)
                    if figures is not None:
                        import numpy as np

                        figures.take(np.frombuffer(piece, numpy_dtype(tensor.spec.dtype)), first)
                    if digest is not None:
                        digest.update(piece)
                at += len(piece)
                self.watch(len(piece))
            if figures is not None and tensor is not None and figures.count == self._expected[tensor.name]:
                took.complete[tensor.name] = took.running.pop(tensor.name).result()
        return (job.check, crc) if job.check is not None and crc != job.check.expected else None

    def _takers(self, tensor: StoredTensor | None, took: _Taken) -> tuple[_Tally | None, Running | None, Hash | None]:
        """What takes in a tensor's pieces in a job."""
        if tensor is None:
            return None, None, None
        name = tensor.name
        tally = took.tallies.setdefault(name, _Tally(tensor)) if name in self._wanted else None
        figures = took.running.get(name)
        if figures is None and name in self._figures:
            figures = took.running[name] = running(tensor.spec, self._expected[name])
        return tally, figures, self._digests.get(name)

    def _alone(self, tensor: StoredTensor) -> None:
        """A tensor that lies in no runs."""
        tally = _Tally(tensor) if tensor.name in self._wanted else None
        figures = running(tensor.spec, tensor.spec.numel) if tensor.name in self._figures else None
        dtype, size, at = tensor.spec.dtype, item_size(tensor), 0
        for x, times in chunks(self.checkpoint, tensor, ordered=tally is not None):
            if tally is not None:
                raw, nan, inf = memoryview(x.view("u1").data), tally.nan, tally.inf
                _take(tally, raw, dtype, at)
                if at == 0 and len(x) == tensor.spec.numel <= DETAIL:
                    _detail(tally, raw, tensor)
                for name, more in (("count", len(x)), ("nan", tally.nan - nan), ("inf", tally.inf - inf)):
                    setattr(tally, name, getattr(tally, name) + (times - 1) * more)
            if figures is not None:
                figures.take(x, at, times)
            at += len(x)
            self.watch(len(x) * size * times)
        with self._lock:
            if tally is not None:
                self.tallies[tensor.name] = tally
            if figures is not None:
                self.statistics[tensor.name] = figures.result()


class _Taken(NamedTuple):
    """What one job has found: the tallies, what is known of tensors that it has not met the end of, and the figures of the others."""

    tallies: dict[str, _Tally]
    running: dict[str, Running]
    complete: dict[str, Statistics]


def _take(tally: _Tally, piece: memoryview, dtype: str, start: int) -> None:
    """Take in the elements of one piece; `start` is the place of its first in the tensor."""
    import numpy as np

    size, limit, _ = _FORMS[dtype]
    signed = np.frombuffer(piece, f"<i{size}")
    unsigned: NDArray[Any] = signed.view(f"<u{size}")
    sign = 1 << (8 * size - 1)
    native = kernels() if size in (2, 4) else None
    found: tuple[int, float] | None = None  # the bits that are set somewhere, the sum of squares
    if native is not None:
        high, low, bits, constant, squares = native.tally(piece, size)
        found = bits, squares
    else:
        high, low, constant = int(signed.max()), int(unsigned.max()), True
    top = max(high, low - sign, 0)
    if tally.head is None:
        tally.head = int(unsigned[0])
    if native is not None:
        tally.constant = tally.constant and constant and int(unsigned[0]) == tally.head
    elif tally.constant:
        head = np.uint64(tally.head).astype(unsigned.dtype)
        tally.constant = bool(unsigned[-1] == head and unsigned[len(unsigned) // 2] == head and (unsigned == head).all())
    if top >= limit:
        top = _bad(tally, unsigned, dtype, start)
    tally.top = max(tally.top, top)
    tally.count += len(signed)
    tally.tracker.take(unsigned, start, found)


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


_MEANS = {"F32": 0, "BF16": 1, "F16": 2}  # the types whose means are taken by a compiled loop, with what that calls them


def _detail(tally: _Tally, piece: memoryview, tensor: StoredTensor) -> None:
    native = kernels() if tensor.spec.dtype in _MEANS else None
    if native is not None:
        finite, total, negative = native.mean(piece, _MEANS[tensor.spec.dtype])
        if finite:
            tally.mean, tally.negative = total / finite, negative / finite
        return
    import numpy as np

    with np.errstate(invalid="ignore"):  # of NaNs that are not quiet
        x = np.frombuffer(piece, numpy_dtype(tensor.spec.dtype)).astype(np.float64)
    x = x[np.isfinite(x)]
    if len(x):
        tally.mean, tally.negative = mean_of(x), float((x < 0).mean())


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
    if dtype in ("F32", "BF16"):
        number: float = struct.unpack("<f", (bits << 16 if dtype == "BF16" else bits).to_bytes(4, "little"))[0]
        return number
    import numpy as np

    return float(np.frombuffer(bits.to_bytes(DTYPES[dtype].bits // 8, "little"), numpy_dtype(dtype))[0])
