"""Tensors in pieces against numpy: any tiling, in any order, with strides, with pieces that are there twice, over each other, or gone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ckptkit.containers import Checkpoint
from ckptkit.containers._pieces import Joined, Replicas, check_inside, compare, crop, joined, tile
from ckptkit.errors import CorruptError
from ckptkit.plan.pieces import by_boxes
from ckptkit.schema.loops import cut
from ckptkit.tensors import Box, Extent, TensorSpec

Cell = tuple[tuple[int, int], ...]


def cells_of(draw: st.DrawFn, cell: Cell, depth: int = 3) -> list[Cell]:
    """A tiling of a region, cut again and again along some axis."""
    axes = [d for d, (_, n) in enumerate(cell) if n > 1]
    if not depth or not axes or not draw(st.booleans()):
        return [cell]
    axis = draw(st.sampled_from(axes))
    start, n = cell[axis]
    at = draw(st.integers(1, n - 1))
    parts = ((start, at), (start + at, n - at))
    return [c for p in parts for c in cells_of(draw, (*cell[:axis], p, *cell[axis + 1 :]), depth - 1)]


@st.composite
def tilings(draw: st.DrawFn) -> tuple[np.ndarray, list[Cell]]:
    shape = tuple(draw(st.lists(st.integers(1, 6), min_size=0, max_size=4)))
    whole = np.arange(np.prod(shape, dtype=int), dtype="<i4").reshape(shape) + 7
    return whole, draw(st.permutations(cells_of(draw, tuple((0, n) for n in shape), 4)))


def stored(path: Path, whole: np.ndarray, cells: list[Cell], turned: list[bool] | None = None) -> list[Box]:
    """The pieces in a file one after another; those that are `turned` lie with their axes the other way round."""
    raw, boxes = b"..", []
    for i, cell in enumerate(cells):
        part = np.ascontiguousarray(whole[tuple(slice(s, s + n) for s, n in cell)])
        strides = None
        if turned is not None and turned[i] and part.ndim > 1:
            strides = tuple(s // 4 for s in np.asfortranarray(part).strides)
            part = np.ascontiguousarray(part.T)
        boxes.append(Box(tuple(s for s, _ in cell), tuple(n for _, n in cell), Extent(str(path), len(raw), part.nbytes), strides))
        raw += part.tobytes() + b"."
    path.write_bytes(raw)
    return boxes


def bytes_of(box_or_extent: Extent) -> bytes:
    path, at, n = box_or_extent
    return Path(path).read_bytes()[at : at + n]


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pieces") / "all"


@given(tilings(), st.data())
def test_the_runs_of_any_tiling_are_the_tensor_in_order_and_so_is_its_array(
    file: Path, made: tuple[np.ndarray, list[Cell]], data: st.DataObject
) -> None:
    whole, cells = made
    turned = data.draw(st.lists(st.booleans(), min_size=len(cells), max_size=len(cells)))
    boxes = stored(file, whole, cells, turned)
    found = tile(boxes, whole.shape, "I32", "t")
    assert not found.missing and not found.overlaps and len(found.boxes) == len(cells)
    spec = TensorSpec("I32", whole.shape)
    runs = Joined(found.boxes, spec)
    assert len(list(runs)) == len(runs) and runs[len(runs) - 1] == list(runs)[-1]
    assert b"".join(map(bytes_of, runs)) == whole.tobytes()
    t = joined("t", spec, found.boxes)
    assert b"".join(map(bytes_of, t.extents)) == whole.tobytes()
    with Checkpoint(str(file), "test", {"t": t}, files=[str(file)]) as ckpt:
        np.testing.assert_array_equal(ckpt.array("t"), whole)


@given(tilings(), st.data())
def test_pieces_over_each_other_are_paired_and_the_rest_of_them_tiles(
    file: Path, made: tuple[np.ndarray, list[Cell]], data: st.DataObject
) -> None:
    whole, cells = made
    more: list[Cell] = []
    for _ in range(data.draw(st.integers(1, 3))):
        cell = []
        for n in whole.shape:
            start = data.draw(st.integers(0, n - 1))
            cell.append((start, data.draw(st.integers(1, n - start))))
        more.append(tuple(cell))
    every = data.draw(st.permutations([*cells, *more]))
    boxes = stored(file, whole, every)
    found = tile(boxes, whole.shape, "I32", "t")
    assert not found.missing
    taken = np.zeros(whole.shape, int)
    for b in found.boxes:
        taken[tuple(slice(o, o + n) for o, n in zip(b.offset, b.shape, strict=True))] += 1
    assert (taken == 1).all()
    spec = TensorSpec("I32", whole.shape)
    assert b"".join(map(bytes_of, Joined(found.boxes, spec))) == whole.tobytes()
    times = np.zeros(whole.shape, int)
    for cell in every:
        times[tuple(slice(s, s + n) for s, n in cell)] += 1
    pairs = np.zeros(whole.shape, int)
    for a, b in found.overlaps:
        assert (a.offset, a.shape) == (b.offset, b.shape)
        pairs[tuple(slice(o, o + n) for o, n in zip(a.offset, a.shape, strict=True))] += 1
    assert ((pairs > 0) == (times > 1)).all()
    replicas = [Replicas("t", spec, a, b) for a, b in found.overlaps]
    with Checkpoint(str(file), "test", {}, files=[str(file)]) as ckpt:
        assert not list(compare(ckpt, replicas, lambda p: "rank 1"))
    if replicas:  # one element of a copy that is not read is another
        at = replicas[0].other.extent.offset
        raw = bytearray(file.read_bytes())
        raw[at] ^= 1
        file.write_bytes(raw)
        with Checkpoint(str(file), "test", {}, files=[str(file)]) as ckpt:
            (finding,) = compare(ckpt, replicas, lambda p: "rank 1")
        assert finding.severity == "error" and "'t'" in finding.message and "rank 1" in finding.message


@given(tilings(), st.data())
def test_a_hole_is_counted(file: Path, made: tuple[np.ndarray, list[Cell]], data: st.DataObject) -> None:
    whole, cells = made
    gone = data.draw(st.integers(0, len(cells) - 1))
    boxes = stored(file, whole, cells)
    found = tile([*boxes[:gone], *boxes[gone + 1 :]], whole.shape, "I32", "t")
    assert found.missing == np.prod([n for _, n in cells[gone]], dtype=int)


@pytest.mark.parametrize(("offset", "shape"), [((0, 1), (2, 3)), ((-1, 0), (1, 1)), ((0,), (2,)), ((0, 0), (2, -1)), ((2, 0), (1, 3))])
def test_a_piece_outside_of_the_tensor_is_refused(offset: tuple[int, ...], shape: tuple[int, ...]) -> None:
    with pytest.raises(CorruptError, match="'t' has a piece"):
        check_inside(Box(offset, shape, Extent("f", 0, 0)), (2, 3), "'t'", "f")


@given(tilings(), st.data())
def test_a_cropped_piece_is_the_slice(file: Path, made: tuple[np.ndarray, list[Cell]], data: st.DataObject) -> None:
    whole, cells = made
    turned = data.draw(st.lists(st.booleans(), min_size=len(cells), max_size=len(cells)))
    for box, cell in zip(stored(file, whole, cells, turned), cells, strict=True):
        region = []
        for start, n in cell:
            first = data.draw(st.integers(0, n - 1))
            region.append((start + first, data.draw(st.integers(1, n - first))))
        part = crop(box, tuple(region), 4)
        want = whole[tuple(slice(s, s + n) for s, n in region)]
        there = part._replace(offset=(0,) * whole.ndim)
        assert b"".join(map(bytes_of, Joined((there,), TensorSpec("I32", want.shape)))) == want.tobytes()


def moved(loops: tuple[tuple[int, int, int], ...], so: int, to: int, source: np.ndarray, target: np.ndarray) -> None:
    """What a nest of loops means, element by element."""
    s, t = np.array(so), np.array(to)
    for n, a, b in loops:
        s, t = np.add.outer(s, np.arange(n) * a), np.add.outer(t, np.arange(n) * b)
    assert (target[t.ravel()] == -1).all()
    target[t.ravel()] = source[s.ravel()]


@st.composite
def nests(draw: st.DrawFn, shape: tuple[int, ...]) -> tuple[tuple[tuple[int, int, int], ...], int, int]:
    """A nest that takes part of a tensor with its axes split and in another order, as layouts give them: (loops, offset, elements)."""
    axes, offset, stride = [], 0, 1
    for n in reversed(shape):
        first = draw(st.integers(0, n - 1))
        left, step = draw(st.integers(1, n - first)), 1
        offset += first * stride
        while left > 1:
            size = draw(st.sampled_from([d for d in range(1, left + 1) if left % d == 0]))
            axes.append((size, step * stride))
            step, left = step * size, left // size
            if size == 1:
                axes.append((left, step * stride))
                break
        stride *= n
    order = draw(st.permutations(axes))
    loops, at = [], 1
    for n, s in reversed(order):
        loops.append((n, s, at))
        at *= n
    return tuple(reversed(loops)), offset, at


@given(tilings(), st.data())
def test_a_nest_over_the_pieces_moves_what_it_moves_over_the_whole(
    file: Path, made: tuple[np.ndarray, list[Cell]], data: st.DataObject
) -> None:
    whole, cells = made
    loops, offset, numel = data.draw(nests(whole.shape))
    turned = data.draw(st.lists(st.booleans(), min_size=len(cells), max_size=len(cells)))
    boxes = stored(file, whole, cells, turned)
    want, have = np.full(numel, -1), np.full(numel, -1)
    moved(loops, offset, 0, whole.ravel(), want)
    parts = by_boxes(loops, offset, 0, whole.shape, boxes)
    assert parts is not None
    for which, part, a, b in parts:
        moved(part, a, b, np.frombuffer(bytes_of(boxes[which].extent), "<i4"), have)
    np.testing.assert_array_equal(have, want)


@given(tilings())
def test_a_merged_loop_is_taken_apart_along_the_axes(file: Path, made: tuple[np.ndarray, list[Cell]]) -> None:
    whole, cells = made
    boxes = stored(file, whole, cells)
    have = np.full(whole.size, -1)
    parts = by_boxes(((whole.size, 1, 1),), 0, 0, whole.shape, boxes)
    assert parts is not None and len(parts) == len(boxes)
    for which, part, a, b in parts:
        moved(part, a, b, np.frombuffer(bytes_of(boxes[which].extent), "<i4"), have)
    np.testing.assert_array_equal(have, whole.ravel())


def test_a_nest_across_the_axes_is_told_and_only_the_pieces_that_are_needed_are_used() -> None:
    boxes = [Box((0, 0), (4, 3), Extent("a", 0, 48)), Box((0, 3), (4, 3), Extent("b", 0, 48))]
    assert by_boxes(((3, 7, 1),), 0, 0, (4, 6), boxes) is None  # a diagonal
    parts = by_boxes(((4, 6, 2), (2, 1, 1)), 4, 0, (4, 6), boxes)
    assert parts is not None and [p[0] for p in parts] == [1]
    assert list(cut(parts[0][1], parts[0][2], 0, 0, 8)) == [(((4, 3, 2), (2, 1, 1)), 1, 0)]
