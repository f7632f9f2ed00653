"""OpenAI's numpy folder and joblib's files: judged by numpy, joblib's own bytes, and what is wrong on purpose."""

from __future__ import annotations

import io
import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import oracles
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ckptkit
from ckptkit.containers import locate, open_checkpoint
from ckptkit.containers._wire import npy_header
from ckptkit.errors import CheckpointError, CorruptError, NotFoundError, UnsupportedError
from ckptkit.plan.values import Piece, cut, from_json, to_json
from ckptkit.schema.loops import Loop
from ckptkit.tensors import TensorSpec

GOLDEN = oracles.golden("gpt1_npy")
JL = GOLDEN / "finetuned_best_params.jl"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the published folder, to be spoilt."""
    return Path(shutil.copytree(GOLDEN / "model", tmp_path / "model", copy_function=shutil.copyfile))


# ---------------------------------------------------------------------------------------------- .npy headers


def saved(array: np.ndarray, version: tuple[int, int] = (1, 0)) -> bytes:
    out = io.BytesIO()
    np.lib.format.write_array(out, array, version=version)
    return out.getvalue()


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
@pytest.mark.parametrize("dtype", ["<f4", "<f2", "<f8", "<i8", "|u1", "|b1", "<c8"])
@pytest.mark.parametrize("shape", [(), (0,), (7,), (2, 3), (1, 2, 3, 4)])
def test_headers_that_numpy_writes_are_understood(version: tuple[int, int], dtype: str, shape: tuple[int, ...]) -> None:
    for order in ("C", "F"):
        array = np.asarray(np.zeros(shape, dtype), order=order)  # type: ignore[call-overload]
        data = saved(array, version)
        h = npy_header.header(data, len(data), "x.npy")
        assert h.spec.shape == shape and h.start == len(data) - array.nbytes
        assert h.fortran == (order == "F" and not array.flags.c_contiguous)


@pytest.mark.parametrize("dtype", [("F32", "<f4"), ("F16", "<f2"), ("I64", "<i8"), ("BOOL", "|b1"), ("U8", "|u1")])
def test_headers_are_written_as_numpy_writes_them(dtype: tuple[str, str]) -> None:
    for shape in [(), (0,), (4410,), (3, 5)]:
        head = npy_header.write_header(TensorSpec(dtype[0], shape))
        array = np.load(io.BytesIO(head + b"\0" * TensorSpec(dtype[0], shape).nbytes), allow_pickle=False)
        assert array.shape == shape and array.dtype == np.dtype(dtype[1]) and len(head) % 64 == 0
    assert npy_header.write_header(TensorSpec("F32", (4410,))) == (GOLDEN / "model" / "params_0.npy").read_bytes()[:128]
    with pytest.raises(UnsupportedError, match="no dtype BF16"):
        npy_header.write_header(TensorSpec("BF16", (2,)))


def npy(text: str, body: bytes = b"\0" * 16, version: bytes = b"\x01\x00", length: int | None = None) -> bytes:
    return (
        npy_header.MAGIC
        + version
        + (len(text) if length is None else length).to_bytes(2 if version[0] == 1 else 4, "little")
        + text.encode()
        + body
    )


GOOD = "{'descr': '<f4', 'fortran_order': False, 'shape': (4,), }"
BAD = {
    "a negative size": (npy(GOOD.replace("(4,)", "(-4,)")), "holds what is no size"),
    "a float for a size": (npy(GOOD.replace("(4,)", "(4.0,)")), "where numpy writes"),
    "a name for a size": (npy(GOOD.replace("(4,)", "(x,)")), "where numpy writes"),
    "a size without end": (npy(GOOD.replace("(4,)", f"({'9' * 400},)")), "no size"),
    "a huge size": (npy(GOOD.replace("(4,)", "(9999999999999,)")), "truncated: the .npy header promises 39,999,999,999,996 bytes"),
    "sizes whose product is huge": (npy(GOOD.replace("(4,)", "(" + "9999999999, " * 60 + ")")), "truncated"),
    "too many sizes": (npy(GOOD.replace("(4,)", "(" + "1," * 100 + ")")), "rank"),
    "a call": (npy(GOOD.replace("False", "__import__('os').system('true')")), "where numpy writes"),
    "deep brackets": (
        npy("{'descr': '<f4', 'fortran_order': False, 'shape': " + "(" * 3000 + "4" + ",)" * 3000 + "}"),
        "where numpy writes",
    ),
    "many minus signs": (npy("{'descr': '<f4', 'fortran_order': False, 'shape': (" + "-" * 9000 + "4,)}"), "no size"),
    "a long header": (npy(GOOD + " " * 20_000), "numpy reads 10,000"),
    "a header of four gigabytes": (npy(GOOD, version=b"\x02\x00", length=0xFFFFFFFF), "numpy reads 10,000"),
    "a header past the end": (npy(GOOD, b"", length=len(GOOD) + 9), "truncated"),
    "a header that is no dict": (npy("['descr', '<f4']"), "no dict"),
    "an empty header": (npy(""), "no dict"),
    "a missing key": (npy("{'descr': '<f4', 'shape': (4,)}"), "has no fortran_order"),
    "a key twice": (npy(GOOD.replace("}", "'shape': (4,), }")), "where numpy writes"),
    "objects": (npy(GOOD.replace("<f4", "|O")), "Python objects"),
    "records": (npy(GOOD.replace("'<f4'", "[('a', '<f4')]")), "records"),
    "big-endian numbers": (npy(GOOD.replace("<f4", ">f4")), "big-endian"),
    "text": (npy(GOOD.replace("<f4", "<U4")), "dtype '<U4'"),
    "an unknown version": (npy(GOOD, version=b"\x07\x00"), "version 7.0"),
    "too few bytes": (npy(GOOD, b"\0" * 15), "truncated: the .npy header promises 16 bytes of F32 [4], the file has 15"),
    "too many bytes": (npy(GOOD, b"\0" * 17), "the file has 17"),
    "no magic": (b"\0" * 200, "no .npy file"),
    "nothing": (b"\x93NUM", "truncated"),
}


@pytest.mark.parametrize("fault", BAD)
def test_headers_that_are_wrong_are_refused_by_name(fault: str, folder: Path) -> None:
    data, says = BAD[fault]
    with pytest.raises(CheckpointError) as caught:
        npy_header.header(data[: npy_header.MAX_HEADER + 12], len(data), "x.npy")
    assert says in str(caught.value)
    (folder / "params_4.npy").write_bytes(data)
    with pytest.raises(CheckpointError, match=r"params_4\.npy"):
        open_checkpoint(folder)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_any_damage_to_a_header_is_a_checkpoint_error_or_what_numpy_says(data: st.DataObject) -> None:
    raw = bytearray(saved(np.arange(4, dtype="<f4")))
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, 127))] = data.draw(st.integers(0, 255))
    try:
        h = npy_header.header(bytes(raw), len(raw), "x.npy")
    except CheckpointError:
        return
    array = np.load(io.BytesIO(bytes(raw)), allow_pickle=False)
    assert array.shape == h.spec.shape and array.nbytes == h.spec.nbytes


# ---------------------------------------------------------------------------------------------- the folder


def test_the_folder_reads_as_train_py_reads_it() -> None:
    shapes = json.loads((GOLDEN / "model" / "params_shapes.json").read_text())
    names = json.loads((GOLDEN / "names_in_order.json").read_text())
    flat = np.concatenate([np.load(GOLDEN / "model" / f"params_{n}.npy") for n in range(10)], 0)
    parts = np.split(flat, np.cumsum([np.prod(s) for s in shapes]))[:-1]
    with open_checkpoint(GOLDEN / "model") as c:
        assert c.container == "openai-npy" and list(c.tensors) == names and c.findings == []
        assert any(len(t.extents) > 1 for t in c.tensors.values())  # some lie in two arrays
        for name, part, shape in zip(names, parts, shapes, strict=True):
            assert np.array_equal(c.array(name), part.reshape(shape)), name


@pytest.mark.parametrize("path", ["", "model", "model/params_shapes.json", "model/params_0.npy", "model/params_9.npy"])
def test_the_folder_is_found_by_each_of_its_files_and_from_above(path: str) -> None:
    assert locate(str(GOLDEN / path))[0].NAME == "openai-npy"


@pytest.mark.parametrize("arrays", [1, 3, 13])
def test_where_one_array_ends_means_nothing(folder: Path, arrays: int) -> None:
    with open_checkpoint(folder) as c:
        want = {n: c.array(n) for n in c.tensors}
    flat = np.concatenate([np.load(folder / f"params_{n}.npy") for n in range(10)], 0)
    for n in range(10):
        (folder / f"params_{n}.npy").unlink()
    for n, part in enumerate(np.array_split(flat, arrays)):
        np.save(folder / f"params_{n}.npy", part)
    with open_checkpoint(folder) as c:
        assert [f.rule for f in c.findings] == ["arrays"] and f"{arrays} arrays" in c.findings[0].message
        assert all(np.array_equal(c.array(n), want[n]) for n in want)


def spoil(folder: Path, how: str) -> None:
    shapes = folder / "params_shapes.json"
    raw = json.loads(shapes.read_text())
    array = np.load(folder / "params_5.npy")
    if how == "an array is missing":
        (folder / "params_5.npy").unlink()
    elif how == "the last array is missing":
        (folder / "params_9.npy").unlink()
    elif how == "all arrays are missing":
        for p in folder.glob("params_*.npy"):
            p.unlink()
    elif how == "an array has a number too few":
        np.save(folder / "params_5.npy", array[:-1])
    elif how == "an array has a number too many":
        np.save(folder / "params_5.npy", np.append(array, np.float32(0)))
    elif how == "an array is of another dtype":
        np.save(folder / "params_5.npy", array.astype(np.float64))
    elif how == "an array is no vector":
        np.save(folder / "params_5.npy", array.reshape(2, -1))
    elif how == "a shape is missing":
        shapes.write_text(json.dumps(raw[:-1]))
    elif how == "a shape is negative":
        shapes.write_text(json.dumps([[-16, 32], *raw[1:]]))
    elif how == "a shape is true":
        shapes.write_text(json.dumps([[True, 512], *raw[1:]]))
    elif how == "a shape is beyond any file":
        shapes.write_text(json.dumps([[1 << 60, 32], *raw[1:]]))
    elif how == "a shape is a number":
        shapes.write_text(json.dumps([512, *raw[1:]]))
    elif how == "the list is an object":
        shapes.write_text(json.dumps([{"a": 1}]))
    elif how == "the list is empty":
        shapes.write_text("[]")
    elif how == "the list is cut":
        shapes.write_text(shapes.read_text()[:-20])


FAULTS: dict[str, tuple[type[CheckpointError], str]] = {
    "an array is missing": (NotFoundError, "9 arrays up to params_9.npy, but no params_5.npy"),
    "the last array is missing": (CorruptError, "the 38 shapes need 44,096 elements, the 9 arrays hold 39,690"),
    "all arrays are missing": (NotFoundError, "no arrays"),
    "an array has a number too few": (CorruptError, "need 44,096 elements, the 10 arrays hold 44,095"),
    "an array has a number too many": (CorruptError, "the 10 arrays hold 44,097"),
    "an array is of another dtype": (CorruptError, "is F64, params_0.npy is F32"),
    "an array is no vector": (CorruptError, "flat"),
    "a shape is missing": (CorruptError, "the 37 shapes need 44,064"),
    "a shape is negative": (CorruptError, "entry 0 is no shape"),
    "a shape is true": (CorruptError, "entry 0 is no shape"),
    "a shape is beyond any file": (CorruptError, "entry 0 is no shape"),
    "a shape is a number": (CorruptError, "entry 0 is no shape"),
    "the list is an object": (CorruptError, "entry 0 is no shape"),
    "the list is empty": (CorruptError, "no list of shapes"),
    "the list is cut": (CorruptError, "JSON"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_damaged_folder_is_refused_and_the_fault_named(folder: Path, fault: str) -> None:
    spoil(folder, fault)
    kind, says = FAULTS[fault]
    with pytest.raises(kind) as caught:
        open_checkpoint(folder)
    assert says in str(caught.value)


def test_a_number_of_tensors_that_no_model_has_is_a_finding(folder: Path) -> None:
    shapes = json.loads((folder / "params_shapes.json").read_text())
    short = sum(int(np.prod(s)) for s in shapes[-6:])
    last = np.concatenate([np.load(folder / f"params_{n}.npy") for n in range(10)], 0)[:-short]
    for n, part in enumerate(np.array_split(last, 10)):
        np.save(folder / f"params_{n}.npy", part)
    (folder / "params_shapes.json").write_text(json.dumps(shapes[:-6]))
    report = ckptkit.validate(folder)
    assert [f.rule for f in report.findings if f.severity == "error"] == ["missing"]
    assert any(f.rule == "order" and "32 tensors are not two and 12 a layer" in f.message for f in report.findings)


def test_what_the_folder_cannot_hold_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    hf = oracles.golden("hf_gpt2") / "safetensors"
    with pytest.raises(UnsupportedError, match="no place for"):
        ckptkit.convert(hf, tmp_path / "a", to="hf", container="openai-npy")
    gpt1 = oracles.golden("hf_gpt1") / "safetensors"
    with pytest.raises(UnsupportedError, match="BF16"):
        ckptkit.convert(gpt1, tmp_path / "a", to="openai", dtypes=[("*", "BF16")])
    with pytest.raises(UnsupportedError, match="one dtype"):
        ckptkit.convert(gpt1, tmp_path / "a", to="openai", dtypes=[("*ln_1*", "F16")])
    assert not (tmp_path / "a").exists()
    ckptkit.convert(gpt1, tmp_path / "b", to="openai", dtypes=[("*", "F16")])
    assert np.load(tmp_path / "b" / "params_0.npy").dtype == np.float16


# ---------------------------------------------------------------------------------------------- tensors in several places


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_piece_cut_in_two_writes_what_the_whole_one_writes(data: st.DataObject) -> None:
    """Any nest over a row-major target, also one that leaves gaps for other parts; any two cuts."""
    sizes = data.draw(st.lists(st.integers(1, 4), min_size=0, max_size=4))
    gaps = [data.draw(st.integers(0, 3)) for _ in sizes]
    loops, step = [], 1
    for n, gap in reversed(list(zip(sizes, gaps, strict=True))):
        loops.append(Loop(n, data.draw(st.sampled_from([1, 2, 7, 30])), step))
        step = step * n + gap
    loops = data.draw(st.permutations(loops))
    first = data.draw(st.integers(0, 3))
    numel = first + step + data.draw(st.integers(0, 3))
    piece = Piece(0, tuple(loops), 5, first)
    a, b = sorted((data.draw(st.integers(0, numel)), data.draw(st.integers(0, numel))))

    def run(p: Piece, size: int) -> np.ndarray:
        out = np.full(size, -1)
        places = [(p.source_offset, p.target_offset)]
        for n, s, t in p.loops:
            places = [(x + i * s, y + i * t) for x, y in places for i in range(n)]
        for x, y in places:
            assert 0 <= y < size and out[y] == -1
            out[y] = x
        return out

    whole = run(piece, numel)
    for low, high in ((0, a), (a, b), (b, numel)):
        have = np.full(high - low, -1)
        for part in cut(piece, low, high):
            made = run(part, high - low)
            assert not ((made >= 0) & (have >= 0)).any()
            have = np.where(made >= 0, made, have)
        assert np.array_equal(have, whole[low:high])


def test_a_plan_whose_tensors_lie_in_several_files_goes_through_json(tmp_path: Path) -> None:
    plan = ckptkit.convert(GOLDEN / "hf430_converted", tmp_path / "a", to="openai", dry_run=True).plan
    assert plan.layout.split and len(plan.tasks) > len(plan.layout.slots)
    assert from_json(json.loads(json.dumps(to_json(plan)))) == plan


# ---------------------------------------------------------------------------------------------- joblib


class NumpyArrayWrapper:
    """What joblib pickles in an array's place; `reduce` names joblib's class without joblib being there."""


def dump(value: object, arrays: list[np.ndarray], *, aligned: bool = True) -> bytes:
    """joblib's form, put together from its description: a pickle with each array's bytes after its wrapper's BUILD."""
    out = bytearray(b"\x80\x03")

    def text(s: str) -> bytes:
        return b"X" + len(s).to_bytes(4, "little") + s.encode()

    def put(v: object) -> None:
        if isinstance(v, list):
            out.extend(b"](")
            for x in v:
                put(x)
            out.extend(b"e")
        elif isinstance(v, dict):
            out.extend(b"}(")
            for k, x in v.items():
                out.extend(text(k))
                put(x)
            out.extend(b"u")
        elif isinstance(v, np.ndarray):
            f = v.ndim > 1 and v.flags.f_contiguous and not v.flags.c_contiguous
            out.extend(b"cjoblib.numpy_pickle\nNumpyArrayWrapper\n)\x81}(")
            out.extend(text("shape") + b"(" + b"".join(b"J" + n.to_bytes(4, "little") for n in v.shape) + b"t")
            out.extend(text("order") + text("F" if f else "C"))
            out.extend(
                text("dtype")
                + b"cnumpy\ndtype\n"
                + text(v.dtype.str[1:])
                + b"K\0K\1\x87R(K\3"
                + text(v.dtype.str[0])
                + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb"
            )
            if aligned:
                out.extend(text("numpy_array_alignment_bytes") + b"K\x10")
            out.extend(b"ub")
            if aligned:
                pad = -(len(out) + 1) % 16
                out.extend(bytes([pad]) + b"\xff" * pad)
            out.extend(v.tobytes("F" if f else "C"))
        else:
            out.extend(pickle.dumps(v, 3)[2:-1])

    put(value)
    return bytes(out + b".")


def test_a_fine_tuned_file_has_the_names_its_order_gives() -> None:
    with open_checkpoint(JL) as c:
        assert c.container == "joblib" and c.findings == []
        assert list(c.tensors) == json.loads((GOLDEN / "finetuned_names_in_order.json").read_text())
        assert c.tensors["model/we"].spec == TensorSpec("F32", (190, 32))
        assert np.array_equal(c.array("model/we")[171:174], oracles.read_npz(GOLDEN / "special_rows.npz")["special"])


@pytest.mark.parametrize("aligned", [True, False])
def test_lists_and_dicts_of_arrays_are_read_as_data(tmp_path: Path, aligned: bool) -> None:
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((3, 4)).astype(np.float32), np.asfortranarray(rng.standard_normal((2, 3, 5)))
    c = rng.integers(0, 9, 7)
    for value, names in (
        ([a, b, c], ["0", "1", "2"]),
        ({"x": a, "y": {"p": b, "q": c}}, ["x", "y.p", "y.q"]),
        ({"x": [a, b], "y": c}, ["x.0", "x.1", "y"]),
    ):
        (tmp_path / "f.jl").write_bytes(dump(value, [a, b, c], aligned=aligned))
        with open_checkpoint(tmp_path / "f.jl") as ck:
            assert list(ck.tensors) == names
            for name, array in zip(names, (a, b, c), strict=True):
                have = ck.array(name)
                assert have.dtype == array.dtype and np.array_equal(have, array)


@pytest.mark.parametrize("at", [1, 3, 40, 100, 200, 300, 1000, 100_000, -1])
def test_a_cut_file_is_refused(tmp_path: Path, at: int) -> None:
    (tmp_path / "f.jl").write_bytes(JL.read_bytes()[:at])
    with pytest.raises(CheckpointError):
        open_checkpoint(tmp_path / "f.jl", "joblib")


def test_what_is_no_array_is_refused_and_nothing_is_called(tmp_path: Path) -> None:
    a = np.zeros(3, np.float32)
    path = tmp_path / "f.jl"
    good = dump([a], [a])
    evil = good.replace(
        b"](",
        b"](cos\nsystem\nX"
        + (len("touch " + str(tmp_path / "called"))).to_bytes(4, "little")
        + f"touch {tmp_path / 'called'}".encode()
        + b"\x85R",
        1,
    )
    path.write_bytes(evil)
    with pytest.raises(UnsupportedError, match=r"os\.system"):
        open_checkpoint(path)
    assert not (tmp_path / "called").exists()
    path.write_bytes(dump([a, "text"], [a]))
    with pytest.raises(UnsupportedError, match="holds a str where arrays are expected"):
        open_checkpoint(path)
    path.write_bytes(good.replace(b"f4", b"O8"))
    with pytest.raises(UnsupportedError, match="Python objects"):
        open_checkpoint(path)
    path.write_bytes(good.replace(b"J\x03\0\0\0t", b"J\xff\xff\xff\x7ft"))
    with pytest.raises(CorruptError, match="truncated: an array of F32"):
        open_checkpoint(path)
    path.write_bytes(good.replace(b"J\x03\0\0\0t", b"J\xfd\xff\xff\xfft"))
    with pytest.raises(CorruptError, match="shape"):
        open_checkpoint(path)
    path.write_bytes(good + b"more")
    with pytest.raises(CorruptError, match="4 bytes follow"):
        open_checkpoint(path)


def test_a_compressed_file_is_refused_by_name(tmp_path: Path) -> None:
    import zlib

    (tmp_path / "f.jl").write_bytes(zlib.compress(JL.read_bytes()))
    with pytest.raises(UnsupportedError, match=r"compressed joblib file.*compress=0"):
        open_checkpoint(tmp_path / "f.jl")
