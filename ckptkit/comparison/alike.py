"""Small parameters that lie in the same order on both sides, compared where they lie: many of them in one read of each side.

Whoever is not found equal here is looked at by itself, with figures; a file that ends early is that one's to tell, too.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator

from .._typing import TYPE_CHECKING, NamedTuple
from ..scan.windows import Window
from ..support.kernels import kernels
from ..support.threads import on_threads

if TYPE_CHECKING:
    from ..graph.examine import Subject
    from ..support.progress import Watch
    from ..tensors import Extent
    from .canonical_stream import Item

FEW = 64 << 10  # bytes of a parameter that is small: reading a larger one costs more than what goes with it
WINDOW = 1 << 20  # bytes of a side that are read at once
GAP = 64 << 10  # bytes that a read may span beyond four times what is wanted of it


class Both(NamedTuple):
    """A parameter that both sides hold as bytes in the same order."""

    name: str
    left: Extent
    right: Extent


def layout_of(subject: Subject, item: Item) -> object:
    """What must be equal for the stored orders to be the same; never equal for a view."""
    t = subject.checkpoint.tensors[item.stored]
    if t.strides is not None:
        return object()
    bound = subject.graph.params.get(item.name)
    return (bound.row.layout, t.spec.shape) if bound is not None else t.spec.shape


def _whole(subject: Subject, item: Item) -> Extent | None:
    """The one extent whose bytes are a small parameter's, in stored order."""
    t = subject.checkpoint.tensors[item.stored]
    if not item.natural or t.read is not None or t.boxes or t.spec.dtype != item.spec.dtype or len(t.extents) != 1:
        return None
    extent = t.extents[0]
    if not 0 < extent.length <= FEW or extent.length != item.spec.nbytes or item.stored in subject.packings.weights:
        return None
    graph = subject.graph
    bound = graph.params.get(item.name)
    return extent if bound is None or bound.stored != item.stored or graph.adjust(item.name) is None else None


def _lying(a: Subject, b: Subject, pairs: Iterable[tuple[Item, Item]]) -> Iterator[Both]:
    for x, y in pairs:
        if x.spec != y.spec:
            continue
        left, right = _whole(a, x), _whole(b, y)
        if left is not None and right is not None and layout_of(a, x) == layout_of(b, y):
            yield Both(x.name, left, right)


class _Span:
    """From where to where some extents of one side lie, and how many bytes they are."""

    def __init__(self, first: Extent) -> None:
        self.path, self.low, self.high, self.size = first.path, first.offset, first.offset + first.length, first.length

    def has_room(self, e: Extent) -> bool:
        """Whether one more lies in the same file, near the others and not among much else."""
        span = max(self.high, e.offset + e.length) - min(self.low, e.offset)
        return e.path == self.path and span <= min(WINDOW, GAP + 4 * (self.size + e.length))

    def add(self, e: Extent) -> None:
        self.low, self.high, self.size = min(self.low, e.offset), max(self.high, e.offset + e.length), self.size + e.length


class _Group(NamedTuple):
    """What is compared at once."""

    left: _Span
    right: _Span
    held: list[Both]


def _groups(held: list[Both]) -> Iterator[_Group]:
    """Those that lie near each other on both sides."""
    held.sort(key=lambda h: (h.left.path, h.right.path, h.left.offset, h.right.offset))
    group: _Group | None = None
    for h in held:
        if group is not None and group.left.has_room(h.left) and group.right.has_room(h.right):
            group.left.add(h.left)
            group.right.add(h.right)
            group.held.append(h)
            continue
        if group is not None:
            yield group
        group = _Group(_Span(h.left), _Span(h.right), [h])
    if group is not None:
        yield group


def equal_ones(a: Subject, b: Subject, pairs: Iterable[tuple[Item, Item]], jobs: int | None, watch: Watch) -> set[str]:
    """The names of the pairs whose stored bytes are found to be the same; `watch` is told their bytes."""
    native, local = kernels(), threading.local()
    groups = [g for g in _groups(list(_lying(a, b, pairs))) if len(g.held) > 1]
    for subject, paths in ((a, {g.left.path for g in groups}), (b, {g.right.path for g in groups})):
        for path in paths:
            subject.checkpoint.blob(path)  # opened before the threads ask for them

    def compared(group: _Group) -> list[str]:
        windows = getattr(local, "windows", None)
        if windows is None:
            windows = local.windows = Window(WINDOW), Window(WINDOW)
        spans = group.left, group.right
        blobs = [s.checkpoint.blob(span.path) for s, span in zip((a, b), spans, strict=True)]
        data = [w.view(f, s.low, s.high - s.low) for w, f, s in zip(windows, blobs, spans, strict=True)]
        same = []
        for h in group.held:
            x, y = (d[e.offset - s.low :][: e.length] for d, s, e in zip(data, spans, h[1:], strict=True))
            if len(x) == len(y) == h.left.length and (native.equal(x, y) if native is not None else x == y):
                same.append(h)
        watch(sum(h.left.length for h in same))
        return [h.name for h in same]

    return {name for names in on_threads(compared, groups, jobs) for name in names}
