"""A mistake in an architecture's tables is found when they are held against each other, and the row is named."""

from __future__ import annotations

import pytest
import tiny

from ckptkit.arch import architectures
from ckptkit.schema import GOOGLE, Architecture, Lack
from ckptkit.schema.check import check
from ckptkit.schema.layout import LayoutError

KEY = tuple(f"layers.{{layer}}.{x}.weight" for x in ("query", "key", "value"))


def with_row(name: str, value: str | tuple[str, ...] | None) -> Architecture:
    """The fused naming with one row exchanged, or (None) without it."""
    rows = {k: v for k, v in {**tiny.FUSED, name: value}.items() if v is not None}
    return tiny.architecture(tiny.dialect("fused", style=GOOGLE, rows=rows))


def test_sound_tables_pass() -> None:
    check(tiny.architecture())


@pytest.mark.parametrize("name", architectures())
def test_the_tables_of_every_architecture_hold(name: str) -> None:
    check(architectures()[name])


QKV = "t/block_{layer+1:2}/qkv/w"


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("t/again", "tokens.weight", "'tokens.weight' is held twice, by 't/wte' and 't/again'"),
        ("t/wte | t/score/kernel", "tokens.weight", "two rows are named 't/score/kernel'"),
        (QKV, (*KEY, "hidden *(heads)"), r"loses the axes \['head_dim'\] of"),
        (QKV, (*KEY, "hidden other *(heads head_dim)"), r"has the axes \['other'\], which none of its parts has"),
        (QKV, (*KEY, "hidden (heads head_dim)"), "joins 3 parts: a star is missing or too many"),
        ("t/wte", ("tokens.weight", "*vocab hidden"), "joins 1 parts: a star is missing or too many"),
        ("t/block/up", "layers.{layer}.up", "differ in their placeholders"),
        ("t/wte", ("nothing.weight", "vocab hidden"), "which is no parameter"),
        ("t/block_{layer+1:2}/up", None, r"no row holds 'layers.\{layer\}.up.weight'"),
        ("t/wte", None, "no row holds 'tokens.weight'"),
    ],
)
def test_a_wrong_row_is_named(name: str, value: str | tuple[str, ...] | None, said: str) -> None:
    rows = {**tiny.FUSED, name: value}
    if name == "t/block/up":
        rows["t/block_{layer+1:2}/up"] = None
    if "|" in name:
        rows["t/wte"] = None
    arch = tiny.architecture(tiny.dialect("fused", style=GOOGLE, rows={k: v for k, v in rows.items() if v is not None}))
    with pytest.raises(LayoutError, match=said) as e:
        check(arch)
    assert str(e.value).startswith("tiny/fused: ")


def test_what_a_naming_says_it_lacks_needs_no_row() -> None:
    arch = tiny.architecture(
        tiny.dialect("fused", style=GOOGLE, rows={k: v for k, v in tiny.FUSED.items() if k != "t/wte"}, lacks={"tokens.weight": Lack(0.0)})
    )
    check(arch)


def test_a_whole_group_may_be_left_out_and_half_of_one_not() -> None:
    check(with_row("t/score", None))
    with pytest.raises(LayoutError, match=r"no row holds 'score\.bias'"):
        check(with_row("t/score", ("score.weight", "hidden labels")))
