"""How a new parameter starts: distributions as named, the same elements however they are asked for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from ckptkit.plan.initial import BLOCK, Recipe, draw

HOW = {
    "truncated_normal": Recipe("truncated_normal", 0.02),
    "normal": Recipe("normal", 0.5),
    "xavier_uniform": Recipe("xavier_uniform", 0.3),
    "zeros": Recipe("zeros"),
    "ones": Recipe("ones"),
}


def drawn(how: Recipe, start: int, n: int, name: str = "w", seed: int = 0) -> np.ndarray:
    out = np.full(n, np.nan, np.float32)
    draw(how, name, seed, start, out)
    return out


@pytest.mark.parametrize("kind", HOW)
def test_a_distribution_is_what_it_is_called(kind: str) -> None:
    how, n = HOW[kind], 60_000
    x = drawn(how, 0, n).astype(np.float64) / (how.scale or 1)
    if kind in ("zeros", "ones"):
        assert (x == (kind == "ones")).all()
        return
    assert abs(x.mean()) < 0.02 and np.isfinite(x).all()
    deviation = {"normal": 1.0, "truncated_normal": 0.8796, "xavier_uniform": 3**-0.5}[kind]  # of a normal cut off at two: 0.8796
    assert x.std() == pytest.approx(deviation, rel=0.02)
    largest = float(np.abs(x).max())
    assert (largest > 3) is (kind == "normal") and largest <= {
        "normal": 9,
        "truncated_normal": 2.0001,
        "xavier_uniform": 1.0001,
    }[kind]


@hypothesis_settings(max_examples=30)
@given(st.sampled_from(sorted(HOW)), st.integers(0, 3 * BLOCK), st.integers(0, 2 * BLOCK))
def test_an_element_is_the_same_in_whatever_run_it_is_asked_for(kind: str, start: int, n: int) -> None:
    whole = drawn(HOW[kind], 0, 5 * BLOCK)
    np.testing.assert_array_equal(drawn(HOW[kind], start, n), whole[start : start + n])


@pytest.mark.parametrize("kind", ["normal", "truncated_normal", "xavier_uniform"])
def test_another_name_or_seed_gives_other_elements(kind: str) -> None:
    one, again, other, seeded = (drawn(HOW[kind], 0, 100, n, s) for n, s in (("w", 0), ("w", 0), ("v", 0), ("w", 1)))
    assert np.array_equal(one, again) and not np.array_equal(one, other) and not np.array_equal(one, seeded)


def test_blocks_do_not_repeat() -> None:
    whole = drawn(HOW["normal"], 0, 3 * BLOCK).reshape(3, -1)
    assert not np.array_equal(whole[0], whole[1]) and not np.array_equal(whole[1], whole[2])


def test_a_recipe_says_itself_in_words() -> None:
    assert [str(h) for h in HOW.values()] == ["truncated_normal 0.02", "normal 0.5", "xavier_uniform 0.3", "zeros", "ones"]
