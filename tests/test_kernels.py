"""The compiled loops against numpy and ml_dtypes, which are the judges: to the bit, sums to 1e-12. And that nothing needs them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from ckptkit.packing.ggml import decode_blocks
from ckptkit.support.kernels import kernels
from ckptkit.tensors import DTYPES

K = kernels()
needs = pytest.mark.skipif(K is None, reason="the optional module was not compiled here")
RNG = np.random.default_rng(11)
# every exponent with patterns at the edges of rounding, odd values, and random bits
LOW = np.array([0, 1, 0xFFF, 0x1000, 0x1001, 0x2FFF, 0x7FFF, 0x8000, 0x8001, 0xFFFFF], "u4")
EDGES = (np.arange(1 << 12, dtype="u4")[:, None] << 20 | LOW).ravel()
BITS = np.concatenate((EDGES, RNG.integers(0, 1 << 32, 1 << 18, dtype="u4")))
FINITE = BITS[(BITS & 0x7FFFFFFF) < 0x7F800000]


@pytest.fixture(autouse=True, params=["for any processor", "for this one"])
def version(request):
    """Both versions of each loop."""
    if K is None:
        yield
        return
    before = K.choose(request.param == "for this one")
    yield
    K.choose(before)


def unaligned(x):
    """The same array, not at a multiple of its elements' size."""
    held = np.empty(x.nbytes + 1, "u1")
    held[1:] = x.view("u1").ravel()
    return held[1:].view(x.dtype)


def was_compiled():
    """Whether a compiler was there when the project was installed: then the loops have to be."""
    import importlib.util

    return importlib.util.find_spec("ckptkit.support._kernels") is not None


def test_they_are_used_where_they_were_compiled():
    assert (K is not None) is (was_compiled() and not os.environ.get("CKPTKIT_NO_NATIVE"))


@pytest.mark.skipif(shutil.which("cc") is None, reason="not tested: no C compiler is installed")
def test_a_compiler_takes_the_source_without_a_warning():
    """The module is optional, so that an installation goes on where it does not compile: here that is a failure."""
    import sysconfig

    sources = (Path(__file__).resolve().parents[1] / "ckptkit/support").glob("*.c")
    quiet = ["-Wno-unused-parameter", "-Wno-missing-field-initializers", "-Wno-cast-function-type"]
    flags = ["-std=c11", "-Wall", "-Wextra", "-Werror", *quiet, f"-I{sysconfig.get_paths()['include']}", "-fsyntax-only"]
    done = subprocess.run(["cc", *flags, *sources], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@needs
@pytest.mark.parametrize("shift", [0, 1, 7, 8, 15])
def test_float32_to_float16(shift):
    x = BITS[shift:]
    with np.errstate(all="ignore"):
        want = x.view("f4").astype("f2").view("u2")
    out = np.empty(len(x), "u2")
    assert K.to_half(x, out) is True
    assert np.array_equal(out, want)
    small = np.abs(FINITE.view("f4")) < 60000
    assert K.to_half(FINITE[small], np.empty(small.sum(), "u2")) is False
    assert K.to_half(unaligned(x), out) is True
    assert np.array_equal(out, want)


@needs
def test_float32_to_bfloat16_and_back():
    out = np.empty(len(FINITE), "u2")
    assert K.to_bfloat(FINITE, out) == (FINITE & 0x7FFFFFFF).max()
    with np.errstate(all="ignore"):
        assert np.array_equal(out, FINITE.view("f4").astype(ml_dtypes.bfloat16).view("u2"))
    assert K.to_bfloat(BITS, np.empty(len(BITS), "u2")) > 0x7F800000  # NaN is said
    every, wide = np.arange(1 << 16, dtype="u2"), np.empty(1 << 16, "u4")
    K.widen(every, wide, True)
    assert np.array_equal(wide, every.astype("u4") << 16)
    K.widen(every, wide, False)
    assert np.array_equal(wide, every.view("f2").astype("f4").view("u4"))


@needs
@pytest.mark.parametrize(("kind", "mantissa", "largest"), [(ml_dtypes.float8_e4m3fn, 3, 448.0), (ml_dtypes.float8_e5m2, 2, 57344.0)])
def test_float8(kind, mantissa, largest):
    """ml_dtypes is the judge: of all exponents, of what lies at and beside each midpoint of two neighbours, of both zeros."""
    every = np.arange(256, dtype="u1").view(kind).astype("f4")
    every = np.unique(every[np.isfinite(every)])
    middle = ((every[1:].astype("f8") + every[:-1]) / 2).astype("f4")
    x = np.concatenate((every, middle, np.nextafter(middle, np.float32(-1e9)), np.nextafter(middle, np.float32(1e9)), FINITE.view("f4")))
    x = np.concatenate((x[np.abs(x) <= largest], np.array([0.0, -0.0], "f4")))
    out = np.empty(len(x), "u1")
    assert K.to_eighth(unaligned(x), out, mantissa) is False
    assert np.array_equal(out, x.astype(kind).view("u1"))


@needs
@pytest.mark.parametrize(("mantissa", "most", "over"), [(3, 464.0, 464.00003), (2, 61439.996, 61440.0)])
def test_what_float8_has_no_place_for_is_said(mantissa, most, over):
    for sign in (1, -1):
        for x, said in ((most, False), (over, True), (np.inf, True), (np.nan, True)):
            held = np.full(33, 1.5, "f4")
            held[17] = sign * x
            assert K.to_eighth(held, np.empty(33, "u1"), mantissa) is said


@needs
def test_tables():
    codes, narrow = RNG.integers(0, 1 << 16, 999, dtype="u2"), RNG.integers(0, 256, 999, dtype="u1")
    for x in (codes, narrow):
        for kind in ("u1", "u2", "u4"):
            table = RNG.integers(0, 1 << 8 * int(kind[1]), 1 << 8 * x.itemsize, dtype=kind)
            out = np.empty(999, kind)
            K.look_up(x, out, table, x.itemsize)
            assert np.array_equal(out, table[x])
    table, out = RNG.integers(0, 256, 1 << 16, dtype="u1"), np.empty(len(BITS), "u1")
    K.look_up_float(BITS, out, table)
    assert np.array_equal(out, table[(BITS >> 16) | ((BITS & 0xFFFF) != 0)])
    tables, rows = RNG.integers(0, 1 << 16, (3, 256), dtype="u2"), RNG.integers(0, 256, (5, 70), dtype="u1")
    wide = np.empty((5, 70), "u2")
    K.look_up_blocks(rows, wide, tables, 70, 32)
    assert np.array_equal(wide, np.stack([tables[c // 32][rows[:, c]] for c in range(70)], 1))


@needs
@pytest.mark.parametrize("n", [1, 7, 8, 2049, 70001])
def test_sums(n):
    x = (RNG.standard_normal(n) * 3 + 1).astype("f4")
    counts = np.zeros(1 << 16, "u4")
    low, high, total, squares = K.figures(x, counts)
    wide = x.astype("f8")
    assert (low, high) == (x.min(), x.max())
    assert total == pytest.approx(wide.sum(), rel=1e-12)
    assert squares == pytest.approx(np.dot(wide, wide), rel=1e-12)
    assert K.spread(x, 1.0) == pytest.approx(((wide - 1) ** 2).sum(), rel=1e-12)
    assert np.array_equal(counts.reshape(4, -1).sum(0), np.bincount(x.view("u4") >> 18, minlength=1 << 14))
    high, low, bits, constant, squares = K.tally(x, 4)
    u = x.view("u4")
    assert (high, low, bits) == (max(0, int(u.view("i4").max())), u.max(), np.bitwise_or.reduce(u))
    assert constant is bool((u == u[0]).all())
    assert squares == pytest.approx(np.dot(wide, wide), rel=1e-12)
    h = u.view("u2")
    assert K.tally(h, 2)[:4] == (max(0, int(h.view("i2").max())), h.max(), np.bitwise_or.reduce(h), bool((h == h[0]).all()))
    assert K.tally(np.full(n, -0.0, "f4"), 4)[3] is True
    y = (x * 1.5).astype("f4")
    y[::3] = x[::3]
    changed, *sums, largest = K.differences(x, y)
    d = (x - y).astype("f8")
    assert (changed, largest) == (int((x != y).sum()), np.abs(x - y).max())
    want = [np.dot(d, d), np.dot(wide, wide), np.dot(y.astype("f8"), y.astype("f8")), np.dot(wide, y.astype("f8")), np.abs(d).sum()]
    assert sums == pytest.approx(want, rel=1e-12)


@needs
def test_what_is_not_finite_is_left_to_numpy():
    counts = np.zeros(1 << 16, "u4")
    for bad in (np.inf, -np.inf, np.nan):
        x = np.ones(100, "f4")
        x[57] = bad
        assert K.figures(x, counts) is None
        assert K.differences(x, np.ones(100, "f4")) is None
        assert K.differences(np.ones(100, "f4"), x) is None
    assert K.differences(np.array([3e38], "f4"), np.array([-3e38], "f4")) is None
    assert not counts.any()


@needs
def test_counts():
    for kind in ("u1", "u2"):
        x = RNG.integers(0, 1 << 8 * int(kind[1]), 4099).astype(kind)
        seen = np.ones(1 << 8 * x.itemsize, "i8")
        K.count(x, seen, x.itemsize)
        assert np.array_equal(seen, 1 + np.bincount(x, minlength=len(seen)))
    assert K.equal(b"abc", b"abc")
    assert not K.equal(b"abc", b"abd")
    assert not K.equal(b"abc", b"ab")


@needs
@pytest.mark.parametrize("kind", ["Q4_0", "Q8_0", "Q4_K", "Q5_K", "Q6_K"])
def test_blocks(kind):
    raw = RNG.integers(0, 256, (777, DTYPES[kind].block_bytes), dtype="u1")
    out = np.empty((777, DTYPES[kind].block), "f4")
    assert K.blocks(kind, raw, out) is True
    with np.errstate(all="ignore"):
        want = decode_blocks(kind, raw)
    assert np.array_equal(out.view("u4")[~np.isnan(want)], np.ascontiguousarray(want).view("u4")[~np.isnan(want)])
    assert np.array_equal(np.isnan(out), np.isnan(want))
    assert K.blocks("Q2_K", raw, out) is False


@needs
@pytest.mark.parametrize(
    "call",
    [
        lambda: K.to_half(np.zeros(4, "f4"), np.zeros(3, "u2")),
        lambda: K.to_bfloat(np.zeros(4, "f4"), np.zeros(5, "u2")),
        lambda: K.widen(np.zeros(4, "u2"), np.zeros(4, "u2"), True),
        lambda: K.look_up(np.zeros(4, "u2"), np.zeros(4, "u1"), np.zeros(256, "u1"), 2),
        lambda: K.look_up(np.zeros(4, "u4"), np.zeros(4, "u1"), np.zeros(256, "u1"), 4),
        lambda: K.look_up_float(np.zeros(4, "f4"), np.zeros(4, "u1"), np.zeros(255, "u1")),
        lambda: K.look_up_blocks(np.zeros(8, "u1"), np.zeros(8, "u2"), np.zeros(256, "u2"), 4, 2),
        lambda: K.look_up_blocks(np.zeros(8, "u1"), np.zeros(8, "u2"), np.zeros(256, "u2"), 0, 0),
        lambda: K.to_eighth(np.zeros(4, "f4"), np.zeros(5, "u1"), 3),
        lambda: K.to_eighth(np.zeros(4, "f4"), np.zeros(4, "u1"), 4),
        lambda: K.mean(np.zeros(3, "u2"), 0),
        lambda: K.mean(np.zeros(4, "u2"), 3),
        lambda: K.figures(np.zeros(4, "f4"), np.zeros(4, "u4")),
        lambda: K.count(np.zeros(4, "u2"), np.zeros(256, "i8"), 2),
        lambda: K.tally(np.zeros(0, "u4"), 4),
        lambda: K.tally(np.zeros(3, "u2"), 4),
        lambda: K.differences(np.zeros(4, "f4"), np.zeros(5, "f4")),
        lambda: K.turn(np.zeros(16, "u4"), np.zeros(16, "u4"), 4, 4, 4, (1, 4), (0, 4)),
        lambda: K.turn(np.zeros(16, "u4"), np.zeros(16, "u4"), 4, 4, 4, (0, 4), (0, 5)),
        lambda: K.turn(np.zeros(16, "u4"), np.zeros(16, "u4"), 4, 4, 4, (-1, 4), (0, 4)),
        lambda: K.turn(np.zeros(16, "u4"), np.zeros(16, "u4"), 4, 4, 1 << 62, (0, 4), (0, 4)),
        lambda: K.turn(np.zeros(16, "u4"), np.zeros(16, "u4"), 3, 4, 4, (0, 4), (0, 4)),
        lambda: K.blocks("Q8_0", np.zeros(35, "u1"), np.zeros(32, "f4")),
        lambda: K.blocks("Q8_0", np.zeros(34, "u1"), np.zeros(31, "f4")),
    ],
)
def test_buffers_that_do_not_belong_together_are_refused(call):
    with pytest.raises(ValueError, match="do not belong together"):
        call()


@needs
@pytest.mark.parametrize("kind", ["u1", "u2", "u4", "u8"])
@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (16, 16), (17, 130), (300, 47), (5, 1000)])
def test_transpositions(kind, rows, columns):
    whole = RNG.integers(0, 256, (rows, columns + 3)).astype(kind)
    out = np.zeros((columns, rows + 2), kind)
    K.turn(whole, out, whole.itemsize, rows, columns, (2, columns + 3), (1, rows + 2))
    want = np.zeros_like(out)
    want[:, 1 : rows + 1] = whole.ravel()[2:][: (rows - 1) * (columns + 3) + columns][
        np.arange(columns)[:, None] + (columns + 3) * np.arange(rows)
    ]
    assert np.array_equal(out, want)


@needs
@pytest.mark.parametrize(
    ("run", "count", "step", "by"), [(1, 1, 0, 0), (32, 9, 40, 32), (7, 100, 7, 11), (4096, 40, 5000, 4096), (3, 5, 0, 3)]
)
def test_runs_of_bytes(run, count, step, by):
    source = RNG.integers(0, 256, 2 + (count - 1) * step + run).astype("u1")
    out = np.zeros(5 + (count - 1) * by + run + 3, "u1")
    want = out.copy()
    for i in range(count):
        want[5 + i * by : 5 + i * by + run] = source[2 + i * step : 2 + i * step + run]
    K.runs(source, out, run, count, (2, step), (5, by))
    assert np.array_equal(out, want)
    for off in ((3, step), (2, step + 1), (-1, step), (2, -1), (2, 1 << 39)):
        if count > 1 or off[0] != 2:
            with pytest.raises(ValueError, match="do not belong together"):
                K.runs(source, out, run, count, off, (5, by))
    with pytest.raises(ValueError, match="do not belong together"):
        K.runs(source, out, run, count, (2, step), (9, by))


def test_without_them_the_same_bits(tmp_path):
    """A process without the compiled loops casts, decodes and counts to the same results."""
    program = """
import hashlib, numpy as np
from ckptkit.engine.casts import cast
from ckptkit.support.arrays import numpy_dtype
from ckptkit.support.kernels import kernels
rng = np.random.default_rng(5)
x = np.concatenate((rng.integers(0, 1 << 32, 200_000, dtype="u4").view("f4"), (rng.standard_normal(100_000) * 200).astype("f4")))
out = []
pairs = [("F32", t) for t in ("F16", "BF16", "F8_E4M3", "F8_E5M2")] + [(s, "F32") for s in ("F16", "BF16", "F8_E4M3")] + [("BF16", "F16")]
codes = rng.integers(0, 1 << 16, 100_000, dtype="u2")
for source, target in pairs:
    a = x if source == "F32" else codes.astype(f"u{numpy_dtype(source).itemsize}").view(numpy_dtype(source))
    for clip in (False, True):
        y = np.empty(len(a), numpy_dtype(target))
        with np.errstate(all="ignore"):
            lost = cast(a, y, source, target, clip)
        out.append(f"{source} {target} {lost} {hashlib.sha256(y.tobytes()).hexdigest()}")
print(kernels() is None, *out, sep="\\n")
"""
    env = {k: v for k, v in os.environ.items() if k != "CKPTKIT_NO_NATIVE"}
    runs = [
        subprocess.run([sys.executable, "-c", program], env=env | more, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
        for more in ({}, {"CKPTKIT_NO_NATIVE": "1"})
    ]
    with_them, without = (r.splitlines() for r in runs)
    assert without[0] == "True"
    assert (with_them[0] == "False") is was_compiled()
    assert with_them[1:] == without[1:]


@needs
@pytest.mark.parametrize(("rows", "rank", "columns"), [(1, 1, 1), (7, 3, 5), (3, 64, 513), (33, 16, 1030)])
def test_products_are_summed_in_order_with_one_rounding_each(rows: int, rank: int, columns: int) -> None:
    left, right = (RNG.standard_normal(s, np.float32) for s in ((rows, rank), (rank, columns)))
    want = np.zeros((rows, columns), np.float32)
    for k in range(rank):
        want = (want + left[:, k : k + 1].astype(np.float64) * right[k].astype(np.float64)).astype(np.float32)
    got = np.full((rows, columns), 7, np.float32)
    K.products(left, right, got, rank)
    np.testing.assert_array_equal(got, want)
    cut = left.ravel()[1:]
    for x, y, z, many in ((left, right, got[:0], rank), (left, right, got, 0), (left, right, got, -1), (cut, right, got, rank)):
        with pytest.raises(ValueError, match="lengths"):
            K.products(x, y, z, many)


@needs
@pytest.mark.parametrize("n", [0, 1, 7, 255, 256, 257, 5000])
@pytest.mark.parametrize(("kind", "code"), [("f4", 0), (ml_dtypes.bfloat16, 1), ("f2", 2)])
def test_means_of_what_is_finite(kind, code, n):
    some = RNG.choice(BITS, n).astype("u4")
    x = some.view("f4") if code == 0 else (some >> 16).astype("u2").view(kind)
    if n:
        x[0] = -0.0  # not below zero
    with np.errstate(invalid="ignore"):
        wide = x.astype("f8")
    fine = wide[np.isfinite(wide)]
    finite, total, negative = K.mean(unaligned(x.view("u4" if code == 0 else "u2")), code)
    assert (finite, negative) == (len(fine), int((fine < 0).sum()))
    assert abs(total - fine.sum()) <= 1e-12 * np.abs(fine).sum()
