"""ONNX graphs: every initialiser has the values that the onnx library reads, wherever they lie; what leaves the folder is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ckptkit
from ckptkit.containers import open_checkpoint
from ckptkit.errors import CheckpointError, CorruptError, NotFoundError, UnsafeError, UnsupportedError

onnx = pytest.importorskip("onnx")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402


def model(initializers: list[Any], nodes: list[Any] | None = None) -> Any:
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
    graph = helper.make_graph(nodes or [helper.make_node("Identity", ["x"], ["y"])], "g", [value], [out], initializer=initializers)
    return helper.make_model(graph, producer_name="pytorch")


def written(path: Path, made: Any, **external: Any) -> Path:
    onnx.save_model(made, str(path), **external)
    return path


NUMPY = {
    "f32": np.linspace(-3, 3, 24, dtype="f4").reshape(4, 6), "f64": np.linspace(-3, 3, 5), "f16": np.arange(6, dtype="f2").reshape(2, 3),
    "i8": np.arange(-4, 4, dtype="i1"), "u8": np.arange(8, dtype="u1"), "i16": np.arange(-4, 4, dtype="i2"),
    "u16": np.arange(8, dtype="u2"),
    "i32": np.arange(-4, 4, dtype="i4"), "i64": np.array([-(1 << 62), -1, 0, 1 << 62]), "u32": np.array([0, (1 << 32) - 1], "u4"),
    "u64": np.array([0, (1 << 64) - 1], "u8"), "b": np.array([True, False, True]), "c64": np.array([1 + 2j, -3j], "c8"),
    "scalar": np.array(2.5, "f4"), "none": np.zeros((0, 4), "f4"),
}  # fmt: skip
TYPED = {
    "f32": TensorProto.FLOAT, "f64": TensorProto.DOUBLE, "f16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16, "i8": TensorProto.INT8,
    "u8": TensorProto.UINT8, "i16": TensorProto.INT16, "u16": TensorProto.UINT16, "i32": TensorProto.INT32, "i64": TensorProto.INT64,
    "u32": TensorProto.UINT32, "u64": TensorProto.UINT64, "b": TensorProto.BOOL, "f8": TensorProto.FLOAT8E4M3FN,
    "c64": TensorProto.COMPLEX64,
}  # fmt: skip


def same(path: Path, tensors: list[Any], base: str = "") -> None:
    with open_checkpoint(path) as ck:
        assert set(ck.tensors) == {t.name for t in tensors}
        for t in tensors:
            want = numpy_helper.to_array(t, base)
            got = ck.array(t.name)
            assert got.shape == want.shape and got.tobytes() == want.tobytes(), t.name


def test_raw_values_of_every_type(tmp_path: Path) -> None:
    tensors = [numpy_helper.from_array(a, n) for n, a in NUMPY.items()]
    same(written(tmp_path / "m.onnx", model(tensors)), tensors)


def test_typed_values_of_every_type(tmp_path: Path) -> None:
    values = {"b": [1, 0, 1, 1], "c64": [1 + 2j, 3, 4j, 0], "u64": [0, 1, 2, (1 << 64) - 1], "i64": [-(1 << 63), -1, 0, 5]}
    signed = ("i8", "i16", "i32")
    tensors = [
        helper.make_tensor(n, kind, [2, 2], values.get(n, [-1, -2, 3, 4] if n in signed else [1, 0, 3, 4])) for n, kind in TYPED.items()
    ]
    assert not any(t.HasField("raw_data") for t in tensors)
    same(written(tmp_path / "m.onnx", model(tensors)), tensors)


@pytest.mark.parametrize("one", [True, False], ids=["one_file", "each_its_own"])
def test_external_values_and_those_that_stay(one: bool, tmp_path: Path) -> None:
    tensors = [numpy_helper.from_array(a, n) for n, a in NUMPY.items()]
    keep = [onnx.TensorProto.FromString(t.SerializeToString()) for t in tensors]
    path = written(
        tmp_path / "m.onnx", model(tensors), save_as_external_data=True, all_tensors_to_one_file=one, size_threshold=20,
        location="m.data" if one else None,
    )  # fmt: skip
    same(path, keep)
    with open_checkpoint(path) as ck:
        assert {Path(f).name for f in ck.files} >= ({"m.onnx", "m.data"} if one else {"m.onnx", "f32"})


def test_arrays_in_constants_and_in_subgraphs_are_not_lost(tmp_path: Path) -> None:
    big, axis = numpy_helper.from_array(NUMPY["f32"], "inner"), numpy_helper.from_array(np.array([1, 2]), "axis")
    branch = helper.make_graph(
        [helper.make_node("Identity", ["w"], ["z"])], "b", [], [helper.make_tensor_value_info("z", TensorProto.FLOAT, None)],
        initializer=[numpy_helper.from_array(NUMPY["f16"], "w")],
    )  # fmt: skip
    nodes = [
        helper.make_node("Constant", [], ["weight"], value=big), helper.make_node("Constant", [], ["axis"], value=axis),
        helper.make_node("If", ["x"], ["y"], name="choose", then_branch=branch, else_branch=branch),
    ]  # fmt: skip
    with open_checkpoint(written(tmp_path / "m.onnx", model([], nodes))) as ck:
        assert set(ck.tensors) == {"weight.inner", "choose.then_branch/w", "choose.else_branch/w"}
        assert np.array_equal(ck.array("weight.inner"), NUMPY["f32"]) and np.array_equal(ck.array("choose.else_branch/w"), NUMPY["f16"])


def external(location: str, **more: str) -> Any:
    t = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    for key, value in {"location": location, **more}.items():
        t.external_data.add(key=key, value=value)
    return t


@pytest.mark.parametrize(
    ("tensor", "error"),
    [
        (external("../secret"), UnsafeError), (external("/etc/passwd"), UnsafeError), (external("a/../../b"), UnsafeError),
        (external("link"), UnsafeError), (external(""), UnsafeError), (external("gone"), NotFoundError),
        (external("data", offset="4"), CorruptError), (external("data", offset="-1"), CorruptError),
        (external("data", length="8"), CorruptError), (external("data", offset="9" * 30), CorruptError),
        (TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4], raw_data=b"123"), CorruptError),
        (TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4]), CorruptError),
        (TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[-1], raw_data=b""), CorruptError),
        (TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[1 << 40, 1 << 40], raw_data=b""), CorruptError),
        (TensorProto(name="w", data_type=TensorProto.INT4, dims=[4], raw_data=b"12"), UnsupportedError),
        (TensorProto(name="w", data_type=77, dims=[4], raw_data=b"12"), UnsupportedError),
        (TensorProto(name="", data_type=TensorProto.FLOAT, dims=[1], raw_data=b"1234"), CorruptError),
    ],
)  # fmt: skip
def test_what_leaves_the_folder_or_contradicts_itself_is_refused(tensor: Any, error: type[CheckpointError], tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(bytes(16))
    (tmp_path / "link").symlink_to("/etc/passwd")
    path = tmp_path / "m.onnx"
    path.write_bytes(model([tensor]).SerializeToString())
    with pytest.raises(error):
        open_checkpoint(path)


def test_one_file_of_a_typed_tensor_that_is_too_short_is_found_when_read(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(model([TensorProto(name="w", data_type=TensorProto.FLOAT16, dims=[4], int32_data=[1, 2, 3])]).SerializeToString())
    with open_checkpoint(path) as ck, pytest.raises(CorruptError, match="other values"):
        ck.array("w")


def test_every_cut_is_refused_and_a_program_alone_too(tmp_path: Path) -> None:
    raw = model([numpy_helper.from_array(NUMPY["f32"], "w")]).SerializeToString()
    path = tmp_path / "m.onnx"
    for end in range(0, len(raw), 3):
        path.write_bytes(raw[:end])
        with pytest.raises(CheckpointError):
            open_checkpoint(path)
    with pytest.raises(UnsupportedError, match="without initialisers"):
        open_checkpoint(written(tmp_path / "p.onnx", model([])))


def test_an_exported_model_is_recognised_and_its_tensors_go_elsewhere(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    names = {f"layers.{i}.{p}.weight": rng.standard_normal((4, 4)).astype("f4") for i in range(3) for p in "qkv"}
    path = written(tmp_path / "m.onnx", model([numpy_helper.from_array(a, n) for n, a in names.items()]))
    out = tmp_path / "out.safetensors"
    ckptkit.convert(path, out, container="safetensors", force=True)
    with open_checkpoint(out) as ck:
        assert all(np.array_equal(ck.array(n), a) for n, a in names.items())
