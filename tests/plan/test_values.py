"""A plan is plain data: it survives JSON, and its pieces can be cut anywhere."""

from __future__ import annotations

import json
from itertools import pairwise
from math import prod

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ckptkit.containers import FileLayout, Part, Slot
from ckptkit.packing import Form
from ckptkit.plan.values import Drawn, Piece, Plan, Source, Task, cut, from_json, is_copy, to_json
from ckptkit.schema.loops import Loop
from ckptkit.tensors import Extent

st.register_type_strategy(Form, st.builds(Form, options=st.dictionaries(st.text(), st.integers() | st.text() | st.booleans())))


@st.composite
def pieces(draw: st.DrawFn) -> tuple[Piece, int]:
    """A piece that writes into a row-major tensor (its loops in any order, some of its elements), and how many elements that has."""
    shape = draw(st.lists(st.integers(1, 5), max_size=4))
    loops, step = [], 1
    offset = 0
    for size in reversed(shape):
        n = draw(st.integers(1, size))
        offset += draw(st.integers(0, size - n)) * step
        loops.append(Loop(n, draw(st.integers(-30, 30)), step))
        step *= size
    return Piece(0, tuple(draw(st.permutations(loops))), draw(st.integers(0, 50)), offset), prod(shape)


def written(piece: Piece) -> dict[int, int]:
    """Target element -> the source element that it gets; none may be written twice."""
    s, t = np.array(piece.source_offset), np.array(piece.target_offset)
    for n, a, b in piece.loops:
        s, t = np.add.outer(s, np.arange(n) * a), np.add.outer(t, np.arange(n) * b)
    out = dict(zip(t.ravel().tolist(), s.ravel().tolist(), strict=True))
    assert len(out) == t.size
    return out


@given(pieces(), st.data())
def test_a_cut_writes_exactly_the_elements_between_its_ends_with_their_own_sources(case: tuple[Piece, int], data: st.DataObject) -> None:
    piece, n = case
    start = data.draw(st.integers(0, n))
    stop = data.draw(st.integers(start, n + 3))
    got: dict[int, int] = {}
    for part in cut(piece, start, stop):
        assert part.op == piece.op and part.source == piece.source
        mine = written(part)
        assert not got.keys() & mine.keys()
        got |= mine
    assert {t + start: s for t, s in got.items()} == {t: s for t, s in written(piece).items() if start <= t < stop}


@given(pieces(), st.lists(st.integers(0, 700), max_size=5))
def test_cuts_one_after_another_are_the_whole_piece(case: tuple[Piece, int], at: list[int]) -> None:
    piece, n = case
    borders = [0, *sorted(min(a, n) for a in at), n]
    got: dict[int, int] = {}
    for start, stop in pairwise(borders):
        got |= {t + start: s for part in cut(piece, start, stop) for t, s in written(part).items()}
    assert got == written(piece)


def test_a_cut_of_nothing_is_nothing() -> None:
    assert list(cut(Piece(0, (Loop(4, 1, 1), Loop(0, 1, 1))), 0, 10)) == []
    assert list(cut(Piece(0, (Loop(4, 1, 1),), 0, 5), 0, 5)) == []


@pytest.mark.parametrize(
    ("piece", "copies"),
    [
        (Piece(0, (Loop(5, 1, 1),)), True),
        (Piece(0, ()), True),
        (Piece(0, (Loop(5, 2, 1),)), False),
        (Piece(0, (Loop(5, 1, 2),)), False),
        (Piece(0, (Loop(5, 6, 6), Loop(6, 1, 1))), False),
        (Piece(-1, (Loop(5, 1, 1),), op="fill"), False),
        (Piece(0, (Loop(5, 1, 1),), op="add"), False),
    ],
)
def test_only_one_contiguous_run_to_another_is_a_copy(piece: Piece, copies: bool) -> None:
    assert is_copy(piece) is copies


names = st.text(max_size=6)
counts = st.integers(0, 1 << 50)
slots = st.builds(Slot, st.integers(0, 3), counts, counts)
loops = st.lists(st.builds(Loop, st.integers(1, 9), st.integers(-9, 9), st.integers(1, 9)), max_size=3).map(tuple)
some_pieces = st.builds(
    Piece,
    st.integers(-1, 3),
    loops,
    counts,
    counts,
    st.sampled_from(["copy", "add", "fill", "affine"]),
    st.floats(allow_nan=False),
    st.floats(allow_nan=False),
)
extents = st.lists(st.builds(Extent, names, counts, counts), max_size=2).map(tuple)
drawn = st.builds(Drawn, names, st.floats(0, 1), names, counts, counts)
sources = st.builds(Source, names, st.sampled_from(["F32", "BF16"]), extents, st.none() | st.binary(max_size=9), st.none() | drawn)
shapes = st.lists(st.integers(0, 9), max_size=3).map(tuple)
tasks = st.builds(Task, names, slots, st.sampled_from(["F32", "I64"]), shapes, st.lists(some_pieces, max_size=2).map(tuple))
pairs = st.lists(st.tuples(names, names), max_size=2).map(tuple)
layouts = st.builds(
    FileLayout,
    names,
    st.lists(st.tuples(names, st.integers(-1, 1 << 40)), max_size=2).map(tuple),
    st.dictionaries(names, slots, max_size=2),
    st.lists(st.builds(Part, st.integers(0, 3), counts, st.binary(max_size=9)), max_size=2).map(tuple),
    st.none() | st.just("crc32"),
    st.dictionaries(names, st.integers() | names, max_size=2),
    st.dictionaries(names, st.lists(slots, max_size=2).map(tuple), max_size=2),
)
inputs = st.lists(st.tuples(names, counts, counts), max_size=2).map(tuple)
plans = st.builds(
    Plan,
    names,
    st.booleans(),
    st.lists(sources, max_size=2).map(tuple),
    st.lists(tasks, max_size=2).map(tuple),
    layouts,
    inputs,
    pairs,
    pairs,
)


@given(plans)
def test_a_plan_is_the_same_after_a_trip_through_json_text(plan: Plan) -> None:
    assert from_json(json.loads(json.dumps(to_json(plan)))) == plan
