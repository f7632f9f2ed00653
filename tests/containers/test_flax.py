"""flax's msgpack: against a file that flax wrote, byte for byte, and a packer of the tests' own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import flax_files
import ml_dtypes
import numpy as np
import oracles
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ckptkit
from ckptkit.containers import flax, open_checkpoint
from ckptkit.containers.flax import write as flax_write
from ckptkit.errors import CheckpointError, CorruptError, LimitError, UnsupportedError, UsageError
from ckptkit.tensors import TensorSpec

GOLDEN = oracles.FIXTURES / "containers" / "flax_model.msgpack"  # by flax 0.6.11
Arrays = dict[str, np.ndarray]


def mine(path: Path) -> Arrays:
    with open_checkpoint(path) as c:
        assert all(t.read is None for t in c.tensors.values())
        return {n: c.array(n) for n in c.tensors}


def same(a: Arrays, b: Arrays) -> None:
    assert list(a) == list(b)
    for n in a:
        assert (a[n].shape, a[n].dtype) == (b[n].shape, b[n].dtype) and a[n].tobytes() == b[n].tobytes(), n


def test_the_file_that_flax_wrote_is_read_and_written_again_byte_for_byte(tmp_path: Path) -> None:
    same(mine(GOLDEN), flax_files.flat(flax_files.unpack(GOLDEN.read_bytes())))
    ckptkit.convert(GOLDEN, tmp_path / "x.msgpack")
    assert (tmp_path / "x.msgpack").read_bytes() == GOLDEN.read_bytes()
    ckptkit.convert(GOLDEN, tmp_path / "x.safetensors")
    ckptkit.convert(tmp_path / "x.safetensors", tmp_path / "y.msgpack")
    same(dict(sorted(mine(tmp_path / "y.msgpack").items())), dict(sorted(mine(GOLDEN).items())))


def test_types_scalars_and_plain_values(tmp_path: Path) -> None:
    arrays = {
        f"a/{n}": np.arange(6).astype(n).reshape(2, 3)
        for n in ("float32", "float16", "float64", "int8", "int64", "uint32", "bool", "complex64")
    }
    arrays |= {
        "b/bf": np.arange(4).astype(ml_dtypes.bfloat16),
        "b/scalar": np.array(3, "f4"),
        "b/empty": np.zeros((0, 4), "f4"),
        "b/one": np.zeros(1, "u1"),
    }
    tree = flax_files.nested(arrays) | {"step": 70000, "rate": 0.25, "name": "x" * 300, "on": True}
    (tmp_path / "x.msgpack").write_bytes(flax_files.pack(tree))
    same(mine(tmp_path / "x.msgpack"), arrays)
    ckptkit.convert(tmp_path / "x.msgpack", tmp_path / "y.msgpack")
    back = flax_files.unpack((tmp_path / "y.msgpack").read_bytes())
    same(flax_files.flat(back), arrays)
    plain = {"step": 70000, "rate": 0.25, "name": "x" * 300, "on": True}
    assert {k: back[k] for k in plain} == plain  # type: ignore[index]


def test_large_arrays_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a = np.arange(60, dtype="f4").reshape(5, 12)
    pieces = {str(i): a.reshape(-1)[25 * i : 25 * (i + 1)] for i in range(3)}
    chunked = {"__msgpack_chunked_array__": True, "shape": {"0": 5, "1": 12}, "chunks": pieces}
    (tmp_path / "x.msgpack").write_bytes(flax_files.pack({"p": {"w": chunked}}))
    same(mine(tmp_path / "x.msgpack"), {"p/w": a})
    monkeypatch.setattr(flax_write, "MAX_CHUNK", 100)
    ckptkit.convert(tmp_path / "x.msgpack", tmp_path / "y.msgpack")
    got = flax_files.unpack((tmp_path / "y.msgpack").read_bytes())["p"]["w"]  # type: ignore[index]
    assert got["__msgpack_chunked_array__"] is True and got["shape"] == {"0": 5, "1": 12}
    for k in "012":
        np.testing.assert_array_equal(got["chunks"][k], pieces[k])
    same(mine(tmp_path / "y.msgpack"), {"p/w": a})


def test_shards_and_their_index(tmp_path: Path) -> None:
    ckptkit.convert(GOLDEN, tmp_path / "out", container="flax", max_shard_size=40_000)
    weight_map = json.loads((tmp_path / "out" / "flax_model.msgpack.index.json").read_text())["weight_map"]
    there = {n: flax_files.flat(flax_files.unpack((tmp_path / "out" / f).read_bytes()))[n] for n, f in weight_map.items()}
    assert len(set(weight_map.values())) == 4
    same(mine(tmp_path / "out"), there)
    same(there, mine(GOLDEN))


HOSTILE = [
    (b"\x81\xa1a" + b"\x91" * 150 + b"\xc0", LimitError, "json_depth"),
    (b"\xdf\xff\xff\xff\xff\xa1a\xc0", CorruptError, "no room"),
    (b"\x81\xa1a\xdd\x7f\xff\xff\xff", CorruptError, "no room"),
    (b"\x81\xa1a\xc4\x03abc", UnsupportedError, "raw bytes"),
    (b"\x81\xa1a\xc1", UnsupportedError, "never uses"),
    (b"\x81\xa1a\xd9\x02\xff\xfe", CorruptError, "UTF-8"),
    (b"\x81\xa1a\xc7\x03\x01\x92\x01\x02", CorruptError, "not \\(shape"),
    (b"\x81\xa1a\xc7\x05\x05abcde", UnsupportedError, "extension type 5"),
    (b"\x81\xa1a\x01", UnsupportedError, "without arrays"),
    (b"\x81\x91\x01\x01", CorruptError, "key that is neither"),
    (flax_files.pack({"a": np.zeros(2)}) + b"\0", CorruptError, "follow the end"),
    (
        flax_files.pack({"a": {"__msgpack_chunked_array__": True, "shape": {"0": 9}, "chunks": {"0": np.zeros(4)}}}),
        CorruptError,
        "have 4 elements",
    ),
    (
        flax_files.pack({"a": {"__msgpack_chunked_array__": True, "shape": {"0": 4}, "chunks": {"1": np.zeros(4)}}}),
        CorruptError,
        "numbered",
    ),
]


@pytest.mark.parametrize(("raw", "error", "words"), HOSTILE)
def test_what_flax_does_not_write_is_refused(tmp_path: Path, raw: bytes, error: type[CheckpointError], words: str) -> None:
    (tmp_path / "x.msgpack").write_bytes(raw)
    with pytest.raises(error, match=words):
        open_checkpoint(tmp_path / "x.msgpack")


def test_names_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(UsageError, match="a tensor and a map"):
        flax.layout([("a", TensorSpec("F32", (1,))), ("a/b", TensorSpec("F32", (1,)))], filename="x.msgpack")


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_damage_costs_an_error_and_nothing_else(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    raw = bytearray(flax_files.pack({"a": {"b": np.ones((2, 3), "f4"), "n": 3}, "c": np.zeros(1)}))
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "damaged.msgpack"
    path.write_bytes(raw)
    try:
        with open_checkpoint(path) as c:
            for n in c.tensors:
                c.array(n)
    except CheckpointError as e:
        assert "\n" not in str(e)


@pytest.mark.parametrize("tree", [
    {"transformer/linear_0": {"w": 1}, "transformer": {"linear_0": {"w": 2}}}, {"a/b": 1, "a": {"b": 2}, "a~1b": 3, "a~b": 4, "~0": 5},
    {"/": {"/": 1, "": 2}, "~": 3}, {"x": {"y/z": {"~1": 1}}},
])  # fmt: skip
def test_keys_with_slashes_are_read_apart_and_written_as_they_were(tree: dict[str, Any], tmp_path: Path) -> None:
    """As in haiku's modules."""

    def filled(v: Any) -> Any:
        return {k: filled(x) for k, x in v.items()} if isinstance(v, dict) else np.full(3, v, "f4")

    path = tmp_path / "m.msgpack"
    path.write_bytes(flax_files.pack(filled(tree)))
    with ckptkit.open(path) as c:
        values = sorted(float(c.array(n)[0]) for n in c.tensors)
    flat: list[float] = []

    def collect(v: Any) -> None:
        for x in v.values() if isinstance(v, dict) else ():
            collect(x)
        flat.extend([] if isinstance(v, dict) else [v])

    collect(tree)
    assert values == sorted(flat)
    ckptkit.convert(path, tmp_path / "out.msgpack", container="flax", force=True)
    again = flax_files.unpack((tmp_path / "out.msgpack").read_bytes())

    def plain(v: Any) -> Any:
        return {k: plain(x) for k, x in v.items()} if isinstance(v, dict) else float(v[0])

    assert plain(again) == plain(filled(tree))
