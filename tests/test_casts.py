"""Casts at every place where rounding could go wrong: each value of the narrow type, each midpoint, and what lies beside them."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from ckptkit.engine.casts import BLOCK, cast

NARROW = {"F16": np.float16, "F8_E4M3": ml_dtypes.float8_e4m3fn, "F8_E5M2": ml_dtypes.float8_e5m2, "F8_E4M3FNUZ": ml_dtypes.float8_e4m3fnuz}


def grid(target: str) -> tuple[np.ndarray, np.ndarray]:
    """The finite values not below zero of a type, rising, with their bit patterns: their order is that of the patterns."""
    dtype = np.dtype(NARROW[target])
    bits = np.arange(1 << (8 * dtype.itemsize - 1), dtype=f"u{dtype.itemsize}")
    values = bits.view(dtype).astype(np.float64)
    return values[np.isfinite(values)], bits[np.isfinite(values)]


@pytest.mark.parametrize("target", NARROW)
def test_float32_rounds_to_the_nearest_and_ties_to_even_at_every_midpoint(target: str) -> None:
    values, bits = grid(target)
    middle = (values[:-1] + values[1:]) / 2  # exact: float64 has bits to spare, float32 too
    assert (middle.astype(np.float32) == middle).all()
    m = middle.astype(np.float32)
    below, above = np.nextafter(m, np.float32(-np.inf)), np.nextafter(m, np.float32(np.inf))
    even = np.where(bits[:-1] % 2 == 0, bits[:-1], bits[1:])
    x = np.concatenate([values.astype(np.float32), m, below, above])
    want = np.concatenate([bits, even, bits[:-1], bits[1:]])
    sign = bits.dtype.type(1 << (8 * bits.itemsize - 1))
    signs = np.where((want == 0) & ("FNUZ" in target), 0, sign).astype(bits.dtype)  # FNUZ has no negative zero
    for source, expected in ((x, want), (-x, want | signs)):
        for n in (len(source), 77):
            out = np.empty(n, NARROW[target])
            assert cast(source[:n], out, "F32", target, False) == 0
            np.testing.assert_array_equal(out.view(bits.dtype), expected[:n])


@pytest.mark.parametrize("target", NARROW)
def test_what_is_too_large_is_counted_or_clipped_and_nan_stays(target: str) -> None:
    top = grid(target)[0][-1]
    x = np.zeros(BLOCK + 1000, np.float32)
    x[5], x[6], x[7], x[8], x[BLOCK + 3] = top * 2, -top * 2, np.nan, np.inf, top * 4
    for clip in (False, True):
        out = np.empty(len(x), NARROW[target])
        assert cast(x, out, "F32", target, clip) == 3
        y = out.astype(np.float64)
        assert np.isnan(y[7]) and not np.isfinite(y[8]) and not y[9:BLOCK].any()
        assert (y[[5, 6, BLOCK + 3]] == [top, -top, top]).all() if clip else not np.isfinite(y[[5, 6, BLOCK + 3]]).any()


@pytest.mark.parametrize("source", NARROW)
def test_every_value_of_a_narrow_type_is_the_same_in_float32(source: str) -> None:
    dtype = np.dtype(NARROW[source])
    x = np.tile(np.arange(1 << (8 * dtype.itemsize), dtype=f"u{dtype.itemsize}"), 1 if dtype.itemsize == 2 else 64).view(dtype)
    out = np.empty(len(x), np.float32)
    cast(x, out, source, "F32", False)
    np.testing.assert_array_equal(out, x.astype(np.float32))
