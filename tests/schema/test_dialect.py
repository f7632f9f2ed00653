"""What a naming says of itself."""

from __future__ import annotations

import pytest
import tiny

from ckptkit.schema import Lack


@pytest.mark.parametrize(
    ("when", "sizes", "holds"),
    [
        (None, {}, True),
        (("embedding", "hidden"), {"embedding": 4, "hidden": 4}, True),
        (("embedding", "hidden"), {"embedding": 4, "hidden": 8}, False),
        (("embedding", "hidden"), {"embedding": 4}, False),
        (("embedding", "hidden"), {}, False),
    ],
)
def test_a_parameter_is_lacking_where_its_axes_are_of_one_size(when: tuple[str, str] | None, sizes: dict[str, int], holds: bool) -> None:
    assert Lack(0.0, when=when).holds(sizes) is holds


@pytest.mark.parametrize(
    ("rows", "mark"),
    [
        ({"a/b": "x", "c/d.e": "y"}, "/"),
        ({"a.b": "x", "c.d": "y"}, "."),
        ({"a.b": "x", "c/d": "y"}, ""),
        ({"a.b": "x", "c": "y"}, ""),
    ],
)
def test_the_mark_of_a_naming_is_in_every_name(rows: dict[str, str], mark: str) -> None:
    assert tiny.dialect("d", rows=rows).mark == mark
