"""Errors in steps, by the compiled loop and by numpy: the same bits for every grid, and for numbers that are none."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ckptkit.packing import _steps
from ckptkit.packing._codes import fp4_values, fp6_values, small_floats
from ckptkit.support.kernels import kernels

GRIDS: dict[str, Any] = {
    "none": None,
    "whole numbers": np.arange(-128, 128, dtype=np.float32),
    "few whole numbers": np.arange(-1, 2, dtype=np.float32),
    "apart": np.array([-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113], np.float32),
    "four bits": np.unique(fp4_values()).astype(np.float32),
    "six bits": np.unique(fp6_values()).astype(np.float32),
    "eight bits": _steps._in_order(small_floats("F8_E4M3")),
    "more range": _steps._in_order(small_floats("F8_E5M2")),
}


def cases(grid: Any) -> tuple[Any, Any, Any, Any]:
    """Originals, packed values, units and what a product loses: on the grid, between and beyond, and numbers that are none."""
    rng = np.random.default_rng(5)
    n = 4099
    unit = np.exp(rng.uniform(-20, 5, n)).astype(np.float32) * rng.choice([-1, 1], n).astype(np.float32)
    codes = rng.choice(grid, n) if grid is not None else rng.integers(-200, 200, n)
    packed = (unit * codes).astype(np.float32)
    original = (packed + unit * rng.normal(0, 0.6, n)).astype(np.float32)
    original[::7] = packed[::7]
    strange = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-45, 3e38, -3e38], np.float32)
    for k, values in enumerate((original, packed, unit)):
        at = rng.integers(0, n, 200)
        values[at] = rng.choice(strange, 200)
        values[k * 64 : k * 64 + 8] = strange
    return original, packed, unit, np.exp(rng.uniform(-16, -2, n)).astype(np.float32)


@pytest.mark.skipif(not hasattr(kernels(), "steps"), reason="the optional module was not compiled here")
@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("wide", [False, True])
def test_both_ways_give_the_same_bits(grid: str, wide: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    native = kernels()
    assert native is not None
    original, packed, unit, lost = cases(GRIDS[grid])
    rows = [x[:4096].reshape(64, 64) for x in (original, packed, unit, lost)]
    shared = (rows[0], rows[1], rows[2][:, ::8].copy(), rows[3][:, ::8].copy())
    by_column = (*rows[:2], rows[2][:1], rows[3][:1])
    full = tuple(rows), (*rows[:3], float(lost[0])), shared, (*rows[:2], rows[2][:, :1], 0.25), by_column
    for original, packed, unit, loss in full:
        for allowed, span in ((0.5, 0), (1.0, 15), (3.0, 0)):
            rule = _steps.Ruler(lambda a, b: (np.float32(1), 0.0), GRIDS[grid], allowed, span)
            before = native.choose(wide)
            got = _steps.in_steps(rule, original, packed, unit, loss)
            native.choose(before)
            with monkeypatch.context() as m:
                m.setattr(_steps, "kernels", lambda: None)
                want = _steps.in_steps(rule, original, packed, unit, loss)
            for x, y in zip(got, want, strict=True):
                assert x.dtype == y.dtype == np.float32
                assert np.array_equal(x.view(np.uint32), np.ascontiguousarray(y).view(np.uint32))
            assert len(np.unique(got[0])) > 500


@pytest.mark.skipif(not hasattr(kernels(), "steps"), reason="the optional module was not compiled here")
def test_buffers_that_do_not_belong_together_are_refused() -> None:
    native = kernels()
    assert native is not None
    z = np.zeros(8, np.float32)
    for odd in range(9):
        given: list[Any] = [z, z, z, z, z[:2], z.copy(), z.copy()]
        if odd < 7:
            given[odd] = np.zeros(3 if odd != 4 else 1, np.float32)
        else:
            given[4] = np.zeros(1025 if odd == 7 else 1, np.float32)
        with pytest.raises(ValueError, match="do not belong together"):
            native.steps(*given[:5], 0.5, 0.0, *given[5:])
