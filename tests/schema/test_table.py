"""The rows of a naming, and how a stored name finds its row: against names written by hand."""

from __future__ import annotations

import pytest
import tiny
from hypothesis import given
from hypothesis import strategies as st

from ckptkit.schema import FLAX, GOOGLE, OBJECTS, TORCH, Match, Table
from ckptkit.schema.dialect import CONV1D, HDF5
from ckptkit.schema.layout import LayoutError, parse
from ckptkit.schema.templates import reduce_name


def table(**fields: object) -> Table:
    arch = tiny.architecture(tiny.dialect("one", **fields))
    return arch.table("one")


def found(t: Table, name: str, prefix: str = "") -> Match | None:
    return t.match(*reduce_name(name), prefix)


def at(t: Table, name: str, prefix: str = "") -> tuple[tuple[str, ...], dict[str, int]] | None:
    """(canonical templates, place) of a stored name; None if it has no row."""
    m = found(t, name, prefix)
    return (m.row.parts, dict(m.at)) if m is not None else None


def test_a_name_finds_the_row_and_the_layer_it_is_of() -> None:
    t = table()
    assert at(t, "layers.12.q.weight") == (("layers.{layer}.query.weight",), {"layer": 12})
    assert at(t, "layers.0.norm.bias") == (("layers.{layer}.norm.bias",), {"layer": 0})
    assert at(t, "tokens.weight") == (("tokens.weight",), {})


@pytest.mark.parametrize(
    "name",
    [
        "layers.q.weight",
        "layers.1.q.weights",
        "layers.1.Q.weight",
        "xlayers.1.q.weight",
        "layers.1.q.weight.1",
        "layers.-1.q.weight",
        "net.tokens.weight",
    ],
)
def test_a_name_that_differs_in_anything_but_its_numbers_has_no_row(name: str) -> None:
    assert found(table(), name) is None


@pytest.mark.parametrize("number", ["01", "007", "00", "1234567890"])
def test_a_number_that_no_layer_is_written_as_is_no_layer(number: str) -> None:
    assert found(table(), f"layers.{number}.q.weight") is None
    assert found(table(), "layers.0.q.weight") is not None


def test_the_prefix_goes_before_the_names_that_take_one_only() -> None:
    t = table()
    assert at(t, "net.layers.3.up.weight", "net.") == (("layers.{layer}.up.weight",), {"layer": 3})
    assert found(t, "layers.3.up.weight", "net.") is None
    assert at(t, "score.weight", "net.") == at(t, "score.weight") == (("score.weight",), {})
    assert found(t, "net.score.weight", "net.") is None


def test_of_alternatives_all_are_read_and_the_first_is_written() -> None:
    t = table()
    row = found(t, "words.weight")
    assert row is not None and found(t, "tokens.weight") == row
    assert t.stored_name(row.row, {}, "net.") == "net.tokens.weight"


def test_padded_and_shifted_numbers_mean_the_layer_before() -> None:
    t = table(rows=tiny.FUSED, style=GOOGLE)
    assert at(t, "t/block_01/ln/gamma") == (("layers.{layer}.norm.weight",), {"layer": 0})
    assert at(t, "t/block_12/up/kernel") == (("layers.{layer}.up.weight",), {"layer": 11})
    assert [found(t, f"t/block_{n}/ln/gamma") for n in ("1", "00", "001")] == [None] * 3
    row = found(t, "t/block_01/ln/gamma")
    assert row is not None and t.stored_name(row.row, {"layer": 8}, "") == "t/block_09/ln/gamma"


def test_numbers_that_step_are_taken_apart_and_others_refused() -> None:
    t = table(rows={"v_{layer*4+2}": "layers.{layer}.up.weight", "w_{#layer*4+2}": "shift"})
    assert at(t, "v_10") == (("layers.{layer}.up.weight",), {"layer": 2})
    assert [found(t, f"v_{n}") for n in (0, 1, 3, 11)] == [None] * 4
    shift = next(r for r in t.rows if r.parts == ("shift",))
    assert t.stored_name(shift, {}, "", {"layers": 5}) == "w_22"


def test_a_number_of_the_naming_itself_must_be_that_number() -> None:
    t = table(rows={"m2/{layer}/ffn_1": "layers.{layer}.up.weight"})
    assert at(t, "m2/5/ffn_1") == (("layers.{layer}.up.weight",), {"layer": 5})
    assert found(t, "m2/5/ffn_2") is None and found(t, "m3/5/ffn_1") is None


def test_a_placeholder_met_twice_is_one_number() -> None:
    t = table(rows={"a.{layer}.b.{layer}": "layers.{layer}.up.weight"})
    assert at(t, "a.4.b.4") == (("layers.{layer}.up.weight",), {"layer": 4})
    assert found(t, "a.4.b.5") is None


@given(st.integers(0, 10**6), st.sampled_from(["lined", "fused"]))
def test_every_written_name_is_read_as_what_it_was_written_for(layer: int, naming: str) -> None:
    t = tiny.architecture().table(naming)
    for row in t.rows:
        place = {"layer": layer} if "{" in row.parts[0] else {}
        assert found(t, t.stored_name(row, place, "net."), "net.") == Match(row, tuple(place.items()))


STYLES = {
    "TORCH": (TORCH, {"up.weight": "inner hidden", "ln.weight": "hidden", "ln.bias": "hidden", "wte.weight": "vocab hidden"}),
    "CONV1D": (CONV1D, {"up.weight": "hidden inner", "ln.weight": "hidden", "ln.bias": "hidden", "wte.weight": "vocab hidden"}),
    "GOOGLE": (GOOGLE, {"up/kernel": "hidden inner", "ln/gamma": "hidden", "ln/beta": "hidden", "wte": "vocab hidden"}),
    "FLAX": (FLAX, {"up/kernel": "hidden inner", "ln/scale": "hidden", "ln/bias": "hidden", "wte/embedding": "vocab hidden"}),
    "HDF5": (HDF5, {"up/kernel": "hidden inner", "ln/gamma": "hidden", "ln/beta": "hidden", "wte/embeddings": "vocab hidden"}),
    "OBJECTS": (OBJECTS, {"up/0": "hidden inner", "ln/0": "hidden", "ln/1": "hidden", "wte/0": "vocab hidden"}),
}


@pytest.mark.parametrize("style", STYLES)
def test_a_style_says_what_a_modules_tensors_are_called_and_how_they_lie(style: str) -> None:
    words, want = STYLES[style]
    rows = {"up": "layers.{layer}.up", "ln": "layers.{layer}.norm", "wte": "tokens"}
    t = table(rows=rows, style=words)
    assert {r.names[0]: r.layout for r in t.rows} == {n: parse(text) for n, text in want.items()}


def test_a_style_may_put_a_unit_dimension_before_a_matrix() -> None:
    for form, layout in (("conv", "1 hidden inner"), ("row", "1 inner hidden")):
        style = {**TORCH, "linear": {"weight": (form, "/w"), "bias": ("canonical", "/b")}}
        t = table(rows={"up": "layers.{layer}.up"}, style=style)
        assert [(r.names, r.layout) for r in t.rows] == [(("up/w",), parse(layout))]


def test_a_row_of_something_that_the_architecture_lacks_is_refused_by_name() -> None:
    with pytest.raises(LayoutError, match=r"tiny/one: 'x' names 'nowhere', which is no module and no parameter"):
        _ = table(rows={"x": "nowhere"}).rows


def test_the_core_is_what_no_checkpoint_can_do_without() -> None:
    core = table().core("net.")
    assert set(core) == {"tokens.weight", *(f"layers.{{layer}}.{x}" for x in ("norm.weight", "norm.bias", "up.weight")),
                         *(f"layers.{{layer}}.{x}.{y}" for x in "qkv" for y in ("weight", "bias"))}  # fmt: skip
    assert core["tokens.weight"] == {"net.tokens.weight", "net.words.weight"}
    assert "net.words.weight" not in table().written("net.") and "net.layers.#.up.weight" in table().written("net.")


def test_marks_and_stems_stand_in_for_the_whole_index() -> None:
    t = table()
    for prefix in ("", "net."):
        assert set(t.marks(prefix)) <= t.index(prefix).keys()
        assert {p.partition("/")[0].partition(".")[0] for p in t.index(prefix)} <= t.stems(prefix)


def test_a_parameter_is_found_in_the_row_that_joins_it() -> None:
    t = table(rows=tiny.FUSED, style=GOOGLE)
    row, place = t.by_param["layers.{layer}.key.weight"]
    assert (row.names, place) == (("t/block_{layer+1:2}/qkv/w",), 1)
    assert t.groups == {"core", "classifier"}
