"""From a Plan to jobs: what is copied, what is gathered, what is re-laid.

Policy: tasks are looked at once and checked against the sizes on both sides before any byte moves, and become few jobs:
long plain runs (copied in the kernel where no checksum is wanted), batches of neighbouring small tensors (one write
each), and tensors made window by window.
"""

from __future__ import annotations

import gc
from functools import partial
from itertools import pairwise
from operator import itemgetter

from .._typing import NamedTuple, cast
from ..errors import CheckpointError, UnsupportedError
from ..packing import Quantizer, by_name
from ..plan.values import ADJUSTING, Encode, Plan, Task
from ..support.files import CHUNK
from ..tensors import DTYPES, TensorSpec
from .casts import check_cast, work_dtype
from .copies import APART, SMALL, Copies, Runs, borders, gathered, joined
from .coverage import check_covers
from .loop_nest import Nest, Segment, check_nest, nest, segments
from .sources import Flat

WINDOW = 16 << 20  # bytes of a window that is turned round, unless the tensor is so large that it would be read too often
TILE = 1 << 18  # elements of a weight that are encoded at once
RUN = 8 << 10  # bytes: shorter runs are not worth a write each
LONG = 32 << 20  # a plain run is cut into jobs of this many bytes when nothing runs along it

Run = tuple[str, int, int]  # (path, offset, bytes)


class Raw(NamedTuple):
    """A tensor (or, joined, several) whose bytes are copied as they are."""

    name: str
    file: int
    offset: int
    length: int
    runs: tuple[Run, ...]


class Made(NamedTuple):
    """A tensor that is put together by loop nests in type `work`, and cast."""

    name: str
    file: int
    offset: int
    length: int
    work: str
    dtype: str
    segments: tuple[Segment, ...]
    runs: tuple[Run, ...] = ()  # instead of segments, for a small tensor that is only cast: where its `work` bytes lie
    strip: int = 0  # for a large transposition: how many source rows to turn at a time instead of windows
    encode: Encode | None = None  # what is put together is a weight of which this is a part


class Batch(NamedTuple):
    """Small neighbouring tensors [offset, offset + length) of one file, written at once."""

    file: int
    offset: int
    length: int
    items: tuple[Raw | Made, ...]


Job = Raw | Made | Batch | Copies


def classify(task: Task, plan: Plan, sources: tuple[Flat, ...], budget: int) -> Raw | Made | None:
    """What kind of work a task is, all of it checked against the sizes on both sides; None if it has no bytes."""
    name, (file, offset, length), dtype, shape, pieces, _ = task
    bits = DTYPES[dtype].bits
    numel = 1
    for d in shape:
        numel *= d
    if task.encode is not None:
        return _encoded(task, plan, sources, budget)
    if DTYPES[dtype].block > 1:
        return _blocks(task, plan, sources, numel)
    if numel * bits != length * 8:
        raise CheckpointError(f"{name!r}: the plan gives {length:,} bytes to {numel:,} elements of {dtype}")
    if not 0 <= file < len(plan.layout.files) or offset < 0:
        raise CheckpointError(f"{name!r}: the plan puts it in no file")
    if not numel:
        return None
    if len(pieces) == 1:  # most tensors of most plans: one run, nothing else to look at
        index, loops, so, to, op, *_ = pieces[0]
        n = 1 if not loops else loops[0][0] if len(loops) == 1 and loops[0][1] == loops[0][2] == 1 else -1
        if n == numel and op == "copy" and not to and 0 <= index < len(sources) and so >= 0 and sources[index].extents:
            stored = plan.sources[index].dtype
            s = sources[index]
            width = DTYPES[stored].bits // 8
            at, size = so * width, n * width
            if width and at + size <= s.nbytes and (stored == dtype or length <= SMALL):
                if len(s.extents) == 1:
                    path, start, _ = s.extents[0]
                    where: tuple[Run, ...] = ((path, start + at, size),)
                else:
                    where = tuple(runs(s, at, size))
                if stored == dtype:
                    return Raw(name, file, offset, length, where)
                check_cast(stored, dtype, name)
                return Made(name, file, offset, length, stored, dtype, (), where)
    return _general(task, plan, sources, numel, bits, budget)


def _encoded(task: Task, plan: Plan, sources: tuple[Flat, ...], budget: int) -> Made | None:
    """A part of a packed weight: the weight is put together in float32 by rows, some at a time, and encoded."""
    name, (file, offset, length), dtype, shape, _, encode = task
    assert encode is not None
    if TensorSpec(dtype, shape).nbytes != length:
        raise CheckpointError(f"{name!r}: the plan gives {length:,} bytes to {dtype} {list(shape)}")
    columns = encode.shape[-1]
    plain = TensorSpec("F32", encode.shape)
    if not plain.numel:
        return None
    whole = task._replace(slot=task.slot._replace(length=plain.nbytes), dtype="F32", shape=encode.shape, encode=None)
    made = _general(whole, plan, sources, plain.numel, 32, budget, raw=False)
    assert isinstance(made, Made)
    together = quantizer_of(encode).rows_together(encode.settings)
    rows = max(1, TILE // max(1, columns) // together) * together
    nests = tuple(n for s in made.segments for n in s.nests)
    segment = Segment(0, plain.numel, min(plain.numel, rows * columns), nests)
    return Made(name, file, offset, length, "F32", dtype, (segment,), encode=encode)


def quantizer_of(encode: Encode) -> Quantizer:
    """The packing that encodes."""
    return cast(Quantizer, by_name(encode.packing))


def _blocks(task: Task, plan: Plan, sources: tuple[Flat, ...], numel: int) -> Raw | None:
    """A tensor of blocks of codes, which is only copied as a whole: its elements have no bytes of their own."""
    name, (file, offset, length), dtype, shape, pieces, _ = task
    piece = pieces[0] if len(pieces) == 1 else None
    if piece is None or piece.op != "copy" or piece.source_offset or piece.target_offset or not 0 <= piece.source < len(sources):
        raise UnsupportedError(f"{name!r}: {dtype} blocks are only copied as a whole", hint="--dequantize")
    source, nest_ = sources[piece.source], nest(piece, name)
    whole = numel if nest_ is None or not nest_.loops else nest_.loops[0][0] if nest_.loops[0][1:] == (1, 1) else -1
    if plan.sources[piece.source].dtype != dtype or whole != numel or source.nbytes != length or length != TensorSpec(dtype, shape).nbytes:
        raise UnsupportedError(f"{name!r}: {dtype} blocks are only copied as a whole", hint="--dequantize")
    if not 0 <= file < len(plan.layout.files) or offset < 0:
        raise CheckpointError(f"{name!r}: the plan puts it in no file")
    return Raw(name, file, offset, length, tuple(runs(source, 0, length))) if length else None


def _general(task: Task, plan: Plan, sources: tuple[Flat, ...], numel: int, bits: int, budget: int, *, raw: bool = True) -> Raw | Made:
    name, (file, offset, length), dtype, _, pieces, _ = task
    nests: list[Nest] = []
    used: set[str] = set()
    stored = True
    count = 0
    for p in pieces:
        if p.op not in ("copy", "add", "fill", *ADJUSTING) or not (p.op == "fill" or 0 <= p.source < len(sources)):
            raise CheckpointError(f"{name!r}: the plan has a step {p.op!r} of source {p.source}, which there is not")
        x = nest(p, name)
        if x is None:
            continue
        if p.op == "fill":
            check_nest(x, name, None, 0, numel)
        else:
            source = plan.sources[p.source].dtype
            check_cast(source, dtype, name)
            check_nest(x, name, sources[p.source], DTYPES[source].bits, numel)
            used.add(source)
            stored = stored and bool(sources[p.source].extents)
        if p.op == "add" and dtype == "BOOL":
            raise UnsupportedError(f"{name!r}: booleans are not added")
        if p.op in ADJUSTING and DTYPES[dtype].kind != "float":
            raise UnsupportedError(f"{name!r}: {dtype} elements are only copied, not adjusted")
        elements = 1
        for n, _, _ in x.loops:
            elements *= n
        count += elements if p.op != "add" else 0
        nests.append(x)
    if count != numel:
        raise CheckpointError(f"{name!r}: the plan writes {count:,} of its {numel:,} elements")
    check_covers(nests, name, numel)
    if raw and stored and used == {dtype} and all(x.op == "copy" and _plain(x) for x in nests):
        out: list[Run] = []
        for x in sorted(nests, key=lambda x: x.target_offset):
            if (x.source_offset * bits) % 8 or (x.span * bits) % 8:
                break
            out += runs(sources[x.source], x.source_offset * bits // 8, x.span * bits // 8)
        else:
            return Raw(name, file, offset, length, tuple(out))
    if bits < 8 or DTYPES[dtype].numpy is None:
        raise UnsupportedError(f"{name!r}: {dtype} elements are only copied as they lie, not re-laid")
    adjusted = any(x.op in ADJUSTING for x in nests)  # in double precision, so that it is rounded once
    work = "F64" if adjusted else work_dtype(used, dtype, any(x.op != "copy" for x in nests))
    size = DTYPES[work].bits // 8
    cap = min(budget, max(WINDOW, numel * size // 8))
    strip = _strip(nests, size, numel, cap)
    return Made(name, file, offset, length, work, dtype, tuple(segments(nests, size, cap)), (), strip)


def _strip(nests: list[Nest], size: int, numel: int, cap: int) -> int:
    """Source rows to turn at a time if the tensor is one transposition larger than `cap` bytes and the runs get long enough."""
    if len(nests) != 1 or numel * size <= cap or nests[0].op != "copy" or len(nests[0].loops) != 2:
        return 0
    (rows, s, t), (columns, step, unit) = nests[0].loops
    if unit != 1 or t != columns or abs(step) < rows * abs(s):
        return 0
    strip = min(columns, cap // (rows * size))
    return strip if strip * size >= RUN else 0


def _plain(x: Nest) -> bool:
    return not x.loops or (len(x.loops) == 1 and x.loops[0][1] == x.loops[0][2] == 1)


def runs(source: Flat, at: int, length: int) -> list[Run]:
    """The file ranges of a source's bytes [at, at + length)."""
    out = []
    for e, start in zip(source.extents, source.starts, strict=True):
        low, high = max(at, start), min(at + length, start + e.length)
        if low < high:
            out.append((e.path, e.offset + low - start, high - low))
    return out


def jobs_of(plan: Plan, sources: tuple[Flat, ...], budget: int, by_slot: bool, runs: Runs | None = None) -> list[Job]:
    """The plan's tasks as jobs, large ones first so that no worker is left alone with one at the end. Where all are copied, `runs` are
    theirs, and the sources are not looked at."""
    if runs is not None:
        return _copied(runs, by_slot)
    collects = gc.isenabled()
    gc.disable()  # tens of thousands of tuples are made and none is dropped: looking through them costs as much as making them
    try:
        return _grouped([x for x in (classify(t, plan, sources, budget) for t in plan.tasks) if x is not None], by_slot)
    finally:
        if collects:
            gc.enable()


def _copied(runs: Runs, by_slot: bool) -> list[Job]:
    """The jobs that copy these."""
    if not by_slot:
        whole = joined(runs)
        if len(whole) < len(runs.names) // 2:
            return _grouped([Raw(name, file, at, n, ((path, start, n),)) for name, file, at, n, path, start in whole], by_slot)
    apart = borders(runs)
    if max(runs.lengths) <= SMALL and len(apart) <= len(runs.names) // 16:
        return [*gathered(runs, apart)]
    parts = zip(zip(runs.sources, runs.starts, runs.lengths, strict=True), strict=True)
    rows = zip(runs.names, runs.files, runs.offsets, runs.lengths, parts, strict=True)
    return _grouped(list(map(partial(tuple.__new__, Raw), rows)), by_slot)


def _grouped(items: list[Raw | Made], by_slot: bool) -> list[Job]:
    items.sort(key=itemgetter(1, 2))
    for last, x in pairwise(items):
        if x[1] == last[1] and x[2] < last[2] + last[3]:
            raise CheckpointError(f"{x.name!r}: the plan puts it over another tensor")
    if not by_slot and _joins(items):
        items = _join(items)
    out: list[Job] = []
    first, place, end = 0, (-1, 0), 0  # where the group begins, its file and offset, and where it ends
    for i, x in enumerate(items):
        file, offset, length = x[1], x[2], x[3]
        if length <= SMALL and file == place[0] and offset - end <= APART and offset + length - place[1] <= CHUNK:
            end = offset + length
            continue
        if place[0] >= 0:
            out.append(_batch(items[first:i]))
        if length > SMALL:
            out.append(x)
            first, place = i + 1, (-1, 0)
        else:
            first, place, end = i, (file, offset), offset + length
    if place[0] >= 0:
        out.append(_batch(items[first:]))
    out.sort(key=lambda j: -j.length if j.length > LONG // 4 else 0)
    return out


def _joins(items: list[Raw | Made]) -> bool:
    """Whether there is anything for `_join` to do: plain neighbours that lie one after another on both sides, or what is cut."""
    if not items or max(map(itemgetter(3), items)) > LONG or set(map(type, items)) != {Raw} or any(len(x[4]) != 1 for x in items):
        return True
    held = [x.runs[0] for x in items]
    pairs = zip(pairwise(items), pairwise(held), strict=True)
    return any(a[2] + a[3] == b[2] and a[1] == b[1] and r[1] + r[2] == s[1] for (a, b), (r, s) in pairs)


def ordered(todo: list[Job]) -> list[Job]:
    """The jobs with one that needs numpy first, and next those that do not: they run while numpy is imported."""
    made = [j for j in todo if isinstance(j, Made) or (isinstance(j, Batch) and any(isinstance(x, Made) for x in j.items))]
    if not made:
        return todo
    needs = set(map(id, made))
    return [made[0], *(j for j in todo if id(j) not in needs), *made[1:]]


def _batch(group: list[Raw | Made]) -> Batch:
    a, b = group[0], group[-1]
    return Batch(a.file, a.offset, b.offset + b.length - a.offset, tuple(group))


def _join(items: list[Raw | Made]) -> list[Raw | Made]:
    """Neighbouring plain runs as one, cut where they grow too long for one worker."""
    out: list[Raw | Made] = []
    name, file, offset, length = "", -1, 0, 0
    parts: list[Run] = []

    def flush() -> None:
        nonlocal length, parts
        if parts:
            out.append(Raw(name, file, offset, length, tuple(parts)))
        length, parts = 0, []

    for x in items:
        if isinstance(x, Made):
            flush()
            out.append(x)
            continue
        at = x.offset
        for path, o, n in x.runs:
            while n:
                if parts:
                    p, q, m = parts[-1]
                    if file == x.file and offset + length == at and p == path and q + m == o and length < LONG:
                        k = min(n, LONG - length)
                        parts[-1] = (p, q, m + k)
                        length, at, o, n = length + k, at + k, o + k, n - k
                        continue
                    flush()
                k = min(n, LONG)
                name, file, offset, length, parts = x.name, x.file, at, k, [(path, o, k)]
                at, o, n = at + k, o + k, n - k
    flush()
    return out
