"""Name templates and patterns, against names written by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ckptkit.schema import count_name, expand, pattern_of, placeholders
from ckptkit.schema.templates import pattern_of_text, patterns_of, reduce_name, reduce_names, single, slot_of, stem, tally


@pytest.mark.parametrize(
    ("template", "at", "counts", "name"),
    [
        ("pooler.bias", {}, {}, "pooler.bias"),
        ("encoder.layer.{layer}.output.bias", {"layer": 11}, {}, "encoder.layer.11.output.bias"),
        ("h{layer}/mlp/{expert}/w", {"layer": 3, "expert": 12}, {}, "h3/mlp/12/w"),
        ("block_{layer:3}/scale", {"layer": 7}, {}, "block_007/scale"),
        ("block_{layer:3}/scale", {"layer": 1234}, {}, "block_1234/scale"),
        ("layer_with_weights-{layer+4}/0", {"layer": 2}, {}, "layer_with_weights-6/0"),
        ("variable_{layer*7+6}", {"layer": 2}, {}, "variable_20"),
        ("variable_{#layer*7+7}", {}, {"layers": 3}, "variable_28"),
        ("variable_{#layer+1}", {}, {}, "variable_1"),
        ("layer{group!}/kernel", {"group": 0}, {}, "layer/kernel"),
        ("100%/{layer}", {"layer": 1}, {}, "100%/1"),
    ],
)
def test_a_template_becomes_the_name_at_a_place(template: str, at: dict[str, int], counts: dict[str, int], name: str) -> None:
    assert expand(template, at, counts) == name


def test_only_what_has_a_place_is_a_placeholder() -> None:
    assert placeholders("a.{layer}.b.{expert}.{#layer+4}") == ("layer", "expert")
    assert single("layer{group!}/x.{layer}") == ("group",)
    assert count_name("layer") == "layers"


@pytest.mark.parametrize(
    ("name", "pattern", "numbers"),
    [
        ("pooler.bias", "pooler.bias", ()),
        ("layer.12.bias", "layer.#.bias", ("12",)),
        ("h0/mlp/007/w", "h#/mlp/#/w", ("0", "007")),
        ("12", "#", ("12",)),
        ("w2v2", "w#v#", ("2", "2")),
        ("h1#.w", "h#＃.w", ("1",)),  # a mark of the name's own is none of ours
        ("h#.w", "h＃.w", ()),
        ("x٣", "x٣", ()),  # a digit of another script is no number
    ],
)
def test_a_name_reduces_to_its_pattern_and_numbers(name: str, pattern: str, numbers: tuple[str, ...]) -> None:
    assert reduce_name(name) == (pattern, numbers)
    assert pattern_of_text(name) == pattern and patterns_of([name]) == [pattern]


words = st.text("abw/._-", min_size=1, max_size=6)


@given(words, words, words, st.integers(0, 10**8), st.integers(0, 10**8))
def test_what_a_template_gives_reduces_to_the_templates_pattern_with_the_places_as_numbers(a: str, b: str, c: str, i: int, j: int) -> None:
    template = f"{a}{{layer}}{b}{{expert}}{c}"
    name = f"{a}{i}{b}{j}{c}"
    assert expand(template, {"layer": i, "expert": j}) == name
    assert reduce_name(name) == (pattern_of(template), (str(i), str(j))) == (f"{a}#{b}#{c}", (str(i), str(j)))


@given(st.lists(st.text("ab#./01＃", max_size=8) | st.text(st.characters(exclude_characters="\n"), max_size=8), max_size=8, unique=True))
def test_many_names_at_once_reduce_as_each_alone(names: list[str]) -> None:
    assert reduce_names(names) == {n: reduce_name(n)[0] for n in names}


def test_a_line_break_in_a_name_does_not_shift_the_others() -> None:
    assert reduce_names(["a\n1", "b2"]) == {"a\n1": "a\n#", "b2": "b#"}


@pytest.mark.parametrize(
    ("template", "pattern"),
    [
        ("h{layer}.w", "h#.w"),
        ("v_{layer*7+6}", "v_#"),
        ("v_{#layer+4}/0", "v_#/#"),
        ("layer{group!}/k", "layer/k"),
        ("b2.{layer:3}", "b#.#"),
    ],
)
def test_a_templates_pattern_has_a_mark_for_every_number_that_is_written(template: str, pattern: str) -> None:
    assert pattern_of(template) == pattern


@pytest.mark.parametrize(
    ("slot", "said"),
    [
        ("{layer}", (False, "layer", 1, 0, 0)),
        ("{layer:3}", (False, "layer", 1, 0, 3)),
        ("{layer*7+6}", (False, "layer", 7, 6, 0)),
        ("{#layer+4}", (True, "layer", 1, 4, 0)),
    ],
)
def test_a_slot_says_what_its_number_means(slot: str, said: tuple[bool, str, int, int, int]) -> None:
    assert slot_of(slot) == said


def test_patterns_are_counted_in_the_order_they_are_met() -> None:
    assert list(tally(["b", "a", "b"]).items()) == [("b", 2), ("a", 1)]
    assert [stem(p) for p in ("bert/pooler/kernel", "h#.ln.weight", "w")] == ["bert", "h#", "w"]
