"""Where TensorFlow's objects hold a naming's tensors: paths written by hand, and what is remembered of them."""

from __future__ import annotations

import tiny

from ckptkit.graph.tf_objects import Hung, recalled, remembered, usual
from ckptkit.schema import Dialect

BLOCK = "ckptkit"


def lined(**fields: object) -> Dialect:
    return tiny.dialect("lined", prefixes=("model/", "net/", ""), **fields)


def config(**said: object) -> dict[str, object]:
    return {BLOCK: {"objects": {"lined": said}}}


def test_a_name_begins_with_the_root_and_then_the_prefix() -> None:
    table = tiny.architecture(lined()).table("lined")
    rows = {r.names[0]: r for r in table.rows}
    at = Hung("root/", "net/", {"tokens.weight": "words.weight"})
    assert at.name(rows["tokens.weight"], {}, {}) == "root/net/words.weight"
    assert at.name(rows["layers.{layer}.up.weight"], {"layer": 4}, {}) == "root/net/layers.4.up.weight"
    assert at.name(rows["score.weight"], {}, {}) == "root/score.weight"  # takes no prefix


def test_without_a_memory_a_naming_is_written_as_usual() -> None:
    d = lined()
    assert usual(d) == Hung("", "model/", {})
    table = tiny.architecture(d).table("lined")
    assert [recalled(d, table, c) for c in (None, {}, {BLOCK: 3}, {BLOCK: {"objects": []}})] == [usual(d)] * 4


def test_what_is_remembered_is_written_again() -> None:
    d = lined()
    said = config(root="a/b/", prefix="net/", called={"tokens.weight": "words.weight"})
    assert recalled(d, tiny.architecture(d).table("lined"), said) == Hung("a/b/", "net/", {"tokens.weight": "words.weight"})


def test_a_memory_that_does_not_fit_the_tables_is_not_followed() -> None:
    d = lined()
    table = tiny.architecture(d).table("lined")
    for said in (
        config(root=3, prefix="net/", called={}),
        config(root="/etc/", prefix="net/", called={}),
        config(root="", prefix="other/", called={}),
        config(root="", prefix="net/", called=[]),
    ):
        assert recalled(d, table, said) == usual(d), said
    kept = recalled(d, table, config(root="", prefix="net/", called={"tokens.weight": "../x", "nothing": "words.weight"}))
    assert kept == Hung("", "net/", {})


def test_only_a_mapping_is_a_memory() -> None:
    assert remembered(config(root="x/")) == {"lined": {"root": "x/"}}
    assert [dict(remembered(r)) for r in (None, {}, {BLOCK: []}, {BLOCK: {"objects": 1}})] == [{}] * 4
