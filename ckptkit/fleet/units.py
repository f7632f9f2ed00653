"""Cutting a plan into units: each writes one contiguous range of one file of the target, which is one part of an object.

Policy: borders lie where tensors do, so that a tensor that is turned round is read once; only one that is much longer than a unit is cut,
where its elements allow it. The same plan and size give the same units, whoever cuts. What depends on checksums of bytes outside of a
unit's own range (the directory of a zip) makes the unit wait for them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise

from .._typing import NamedTuple
from ..containers import FileLayout, Part, Slot
from ..errors import UnsupportedError
from ..plan.values import Plan, Source, Task, cut
from ..tensors import DTYPES

UNIT = 64 << 20  # bytes of a unit
MOST_PARTS = 9_000  # of one object; S3 takes 10,000
Finish = Callable[[FileLayout, Mapping[str, int]], Iterable[Part]]


class Unit(NamedTuple):
    """Bytes [start, stop) of a file of the layout, part `number` (from 1 on) of its object; `waits` where they depend on the checksums of
    tensors elsewhere."""

    file: int
    number: int
    start: int
    stop: int
    waits: bool = False

    @property
    def name(self) -> str:
        """What a receipt is called."""
        return f"{self.file}-{self.number}"


def cut_plan(plan: Plan, finish: Finish, size: int = UNIT, least: int = 5 << 20) -> tuple[Unit, ...]:
    """The units of a plan, in the order of its files. `size` is the bytes of a unit, `least` those of a part that is not the last.

    Files without tensors have none: they are written with the commit.
    """
    by_file: dict[int, list[Task]] = {}
    for t in plan.tasks:
        if t.slot.length:
            by_file.setdefault(t.slot.file, []).append(t)
    tails = _tails(plan, finish)
    out = []
    for file, tasks in sorted(by_file.items()):
        whole = plan.layout.files[file][1]
        if whole < 0:
            raise UnsupportedError(f"{plan.layout.container} has files whose size is not known beforehand: not written in parts")
        tasks.sort(key=lambda t: t.slot.offset)
        borders = _borders(tasks, whole, max(size, whole // MOST_PARTS, least), least)
        end = max(t.slot.offset + t.slot.length for t in tasks)
        after = [p.offset for p in tails.get(file, ()) if p.offset >= end]
        if after and after[-1] - borders[-2] >= least and after[-1] > borders[-2]:  # what stands at the end depends on all of it
            borders.insert(-1, after[-1])
        out += [Unit(file, n + 1, a, b) for n, (a, b) in enumerate(pairwise(borders))]
    return tuple(_waiting(plan, finish, tails, out))


def _borders(tasks: Sequence[Task], whole: int, size: int, least: int) -> list[int]:
    """Where the parts of a file begin, and its end."""
    out = [0]
    for t in tasks:
        start, end = t.slot.offset, t.slot.offset + t.slot.length
        if end - out[-1] > size and start - out[-1] >= least and whole - start >= least:
            out.append(start)
        step = _step(t)
        while step and end - out[-1] > 2 * size and whole - out[-1] - size >= least:
            at = max(start, out[-1]) if out[-1] < start else out[-1]
            border = start + (max(at, start) + size - start) // step * step
            if border - out[-1] < least or border >= end:
                break
            out.append(border)
    return [*out, whole]


def _step(task: Task) -> int:
    """Bytes that must not be cut; 0 where the whole tensor must not be."""
    bits = DTYPES[task.dtype].bits
    return 0 if task.encode is not None or bits % 8 or DTYPES[task.dtype].block > 1 else bits // 8


def _tails(plan: Plan, finish: Finish) -> dict[int, list[Part]]:
    """The parts that depend on checksums, by file: where they lie does not depend on them."""
    out: dict[int, list[Part]] = {}
    for p in finish(plan.layout, dict.fromkeys((t.name for t in plan.tasks), 0)):
        out.setdefault(p.file, []).append(p)
    for parts in out.values():
        parts.sort(key=lambda p: p.offset)
    return out


def _waiting(plan: Plan, finish: Finish, tails: Mapping[int, Sequence[Part]], units: Sequence[Unit]) -> Iterable[Unit]:
    """The units, those marked that hold a part which another checksum of a tensor outside would change."""
    names = [t.name for t in plan.tasks]
    ones = dict.fromkeys(names, 0xFFFFFFFF)
    every = list(finish(plan.layout, ones)) if tails else []
    for u in units:
        here = [p.data for p in tails.get(u.file, ()) if u.start < p.offset + len(p.data) and p.offset < u.stop]
        if not here or here == [p.data for p in sorted(every, key=lambda p: p.offset) if p.file == u.file and _in(p, u)]:
            yield u
            continue
        own = {t.name for t in plan.tasks if t.slot.file == u.file and t.slot.offset >= u.start and t.slot.offset + t.slot.length <= u.stop}
        others = {n: 0 if n in own else 0xFFFFFFFF for n in names}
        there = [p.data for p in sorted(finish(plan.layout, others), key=lambda p: p.offset) if p.file == u.file and _in(p, u)]
        yield u._replace(waits=here != there)


def _in(part: Part, unit: Unit) -> bool:
    return unit.start < part.offset + len(part.data) and part.offset < unit.stop


def part_of(plan: Plan, unit: Unit, extra: Iterable[Part] = ()) -> Plan:
    """The plan of one unit: one file that begins where the unit does, with the tensors and headers in its range and the sources they
    need. `extra` are parts that depend on checksums."""
    a, b = unit.start, unit.stop
    used: dict[int, int] = {}
    sources: list[Source] = []
    tasks = []
    for t in plan.tasks:
        slot = t.slot
        low, high = max(a, slot.offset), min(b, slot.offset + slot.length)
        if slot.file != unit.file or low >= high:
            continue
        pieces, shape = t.pieces, t.shape
        if (low, high) != (slot.offset, slot.offset + slot.length):
            width = DTYPES[t.dtype].bits // 8
            first, last = (low - slot.offset) // width, (high - slot.offset) // width
            pieces, shape = tuple(c for p in pieces for c in cut(p, first, last)), (last - first,)
        moved = []
        for p in pieces:
            if p.source >= 0 and p.source not in used:
                used[p.source] = len(sources)
                sources.append(plan.sources[p.source])
            moved.append(p._replace(source=used[p.source]) if p.source >= 0 else p)
        tasks.append(t._replace(slot=Slot(0, low - a, high - low), shape=shape, pieces=tuple(moved)))
    parts = []
    for q in (*plan.layout.parts, *extra):
        if q.file == unit.file and _in(q, unit):
            parts.append(Part(0, max(q.offset, a) - a, q.data[max(0, a - q.offset) : max(0, b - q.offset)]))
    layout = plan.layout._replace(
        files=(("unit", b - a),), slots={t.name: t.slot for t in tasks}, parts=tuple(parts), state={}, split={}
    )  # fmt: skip
    return plan._replace(target="unit", single=True, sources=tuple(sources), tasks=tuple(tasks), layout=layout, copies=(), texts=())
