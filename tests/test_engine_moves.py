"""What the engine moves: held against numpy written out by hand and against element-by-element index arithmetic."""

from __future__ import annotations

import tempfile
import zlib
from pathlib import Path

import crc32c
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plans import NUMPY, copy_of, go, plan_of, read_back, same_bits, store, transposed

from ckptkit.engine import jobs as _jobs
from ckptkit.engine import loop_nest
from ckptkit.errors import CheckpointError, CorruptError, FindingsError, UnsupportedError
from ckptkit.plan.values import Piece
from ckptkit.schema.loops import Loop
from ckptkit.support import files
from ckptkit.tensors import row_major_strides

rng = np.random.default_rng(7)
CHECKS = [None, "crc32", "crc32c"]


def indices(piece: Piece) -> tuple[np.ndarray, np.ndarray]:
    """Every (source, target) element of a nest, by plain addition."""
    s, t = np.array(piece.source_offset), np.array(piece.target_offset)
    for n, a, b in piece.loops:
        s, t = np.add.outer(s, np.arange(n) * a), np.add.outer(t, np.arange(n) * b)
    return s.ravel(), t.ravel()


def expected(pieces: tuple[Piece, ...], arrays: list[np.ndarray], dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
    out = np.zeros(int(np.prod(shape)), dtype)
    for p in pieces:
        s, t = indices(p)
        out[t] = p.value if p.op == "fill" else arrays[p.source].ravel()[s]
    return out.reshape(shape)


@pytest.fixture
def tiny_buffers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Buffers so small that little tensors take every path that large ones take."""
    shrink(monkeypatch)


def shrink(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (loop_nest, _jobs, files):
        monkeypatch.setattr(module, "CHUNK", 512, raising=False)
    import ckptkit.engine.worker as work

    monkeypatch.setattr(work, "CHUNK", 512)
    monkeypatch.setattr(loop_nest, "GAP", 40)
    monkeypatch.setattr(loop_nest, "SLAB", 8)
    monkeypatch.setattr(loop_nest, "SPREAD", 64)
    monkeypatch.setattr(loop_nest, "BRIEF", 4)
    monkeypatch.setattr(_jobs, "SMALL", 100)
    monkeypatch.setattr(_jobs, "APART", 64)
    monkeypatch.setattr(_jobs, "WINDOW", 700)
    monkeypatch.setattr(_jobs, "LONG", 1500)
    monkeypatch.setattr(_jobs, "RUN", 16)


@pytest.mark.parametrize("checksum", CHECKS)
@pytest.mark.parametrize("check", [False, True])
@pytest.mark.parametrize("cut", [0, 1000])
def test_copy_transpose_join_and_split_are_numpys(tmp_path: Path, checksum: str | None, check: bool, cut: int) -> None:
    a = rng.standard_normal((300, 517)).astype("f4")
    q, k, v = (rng.standard_normal((64, 96)).astype("f4") for _ in range(3))
    qkv = rng.standard_normal((3 * 64, 96)).astype("f4")
    c = rng.standard_normal((4, 5, 6, 70)).astype("f2")
    src = store(tmp_path / "in", {"a": a, "q": q, "k": k, "v": v, "qkv": qkv, "c": c}, cut=cut, gap=3)
    s = list(src.values())
    n = q.size
    inter = tuple(Piece(1 + i, (Loop(64, 96, 3 * 96), Loop(96, 1, 1)), 0, i * 96) for i in range(3))
    cols = tuple(Piece(1 + i, (Loop(96, 1, 3 * 64), Loop(64, 96, 1)), 0, i * 64) for i in range(3))
    plan = plan_of(
        tmp_path / "out",
        s,
        [
            ("same", "F32", a.shape, (copy_of(0, a.size),)),
            ("t", "F32", a.T.shape, (transposed(0, a.shape, (1, 0)),)),
            ("joined", "F32", (192, 96), tuple(copy_of(1 + i, n, 0, i * n) for i in range(3))),
            ("interleaved", "F32", (64, 3, 96), inter),
            ("columns", "F32", (96, 192), cols),
            ("key", "F32", (64, 96), (copy_of(4, n, n),)),
            ("key_t", "F32", (96, 64), (transposed(4, (64, 96), (1, 0))._replace(source_offset=n),)),
            ("c", "F16", (6, 4, 70, 5), (transposed(5, c.shape, (2, 0, 3, 1)),)),
            ("one", "F32", (), (copy_of(0, 1, 5),)),
            ("none", "F32", (0, 4), ()),
        ],
        checksum=checksum,
        gap=5,
        header=b"header",
    )
    want = {
        "same": a, "t": a.T, "joined": np.concatenate([q, k, v]), "interleaved": np.stack([q, k, v], 1),
        "columns": np.concatenate([q.T, k.T, v.T], 1), "key": qkv[64:128], "key_t": qkv[64:128].T,
        "c": c.transpose(2, 0, 3, 1), "one": a.ravel()[5], "none": np.empty((0, 4), "f4"),
    }  # fmt: skip
    result = go(plan, check=check)
    for name, w in want.items():
        assert same_bits(read_back(plan, name), np.asarray(w)), name
    crc = {"crc32": zlib.crc32, "crc32c": crc32c.crc32c}.get(checksum or "")
    assert result.crcs == ({k: crc(np.ascontiguousarray(w).tobytes()) for k, w in want.items()} if crc else {})
    data = (tmp_path / "out/weights-0.bin").read_bytes()
    assert data.startswith(b"header") and result.files == (("weights-0.bin", len(data)),)
    covered = {(t.slot.offset, t.slot.length) for t in plan.tasks}
    assert all(data[o + n : o + n + 5] == bytes(5) for o, n in covered), "padding is zero"


@st.composite
def nests(draw: st.DrawFn) -> tuple[tuple[Piece, ...], int, tuple[int, ...]]:
    """Pieces that together write a tensor once: a mixed-radix target, each piece a source with its own order and gaps."""
    sizes = draw(st.lists(st.integers(1, 7), min_size=1, max_size=4))
    axis = draw(st.integers(0, len(sizes) - 1))
    shares = draw(st.lists(st.integers(1, 4), min_size=1, max_size=3))
    sizes[axis] = sum(shares)
    target = row_major_strides(tuple(sizes))
    pieces, room, at = [], 1, 0
    for share in shares:
        dims = [share if i == axis else n for i, n in enumerate(sizes)]
        acc, source = draw(st.integers(1, 3)), [0] * len(dims)
        for i in draw(st.permutations(range(len(dims)))):
            source[i] = acc
            acc *= dims[i] * draw(st.sampled_from([1, 1, 2]))
            acc += draw(st.sampled_from([0, 0, 30]))
        offset, room = draw(st.integers(0, 5)), max(room, acc + 6)
        loops = []
        to = at * target[axis]
        for i, n in enumerate(dims):
            s, t = source[i], target[i]
            flip = draw(st.sampled_from(["no", "no", "source", "both", "still"]))
            if flip == "still":
                s = 0
            elif flip == "source":
                offset, s = offset + (n - 1) * s, -s
            elif flip == "both":
                offset, to, s, t = offset + (n - 1) * s, to + (n - 1) * t, -s, -t
            loops.append(Loop(n, s, t))
        order = draw(st.permutations(loops))
        op = draw(st.sampled_from(["copy", "copy", "copy", "fill"]))
        pieces.append(Piece(-1, tuple(order), 0, to, "fill", 3.0) if op == "fill" else Piece(0, tuple(order), offset, to))
        at += share
    return tuple(pieces), room * 3, tuple(sizes)


@settings(max_examples=250, deadline=None)
@given(
    nests(), st.sampled_from(["F32", "F64", "BF16", "U8", "I64"]), st.sampled_from([1, 3]), st.sampled_from(CHECKS),
    st.sampled_from([0, 64, 4096]), st.integers(0, 3), st.booleans(), st.booleans(),
)  # fmt: skip
def test_any_nest_is_index_arithmetic(
    case: tuple[tuple[Piece, ...], int, tuple[int, ...]],
    dtype: str,
    jobs: int,
    checksum: str | None,
    cut: int,
    extra: int,
    check: bool,
    tiny: bool,
) -> None:
    pieces, room, shape = case
    a = np.arange(room * 4).astype(np.uint8).astype(NUMPY[dtype])
    with tempfile.TemporaryDirectory() as d, pytest.MonkeyPatch.context() as m:
        if tiny:
            shrink(m)
        src = store(Path(d, "in"), {"a": a}, cut=cut)
        tensors = [(f"t{i}", dtype, shape, pieces) for i in range(1 + extra)]
        plan = plan_of(Path(d, "out"), list(src.values()), tensors, checksum=checksum, files=1 + extra % 2)
        go(plan, jobs=jobs, check=check)
        want = expected(pieces, [a], NUMPY[dtype], shape)
        for t in plan.tasks:
            assert same_bits(read_back(plan, t.name), want)


@pytest.mark.parametrize("dtype", ["F32", "BF16"])
@pytest.mark.parametrize("run", [64, 1 << 30])
@pytest.mark.parametrize("shape", [(1500, 1300), (3, 900, 700), (5, 400001), (400001, 5)])
def test_the_memory_bound_and_the_workers_change_nothing(
    tmp_path: Path, shape: tuple[int, ...], dtype: str, run: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_jobs, "WINDOW", 1 << 20)
    monkeypatch.setattr(_jobs, "RUN", run)
    a = rng.integers(0, 1 << 16, shape).astype(NUMPY[dtype])
    s = list(store(tmp_path / "in", {"a": a}, gap=1).values())
    axes = (*range(len(shape) - 2), len(shape) - 1, len(shape) - 2)
    seen = set()
    for i, (jobs, memory) in enumerate([(1, 8 << 20), (4, 8 << 20), (2, 256 << 20)]):
        plan = plan_of(tmp_path / f"out{i}", s, [("t", dtype, a.transpose(axes).shape, (transposed(0, shape, axes),))], checksum="crc32")
        result = go(plan, jobs=jobs, max_memory=memory)
        assert same_bits(read_back(plan, "t"), a.transpose(axes))
        seen.add((result.crcs["t"], (tmp_path / f"out{i}/weights-0.bin").read_bytes()))
    assert len(seen) == 1


FLOATS = ["F64", "F32", "F16", "BF16", "F8_E5M2", "F8_E4M3", "F8_E5M2FNUZ", "F8_E4M3FNUZ"]


def nearest_even(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """The nearest value of an 8- or 16-bit float type, ties to the even bit pattern, by search through all of them."""
    bits = np.arange(1 << (8 * dtype.itemsize), dtype=np.uint16 if dtype.itemsize == 2 else np.uint8)
    with np.errstate(all="ignore"):
        table = bits.view(dtype).astype(np.float64)
    keep = np.isfinite(table) & ~np.signbit(table)
    order = np.argsort(table[keep], kind="stable")
    points, codes = table[keep][order], bits[keep][order]
    out = []
    for v in values:
        j = min(int(np.searchsorted(points, abs(v))), len(points) - 1)
        i = max(j - 1, 0)
        low, high = abs(v) - points[i], points[j] - abs(v)
        pick = j if high < low or (high == low and codes[j] % 2 == 0) else i
        out.append(np.copysign(points[pick], v))
    return np.array(out)


@pytest.mark.parametrize("target", FLOATS)
@pytest.mark.parametrize("source", FLOATS)
@pytest.mark.parametrize("small", [True, False])
def test_casts_round_to_nearest_even_once(tmp_path: Path, source: str, target: str, small: bool) -> None:
    x = np.concatenate([rng.standard_normal(200), 2.0 ** rng.uniform(-9, 3, 200) * rng.choice([-1, 1], 200)])
    ties = np.array([1 + 2.0**-k + d for k in range(2, 12) for d in (-(2.0**-40), 0, 2.0**-40)])
    with np.errstate(all="ignore"):
        a = np.concatenate([x, ties, -ties, [0.0, 0.25, 1.0]]).astype(NUMPY[source])
    a = a if small else np.resize(a, 300_000)
    plan = plan_of(tmp_path / "out", list(store(tmp_path / "in", {"a": a}).values()), [("t", target, a.shape, (copy_of(0, a.size),))])
    go(plan)
    got = read_back(plan, "t").astype(np.float64)[:500]
    exact = a.astype(np.float64)[:500]
    if NUMPY[target].itemsize <= 2:
        assert np.array_equal(got, nearest_even(exact, NUMPY[target]))
    else:
        assert np.array_equal(got, exact.astype(NUMPY[target]).astype(np.float64))
    assert same_bits(read_back(plan, "t"), np.resize(read_back(plan, "t")[: min(a.size, 463)], a.size))


@pytest.mark.parametrize("source,target", [("F32", "BF16"), ("BF16", "F32"), ("F32", "F16"), ("F16", "F32")])
def test_nan_and_infinity_survive_casts_and_are_no_overflow(tmp_path: Path, source: str, target: str) -> None:
    a = np.resize(np.array([np.nan, -np.nan, np.inf, -np.inf, -0.0, 1.5]), 200_000).astype(NUMPY[source])
    plan = plan_of(tmp_path / "out", list(store(tmp_path / "in", {"a": a}).values()), [("t", target, a.shape, (copy_of(0, a.size),))])
    result = go(plan)
    got = read_back(plan, "t").astype(np.float32)
    assert result.findings == ()
    assert np.array_equal(got, a.astype(np.float32), equal_nan=True) and np.array_equal(np.signbit(got), np.signbit(a.astype(np.float32)))


@pytest.mark.parametrize(
    "target,top", [("F16", 65504.0), ("F8_E4M3", 448.0), ("F8_E5M2", 57344.0), ("F8_E4M3FNUZ", 240.0), ("BF16", 3.3895313892515355e38)]
)
def test_values_too_large_are_refused_clipped_or_kept(tmp_path: Path, target: str, top: float) -> None:
    a = np.ones(150_000, "f4")
    a[[3, 70_000]] = [3.4e38, -3.4e38]
    a[5] = np.inf
    s = list(store(tmp_path / "in", {"a": a}).values())
    plan = plan_of(tmp_path / "out", s, [("w", target, a.shape, (copy_of(0, a.size),))])
    with pytest.raises(FindingsError, match=r"'w': 2 values too large") as e:
        go(plan)
    assert [f.where for f in e.value.findings] == ["w"] and not (tmp_path / "out").exists()
    assert [(f.severity, f.where) for f in go(plan, on_overflow="clip").findings] == [("warning", "w")]
    assert read_back(plan, "w")[[3, 70_000]].astype("f8").tolist() == [top, -top]
    go(plan, on_overflow="keep", overwrite=True)
    assert not np.isfinite(read_back(plan, "w")[[3, 5, 70_000]].astype("f4")).any()


def test_transposed_cast_and_mixed_sources(tmp_path: Path, tiny_buffers: None) -> None:
    a = rng.standard_normal((70, 90)).astype("f4")
    b = rng.standard_normal((70, 90)).astype(ml_dtypes.bfloat16)
    s = list(store(tmp_path / "in", {"a": a, "b": b}).values())
    n = a.size
    both = (transposed(0, a.shape, (1, 0)), transposed(1, b.shape, (1, 0))._replace(target_offset=n))
    plan = plan_of(
        tmp_path / "out", s, [("t", "BF16", (90, 70), both[:1]), ("m", "F16", (2, 90, 70), both), ("w", "F64", (2, 90, 70), both)]
    )
    go(plan)
    assert same_bits(read_back(plan, "t"), a.T.astype(ml_dtypes.bfloat16))
    assert same_bits(read_back(plan, "m"), np.stack([a.T.astype("f2"), b.T.astype("f4").astype("f2")]))
    assert same_bits(read_back(plan, "w"), np.stack([a.T.astype("f8"), b.T.astype("f8")]))


def test_fill_pads_and_add_sums_in_float32(tmp_path: Path) -> None:
    a, b = (rng.standard_normal((50, 40)).astype(ml_dtypes.bfloat16) for _ in range(2))
    s = list(store(tmp_path / "in", {"a": a, "b": b}).values())
    pad = Piece(-1, (Loop(14 * 40, 0, 1),), 0, 50 * 40, "fill", 0.1)
    plan = plan_of(
        tmp_path / "out",
        s,
        [
            ("padded", "F32", (64, 40), (copy_of(0, 2000), pad)),
            ("ones", "F16", (7,), (Piece(-1, (Loop(7, 0, 1),), 0, 0, "fill", 1.0),)),
            ("ids", "I64", (3,), (Piece(-1, (Loop(3, 0, 1),), 0, 0, "fill", -7.0),)),
            ("sum", "BF16", (50, 40), (copy_of(0, 2000), copy_of(1, 2000)._replace(op="add"))),
        ],
    )
    go(plan)
    assert same_bits(read_back(plan, "padded"), np.concatenate([a.astype("f4"), np.full((14, 40), 0.1, "f4")]))
    assert read_back(plan, "ones").tolist() == [1.0] * 7 and read_back(plan, "ids").tolist() == [-7] * 3
    assert same_bits(read_back(plan, "sum"), (a.astype("f4") + b.astype("f4")).astype(ml_dtypes.bfloat16))


def test_integers_are_copied_and_never_cast(tmp_path: Path) -> None:
    a = np.arange(12, dtype="i8")
    s = list(store(tmp_path / "in", {"a": a}).values())
    with pytest.raises(UnsupportedError, match="'t': I64 is not cast to F32"):
        go(plan_of(tmp_path / "out", s, [("t", "F32", (12,), (copy_of(0, 12),))]))
    plan = plan_of(tmp_path / "out", s, [("t", "I64", (4, 3), (transposed(0, (3, 4), (1, 0)),))])
    go(plan)
    assert same_bits(read_back(plan, "t"), a.reshape(3, 4).T)


def test_a_plan_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    a = np.arange(12, dtype="f4")
    s = list(store(tmp_path / "in", {"a": a}).values())
    cases = [
        (CheckpointError, "writes 6 of its 12", (copy_of(0, 6),)),
        (CheckpointError, "writes 18 of its 12", (copy_of(0, 12), copy_of(0, 6))),
        (CorruptError, "has 12 elements", (copy_of(0, 12, 1),)),
        (CorruptError, "has 12 elements", (Piece(0, (Loop(12, -1, 1),), 10),)),
        (CheckpointError, "outside", (copy_of(0, 12, 0, 1),)),
        (CheckpointError, "which there is not", (copy_of(3, 12),)),
    ]
    for kind, message, pieces in cases:
        with pytest.raises(kind, match=message):
            go(plan_of(tmp_path / "out", s, [("t", "F32", (12,), pieces)]))
        assert sorted(p.name for p in tmp_path.iterdir()) == ["in"]


@pytest.mark.parametrize("checksum", CHECKS)
@pytest.mark.parametrize("check", [False, True])
def test_thousands_of_small_tensors_in_any_order(tmp_path: Path, checksum: str | None, check: bool) -> None:
    arrays = {f"t{i}": rng.standard_normal(int(n)).astype("f4") for i, n in enumerate(rng.integers(1, 600, 3000))}
    src = store(tmp_path / "in", arrays)
    names = list(arrays)
    order = rng.permutation(3000)
    for gap, seq in ((0, range(3000)), (64, order), (0, order)):
        tensors = [(names[i], "F32", arrays[names[i]].shape, (copy_of(i, arrays[names[i]].size),)) for i in seq]
        plan = plan_of(tmp_path / "out", list(src.values()), tensors, checksum=checksum, gap=gap)
        result = go(plan, check=check, overwrite=True)
        assert all(same_bits(read_back(plan, n), a) for n, a in list(arrays.items())[::97])
        if checksum == "crc32":
            assert result.crcs == {n: zlib.crc32(a.tobytes()) for n, a in arrays.items()}
