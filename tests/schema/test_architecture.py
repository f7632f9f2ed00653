"""What follows from an architecture's modules."""

from __future__ import annotations

import tiny

from ckptkit.schema import embedding, linear, param
from ckptkit.schema.layout import parse


def test_parameters_are_the_modules_in_their_order_with_their_suffixes() -> None:
    params = tiny.architecture().params
    assert list(params)[:4] == ["tokens.weight", "layers.{layer}.norm.weight", "layers.{layer}.norm.bias", "layers.{layer}.query.weight"]
    assert params["shift"].module == "shift" and params["shift"].optional
    assert params["layers.{layer}.key.weight"].layout == parse("(heads head_dim) hidden")
    assert params["unembed.weight"].tied == "tokens.weight" and params["unembed.weight"].group == "lm"


def test_a_head_of_ties_alone_needs_no_tensor() -> None:
    arch = tiny.architecture()
    assert arch.free_groups == arch.tied_groups == {"lm"}
    own = {**tiny.MODULES, "bias": param("vocab", group="lm")}
    assert tiny.architecture(modules=own).free_groups == frozenset()


def test_switches_and_counts_are_those_of_the_modules() -> None:
    arch = tiny.architecture()
    assert arch.switches == ("gated",) and arch.counted == ("layer",)
    more = {**tiny.MODULES, "experts.{layer}.{expert}": linear("a", "b")}
    assert tiny.architecture(modules=more).counted == ("layer", "expert")


def test_relations_are_products_of_axes() -> None:
    assert tiny.architecture(relations=("hidden = heads head_dim", "a b = c")).relations == (
        (("hidden",), ("heads", "head_dim")), (("a", "b"), ("c",)),
    )  # fmt: skip


def test_the_name_comes_first_of_what_configurations_call_it() -> None:
    assert tiny.architecture(names=("small", "smaller")).names == ("tiny", "small", "smaller")


def test_what_tensors_may_leave_open_does_not_rule_a_variant_out() -> None:
    assert tiny.architecture(config_counts=("repeats",)).untold == {"heads", "repeats"}


def test_a_table_is_made_once() -> None:
    arch = tiny.architecture(modules={**tiny.MODULES, "unused": embedding("a b", group="other")})
    assert arch.table("lined") is arch.table("lined") and arch.table("fused") is not arch.table("lined")


def test_a_further_naming_is_added_without_touching_the_architecture_itself() -> None:
    arch = tiny.architecture(tiny.dialect("one"))
    first = arch.table("one")
    more = arch.with_dialects(tiny.dialect("two", rows=tiny.FUSED))
    assert list(arch.dialects) == ["one"] and list(more.dialects) == ["one", "two"]
    assert more.table("two").arch is more and more.table("one") is not first and arch.table("one") is first
    assert more.params == arch.params and (more.name, more.names) == (arch.name, arch.names)
