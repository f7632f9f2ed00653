"""The layout language against numpy written out by hand: reshape, transpose, concatenate and stack, from what the layout means.

Elements are moved here by the sum in the language's own description of a nest, one index after another: nothing of the engine is used.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ckptkit.errors import UndecidedError
from ckptkit.schema.layout import Grown, Layout, LayoutError, Placed, Sizes, atoms, nest, numel, parse, region, stored_shape, terms

Array = np.ndarray
HEADS = {"heads": 3, "head_dim": 2, "hidden": 5}
CANONICAL = "(heads head_dim) hidden"


def numbers(*shape: int, start: int = 0) -> Array:
    """An array in which every element is another number."""
    return np.arange(start, start + prod(shape)).reshape(shape)


def moved(source: Array, a: Placed, b: Placed, shape: Sequence[int], sizes: Sizes, grown: Grown | None = None) -> Array:
    """What the nest from `a` to `b` puts into an empty (-1) tensor of `shape`."""
    loops, so, to = nest(a, b, sizes, grown)
    assert [x.target for x in loops] == sorted((x.target for x in loops), reverse=True), "the target's outermost loop comes first"
    s, t = np.array(so), np.array(to)
    for n, x, y in loops:
        s, t = np.add.outer(s, np.arange(n) * x), np.add.outer(t, np.arange(n) * y)
    out = np.full(prod(shape), -1)
    assert len(set(t.ravel())) == t.size, "an element is written twice"
    out[t.ravel()] = source.ravel()[s.ravel()]
    return out.reshape(tuple(shape))


def own(text: str) -> Placed:
    layout = parse(text)
    return Placed(layout, (layout,), 0)


def held(text: str, *parts: str, which: int = 0) -> Placed:
    return Placed(parse(text), tuple(parse(p) for p in parts), which)


# --- the words -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "dims", "join"),  # join: (dimension, first starred axis, behind the last)
    [
        ("hidden", (("hidden",),), None),
        ("1 hidden", ((), ("hidden",)), None),
        ("hidden (heads head_dim)", (("hidden",), ("heads", "head_dim")), None),
        ("*(heads head_dim) hidden", (("heads", "head_dim"), ("hidden",)), (0, 0, 2)),
        ("hidden *inner", (("hidden",), ("inner",)), (1, 0, 1)),
        ("(groups *per_group head_dim) hidden", (("groups", "per_group", "head_dim"), ("hidden",)), (0, 1, 2)),
        ("(heads *(nope value)) rank", (("heads", "nope", "value"), ("rank",)), (0, 1, 3)),
        ("hidden (intermediate *1)", (("hidden",), ("intermediate",)), (1, 1, 1)),
        ("", (), None),
    ],
)
def test_a_layout_is_read_as_it_is_written(text: str, dims: tuple[tuple[str, ...], ...], join: tuple[int, int, int] | None) -> None:
    layout = parse(text)
    assert layout.dims == dims and layout.axes == tuple(a for d in dims for a in d)
    assert layout.joins is (join is not None)
    assert layout == (Layout(dims) if join is None else Layout(dims, join))


@pytest.mark.parametrize("text", ["(a b", "((a b) c)", "a a", "(a b) a", "*a *b", "*(a b) *c", "(*a b) *c", "a.b", "a-b", "a *(b", "2"])
def test_what_contradicts_itself_is_refused_with_the_text(text: str) -> None:
    with pytest.raises(LayoutError) as e:
        parse(text)
    assert repr(text) in str(e.value)


# --- one part --------------------------------------------------------------------------------------------------------------------


@st.composite
def arrangements(draw: st.DrawFn) -> tuple[str, str, dict[str, int], Array, Array]:
    """(canonical layout, stored layout, sizes, canonical array, stored array): the same axes in any order, in any dimensions."""
    axes = draw(st.lists(st.sampled_from("abcdef"), min_size=1, max_size=4, unique=True))
    sizes = {a: draw(st.integers(1, 3)) for a in axes}
    order = draw(st.permutations(axes))

    def dims(of: Sequence[str]) -> list[list[str]]:
        out: list[list[str]] = [[]]
        for a in of:
            if draw(st.booleans()) and out[-1]:
                out.append([])
            out[-1].append(a)
        for _ in range(draw(st.integers(0, 1))):
            out.insert(draw(st.integers(0, len(out))), [])
        return out

    def text(of: list[list[str]]) -> str:
        return " ".join(f"({' '.join(d)})" if len(d) > 1 else d[0] if d else "1" for d in of)

    canonical, stored = dims(axes), dims(order)
    fine = numbers(*(sizes[a] for a in axes))
    turned = fine.transpose([axes.index(a) for a in order])
    shapes = [[prod(sizes[a] for a in d) for d in of] for of in (canonical, stored)]
    return text(canonical), text(stored), sizes, fine.reshape(shapes[0]), turned.reshape(shapes[1])


@given(arrangements())
def test_any_arrangement_of_axes_is_reshape_and_transpose_in_both_directions(case: tuple[str, str, dict[str, int], Array, Array]) -> None:
    canonical, stored, axes, array, want = case
    sizes = Sizes(axes)
    part = parse(canonical)
    there = Placed(parse(stored), (part,), 0)
    assert stored_shape(parse(stored), (part,), sizes) == want.shape
    assert stored_shape(part, (part,), sizes) == array.shape and numel(part, sizes) == array.size
    np.testing.assert_array_equal(moved(array, own(canonical), there, want.shape, sizes), want)
    np.testing.assert_array_equal(moved(want, there, own(canonical), array.shape, sizes), array)


@given(arrangements(), st.data())
def test_a_view_of_any_strides_is_walked_as_numpy_walks_it(
    case: tuple[str, str, dict[str, int], Array, Array], data: st.DataObject
) -> None:
    canonical, stored, axes, array, want = case
    order = data.draw(st.permutations(range(want.ndim)))
    storage = np.ascontiguousarray(want.transpose(order))  # what lies in the file
    view = storage.transpose(np.argsort(order))
    strides = tuple(s // view.itemsize for s in view.strides)
    there = Placed(parse(stored), (parse(canonical),), 0, strides)
    np.testing.assert_array_equal(moved(storage, there, own(canonical), array.shape, Sizes(axes)), array)


def test_halves_of_a_head_are_turned_into_pairs() -> None:
    stored = numbers(3 * 4 * 2, 5)
    want = stored.reshape(3, 4, 2, 5).transpose(0, 2, 1, 3).reshape(24, 5)
    sizes = Sizes({"heads": 3, "half": 4, "two": 2, "hidden": 5})
    there = held("(heads half two) hidden", "(heads two half) hidden")
    np.testing.assert_array_equal(moved(stored, there, own("(heads two half) hidden"), (24, 5), sizes), want)


# --- several parts ---------------------------------------------------------------------------------------------------------------

WEIGHTS = [numbers(6, 5, start=100 * i) for i in range(3)]
JOINED = {
    "*(heads head_dim) hidden": np.concatenate(WEIGHTS, 0),
    "hidden *(heads head_dim)": np.concatenate([w.T for w in WEIGHTS], 1),
    "1 hidden *(heads head_dim)": np.concatenate([w.T for w in WEIGHTS], 1)[None],
    "(heads head_dim) *hidden": np.concatenate(WEIGHTS, 1),
    "(*heads head_dim) hidden": np.concatenate([w.reshape(3, 2, 5) for w in WEIGHTS], 0).reshape(18, 5),
    "(heads *head_dim) hidden": np.concatenate([w.reshape(3, 2, 5) for w in WEIGHTS], 1).reshape(18, 5),
    "hidden (heads *head_dim)": np.concatenate([w.reshape(3, 2, 5).transpose(2, 0, 1) for w in WEIGHTS], 2).reshape(5, 18),
}


@pytest.mark.parametrize("text", JOINED)
@pytest.mark.parametrize("which", range(3))
def test_parts_are_joined_as_concatenate_joins_them(text: str, which: int) -> None:
    want, sizes = JOINED[text], Sizes(HEADS)
    there = held(text, *[CANONICAL] * 3, which=which)
    assert stored_shape(there.layout, there.parts, sizes) == want.shape
    np.testing.assert_array_equal(moved(want, there, own(CANONICAL), (6, 5), sizes), WEIGHTS[which])
    back = moved(WEIGHTS[which], own(CANONICAL), there, want.shape, sizes)
    mine = np.isin(want, WEIGHTS[which])
    np.testing.assert_array_equal(back[mine], want[mine])
    assert (back[~mine] == -1).all()  # the others' places stay untouched


@given(
    kv=st.integers(1, 3), per=st.integers(1, 4), d=st.integers(1, 3), hidden=st.integers(1, 4),
    order=st.permutations(range(3)),
)  # fmt: skip
def test_query_heads_of_one_group_lie_before_its_key_and_its_value(kv: int, per: int, d: int, hidden: int, order: list[int]) -> None:
    query, key, value = "(kv per d) hidden", "(kv d) hidden", "(kv d) hidden"
    q = numbers(kv * per * d, hidden)
    k, v = numbers(kv * d, hidden, start=1000), numbers(kv * d, hidden, start=2000)
    blocks = [q.reshape(kv, per, d, hidden), k.reshape(kv, 1, d, hidden), v.reshape(kv, 1, d, hidden)]
    want = np.concatenate([blocks[i] for i in order], 1).reshape(-1, hidden)
    texts, arrays, sizes = [query, key, value], [q, k, v], Sizes({"kv": kv, "per": per, "d": d, "hidden": hidden})
    for place, i in enumerate(order):
        there = held("(kv *per d) hidden", *(texts[j] for j in order), which=place)
        assert stored_shape(there.layout, there.parts, sizes) == want.shape
        np.testing.assert_array_equal(moved(want, there, own(texts[i]), arrays[i].shape, sizes), arrays[i])


def test_parts_of_other_widths_follow_one_another() -> None:
    q, kv = numbers(6, 5), numbers(4, 5, start=100)
    sizes = Sizes({"heads": 3, "groups": 2, "head_dim": 2, "hidden": 5})
    there = [held("*(heads groups head_dim) hidden", CANONICAL, "(groups head_dim) hidden", which=i) for i in (0, 1)]
    want = np.concatenate([q, kv])
    assert stored_shape(there[0].layout, there[0].parts, sizes) == (10, 5)
    np.testing.assert_array_equal(moved(want, there[1], own("(groups head_dim) hidden"), (4, 5), sizes), kv)
    np.testing.assert_array_equal(moved(want, there[0], own(CANONICAL), (6, 5), sizes), q)
    assert terms(there[0].layout, there[0].parts) == [[("heads", "head_dim"), ("groups", "head_dim")], [("hidden",)]]


def test_a_part_is_where_offset_and_strides_say() -> None:
    parts = [parse(CANONICAL)] * 3
    at = region(parse("hidden *(heads head_dim)"), parts, 2, [("heads", "head_dim"), ("hidden",)], Sizes(HEADS))
    assert at == (12, {("heads", "head_dim"): 1, ("hidden",): 18})
    at = region(parse("(heads *head_dim) hidden"), parts, 1, [("heads",), ("head_dim",), ("hidden",)], Sizes(HEADS))
    assert at == (2 * 5, {("heads",): 6 * 5, ("head_dim",): 5, ("hidden",): 1})


# --- what is not known -----------------------------------------------------------------------------------------------------------


def test_axes_that_no_side_takes_apart_need_only_their_product() -> None:
    sizes = Sizes({"hidden": 5}, {frozenset({"heads", "head_dim"}): 6})
    there = held("hidden (heads head_dim)", CANONICAL)
    assert atoms(parse(CANONICAL), (there.layout, parse(CANONICAL))) == [("heads", "head_dim"), ("hidden",)]
    np.testing.assert_array_equal(moved(WEIGHTS[0], own(CANONICAL), there, (5, 6), sizes), WEIGHTS[0].T)


def test_axes_that_one_side_takes_apart_are_asked_for_by_name() -> None:
    sizes = Sizes({"hidden": 5}, {frozenset({"heads", "head_dim"}): 6})
    there = held("(heads *head_dim) hidden", CANONICAL, CANONICAL)
    assert atoms(parse(CANONICAL), (there.layout,)) == [("heads",), ("head_dim",), ("hidden",)]
    with pytest.raises(UndecidedError, match="how large head_dim is") as e:
        nest(own(CANONICAL), there, sizes)
    assert e.value.hint == "give it: --set head_dim=N"


def test_a_product_is_known_by_its_axes_or_jointly() -> None:
    sizes = Sizes({"a": 2}, {frozenset({"b", "c"}): 15})
    assert [sizes.product(x) for x in ((), ("a",), ("b", "c"), ("a", "c", "b"), ("b",), ("a", "b"))] == [1, 2, 15, 30, None, None]
    other = sizes.copy()
    other.axis["b"] = 3
    assert sizes.product(("b",)) is None


# --- an axis that grows ----------------------------------------------------------------------------------------------------------


@given(have=st.integers(1, 6), want=st.integers(1, 6), width=st.integers(1, 4), first=st.integers(0, 6), turned=st.booleans())
def test_of_a_table_that_changes_its_rows_those_both_have_are_moved(have: int, want: int, width: int, first: int, turned: bool) -> None:
    table = numbers(have, width)
    small, large = Sizes({"vocab": have, "width": width}), Sizes({"vocab": want, "width": width})
    there = held("width vocab" if turned else "vocab width", "vocab width")
    out = np.full((want, width), -1)
    out[first:have] = table[first:want]
    shape = (width, want) if turned else (want, width)
    got = moved(table, own("vocab width"), there, shape, small, Grown("vocab", large, first))
    np.testing.assert_array_equal(got, out.T if turned else out)
