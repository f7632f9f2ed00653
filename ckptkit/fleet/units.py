"""Cutting a plan into units: each writes one contiguous range of one file of the target, which is one part of an object.

Policy: borders lie where tensors do, so that a tensor that is turned round is read once; only one that is much longer than a unit is cut,
where its elements allow it, with or without a checksum: those of pieces fold to that of the whole. One that is turned round is read once
for each of its pieces, so that it is cut only where it is twice as long as UNIT, however small the units are. What lies in the source as
it does in the target, and is not summed, costs nothing to be cut: it is, at each unit's end. A store that takes parts of one size only
(R2) has the borders that those give; a tensor that cannot be cut where one falls is made on both sides of it, and what belongs to the
other left out.
The same plan and size give the same units, whoever cuts. Bytes that hold checksums of tensors which other units make (the descriptor
behind a tensor that was cut, the directory of a zip) make their unit wait for those. All formats have such bytes behind the tensors, so no
two units wait for each other.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

from .._typing import TYPE_CHECKING, NamedTuple
from ..containers import FileLayout, Part, Slot, by_name
from ..errors import UnsupportedError
from ..plan.values import Plan, Source, Task, is_copy
from ..plan.values import cut as cut_piece
from ..tensors import DTYPES

if TYPE_CHECKING:
    from typing import TypeVar

    Laid = TypeVar("Laid", Task, Part)

UNIT = 64 << 20  # bytes of a unit
SMALL_UNIT = 16 << 20  # where threads of one process do them
LARGE_UNIT = 256 << 20  # of a target of which there would be too many
MANY = 5_000  # units from which on larger ones are better
MOST_PARTS = 9_000  # of one object; S3 takes 10,000
EVEN = 256  # bytes of which parts of one size are a multiple: so are all elements


class Unit(NamedTuple):
    """Bytes [start, stop) of a file of the layout, part `number` (from 1 on) of its object; `waits` are the names of the units whose
    checksums it holds."""

    file: int
    number: int
    start: int
    stop: int
    waits: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """What it is called."""
        return f"{self.file}-{self.number}"


class Places(NamedTuple):
    """What lies where in the files of a plan, by file and in order, each with where it begins: the tasks with bytes, the parts that are
    known before, those that hold checksums (all of them 0)."""

    tasks: dict[int, tuple[list[Task], list[int]]]
    heads: dict[int, tuple[list[Part], list[int]]]
    tails: dict[int, tuple[list[Part], list[int]]]


def places_of(plan: Plan) -> Places:
    """What lies where."""
    tasks: dict[int, list[Task]] = {}
    for t in plan.tasks:
        if t.slot.length:
            tasks.setdefault(t.slot.file, []).append(t)
    tails = finish(plan, dict.fromkeys((t.name for t in plan.tasks), 0)) if tasks else ()
    sorted_ = {f: sorted(held, key=lambda t: t.slot.offset) for f, held in tasks.items()}
    return Places({f: (held, [t.slot.offset for t in held]) for f, held in sorted_.items()}, _by_file(plan.layout.parts), _by_file(tails))


def _by_file(parts: Iterable[Part]) -> dict[int, tuple[list[Part], list[int]]]:
    out: dict[int, list[Part]] = {}
    for p in parts:
        if p.data:
            out.setdefault(p.file, []).append(p)
    sorted_ = {f: sorted(held, key=lambda p: p.offset) for f, held in out.items()}
    return {f: (held, [p.offset for p in held]) for f, held in sorted_.items()}


def within(unit: Unit, laid: Mapping[int, tuple[list[Laid], list[int]]]) -> list[Laid]:
    """Those of `laid` some of whose bytes are the unit's."""
    held, starts = laid.get(unit.file, ([], []))
    found = held[max(0, bisect_right(starts, unit.start) - 1) : bisect_left(starts, unit.stop)]
    return found[1:] if found and _end(found[0]) <= unit.start else found


def _end(x: Task | Part) -> int:
    return x.offset + len(x.data) if isinstance(x, Part) else x.slot.offset + x.slot.length


def finish(plan: Plan, crcs: Mapping[str, int]) -> Iterable[Part]:
    """The bytes of the plan's files that depend on checksums."""
    layout: FileLayout = plan.layout
    return by_name(layout.container).finish(layout, crcs)


def size_for(plan: Plan, least: int = UNIT) -> int:
    """Bytes of a unit: `least`, and for a large target as many more as keep the units few."""
    return max(least, min(LARGE_UNIT, sum(size for _, size in plan.layout.files if size > 0) // MANY >> 20 << 20))


def cut(plan: Plan, size: int = 0, least: int = 5 << 20, *, equal: bool = False) -> tuple[Unit, ...]:
    """The units of a plan, in the order of its files. `size` is the bytes of a unit (0: `size_for`), `least` those of a part that is not
    the last of its file; `equal`: all parts of a file but the last have one size.

    Files without tensors have none: they are written with the commit. Raises UnsupportedError for a format that cannot be cut.
    """
    places, out = places_of(plan), []
    for file, (tasks, _) in sorted(places.tasks.items()):
        whole = plan.layout.files[file][1]
        if whole < 0:
            raise UnsupportedError(f"{plan.layout.container} has files whose size is not known beforehand: not written in parts")
        step = max(size or size_for(plan), 2 * whole // MOST_PARTS, least)
        borders = _even(whole, step) if equal else _borders(plan, tasks, whole, step, least)
        end = tasks[-1].slot.offset + tasks[-1].slot.length
        after = [p.offset for p in places.tails.get(file, ([], []))[0] if p.offset >= end and not equal]
        if after and after[-1] - borders[-2] >= least and after[-1] > borders[-2]:  # what stands at the end depends on all of it
            borders.insert(-1, after[-1])
        out += [Unit(file, n + 1, a, b) for n, (a, b) in enumerate(pairwise(borders))]
    return tuple(_waiting(places, out, plan.layout))


def _even(whole: int, size: int) -> list[int]:
    """Borders of parts of one size."""
    return [*range(0, whole, -(-size // EVEN) * EVEN), whole]


def _borders(plan: Plan, tasks: Sequence[Task], whole: int, size: int, least: int) -> list[int]:
    """Where the parts of a file begin, and its end."""
    out = [0]
    for t in tasks:
        start, end = t.slot.offset, t.slot.offset + t.slot.length
        step, free = _step(t), _is_free(plan, t)
        piece = size if size < SMALL_UNIT or free or _is_straight(plan, t) else max(size, UNIT)
        if not free and end - out[-1] > size and start - out[-1] >= least and whole - start >= least:
            out.append(start)
        while step and end - out[-1] > (piece if free else 2 * piece) and whole - out[-1] - piece >= least:
            begin = out[-1] if free else max(start, out[-1])
            border = start + max(0, begin + piece - start) // step * step
            if border - out[-1] < least or border >= end:
                break
            out.append(border)
    return [*out, whole]


def _step(task: Task) -> int:
    """Bytes that must not be cut; 0 where the whole tensor must not be."""
    bits = DTYPES[task.dtype].bits
    return 0 if task.encode is not None or bits % 8 or DTYPES[task.dtype].block > 1 else bits // 8


def _is_straight(plan: Plan, task: Task) -> bool:
    """Whether a piece of a tensor is made of a piece of each source as it lies: each byte is read once, wherever it is cut."""
    return all(len(p.loops) < 2 and (p.source < 0 or bool(plan.sources[p.source].extents)) for p in task.pieces)


def _is_free(plan: Plan, task: Task) -> bool:
    """Whether a tensor may be cut anywhere at no cost: each element is read once, and nothing waits for its checksum."""
    if plan.layout.checksum is not None or not _step(task):
        return False
    return all(is_copy(p) and p.source >= 0 and bool(plan.sources[p.source].extents) for p in task.pieces)


def wide(unit: Unit, places: Places) -> Unit:
    """The unit with all of the tensors at its ends that cannot be cut there: those are made as a whole."""
    start, stop = unit.start, unit.stop
    for t in within(unit, places.tasks):
        low, high, step = t.slot.offset, t.slot.offset + t.slot.length, _step(t)
        if low < unit.start and (not step or (unit.start - low) % step):
            start = min(start, low)
        if high > unit.stop and (not step or (unit.stop - low) % step):
            stop = max(stop, high)
    return unit._replace(start=start, stop=stop)


def _waiting(places: Places, units: Sequence[Unit], layout: FileLayout) -> Iterable[Unit]:
    """The units, each with those that it waits for: the others that make a tensor whose checksum it holds."""
    by_file: dict[int, list[Unit]] = {}
    for u in units:
        by_file.setdefault(u.file, []).append(u)
    stops = {f: [u.stop for u in held] for f, held in by_file.items()}
    for place, u in enumerate(units):
        waits: dict[str, None] = {}
        for name in {n for p in within(u, places.tails) for n in p.needs}:
            slot = layout.slots[name]
            held = by_file.get(slot.file, []) if slot.length else []
            k = bisect_right(stops.get(slot.file, []), slot.offset)
            while k < len(held) and held[k].start < slot.offset + slot.length:
                waits[held[k].name] = None
                k += 1
        waits.pop(u.name, None)
        late = {v.name for v in units[place:]} & waits.keys() if waits else ()
        if late:
            raise UnsupportedError(f"{layout.container} has checksums of tensors before the tensors: not written in parts")
        yield u._replace(waits=tuple(sorted(waits, key=_order)))


def _order(name: str) -> tuple[int, ...]:
    return tuple(map(int, name.split("-")))


def part_of(plan: Plan, unit: Unit, places: Places | None = None) -> Plan:
    """The plan of one unit: one file that begins where the unit does, with the tensors and headers in its range and the sources they
    need. `places` are the plan's, where they are known."""
    a, b = unit.start, unit.stop
    used: dict[int, int] = {}
    sources: list[Source] = []
    tasks = []
    places = places or places_of(plan)
    for t in within(unit, places.tasks):
        slot = t.slot
        low, high = max(a, slot.offset), min(b, slot.offset + slot.length)
        pieces, shape = t.pieces, t.shape
        if (low, high) != (slot.offset, slot.offset + slot.length):
            width = DTYPES[t.dtype].bits // 8
            first, last = (low - slot.offset) // width, (high - slot.offset) // width
            pieces, shape = tuple(c for p in pieces for c in cut_piece(p, first, last)), (last - first,)
        moved = []
        for p in pieces:
            if p.source >= 0 and p.source not in used:
                used[p.source] = len(sources)
                sources.append(plan.sources[p.source])
            moved.append(p._replace(source=used[p.source]) if p.source >= 0 else p)
        tasks.append(t._replace(slot=Slot(0, low - a, high - low), shape=shape, pieces=tuple(moved)))
    parts = tuple(
        Part(0, max(q.offset, a) - a, q.data[max(0, a - q.offset) : max(0, b - q.offset)])
        for q in within(unit, places.heads)
    )  # fmt: skip
    layout = plan.layout._replace(files=(("unit", b - a),), slots={t.name: t.slot for t in tasks}, parts=parts, state={}, split={})
    return plan._replace(target="unit", single=True, sources=tuple(sources), tasks=tuple(tasks), layout=layout, copies=(), texts=())
