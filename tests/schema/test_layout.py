"""The layout language against arrays joined by hand with numpy: every star, both ways, over random sizes."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ckptkit.schema.layout import LayoutError, Placed, Sizes, nest, parse, stored_shape, terms

Array = NDArray[np.int64]


def numbers(shape: Sequence[int], start: int = 0) -> Array:
    return np.arange(start, start + prod(shape)).reshape(shape)


def move(source: Array, a: Placed, target: Array, b: Placed, sizes: Sizes) -> None:
    """What an engine does with a nest: element by element, from the formula in the language's description."""
    loops, so, to = nest(a, b, sizes)
    flat, out = source.reshape(-1), target.reshape(-1)
    for at in np.ndindex(*(x.size for x in loops)):
        i = so + sum(k * x.source for k, x in zip(at, loops, strict=True))
        o = to + sum(k * x.target for k, x in zip(at, loops, strict=True))
        out[o] = flat[i]


def joined(text: str, parts: Sequence[str], arrays: Sequence[Array], sizes: Sizes, index: int = 0, into: Array | None = None) -> Array:
    """The stored tensor that holds the canonical `arrays`, made by the language."""
    layout, own = parse(text), tuple(map(parse, parts))
    out = np.full(stored_shape(layout, own, sizes), -1, np.int64) if into is None else into
    for i, array in enumerate(arrays):
        move(array, Placed(own[i], (own[i],), 0), out, Placed(layout, own, i, at=index), sizes)
    return out


def taken_apart(stored: Array, text: str, parts: Sequence[str], sizes: Sizes, index: int = 0) -> list[Array]:
    layout, own = parse(text), tuple(map(parse, parts))
    out = []
    for i, p in enumerate(own):
        array = np.full(stored_shape(p, (p,), sizes), -1, np.int64)
        move(stored, Placed(layout, own, i, at=index), array, Placed(p, (p,), 0), sizes)
        out.append(array)
    return out


def holds(text: str, parts: Sequence[str], arrays: Sequence[Array], want: Array, **axes: int) -> None:
    """The language joins the arrays as it was done by hand, and takes them apart again."""
    sizes = Sizes(axes)
    np.testing.assert_array_equal(joined(text, parts, arrays, sizes), want)
    for got, array in zip(taken_apart(want, text, parts, sizes), arrays, strict=True):
        np.testing.assert_array_equal(got, array)


def test_a_star_before_an_inner_group_joins_within_each_head() -> None:
    heads, nope, value, rank = 3, 5, 4, 7
    k, v = numbers((heads * nope, rank)), numbers((heads * value, rank), 1000)
    by_hand = np.concatenate([x for h in range(heads) for x in (k[h * nope : (h + 1) * nope], v[h * value : (h + 1) * value])])
    holds(
        "(heads *(nope value)) rank", ("(heads nope) rank", "(heads value) rank"), (k, v), by_hand,
        heads=heads, nope=nope, value=value, rank=rank,
    )  # fmt: skip


def test_a_group_of_key_heads_holds_four_parts_of_two_widths() -> None:
    keys, dk, ratio, dv, hidden = 2, 3, 2, 5, 4
    q, k = numbers((keys * dk, hidden)), numbers((keys * dk, hidden), 100)
    v, z = numbers((keys * ratio * dv, hidden), 200), numbers((keys * ratio * dv, hidden), 400)
    rows = []
    for g in range(keys):
        rows += [x[g * dk : (g + 1) * dk] for x in (q, k)] + [x[g * ratio * dv : (g + 1) * ratio * dv] for x in (v, z)]
    narrow, wide = "(keys dk) hidden", "(keys ratio dv) hidden"
    holds(
        "(keys *(dk ratio dv)) hidden", (narrow, narrow, wide, wide), (q, k, v, z), np.concatenate(rows),
        keys=keys, dk=dk, ratio=ratio, dv=dv, hidden=hidden,
    )  # fmt: skip


def test_query_key_value_follow_one_another_within_each_head() -> None:
    heads, d, hidden = 3, 2, 5
    parts = [numbers((heads * d, hidden), 100 * i) for i in range(3)]
    by_hand = np.stack([p.reshape(heads, d, hidden) for p in parts], axis=1).reshape(3 * heads * d, hidden)
    holds("(heads *(d)) hidden", ["(heads d) hidden"] * 3, parts, by_hand, heads=heads, d=d, hidden=hidden)


def test_several_query_heads_stand_before_the_key_and_value_that_they_share() -> None:
    kv, per, d, hidden = 2, 3, 2, 4
    q, k, v = numbers((kv * per * d, hidden)), numbers((kv * d, hidden), 100), numbers((kv * d, hidden), 200)
    grouped = [a.reshape(kv, -1, d, hidden) for a in (q, k, v)]
    by_hand = np.concatenate(grouped, axis=1).reshape(-1, hidden)
    holds(
        "(kv *per d) hidden", ("(kv per d) hidden", "(kv d) hidden", "(kv d) hidden"), (q, k, v), by_hand,
        kv=kv, per=per, d=d, hidden=hidden,
    )  # fmt: skip


def test_a_star_before_one_alternates_element_by_element() -> None:
    width, hidden = 4, 3
    gate, up = numbers((width, hidden)), numbers((width, hidden), 100)
    by_hand = np.empty((hidden, 2 * width), np.int64)
    by_hand[:, ::2], by_hand[:, 1::2] = gate.T, up.T
    holds("hidden (width *1)", ("width hidden", "width hidden"), (gate, up), by_hand, width=width, hidden=hidden)


def test_parts_of_other_widths_follow_one_another_along_a_starred_dimension() -> None:
    heads, kv, d, hidden = 4, 2, 3, 5
    q, k, v = numbers((heads * d, hidden)), numbers((kv * d, hidden), 100), numbers((kv * d, hidden), 200)
    own = ("(heads d) hidden", "(kv d) hidden", "(kv d) hidden")
    holds("*(heads kv d) hidden", own, (q, k, v), np.concatenate((q, k, v)), heads=heads, kv=kv, d=d, hidden=hidden)
    holds("hidden *(heads kv d)", own, (q, k, v), np.concatenate((q, k, v)).T, heads=heads, kv=kv, d=d, hidden=hidden)


def test_a_star_on_a_placeholder_stacks_its_places_beside_another_star() -> None:
    experts, width, hidden = 3, 4, 2
    gates = [numbers((width, hidden), 100 * e) for e in range(experts)]
    ups = [numbers((width, hidden), 100 * e + 50) for e in range(experts)]
    sizes = Sizes({"experts": experts, "width": width, "hidden": hidden})
    by_hand = {
        "*{expert} *(width) hidden": np.stack([np.concatenate((g, u)) for g, u in zip(gates, ups, strict=True)]),
        "*{expert} hidden *(width)": np.stack([np.concatenate((g, u)).T for g, u in zip(gates, ups, strict=True)]),
        "*{expert} hidden (width *1)": np.stack([np.stack((g.T, u.T), -1).reshape(hidden, -1) for g, u in zip(gates, ups, strict=True)]),
        "hidden *{expert} *(width)": np.stack([np.concatenate((g, u)).T for g, u in zip(gates, ups, strict=True)], axis=1),
    }
    own = ("width hidden", "width hidden")
    for text, want in by_hand.items():
        made: Array | None = None
        for e in range(experts):
            made = joined(text, own, (gates[e], ups[e]), sizes, e, made)
            gate, up = taken_apart(want, text, own, sizes, e)
            np.testing.assert_array_equal(gate, gates[e])
            np.testing.assert_array_equal(up, ups[e])
        np.testing.assert_array_equal(made, want)


def test_halves_of_rotary_pairs_are_turned_into_neighbours() -> None:
    heads, half, hidden = 3, 4, 2
    stored = numbers((heads * 2 * half, hidden))
    by_hand = stored.reshape(heads, 2, half, hidden).transpose(0, 2, 1, 3).reshape(-1, hidden)
    holds("(heads half two) hidden", ("(heads two half) hidden",), (stored,), by_hand, heads=heads, two=2, half=half, hidden=hidden)


def test_an_axis_may_have_a_size_of_its_own_in_each_layer() -> None:
    layout = parse("intermediate@layer hidden")
    assert layout.by == ("layer",)
    assert layout.at({"layer": 3}) == parse("intermediate@3 hidden") == layout.at({"layer": 3}).at({"layer": 4})
    assert stored_shape(layout.at({"layer": 3}), (layout.at({"layer": 3}),), Sizes({"intermediate@3": 7, "hidden": 2})) == (7, 2)


AXES = "abcdefg"


@st.composite
def joins(draw: st.DrawFn) -> tuple[str, list[str], list[Array], Array, dict[str, int]]:
    """A random layout with one star, its parts, and the stored tensor as np.concatenate makes it."""
    sizes = {a: draw(st.integers(1, 3)) for a in AXES}
    outer, inner, other = (draw(st.integers(0, 1)) for _ in range(3))
    before, after, beside = list("ab")[: outer + 1 if draw(st.booleans()) else 0], list("c")[:inner], list("d")[:other]
    group = list("efg")[: draw(st.integers(1, 3))]
    count = draw(st.integers(2, 3))
    owned = [[a for a in group if draw(st.booleans())] for _ in range(count)]
    group = [a for a in group if any(a in o for o in owned)]
    first = draw(st.booleans())  # whether the joined dimension comes first
    turned = draw(st.booleans())  # whether the canonical orientation is the other one
    parts, arrays, stacks = [], [], []
    for i, own in enumerate(owned):
        axes = [*before, *own, *after]
        a = numbers([prod(sizes[x] for x in axes), prod(sizes[x] for x in beside)], 10000 * i)
        arrays.append(a.T.copy() if turned else a)
        dims = [f"({' '.join(axes)})" if axes else "1", f"({' '.join(beside)})" if beside else "1"]
        parts.append(" ".join(reversed(dims) if turned else dims))
        lead, trail = prod(sizes[x] for x in before), prod(sizes[x] for x in after)
        stacks.append(a.reshape(lead, -1, trail, a.shape[1]))
    want = np.concatenate(stacks, axis=1).reshape(-1, stacks[0].shape[-1])
    starred = f"*({' '.join(group)})" if group else "*1"
    text = " ".join([*before, starred, *after])
    dim = f"({text})"
    side = f"({' '.join(beside)})" if beside else "1"
    return (f"{dim} {side}" if first else f"{side} {dim}"), parts, arrays, want if first else want.T.copy(), sizes


@settings(max_examples=300, deadline=None)
@given(joins())
def test_any_join_is_what_concatenate_makes_and_its_inverse(case: tuple[str, list[str], list[Array], Array, dict[str, int]]) -> None:
    text, parts, arrays, want, sizes = case
    known = Sizes(sizes)
    layout, own = parse(text), [parse(p) for p in parts]
    assert tuple(sum(prod(sizes[a] for a in t) for t in dim) for dim in terms(layout, own)) == want.shape
    np.testing.assert_array_equal(joined(text, parts, arrays, known), want)
    for got, array in zip(taken_apart(want, text, parts, known), arrays, strict=True):
        np.testing.assert_array_equal(got, array)


@pytest.mark.parametrize(
    "text",
    [
        "(a b", "a)", "((a) b)", "*(a) *(b)", "(*a b) *c", "a a", "a.b", "*{e} *{f}", "{e} a", "(a *{e})", "(a *(b *(c)))", "a-b",
        "*{e} *(a) *b",
    ],
)  # fmt: skip
def test_what_is_no_layout_is_refused(text: str) -> None:
    with pytest.raises(LayoutError):
        parse(text)
