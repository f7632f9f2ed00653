"""Loop nests stay the same elements when they are simplified."""

from __future__ import annotations

from itertools import pairwise, product

from hypothesis import given
from hypothesis import strategies as st

from ckptkit.schema.loops import Loop, simplify

nests = st.lists(st.builds(Loop, st.integers(1, 4), st.integers(-40, 40), st.integers(0, 40)), max_size=4).map(tuple)


def elements(loops: tuple[Loop, ...]) -> list[tuple[int, int]]:
    """Every (source, target) element in the order in which the loops come to it."""
    at = product(*(range(x.size) for x in loops))
    return [
        (sum(i * x.source for i, x in zip(k, loops, strict=True)), sum(i * x.target for i, x in zip(k, loops, strict=True))) for k in at
    ]


@given(nests)
def test_a_simplified_nest_moves_the_same_elements_in_the_same_order(loops: tuple[Loop, ...]) -> None:
    assert elements(simplify(loops)) == elements(loops)


@given(nests)
def test_nothing_is_left_that_could_be_dropped_or_merged(loops: tuple[Loop, ...]) -> None:
    out = simplify(loops)
    assert all(x.size != 1 for x in out) and simplify(out) == out
    assert not any(a.source == b.source * b.size and a.target == b.target * b.size for a, b in pairwise(out))


@given(st.lists(st.integers(1, 5), max_size=4))
def test_a_row_major_copy_is_one_loop_or_none(shape: list[int]) -> None:
    step, loops, n = 1, [], 1
    for size in reversed(shape):
        loops.insert(0, Loop(size, step, step))
        step, n = step * size, n * size
    assert simplify(tuple(loops)) == ((Loop(n, 1, 1),) if n > 1 else ())


def test_a_transposition_keeps_both_loops() -> None:
    assert simplify((Loop(3, 1, 2), Loop(2, 3, 1))) == (Loop(3, 1, 2), Loop(2, 3, 1))


def test_an_empty_nest_stays_empty() -> None:
    assert elements(simplify((Loop(3, 1, 1), Loop(0, 1, 1)))) == []
