"""Tensors in pieces: the boxes that a format keeps of a tensor, put together, without reading any of them.

Policy: a box that leaves its tensor is refused. Boxes that lie over each other must hold the same elements: the first is read, and the
others are held against it when the weights are looked at (`compare`). What no box covers is a hole, for the container to tell. How the
pieces were cut is nobody's business: any boxes that tile the tensor will do.

TensorFlow's partitions, the chunks of torch.distributed.checkpoint, the shards of a mesh and the files of tensor-parallel ranks all come
here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from heapq import merge
from itertools import islice, product
from math import prod

from .._typing import NamedTuple, Protocol, overload
from ..errors import CorruptError, printable
from ..findings import Finding
from ..limits import LIMITS
from ..tensors import DTYPES, Box, Extent, StoredTensor, TensorSpec, row_major_strides

RULE = "pieces"
FEW = 64  # runs of a tensor in pieces up to which its extents are a tuple
CHUNK = 1 << 20  # bytes that are compared at once
_FEW_PIECES = 512  # pieces up to which a hole among them is looked for

Region = tuple[tuple[int, int], ...]  # (start, size) along each axis


class Source(Protocol):
    """Who reads extents: a checkpoint."""

    def read_extent(self, extent: Extent) -> bytes: ...


class Tiling(NamedTuple):
    """What `tile` gives: boxes that lie over no other, the pairs of equal regions that did, and how many elements no box has."""

    boxes: tuple[Box, ...]
    overlaps: tuple[tuple[Box, Box], ...]
    missing: int


def check_inside(box: Box, shape: tuple[int, ...], what: str, path: str) -> None:
    """CorruptError where a box is none of a tensor of `shape`."""
    if len(box.offset) != len(shape) or len(box.shape) != len(shape):
        raise CorruptError(f"{what} has a piece of {len(box.shape)} axes, the tensor has {len(shape)}", path=path)
    if any(o < 0 or n < 0 or o + n > whole for o, n, whole in zip(box.offset, box.shape, shape, strict=True)):
        raise CorruptError(f"{what} has a piece {box.shown()}, which lies outside of its shape {list(shape)}", path=path)


def crop(box: Box, region: Region, width: int) -> Box:
    """The part of a box that lies in a region of the whole, which it must reach over."""
    if all((o, n) == r for o, n, r in zip(box.offset, box.shape, region, strict=True)):
        return box
    strides = box.strides or row_major_strides(box.shape)
    first = sum((start - o) * s for (start, _), o, s in zip(region, box.offset, strides, strict=True))
    size = tuple(n for _, n in region)
    length = (1 + sum((n - 1) * s for n, s in zip(size, strides, strict=True))) * width
    extent = Extent(box.extent.path, box.extent.offset + first * width, length)
    return Box(tuple(o for o, _ in region), size, extent, None if strides == row_major_strides(size) else strides)


def _common(a: Box, b: Box) -> Region | None:
    """The region that two boxes share; None where there is none."""
    out = []
    for o, n, p, m in zip(a.offset, a.shape, b.offset, b.shape, strict=True):
        low, high = max(o, p), min(o + n, p + m)
        if high <= low:
            return None
        out.append((low, high - low))
    return tuple(out)


def _without(box: Box, hole: Region, width: int) -> Iterator[Box]:
    """What is left of a box without a region inside it, as boxes."""
    rest = list(zip(box.offset, box.shape, strict=True))
    for axis, (start, size) in enumerate(hole):
        o, n = rest[axis]
        if start > o:
            yield crop(box, (*rest[:axis], (o, start - o), *rest[axis + 1 :]), width)
        if start + size < o + n:
            yield crop(box, (*rest[:axis], (start + size, o + n - start - size), *rest[axis + 1 :]), width)
        rest[axis] = start, size


def tile(boxes: Iterable[Box], shape: tuple[int, ...], dtype: str, what: str, path: str | None = None) -> Tiling:
    """Make the boxes, each inside of `shape`, lie over no other: the first counts. LimitError where there are too many to be held against
    each other."""
    width = max(1, DTYPES[dtype].bits // 8)
    first: dict[tuple[tuple[int, ...], tuple[int, ...]], Box] = {}
    overlaps: list[tuple[Box, Box]] = []
    for box in boxes:
        if not all(box.shape):
            continue
        held = first.setdefault((box.offset, box.shape), box)
        if held is not box and held.extent != box.extent:
            overlaps.append((held, box))
    distinct = list(first.values())
    left = [[b] for b in distinct]  # of each box what no earlier one has
    for i, j in _crossing(distinct, len(shape), what, path):
        a, b = distinct[i], distinct[j]
        region = _common(a, b)
        assert region is not None
        overlaps.append((crop(a, region, width), crop(b, region, width)))
        parts: list[Box] = []
        for f in left[j]:
            common = _common(a, f)
            parts += [f] if common is None else _without(f, common, width)
        left[j] = parts
    kept = tuple(f for parts in left for f in parts)
    return Tiling(kept, tuple(overlaps), prod(shape) - sum(prod(b.shape) for b in kept))


def describe_hole(boxes: Sequence[Box], spec: TensorSpec, owner: Callable[[Box], str]) -> str:
    """Where the first hole of a tensor is, and which pieces end and begin at it; "" where there are too many pieces. `owner` names the rank
    of a piece."""
    if not spec.shape or len(boxes) > _FEW_PIECES:
        return ""
    width = max(1, DTYPES[spec.dtype].bits // 8)
    left = [Box((0,) * len(spec.shape), spec.shape, Extent("", 0, 0))]
    for b in boxes:
        left = [f for h in left for f in _rest(h, b, width)]
        if len(left) > _FEW_PIECES:
            return ""
    if not left:
        return ""
    hole = min(left, key=lambda h: h.offset)
    before = next((b for b in boxes if _beside(b, hole)), None)
    after = next((b for b in boxes if _beside(hole, b)), None)
    ends = [f"behind {before.shown()} of {owner(before)}"] if before is not None else []
    ends += [f"before {after.shown()} of {owner(after)}"] if after is not None else []
    return f"nothing has {hole.shown()}{', ' if ends else ''}{' and '.join(ends)}"


def _rest(box: Box, other: Box, width: int) -> Iterable[Box]:
    """What is left of a box without what another has of it."""
    common = _common(box, other)
    return [box] if common is None else _without(box, common, width)


def _beside(a: Box, b: Box) -> bool:
    """Whether `b` begins where `a` ends along an axis, and they meet along all others."""
    ends = [d for d, (o, n, p) in enumerate(zip(a.offset, a.shape, b.offset, strict=True)) if o + n == p]
    sides = [
        max(o, p) < min(o + n, p + m) for o, n, p, m in zip(a.offset, a.shape, b.offset, b.shape, strict=True)
    ]  # fmt: skip
    return any(all(s for d, s in enumerate(sides) if d != e) for e in ends)


def _crossing(boxes: Sequence[Box], rank: int, what: str, path: str | None) -> Iterator[tuple[int, int]]:
    """The pairs of boxes that share elements, by their places, the smaller first."""
    if not rank or len(boxes) < 2:
        return
    axis = max(range(rank), key=lambda d: len({(b.offset[d], b.shape[d]) for b in boxes}))
    along = sorted(range(len(boxes)), key=lambda i: boxes[i].offset[axis])
    compared = 0
    for k, i in enumerate(along):
        end = boxes[i].offset[axis] + boxes[i].shape[axis]
        for j in islice(along, k + 1, None):
            if boxes[j].offset[axis] >= end:
                break
            compared += 1
            if compared > LIMITS.slice_pairs:
                LIMITS.refuse("slice_pairs", f"{what} is cut into {len(boxes):,} pieces along too many axes", path)
            if _common(boxes[i], boxes[j]) is not None:
                yield min(i, j), max(i, j)


# --- the runs of pieces, in the order of the whole ------------------------------------------------------------------------


def runs(box: Box, shape: tuple[int, ...]) -> Iterator[tuple[int, int, int]]:
    """(first element in the whole, first element in the box's extent, elements) of every run of a box, in order."""
    if not all(box.shape):
        return
    own, whole = box.strides or row_major_strides(box.shape), row_major_strides(shape)
    depth, length = _run(box, own, shape)
    base = sum(o * s for o, s in zip(box.offset, whole, strict=True))
    steps = [[(i * w, i * s) for i in range(n)] for n, w, s in zip(box.shape[:depth], whole, own, strict=False)]
    for step in product(*steps):
        yield base + sum(w for w, _ in step), sum(s for _, s in step), length


def _run(box: Box, own: tuple[int, ...], shape: tuple[int, ...]) -> tuple[int, int]:
    """(how many outer axes are stepped through, the elements that follow on each other in both inside them)."""
    length = 1
    for d in reversed(range(len(shape))):
        if box.shape[d] != 1 and own[d] != length:
            return d + 1, length
        length *= box.shape[d]
        if box.shape[d] != shape[d]:
            return d, length
    return 0, length


class Joined(Sequence[Extent]):
    """The runs of boxes that tile a tensor, as extents in the order of the whole. They are made as they are asked for."""

    def __init__(self, boxes: tuple[Box, ...], spec: TensorSpec) -> None:
        self._boxes, self._shape = boxes, spec.shape
        self._width = DTYPES[spec.dtype].bits // 8
        self._count = sum(_count(b, spec.shape) for b in boxes)

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Extent]:
        width = self._width
        for _, path, at, n in merge(*(self._runs(b) for b in self._boxes)):
            yield Extent(path, at, n * width)

    def _runs(self, box: Box) -> Iterator[tuple[int, str, int, int]]:
        path, start, _ = box.extent
        for to, at, n in runs(box, self._shape):
            yield to, path, start + at * self._width, n

    @overload
    def __getitem__(self, i: int) -> Extent: ...
    @overload
    def __getitem__(self, i: slice) -> tuple[Extent, ...]: ...
    def __getitem__(self, i: int | slice) -> Extent | tuple[Extent, ...]:
        if isinstance(i, slice):
            return tuple(islice(self, *i.indices(self._count)))
        at = i + self._count if i < 0 else i
        found = next(islice(self, at, None), None) if at >= 0 else None
        if found is None:
            raise IndexError(i)
        return found


def _count(box: Box, shape: tuple[int, ...]) -> int:
    depth, _ = _run(box, box.strides or row_major_strides(box.shape), shape)
    return prod(box.shape[:depth])


def joined(name: str, spec: TensorSpec, boxes: tuple[Box, ...]) -> StoredTensor:
    """The tensor of boxes that tile it. Where they are few runs, its extents are these, neighbours together; where they are one, it is a
    tensor like any other."""
    extents: Sequence[Extent] = Joined(boxes, spec)
    if len(extents) <= FEW or len(boxes) == 1:
        found: list[Extent] = []
        for e in extents:
            if found and found[-1].path == e.path and found[-1].offset + found[-1].length == e.offset:
                found[-1] = found[-1]._replace(length=found[-1].length + e.length)
            else:
                found.append(e)
        extents = tuple(found)
    return StoredTensor(name, spec, extents, boxes=() if len(extents) == 1 and isinstance(extents, tuple) else boxes)


def shared(name: str, spec: TensorSpec, held: Sequence[tuple[StoredTensor, Region, Region]], path: str) -> Shared:
    """The tensor of which each of `held` has a region: (a rank's tensor, where in it, where in the whole). A rank's tensor lies in one run.

    Raises CorruptError where it does not.
    """
    width = DTYPES[spec.dtype].bits // 8
    boxes = []
    for t, here, there in held:
        if len(t.extents) != 1 or t.read is not None:
            raise CorruptError(f"a rank's part of {printable(name)!r} does not lie in one run", path=path)
        whole = Box((0,) * len(t.spec.shape), t.spec.shape, t.extents[0], t.strides)
        box = crop(whole, here, width)._replace(offset=tuple(o for o, _ in there))
        check_inside(box, spec.shape, repr(printable(name)), path)
        boxes.append(box)
    found = tile(boxes, spec.shape, spec.dtype, repr(printable(name)), path)
    replicas = tuple(Replicas(name, spec, a, b) for a, b in found.overlaps)
    made = joined(name, spec, found.boxes) if not found.missing else None
    if made is not None and len(held) == 1 and held[0][0].spec == spec:
        made = held[0][0]._replace(name=name)
    return Shared(made, replicas, found.missing)


# --- pieces that are there more than once -----------------------------------------------------------------------------------


class Shared(NamedTuple):
    """What ranks have of a tensor: the whole (None where elements lack), what is there more than once, how many elements none has."""

    tensor: StoredTensor | None
    replicas: tuple[Replicas, ...]
    missing: int


class Replicas(NamedTuple):
    """Two places that must hold the same elements of a tensor."""

    name: str
    spec: TensorSpec
    first: Box
    other: Box


def compare(checkpoint: Source, replicas: Sequence[Replicas], owner: Callable[[str], str]) -> Iterator[Finding]:
    """An error for every tensor whose replicas differ, with the ranks that hold them; `owner` names that of a file. Reads them."""
    told: dict[str, list[str]] = {}
    for r in replicas:
        if not _alike(_bytes(checkpoint, r, r.first), _bytes(checkpoint, r, r.other)):
            where = "" if r.other.shape == r.spec.shape else f"its part {r.other.shown()} of "
            said = f"{where}{owner(r.other.extent.path)} is not what {owner(r.first.extent.path)} has"
            told.setdefault(r.name, []).append(said)
    for name, places in told.items():
        more = f" (and {len(places) - 1} more places)" if len(places) > 1 else ""
        text = f"{printable(name)!r} is kept more than once, and {places[0]}{more}"
        yield Finding("error", RULE, printable(name), text, "the ranks are of different steps, or a file is damaged")


def _bytes(checkpoint: Source, r: Replicas, box: Box) -> Iterator[bytes]:
    there = box._replace(offset=(0,) * len(box.shape))
    for e in Joined((there,), TensorSpec(r.spec.dtype, box.shape)):
        for at in range(0, e.length, CHUNK):
            yield checkpoint.read_extent(Extent(e.path, e.offset + at, min(CHUNK, e.length - at)))


def _alike(a: Iterator[bytes], b: Iterator[bytes]) -> bool:
    """Whether two streams hold the same bytes, whatever pieces they come in."""
    p = q = b""
    while True:
        p, q = p or next(a, b""), q or next(b, b"")
        n = min(len(p), len(q))
        if not n:
            return not p and not q
        if p[:n] != q[:n]:
            return False
        p, q = p[n:], q[n:]
