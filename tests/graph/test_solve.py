"""Sizes from shapes that are written by hand, and every shape that disagrees found with both numbers."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import tiny
from hypothesis import given
from hypothesis import strategies as st

from ckptkit.graph.solve import Mismatch, Solution, solve
from ckptkit.schema import Architecture, Row
from ckptkit.schema.templates import reduce_name

Shapes = dict[str, tuple[int, ...]]


def by_row(arch: Architecture, naming: str, shapes: Shapes, prefix: str = "") -> dict[Row, dict[str, tuple[int, ...]]]:
    out: dict[Row, dict[str, tuple[int, ...]]] = {}
    for name, shape in shapes.items():
        m = arch.table(naming).match(*reduce_name(name), prefix)
        assert m is not None, name
        out.setdefault(m.row, {})[name] = shape
    return out


def solved(shapes: Shapes, given: Mapping[str, int] | None = None, naming: str = "lined", arch: Architecture | None = None) -> Solution:
    arch = arch or tiny.architecture()
    return solve(arch, by_row(arch, naming, shapes, "net." if naming == "lined" else ""), given)


def said(m: Mismatch) -> tuple[str, int, int, int]:
    return m.name, m.dim, m.have, m.want


sizes = st.fixed_dictionaries(
    {"heads": st.integers(1, 4), "head_dim": st.integers(1, 4), "inner": st.integers(1, 9), "vocab": st.integers(1, 40)}
)


@given(sizes, st.integers(1, 4), st.sampled_from(["lined", "fused"]))
def test_the_sizes_are_those_that_the_shapes_were_written_with(n: dict[str, int], layers: int, naming: str) -> None:
    shapes = (tiny.lined_shapes if naming == "lined" else tiny.fused_shapes)(layers, **n)
    found = solved(shapes, naming=naming)
    hidden = n["heads"] * n["head_dim"]
    assert (found.mismatches, found.broken) == ((), ())
    assert {a: found.sizes.axis.get(a) for a in ("hidden", "inner", "vocab")} == {
        "hidden": hidden,
        "inner": n["inner"],
        "vocab": n["vocab"],
    }
    assert found.sizes.product(("heads", "head_dim")) == hidden
    assert "heads" not in found.sizes.axis  # no shape tells heads and head_dim apart, and none is guessed


@given(sizes, st.integers(1, 3), st.sampled_from(["lined", "fused"]))
def test_with_the_heads_given_the_heads_width_follows(n: dict[str, int], layers: int, naming: str) -> None:
    shapes = (tiny.lined_shapes if naming == "lined" else tiny.fused_shapes)(layers, **n)
    found = solved(shapes, {"heads": n["heads"]}, naming)
    assert found.sizes.axis["head_dim"] == n["head_dim"] and (found.mismatches, found.broken) == ((), ())


LINED = tiny.lined_shapes(3)


@given(st.sampled_from(sorted(n for n in LINED if "layers" in n)), st.integers(1, 50), st.data())
def test_one_wrong_dimension_among_layers_is_named_with_what_it_is_and_what_it_needs(name: str, size: int, data: st.DataObject) -> None:
    dim = data.draw(st.integers(0, len(LINED[name]) - 1))
    have = LINED[name][dim]
    wrong = {**LINED, name: tuple(size if i == dim else n for i, n in enumerate(LINED[name]))}
    assert list(map(said, solved(wrong).mismatches)) == ([(name, dim, size, have)] if size != have else [])


def test_a_transposed_matrix_is_wrong_in_both_dimensions() -> None:
    found = solved({**LINED, "net.layers.1.up.weight": (6, 7)})
    assert list(map(said, found.mismatches)) == [("net.layers.1.up.weight", 0, 6, 7), ("net.layers.1.up.weight", 1, 7, 6)]
    assert [m.axes for m in found.mismatches] == [("inner",), ("hidden",)]


def test_another_number_of_dimensions_is_a_mismatch_of_its_own() -> None:
    found = solved({**LINED, "net.layers.1.norm.bias": (1, 6), "net.layers.2.up.weight": ()})
    assert sorted(map(said, found.mismatches)) == [("net.layers.1.norm.bias", -1, 2, 1), ("net.layers.2.up.weight", -1, 0, 2)]


def test_the_most_tensors_decide_and_the_minority_is_named() -> None:
    shapes = {**LINED, **{f"net.layers.{i}.up.weight": (9, 6) for i in (0, 2)}}
    found = solved(shapes)
    assert found.sizes.axis["inner"] == 9 and list(map(said, found.mismatches)) == [("net.layers.1.up.weight", 0, 7, 9)]


def test_between_as_many_shapes_the_one_that_agrees_with_the_rest_counts() -> None:
    two = tiny.lined_shapes(2)
    found = solved({**two, "net.layers.0.norm.weight": (5,)})
    assert list(map(said, found.mismatches)) == [("net.layers.0.norm.weight", 0, 5, 6)]


def test_a_row_that_alone_tells_a_size_is_read_off_the_shape_that_fits_the_rest() -> None:
    found = solved({**tiny.lined_shapes(2), "net.layers.0.up.weight": (8, 5)})
    assert found.sizes.axis["inner"] == 7
    assert list(map(said, found.mismatches)) == [("net.layers.0.up.weight", 0, 8, 7), ("net.layers.0.up.weight", 1, 5, 6)]


def test_of_a_sum_with_one_unknown_the_rest_is_taken_off() -> None:
    modules = {"query": tiny.linear("heads head_dim", "hidden", bias=False), "key": tiny.linear("groups head_dim", "hidden", bias=False)}
    row = ("query.weight", "key.weight", "*(heads groups head_dim) hidden")
    arch = tiny.architecture(tiny.dialect("one", rows={"qk": row}), modules=modules, relations=())
    found = solve(arch, by_row(arch, "one", {"qk": (10, 5)}), {"heads": 3, "head_dim": 2})
    assert found.sizes.axis["groups"] == 2 and found.mismatches == ()


def test_each_size_says_which_tensor_it_was_read_from() -> None:
    found = solved(tiny.lined_shapes(1))
    assert found.origin["vocab"] == ("net.tokens.weight", 0)
    assert found.origin["inner"] == ("net.layers.0.up.weight", 0)
    name, dim = found.origin["hidden"]
    assert tiny.lined_shapes(1)[name][dim] == 6


def test_parts_joined_in_one_tensor_are_taken_apart_by_their_number() -> None:
    found = solved({**tiny.fused_shapes(2), "t/block_02/qkv/w": (6, 17)}, naming="fused")
    assert list(map(said, found.mismatches)) == [("t/block_02/qkv/w", 1, 17, 18)]


def test_a_size_that_divides_with_a_rest_is_a_mismatch_and_not_unknown() -> None:
    arch = tiny.architecture(tiny.dialect("one", rows={"w": ("tokens.weight", "(vocab two) hidden")}), fixed={"two": 2}, modules={
        "tokens": tiny.embedding("(vocab two) hidden")}, relations=())  # fmt: skip
    found = solve(arch, by_row(arch, "one", {"w": (33, 4)}))
    assert found.sizes.axis["vocab"] == 16 and list(map(said, found.mismatches)) == [("w", 0, 33, 32)]


def test_a_relation_that_does_not_hold_is_said_with_both_numbers() -> None:
    found = solved(LINED, {"heads": 4, "head_dim": 3})
    assert (("hidden",), 6, ("heads", "head_dim"), 12) in found.broken


def test_what_is_given_stands_above_what_would_be_solved() -> None:
    found = solved(LINED, {"inner": 8})
    assert sorted(map(said, found.mismatches)) == [(f"net.layers.{i}.up.weight", 0, 7, 8) for i in range(3)]


def test_of_two_that_may_be_tied_the_untied_one_tells_the_size() -> None:
    arch = tiny.architecture()
    shapes = {"lm_head.weight": (13, 6), "net.tokens.weight": (11, 6)}
    for order in (list(shapes), list(reversed(shapes))):
        found = solved({n: shapes[n] for n in order}, arch=arch)
        assert found.sizes.axis["vocab"] == 11 and list(map(said, found.mismatches)) == [("lm_head.weight", 0, 13, 11)]


@pytest.mark.parametrize("shape", [(0, 6), (0, 0)])
def test_an_empty_dimension_is_a_size_like_any(shape: tuple[int, int]) -> None:
    assert solved({"net.tokens.weight": shape}).sizes.axis["vocab"] == 0
