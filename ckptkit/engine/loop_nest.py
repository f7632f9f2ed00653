"""Element movement: loop nests from source files into a window of the target, in bounded memory.

Policy: a target tensor is made window by window in its own order, so checksums run along and nothing is written twice.
A window is 1 MiB where the source is met in the target's order; for transpositions it is the whole block that is
transposed, or as many of its rows as the memory bound allows, and the source is then read once for each window.
The source passes through a 1 MiB buffer in its own order (whole spans, or row by row where the gaps are large) and is
scattered into the window in slabs of 128 rows, so that both sides stay in the cache. Rows are put an odd number of cache
lines apart: at the distance they have in a tensor of 1024 columns they would all fall into the same few sets, and
transposing is then up to seven times slower. Numpy only scatters; plain runs are read straight into the window without it.
"""

from __future__ import annotations

import sys
from math import prod

from .._typing import Any, Literal, NamedTuple
from ..errors import CheckpointError, CorruptError
from ..plan.values import Piece
from ..schema.adjust import CURVES, curved
from ..schema.loops import cut, reach
from ..store.files import Files
from ..support.files import CHUNK
from ..support.kernels import kernels
from ..tensors import DTYPES
from .buffers import Buffer
from .casts import fill_value
from .sources import Flat, Reader, Unpacker

SLAB = 128  # rows of a transposition moved at once: with a line each they fill a quarter of a first-level cache
LINE = 64  # bytes of a cache line
SPREAD = 1024  # bytes: shorter rows need not be put apart
GAP = 12 << 10  # bytes: a wider gap is cheaper skipped with a read of its own than read
TURNED = 8  # elements along either side from which a transposition is worth a call
OUTER = 1 << 12  # calls of one nest
FEW = 1 << 10  # slices of one nest that are moved without numpy
RUN = 1 << 9  # bytes of a slice from which on it is worth a call by itself
BRIEF = 32  # bytes of a run from which on a compiled loop takes it
_FORMATS: dict[int, Literal["B", "H", "I", "Q"]] = {1: "B", 2: "H", 4: "I", 8: "Q"}  # of a memoryview
_UNSIGNED = {1: "u1", 2: "<u2", 4: "<u4", 8: "<u8", 16: "<c16"}

Loops = tuple[tuple[int, int, int], ...]  # (size, source stride, target stride)


class Nest(NamedTuple):
    """A piece made regular: target strides positive and falling from the outermost loop to the innermost."""

    source: int
    loops: Loops
    source_offset: int
    target_offset: int
    span: int  # target elements from the first to the last
    op: str
    value: float
    scale: float = 1.0


class Segment(NamedTuple):
    """A run [start, stop) of target elements that these nests, and no others, write; done in windows of `step`."""

    start: int
    stop: int
    step: int
    nests: tuple[Nest, ...]


def nest(piece: Piece, name: str) -> Nest | None:
    """The piece with its loops in the target's order; None if it moves nothing."""
    loops, so, to = [], piece.source_offset, piece.target_offset
    for n, s, t in piece.loops:
        if n == 1:
            continue
        if n <= 0:
            return None
        if t < 0:
            so, to, s, t = so + (n - 1) * s, to + (n - 1) * t, -s, -t
        if t == 0:
            raise CheckpointError(f"{name!r}: the plan writes an element {n} times")
        loops.append((n, s, t))
    ordered = tuple(sorted(loops, key=lambda x: -x[2]))
    return Nest(piece.source, ordered, so, to, reach(ordered, 2), piece.op, piece.value, piece.scale)


def check_nest(x: Nest, name: str, source: Flat | None, bits: int, numel: int) -> None:
    """Hold a nest against the sizes of both sides, so that what follows cannot leave them."""
    if x.target_offset < 0 or x.target_offset + x.span > numel:
        raise CheckpointError(f"{name!r}: the plan writes outside of the tensor's {numel:,} elements")
    if source is None:
        return
    low = x.source_offset + sum(min(0, (n - 1) * s) for n, s, _ in x.loops)
    high = low + reach(x.loops, 1)
    if low < 0 or high * bits > source.nbytes * 8:
        have = source.nbytes * 8 // bits
        path = source.extents[0].path if source.extents else None
        raise CorruptError(f"{source.name!r} has {have:,} elements; {name!r} needs those from {low:,} to {high:,}", path=path)


def segments(nests: list[Nest], itemsize: int, cap: int) -> list[Segment]:
    """Cut a tensor where no nest reaches across, and choose each cut's window: `cap` is the most bytes of one."""
    out: list[tuple[int, int, list[Nest]]] = []
    order = sorted(range(len(nests)), key=lambda i: nests[i].target_offset)
    for i in order:
        x = nests[i]
        if out and x.target_offset < out[-1][1]:
            start, stop, group = out[-1]
            out[-1] = (start, max(stop, x.target_offset + x.span), [*group, x])
        else:
            out.append((x.target_offset, x.target_offset + x.span, [x]))
    place = {id(x): i for i, x in enumerate(nests)}  # within a segment the plan's order counts: adds come after copies
    return [
        Segment(a, b, min(b - a, max(step_of(x, itemsize, cap) for x in g)), tuple(sorted(g, key=lambda x: place[id(x)])))
        for a, b, g in out
    ]


def step_of(x: Nest, itemsize: int, cap: int) -> int:
    """Elements of a good window for a nest: see the module's docstring."""
    small = max(1, min(CHUNK, cap) // itemsize)
    loops = x.loops
    if x.op == "fill":
        return small
    inner = len(loops)  # how many outer loops keep the source's order: only what is inside them is turned round
    for k in range(len(loops)):
        if abs(loops[k][1]) < reach(loops[k + 1 :], 1):
            inner = k
            break
    if inner == len(loops):
        return small
    block = loops[inner - 1][2] if inner else x.span
    most = max(1, cap // itemsize)
    if block <= most:
        return max(block, small // block * block)
    unit = loops[inner][2]
    return most // unit * unit if unit <= most else most


class Mover:
    """Puts nests into a window of memory; one to a worker, with its read buffer."""

    def __init__(self, files: Files, sources: tuple[Flat, ...], dtypes: tuple[str, ...], unpacker: Unpacker | None = None) -> None:
        self._files, self._sources, self._dtypes = files, sources, dtypes
        self.reader = Reader(files, unpacker)
        self._read = Buffer()
        self._views: tuple[memoryview, int, int, list[memoryview]] = (memoryview(b""), 0, 0, [])
        self.bytes_read = 0

    def place(self, x: Nest, low: int, high: int, window: memoryview, work: str, target: str) -> None:
        """Do the part of a nest that falls into target elements low..high; `window` holds those, as type `work`."""
        size = DTYPES[work].bits // 8
        if x.op == "fill":
            from ..support.arrays import numpy_dtype

            value = fill_value(x.value, target, work)
            for loops, _, to in cut(x.loops, 0, x.target_offset, low, high):
                self._view(window, loops, 2, to - low, numpy_dtype(work))[...] = value
            return
        dtype = self._dtypes[x.source]
        plain = x.op == "copy" and dtype == work
        source = self._sources[x.source]
        for loops, so, to in cut(x.loops, x.source_offset, x.target_offset, low, high):
            if plain and (not loops or (len(loops) == 1 and loops[0][1] == loops[0][2] == 1)):
                n = (loops[0][0] if loops else 1) * size
                at = (to - low) * size
                self.reader.read(source, so * size, window[at : at + n])
                self.bytes_read += n
                continue
            job = _Pull(source, window, low, dtype, work, x.op, DTYPES[dtype].bits // 8, x.scale, x.value)
            self._pull(job, tuple(sorted(loops, key=lambda v: -abs(v[1]))), so, to)

    def _pull(self, job: _Pull, loops: Loops, so: int, to: int) -> None:
        """Read what a nest (loops in the source's order) needs, in pieces that fit the read buffer, and scatter it."""
        size = job.size
        limit = CHUNK // size
        span = reach(loops, 1)
        if not loops:
            self._span(job, loops, so, to, 1)
            return
        n, s, t = loops[0]
        rest = loops[1:]
        inner = reach(rest, 1)
        gap = abs(s) - inner
        if inner * size > 2 * GAP and n > SLAB // 2 and len(rest) == 1 and abs(rest[0][1]) == 1 and t < rest[0][2]:
            (columns, one, step), block = rest[0], CHUNK // SLAB // size  # rows too wide for a slab of them: part of each
            for i in range(0, columns, block):
                self._pull(job, ((n, s, t), (min(block, columns - i), one, step)), so + i * one, to + i * step)
        elif span <= limit and gap * size <= GAP:
            self._span(job, loops, so, to, span)
        elif inner > limit:
            for i in range(n):
                self._pull(job, rest, so + i * s, to + i * t)
        elif gap * size > GAP:
            self._rows(job, loops, so, to, inner, max(1, limit // inner))
        else:
            m = 1 + (limit - inner) // abs(s)
            if m > SLAB:
                m -= m % SLAB
            for i in range(0, n, m):
                k = min(m, n - i)
                self._span(job, ((k, s, t), *rest), so + i * s, to + i * t, inner + (k - 1) * abs(s))

    def _span(self, job: _Pull, loops: Loops, so: int, to: int, span: int) -> None:
        """One read of all that lies between the first and the last element."""
        size = job.size
        if len(loops) > 1 and loops[0][0] > 1 and abs(loops[0][1]) * size >= SPREAD and loops[0][2] == min(v[2] for v in loops):
            self._rows(job, loops, so, to, reach(loops[1:], 1), max(1, CHUNK // size // abs(loops[0][1])))
            return
        low = so + sum(min(0, (n - 1) * s) for n, s, _ in loops)
        buffer = self._read.get(CHUNK)
        self.reader.read(job.source, low * size, buffer[: span * size])
        self.bytes_read += span * size
        self._scatter(job, buffer, loops, so - low, to)

    def _rows(self, job: _Pull, loops: Loops, so: int, to: int, inner: int, m: int) -> None:
        """Read each iteration of the outer loop as a row of its own, `m` in the buffer at once.

        Rows that follow closely come with one call, the gaps between them read as well.
        """
        n, s, t = loops[0]
        rest = loops[1:]
        down = sum(min(0, (k - 1) * v) for k, v, _ in rest)
        size = job.size
        near = len(job.source.extents) == 1 and s > 0 and 0 <= (s - inner) * size <= GAP
        row = (s if near else inner) * size
        apart = -(-row // (LINE * 2)) * LINE * 2 + LINE if row >= SPREAD else row
        apart -= apart % size  # what numpy steps by
        m = min(m, 1024)  # IOV_MAX
        buffer = self._read.get(apart * min(m, n))
        views = self._rows_of(buffer, apart, row, min(m, n))
        source, files = job.source, self._files
        for i in range(0, n, m):
            k = min(m, n - i)
            at = (so + i * s + down) * size
            if near:
                path, offset, _ = source.extents[0]
                files.read_all(path, offset + at, [*views[: k - 1], views[k - 1][: inner * size]])
            elif len(source.extents) == 1:
                path, offset, _ = source.extents[0]
                files.read_apart(path, offset + at, s * size, views[:k])
            else:
                for j in range(k):
                    self.reader.read(source, at + j * s * size, views[j])
            self.bytes_read += k * row
            self._scatter(job, buffer, ((k, apart // size, t), *rest), -down, to + i * t)

    def _rows_of(self, buffer: memoryview, apart: int, row: int, n: int) -> list[memoryview]:
        """`n` rows of the read buffer, kept from one window to the next."""
        of, a, r, views = self._views
        if of is not buffer or a != apart or r != row or len(views) < n:
            views = [buffer[j * apart : j * apart + row] for j in range(n)]
            self._views = buffer, apart, row, views
        return views

    def _scatter(self, job: _Pull, buffer: memoryview, loops: Loops, origin: int, to: int) -> None:
        """window[target] = buffer[source] for a nest, in slabs along the target's innermost loop if the source's is another."""
        plain = job.op == "copy" and job.dtype == job.work
        if plain and any(way(job, buffer, loops, origin, to - job.low) for way in (_turn, _by_runs, _stepped)):
            return
        import numpy as np

        if plain:
            a = b = np.dtype(_UNSIGNED[job.size])
        else:
            from ..support.arrays import numpy_dtype

            a, b = numpy_dtype(job.dtype), numpy_dtype(job.work)
        src = self._view(buffer, loops, 1, origin, a)
        dst = self._view(job.window, loops, 2, to - job.low, b)
        if loops:
            fast = min(range(len(loops)), key=lambda i: loops[i][2])
            n = loops[fast][0]
            if n > SLAB * 3 // 2 and abs(loops[fast][1]) > min(abs(v[1]) for v in loops):
                before = (slice(None),) * fast
                for i in range(0, n, SLAB):
                    part = (*before, slice(i, i + SLAB))
                    self._move(job, dst[part], src[part])
                return
        self._move(job, dst, src)

    @staticmethod
    def _move(job: _Pull, dst: Any, src: Any) -> None:
        import numpy as np

        with np.errstate(all="ignore"):
            if job.op == "add":
                np.add(dst, src.astype(dst.dtype), out=dst)
            elif job.op == "affine":
                np.copyto(dst, src.astype(np.float64) * job.scale + job.value, casting="unsafe")
            elif job.op in CURVES:
                np.copyto(dst, curved(src.astype(np.float64), job.op), casting="unsafe")
            else:
                np.copyto(dst, src, casting="unsafe")

    @staticmethod
    def _view(memory: memoryview, loops: Loops, side: int, origin: int, dtype: Any) -> Any:
        """The elements of a nest on one side as an array over `memory`; numpy checks that it stays inside."""
        import numpy as np

        size = dtype.itemsize
        shape, strides = tuple(v[0] for v in loops), tuple(v[side] * size for v in loops)
        return np.ndarray(shape, dtype, memory, origin * size, strides)


def _turn(job: _Pull, buffer: memoryview, loops: Loops, origin: int, to: int) -> bool:
    """Move a nest by a compiled loop, if it is a transposition: one loop runs along the source's elements, another along the target's."""
    native = kernels() if len(loops) >= 2 and job.size <= 8 else None
    if native is None or any(s < 0 or t < 0 for _, s, t in loops):
        return False
    along = next((v for v in loops if v[1] == 1 and v[0] >= TURNED), None)
    down = next((v for v in loops if v[2] == 1 and v[0] >= TURNED), None)
    others = [v for v in loops if v is not along and v is not down]
    times = prod(n for n, _, _ in others)
    if along is None or down is None or along is down or times > OUTER:
        return False
    (columns, _, by), (rows, step, _) = along, down
    for i in range(times):
        at, place = origin, to
        for n, s, t in others:
            i, k = divmod(i, n)
            at, place = at + k * s, place + k * t
        native.turn(buffer, job.window, job.size, rows, columns, (at, step), (place, by))
    return True


def _by_runs(job: _Pull, buffer: memoryview, loops: Loops, origin: int, to: int) -> bool:
    """Move a nest by a compiled loop, if its elements lie in runs that both sides have."""
    native = kernels()
    run = next((v for v in loops if v[1] == v[2] == 1 and v[0] * job.size >= BRIEF), None)
    if native is None or run is None or any(s < 0 or t < 0 for _, s, t in loops):
        return False
    others = [v for v in loops if v is not run]
    most = max(others, key=lambda v: v[0], default=(1, 0, 0))
    others = [v for v in others if v is not most]
    times = prod(n for n, _, _ in others)
    if times > OUTER:
        return False
    size = job.size
    for i in range(times):
        at, place = origin, to
        for n, s, t in others:
            i, k = divmod(i, n)
            at, place = at + k * s, place + k * t
        native.runs(buffer, job.window, run[0] * size, most[0], (at * size, most[1] * size), (place * size, most[2] * size))
    return True


def _stepped(job: _Pull, buffer: memoryview, loops: Loops, origin: int, to: int) -> bool:
    """Move a nest by slices of memory, if they are few and numpy is not there yet: importing it takes longer. Slices that are no runs of
    bytes go element by element, so that there must be few of those too."""
    if "numpy" in sys.modules or job.size not in _FORMATS or any(s <= 0 for _, s, _ in loops):
        return False
    run = next((v for v in loops if v[1] == v[2] == 1 and v[0] * job.size >= RUN), None)
    count, step, by = inner = run or max(loops, default=(1, 1, 1))
    others = [v for v in loops if v is not inner]
    times = prod(n for n, _, _ in others)
    if times > FEW or (run is None and times * count > FEW * 64):
        return False
    form = _FORMATS[job.size]
    source, target = (m[: len(m) // job.size * job.size].cast(form) for m in (buffer, job.window))
    for i in range(times):
        at, place = origin, to
        for n, s, t in others:
            i, k = divmod(i, n)
            at, place = at + k * s, place + k * t
        target[place : place + (count - 1) * by + 1 : by] = source[at : at + (count - 1) * step + 1 : step]
    return True


class _Pull(NamedTuple):
    """What stays the same while one nest is read."""

    source: Flat
    window: memoryview
    low: int
    dtype: str
    work: str
    op: str
    size: int
    scale: float = 1.0
    value: float = 0.0
