"""Whether a plan writes every byte that it lays out, once: what no task covers would be zeros in a target that looks whole.

Policy: a plan is refused before anything is written. Slots and tasks are held against each other by name and place; within a task the
nests must write every element exactly once (before any `add`). That is read off the loops where they are regular, which those of
all layouts are: one nest without gaps, or nests that share their outer loop and fill what it steps over. Others are counted element by
element, in windows.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import CheckpointError
from ..plan.columns import Tasks
from ..plan.values import Plan
from ..schema.loops import cut
from .loop_nest import Loops, Nest

WINDOW = 1 << 20  # elements that are counted at a time
Box = tuple[Loops, int]  # a nest's loops, and where in the target it begins


def check_slots(plan: Plan) -> None:
    """CheckpointError, naming the tensor, where the layout's slots and the tasks are not the same places."""
    layout = plan.layout
    if isinstance(plan.tasks, Tasks) and not layout.split and plan.tasks.fill(layout.slots):
        return
    if not layout.split and len(plan.tasks) == len(layout.slots) and {t[0]: t[1] for t in plan.tasks} == layout.slots:
        return
    wanted = {(name, slot) for name, slot in layout.slots.items() if name not in layout.split}
    wanted |= {(name, slot) for name, slots in layout.split.items() for slot in slots}
    made = set()
    for task in plan.tasks:
        place = task.name, task.slot
        if place in made:
            raise CheckpointError(f"{task.name!r}: the plan writes it twice", path=plan.target)
        if place not in wanted:
            raise CheckpointError(f"{task.name!r}: the plan writes it where the layout has no place for it", path=plan.target)
        made.add(place)
    if len(made) < len(wanted):
        name = min(name for name, _ in wanted - made)
        more = len(wanted) - len(made) - 1
        others = f" (nor {more:,} other place{'s' * (more > 1)})" if more else ""
        raise CheckpointError(f"{name!r}: the plan has a place for it and nothing that writes it{others}", path=plan.target)


def check_covers(nests: Sequence[Nest], name: str, numel: int) -> None:
    """CheckpointError where the nests of a task, `add` left out, do not write each of `numel` elements once. There are as many writes."""
    boxes = [(x.loops, x.target_offset) for x in nests if x.op != "add"]
    if not covers(boxes, 0, numel):
        _count(boxes, name, numel)


def covers(boxes: Sequence[Box], start: int, stop: int) -> bool:
    """Whether it can be read off the loops that target elements [start, stop) are written once each, and no others."""
    if len(boxes) == 1:
        loops, at = boxes[0]
        return at == start and _dense(loops) == stop - start
    if not boxes:
        return start == stop
    boxes = sorted(boxes, key=lambda b: b[1])
    outer = boxes[0][0][0] if boxes[0][0] else None
    if outer is not None and all(loops and (loops[0][0], loops[0][2]) == (outer[0], outer[2]) for loops, _ in boxes):
        n, _, step = outer
        if n * step == stop - start and covers([(loops[1:], at) for loops, at in boxes], start, start + step):
            return True
    for loops, at in boxes:  # one after another
        size = _dense(loops)
        if at != start or not size:
            return False
        start += size
    return start == stop


def _dense(loops: Loops) -> int:
    """How many elements a nest writes if they follow on each other, else 0."""
    size = 1
    for n, _, step in reversed(loops):
        if step != size:
            return 0
        size *= n
    return size


def _count(boxes: Sequence[Box], name: str, numel: int) -> None:
    """Refuse what misses an element: of as many writes as there are elements, one is then done twice."""
    import numpy as np

    for low in range(0, numel, WINDOW):
        high = min(low + WINDOW, numel)
        written = np.zeros(high - low, np.bool_)
        for loops, at in boxes:
            for part, _, to in cut(loops, 0, at, low, high):
                np.ndarray(tuple(x[0] for x in part), np.bool_, written, to - low, tuple(x[2] for x in part))[...] = True
        if not written.all():
            at = low + int(written.argmin())
            raise CheckpointError(f"{name!r}: the plan does not write element {at:,} of {numel:,}, and another one twice")
