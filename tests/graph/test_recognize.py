"""Recognition goes by exact sets of patterns: what is a cousin, half there, wrapped or ambiguous is not taken for the real thing."""

from __future__ import annotations

import pytest
import tiny

from ckptkit.arch import architectures
from ckptkit.errors import UsageError
from ckptkit.graph.recognition import Question, Recognition
from ckptkit.graph.recognize import recognize
from ckptkit.schema import Architecture, placeholders
from ckptkit.schema.templates import pattern_of

Shapes = dict[str, tuple[int, ...]]
WHOLE = tiny.lined_shapes(3)


def places(r: Recognition | None) -> dict[str, tuple[tuple[str, ...], dict[str, int]]]:
    assert r is not None
    return {n: (m.row.parts, dict(m.at)) for n, m in r.matches.items()}


@pytest.mark.parametrize(("shapes", "naming", "prefix"), [
    (WHOLE, "lined", "net."), (tiny.lined_shapes(3, prefix=""), "lined", ""), (tiny.fused_shapes(3), "fused", ""),
])  # fmt: skip
def test_a_whole_checkpoint_is_known_by_its_names(only_tiny: Architecture, shapes: Shapes, naming: str, prefix: str) -> None:
    r = recognize(shapes)
    assert r is not None and (r.architecture, r.dialect.name, r.prefix, r.wrapper) == (only_tiny, naming, prefix, "")
    assert r.matches.keys() == shapes.keys()
    assert r.evidence[0] == f"{len(shapes)} of {len(shapes)} tensor names are {naming}'s for Tiny"


def test_each_name_is_bound_to_its_row_and_layer(only_tiny: Architecture) -> None:
    said = places(recognize(tiny.fused_shapes(2)))
    assert said["t/block_02/qkv/b"] == (tuple(f"layers.{{layer}}.{x}.bias" for x in ("query", "key", "value")), {"layer": 1})


@pytest.mark.parametrize("wrapper", ["module.", "_orig_mod.", "module._orig_mod.", "model.module."])
def test_what_every_name_begins_with_is_set_apart_and_said(only_tiny: Architecture, wrapper: str) -> None:
    r = recognize({wrapper + n: s for n, s in WHOLE.items()})
    assert r is not None and r.wrapper == wrapper and places(r) == {wrapper + n: p for n, p in places(recognize(WHOLE)).items()}
    assert f"the names are wrapped in {wrapper!r}" in r.evidence
    row, at = r.matches[f"{wrapper}net.layers.1.q.weight"]
    assert r.stored_name(row, {"layer": 7}, {}) == f"{wrapper}net.layers.7.q.weight" and dict(at) == {"layer": 1}


def test_a_wrapper_of_a_few_names_is_none(only_tiny: Architecture) -> None:
    half = {("module." if i % 2 else "") + n: s for i, (n, s) in enumerate(WHOLE.items())}
    r = recognize(half)
    assert r is not None and r.wrapper == "" and r.matches.keys() == half.keys() & WHOLE.keys()


def test_less_than_half_of_the_core_is_not_the_architecture(only_tiny: Architecture) -> None:
    core = ["tokens.weight", *(f"layers.0.{x}" for x in ("norm.weight", "norm.bias", "up.weight"))]
    assert recognize({f"net.{n}": (1,) for n in core}) is None  # 4 of 10
    more = [*core, "layers.0.q.weight"]
    assert recognize({f"net.{n}": (1,) for n in more}) is not None  # 5 of 10


def test_a_cousin_with_other_names_is_not_known(only_tiny: Architecture) -> None:
    assert recognize({n.replace(".q.", ".query.").replace("layers", "blocks").replace("up", "fc"): s for n, s in WHOLE.items()}) is None


def test_names_that_are_not_of_it_stay_unmatched(only_tiny: Architecture) -> None:
    others = (
        "net.layers.0.adapter.weight",
        "net.layers.01.q.weight",
        "net.layers.1#.q.weight",
        "net.layers.#.q.weight",
        "net.layers.#1.q.weight",
    )
    r = recognize({**WHOLE, **dict.fromkeys(others, (6, 6))})
    assert r is not None and r.matches.keys() == WHOLE.keys()


def twins() -> tuple[Architecture, ...]:
    """Two architectures of the same names; the second comes after the first where nothing tells them apart."""
    one = tiny.architecture(name="one", title="One")
    return tiny.architecture(name="two", title="Two", rank=1, names=("deux",)), one


def test_between_equals_the_rank_decides_and_the_other_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    tiny.only(monkeypatch, *twins())
    r = recognize(WHOLE)
    assert r is not None and r.architecture.name == "one" and any("could also be two" in e for e in r.evidence)


@pytest.mark.parametrize("declared", ["two", "deux"])
def test_between_equals_the_configurations_word_decides(monkeypatch: pytest.MonkeyPatch, declared: str) -> None:
    tiny.only(monkeypatch, *twins())
    r = recognize(WHOLE, asked=Question(declared=declared))
    assert r is not None and r.architecture.name == "two" and f"the configuration calls it {declared}" in r.evidence


def test_the_configurations_word_does_not_overrule_the_tensors(monkeypatch: pytest.MonkeyPatch) -> None:
    alone = tiny.dialect("alone", rows={"w": "w"})
    one, other = tiny.architecture(), tiny.architecture(alone, name="bert", modules={"w": tiny.param("hidden")}, relations=())
    tiny.only(monkeypatch, one, other)
    r = recognize(WHOLE, asked=Question(declared="bert"))
    assert r is not None and r.architecture is one
    assert any(e.startswith("the configuration calls it bert, which the tensors are not") for e in r.evidence)


def test_a_family_that_is_not_here_is_not_taken_for_one_that_names_its_tensors_alike(only_tiny: Architecture) -> None:
    assert recognize(WHOLE, asked=Question(declared="cousin")) is None


def test_a_shape_that_only_one_of_two_has_tells_them_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    signed = tiny.architecture(name="signed", title="Signed", rank=2, signature=(("tokens.weight", 0, 5),))
    tiny.only(monkeypatch, *twins(), signed)
    other, own = recognize(WHOLE), recognize(tiny.lined_shapes(3, vocab=5))
    assert other is not None and other.architecture.name == "one"
    assert own is not None and own.architecture is signed
    assert "tokens.weight has vocab 5, which tells Signed from others of these names" in own.evidence


def test_what_is_asked_for_narrows_the_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    tiny.only(monkeypatch, *twins())
    r = recognize(WHOLE, asked=Question(architecture="deux"))
    assert r is not None and r.architecture.name == "two"
    assert recognize(WHOLE, asked=Question(dialect="fused")) is None
    with pytest.raises(UsageError, match="no architecture is called 'none'"):
        recognize(WHOLE, asked=Question(architecture="none"))


def test_further_names_count_only_where_they_explain_more(only_tiny: Architecture) -> None:
    numbered = {f"{i:03}": s for i, s in enumerate(WHOLE.values())}
    own = dict(zip(numbered, WHOLE, strict=True))
    r = recognize(numbered, lambda: own)
    assert r is not None and r.matches.keys() == numbered.keys() and "by the variables' own names" in r.evidence[0]
    assert places(r) == {n: places(recognize(WHOLE))[own[n]] for n in numbered}

    def never() -> dict[str, str]:
        raise AssertionError("asked for, though the stored names explain all")

    assert recognize(WHOLE, never) is not None


def test_a_part_that_is_not_there_is_a_usage_error(only_tiny: Architecture) -> None:
    with pytest.raises(UsageError, match="--part generator"):
        recognize(WHOLE, asked=Question(part="generator"))


def test_every_naming_of_every_architecture_is_recognised_as_itself_or_as_one_with_the_same_names() -> None:
    """The names of a dialect's own core, in its first prefix, with two layers, and of its marks where these are of some layers only."""
    wrong = []
    for arch in architectures().values():
        for d in arch.dialects.values():
            if d.files.objects is not None or d.files.spelling is not None or d.part or d.twin:
                continue
            table = arch.table(d.name)
            core, marks = table.core(d.prefixes[0]), set(table.marks(d.prefixes[0]))
            rare = marks.isdisjoint(map(pattern_of, core))
            names = {}
            for row in table.rows:
                plain = d.prefixes[0] + row.names[0] if row.prefixed else row.names[0]
                if row.names[0] in core or (rare and row.role == "param" and pattern_of(plain) in marks):
                    holders = {h for p in row.parts for h in placeholders(p)}
                    names |= {table.stored_name(row, dict.fromkeys(holders, i), d.prefixes[0]): (2, 2) for i in (0, 1)}
            r = recognize(names, asked=Question(declared=arch.name, dialect=d.name))
            if r is None or r.architecture is not arch or r.matches.keys() != names.keys():
                wrong.append((arch.name, d.name))
    assert wrong == []
