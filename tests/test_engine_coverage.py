"""A plan is refused, with the tensor's name, where its tasks do not write every element that it lays out exactly once."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plans import copy_of, go, plan_of, read_back, store, transposed

from ckptkit.containers import Slot
from ckptkit.engine.coverage import check_covers, covers
from ckptkit.engine.loop_nest import Nest
from ckptkit.errors import CheckpointError
from ckptkit.plan.values import Piece, Plan
from ckptkit.schema.loops import Loop, cut, reach


def whole(tmp_path: Path) -> Plan:
    source = list(store(tmp_path / "in", {n: np.arange(24, dtype="<f4") + i for i, n in enumerate("ab")}).values())
    tensors = [(n, "F32", (4, 6), (copy_of(i, 24),)) for i, n in enumerate(("first", "second"))]
    return plan_of(tmp_path / "out", source, tensors)


def refused(plan: Plan, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        go(plan)
    assert not Path(plan.target).exists()


def test_a_whole_plan_is_carried_out(tmp_path: Path) -> None:
    plan = whole(tmp_path)
    go(plan)
    assert read_back(plan, "second").ravel().tolist() == list(range(1, 25))


def test_a_tensor_that_nothing_writes_is_named(tmp_path: Path) -> None:
    plan = whole(tmp_path)
    refused(plan._replace(tasks=plan.tasks[:1]), "'second': the plan has a place for it and nothing that writes it")
    refused(plan._replace(tasks=()), r"'first': .* \(nor 1 other place\)")


def test_a_tensor_written_twice_or_elsewhere_is_named(tmp_path: Path) -> None:
    plan = whole(tmp_path)
    refused(plan._replace(tasks=(*plan.tasks, plan.tasks[0])), "'first': the plan writes it twice")
    moved = plan.tasks[1]._replace(slot=Slot(0, plan.tasks[1].slot.offset + 96, 96))
    refused(plan._replace(tasks=(plan.tasks[0], moved)), "'second': the plan writes it where the layout has no place for it")
    refused(plan._replace(tasks=(plan.tasks[0], plan.tasks[1]._replace(name="third"))), "'third': the plan writes it where the layout")


def test_a_place_of_a_split_tensor_that_nothing_writes_is_named(tmp_path: Path) -> None:
    plan = whole(tmp_path)
    task = plan.tasks[1]
    halves = tuple(Slot(0, task.slot.offset + at, 48) for at in (0, 48))
    one = task._replace(slot=halves[0], shape=(12,), pieces=(copy_of(1, 12),))
    split = plan._replace(layout=plan.layout._replace(split={"second": halves}))
    refused(split._replace(tasks=(plan.tasks[0], one)), "'second': the plan has a place for it and nothing that writes it$")
    two = one._replace(slot=halves[1], pieces=(copy_of(1, 12, 12),))
    go(split._replace(tasks=(plan.tasks[0], one, two)))
    assert read_back(plan, "second").ravel().tolist() == list(range(1, 25))


@pytest.mark.parametrize(
    ("pieces", "message"),
    [
        ((copy_of(0, 20),), "writes 20 of its 24 elements"),
        ((copy_of(0, 24), copy_of(1, 4)), "writes 28 of its 24 elements"),
        ((copy_of(0, 20), copy_of(1, 4)), "does not write element 20 of 24"),
        ((copy_of(0, 12), copy_of(1, 12, 0, 11)), "does not write element 23 of 24"),
        ((Piece(0, (Loop(4, 6, 5), Loop(6, 1, 1))),), "does not write element 21 of 24"),
        ((Piece(0, (Loop(4, 3, 6), Loop(3, 1, 1))), Piece(1, (Loop(4, 3, 6), Loop(3, 1, 1)), 0, 2)), "does not write element 5 of 24"),
        ((Piece(-1, (Loop(20, 0, 1),), 0, 0, "fill", 1.0), copy_of(0, 4, 0, 19)), "does not write element 23 of 24"),
    ],
)  # fmt: skip
def test_an_element_that_is_missed_or_written_twice_is_refused(tmp_path: Path, pieces: tuple[Piece, ...], message: str) -> None:
    plan = whole(tmp_path)
    refused(plan._replace(tasks=(plan.tasks[0], plan.tasks[1]._replace(pieces=pieces))), f"'second': the plan {message}")


def test_what_is_joined_interleaved_and_turned_is_read_off_the_loops() -> None:
    interleaved = [(((3, 0, 8), (4, 1, 1)), 0), (((3, 0, 8), (2, 1, 1)), 4), (((3, 0, 8), (2, 1, 1)), 6)]
    assert covers(interleaved, 0, 24)
    assert covers([(transposed(0, (4, 6), (1, 0)).loops, 0)], 0, 24)
    assert covers([(((12, 1, 1),), 0), (((2, 7, 6), (6, 1, 1)), 12)], 0, 24)
    assert not covers(interleaved[:2], 0, 24)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 4), min_size=1, max_size=4), st.data())
def test_the_answer_is_that_of_counting(shape: list[int], data: st.DataObject) -> None:
    """Boxes that numpy cuts out of an array; one is moved or made again as another sometimes."""
    order = data.draw(st.sampled_from(list(permutations(range(len(shape))))))
    array = np.arange(int(np.prod(shape))).reshape(shape)
    axis = data.draw(st.integers(0, len(shape) - 1))
    at = data.draw(st.integers(0, shape[axis]))
    parts = [p for p in np.split(array, [at], axis) if p.size]
    nests = [
        Nest(0, tuple((p.shape[i], 0, p.strides[i] // 8) for i in order if p.shape[i] > 1), 0, int(p.flat[0]), p.size, "copy", 0.0)
        for p in parts
    ]  # fmt: skip
    nests = [n._replace(loops=tuple(sorted(n.loops, key=lambda x: -x[2]))) for n in nests]
    check_covers(nests, "x", array.size)
    if len(parts) == 2 and parts[0].shape == parts[1].shape:
        with pytest.raises(CheckpointError, match="does not write element"):
            check_covers([nests[0], nests[0]], "x", array.size)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(1, 4), min_size=1, max_size=4), st.data())
def test_the_parts_that_a_nest_is_cut_into_are_the_nest(shape: list[int], data: st.DataObject) -> None:
    order = data.draw(st.permutations(range(len(shape))))
    gap = data.draw(st.integers(0, 3))
    source = np.arange(int(np.prod(shape)) * 2).reshape(*shape, 2)[..., 0].transpose(order)
    room = np.zeros([n + gap for n in source.shape], np.int64)
    loops = tuple((n, s // 8, t // 8) for n, s, t in zip(source.shape, source.strides, room.strides, strict=True))
    low = data.draw(st.integers(0, room.size))
    high = data.draw(st.integers(low, room.size))
    room[tuple(slice(n) for n in source.shape)] = source + 1
    got = np.zeros(room.size, np.int64)
    flat = np.arange(source.base.size if source.base is not None else 0) + 1
    for part, so, to in cut(loops, 0, 0, low, high):
        assert low <= to and to + reach(part, 2) <= high
        for at in np.ndindex(*(n for n, _, _ in part)):
            got[to + sum(i * x[2] for i, x in zip(at, part, strict=True))] += flat[
                so + sum(i * x[1] for i, x in zip(at, part, strict=True))
            ]
    assert got[low:high].tolist() == room.ravel()[low:high].tolist()
    assert not got[:low].any() and not got[high:].any()
