"""safetensors: read and written as the reference library does, byte for byte; refused where it refuses."""

from __future__ import annotations

import ctypes
import json
import os
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from ckptkit.containers import open_checkpoint
from ckptkit.containers import safetensors as container
from ckptkit.containers._base import FileLayout
from ckptkit.errors import CheckpointError, CorruptError, LimitError, UnknownFormatError, UnsupportedError, UsageError
from ckptkit.tensors import DTYPES, TensorSpec

FIXTURES = Path(__file__).parents[2] / "fixtures"
# what the library calls the dtypes it takes as raw bytes
REFERENCE = {
    "BOOL": "bool", "U8": "uint8", "I8": "int8", "I16": "int16", "U16": "uint16", "I32": "int32", "U32": "uint32", "I64": "int64",
    "U64": "uint64", "F16": "float16", "F32": "float32", "F64": "float64", "BF16": "bfloat16", "C64": "complex64",
    "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2", "F8_E8M0": "float8_e8m0fnu", "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2FNUZ": "float8_e5m2fnuz",
}  # fmt: skip
SUB_BYTE = ("F4", "F6_E2M3", "F6_E3M2")
Raw = dict[str, tuple[TensorSpec, bytes]]


def framed(header: object, data: bytes = b"") -> bytes:
    """A file of this header, given as JSON text, bytes or a value."""
    raw = header if isinstance(header, bytes) else (header if isinstance(header, str) else json.dumps(header)).encode()
    return struct.pack("<Q", len(raw)) + raw + data


def entry(dtype: object = "U8", shape: object = (2,), offsets: object = (0, 2)) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def read(path: Path | str) -> Raw:
    with open_checkpoint(path, "safetensors") as cp:
        return {n: (t.spec, b"".join(cp.read_extent(e) for e in t.extents)) for n, t in cp.tensors.items()}


def write(folder: Path, layout: FileLayout, raw: Raw) -> None:
    """What the engine does, in a few lines."""
    folder.mkdir(parents=True, exist_ok=True)
    for i, (name, size) in enumerate(layout.files):
        data = bytearray(b"\xaa" * size)
        for part in (*layout.parts, *container.finish(layout, {})):
            if part.file == i:
                data[part.offset : part.offset + len(part.data)] = part.data
        for tensor, slot in layout.slots.items():
            if slot.file == i:
                assert slot.length == len(raw[tensor][1])
                data[slot.offset : slot.offset + slot.length] = raw[tensor][1]
        assert len(data) == size
        (folder / name).write_bytes(data)


def specs(raw: Raw) -> list[tuple[str, TensorSpec]]:
    return [(n, spec) for n, (spec, _) in raw.items()]


def reference_bytes(raw: Raw, metadata: dict[str, str] | None = None) -> bytes:
    kept = {n: ctypes.create_string_buffer(data, max(1, len(data))) for n, (_, data) in raw.items()}
    given = {
        n: safetensors.TensorSpec(dtype=REFERENCE[s.dtype], shape=list(s.shape), data_ptr=ctypes.addressof(kept[n]), data_len=len(data))
        for n, (s, data) in raw.items()
    }
    return bytes(safetensors.serialize(given, metadata=metadata))


def reference_reads(data: bytes) -> dict[str, tuple[str, tuple[int, ...], bytes]] | None:
    """What the library makes of the bytes; None if it refuses them."""
    try:
        return {n: (t["dtype"], tuple(t["shape"]), bytes(t["data"])) for n, t in safetensors.deserialize(data)}
    except safetensors.SafetensorError:
        return None


def filled(spec: TensorSpec, seed: int = 0) -> bytes:
    return bytes((seed + 7 * i) % 2 if spec.dtype == "BOOL" else (seed + 7 * i) % 251 for i in range(spec.nbytes))


# ---- exact bytes


SMALL = framed(
    '{"__metadata__":{"format":"pt"},"d":{"dtype":"I64","shape":[],"data_offsets":[0,8]},'
    '"b":{"dtype":"BF16","shape":[2,1],"data_offsets":[8,12]},"a":{"dtype":"U8","shape":[3],"data_offsets":[12,15]},'
    '"z":{"dtype":"U8","shape":[0,4],"data_offsets":[15,15]}}     ',
    b"\x2a\0\0\0\0\0\0\0" + b"\x80\x3f\0\xc0" + b"\1\2\3",
)


def test_a_small_file_is_read_to_the_byte(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(SMALL)
    with open_checkpoint(path) as cp:
        assert (cp.container, cp.metadata, cp.findings, cp.files) == ("safetensors", {"format": "pt"}, [], (str(path),))
        assert [(t.name, *t.spec) for t in cp.tensors.values()] == [
            ("d", "I64", ()), ("b", "BF16", (2, 1)), ("a", "U8", (3,)), ("z", "U8", (0, 4)),
        ]  # fmt: skip
        assert cp.array("d") == 42
        assert cp.array("b").tolist() == [[1.0], [-2.0]]
        assert cp.array("a").tolist() == [1, 2, 3]
        assert cp.array("z").shape == (0, 4)


def test_a_small_file_is_written_to_the_byte(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(SMALL)
    raw = read(tmp_path / "a")
    shuffled = {n: raw[n] for n in "zabd"}
    write(tmp_path, container.layout(specs(shuffled), filename="b.safetensors", metadata={"format": "pt"}), raw)
    assert (tmp_path / "b.safetensors").read_bytes() == SMALL


# ---- the library, both ways


@pytest.mark.parametrize("dtype", REFERENCE)
def test_every_dtype_of_the_library_both_ways(tmp_path: Path, dtype: str) -> None:
    raw: Raw = {}
    for name, shape in {"m": (3, 5), "scalar": (), "empty": (0, 7), "deep": (1, 2, 1, 3)}.items():
        spec = TensorSpec(dtype, shape)
        raw[name] = (spec, filled(spec))
    theirs = reference_bytes(raw, {"format": "np"})
    (tmp_path / "theirs").write_bytes(theirs)
    assert read(tmp_path / "theirs") == raw
    write(tmp_path, container.layout(specs(raw), filename="ours", metadata={"format": "np"}), raw)
    assert (tmp_path / "ours").read_bytes() == theirs


@pytest.mark.parametrize("dtype", SUB_BYTE)
def test_elements_narrower_than_a_byte_both_ways(tmp_path: Path, dtype: str) -> None:
    raw: Raw = {"w": (spec := TensorSpec(dtype, (3, 8)), filled(spec)), "e": (TensorSpec(dtype, (0,)), b"")}
    write(tmp_path, container.layout(specs(raw), filename="ours"), raw)
    assert read(tmp_path / "ours") == raw
    expected = {n: (s.dtype, s.shape, data) for n, (s, data) in raw.items()}
    assert reference_reads((tmp_path / "ours").read_bytes()) == expected
    with pytest.raises(UnsupportedError, match="whole number of bytes"):
        container.layout([("w", TensorSpec(dtype, (3,)))], filename="x")


def test_the_whole_dtype_table_is_settled() -> None:
    refused = {d for d in DTYPES if d not in REFERENCE and d not in SUB_BYTE}
    assert refused == {"C128", "STRING"}
    for dtype in refused:
        with pytest.raises(UnsupportedError, match=dtype):
            container.layout([("w", TensorSpec(dtype, (2,)))], filename="x")


def test_torch_reads_what_is_written_and_writes_what_is_read(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from safetensors.torch import load_file
    from safetensors.torch import save_file as save_torch

    given = {d.name: torch.arange(6).reshape(2, 3).to(getattr(torch, d.torch)) for d in DTYPES.values() if d.torch and d.name != "C128"}
    save_torch(given, tmp_path / "theirs.safetensors", {"format": "pt"})
    raw = read(tmp_path / "theirs.safetensors")
    assert {n: s.dtype for n, (s, _) in raw.items()} == {n: n for n in given}
    write(tmp_path, container.layout(specs(raw), filename="ours.safetensors", metadata={"format": "pt"}), raw)
    assert (tmp_path / "ours.safetensors").read_bytes() == (tmp_path / "theirs.safetensors").read_bytes()
    for name, tensor in load_file(tmp_path / "ours.safetensors").items():
        assert torch.equal(tensor.view(torch.uint8), given[name].view(torch.uint8))


def test_arrays_are_the_librarys(tmp_path: Path) -> None:
    given = {"x": np.random.default_rng(0).normal(size=(4, 3)), "n": np.arange(5, dtype=np.int16), "t": np.array([True, False])}
    save_file(given, tmp_path / "m.safetensors")
    with open_checkpoint(tmp_path) as cp:
        for name, a in given.items():
            assert cp.array(name).dtype == a.dtype
            np.testing.assert_array_equal(cp.array(name), a)


NAMES = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from('"\\\n\x7f/.é\U0001f600'), min_size=1, max_size=8)
SPECS = st.builds(TensorSpec, st.sampled_from(list(REFERENCE)), st.lists(st.integers(0, 4), max_size=4).map(tuple))
TENSORS = st.dictionaries(NAMES.filter(lambda n: n != "__metadata__"), SPECS, max_size=6)
QUICK = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


@QUICK
@given(TENSORS, st.none() | st.tuples(NAMES, st.text(st.characters(exclude_categories=["Cs"]), max_size=5)))
def test_any_tensors_are_written_as_the_library_writes_them(tmp_path: Path, tensors: Mapping[str, TensorSpec], note: Any) -> None:
    raw = {n: (spec, filled(spec, i)) for i, (n, spec) in enumerate(tensors.items())}
    metadata = dict([note]) if note else {}
    write(tmp_path, container.layout(specs(raw), filename="ours", metadata=metadata), raw)
    assert (tmp_path / "ours").read_bytes() == reference_bytes(raw, metadata or None)
    assert read(tmp_path / "ours") == raw
    with open_checkpoint(tmp_path / "ours") as cp:
        assert cp.metadata == metadata


@QUICK
@given(TENSORS.filter(bool), st.integers(1, 60))
def test_any_shards_are_read_back_whole(tmp_path: Path, tensors: Mapping[str, TensorSpec], limit: int) -> None:
    for old in tmp_path.iterdir():
        old.unlink()
    raw = {n: (spec, filled(spec, i)) for i, (n, spec) in enumerate(tensors.items())}
    layout = container.layout(specs(raw), filename="model.safetensors", metadata={"k": "v"}, max_shard_size=limit)
    write(tmp_path, layout, raw)
    assert read(tmp_path) == raw
    with open_checkpoint(tmp_path) as cp:
        assert (cp.findings, cp.metadata) == ([], {"k": "v"})
    if len(layout.files) > 1:
        assert list(cp.tensors) == list(raw)
        assert layout.files[-1][0] == "model.safetensors.index.json"


def test_files_in_an_unusual_order_keep_it(tmp_path: Path) -> None:
    data = framed({"b": entry(offsets=(2, 4)), "e": entry(shape=[0], offsets=(2, 2)), "a": entry()}, b"aabb")
    (tmp_path / "m").write_bytes(data)
    assert {n: d for n, (_, d) in read(tmp_path / "m").items()} == {"b": b"bb", "e": b"", "a": b"aa"}
    assert list(read(tmp_path / "m")) == ["b", "e", "a"]
    assert reference_reads(data) is not None


# ---- what is refused


def refusal(tmp_path: Path, data: bytes, kind: type[CheckpointError] = CorruptError) -> str:
    (tmp_path / "bad.safetensors").write_bytes(data)
    with pytest.raises(kind) as e:
        open_checkpoint(tmp_path / "bad.safetensors", "safetensors")
    assert str(e.value).isprintable()
    return e.value.message


BAD = {
    "not a brace first": (framed(" " + json.dumps({"a": entry()}), b"xx"), "begin with a brace"),
    "byte order mark": (framed(b"\xef\xbb\xbf" + json.dumps({"a": entry()}).encode(), b"xx"), "begin with a brace"),
    "array header": (framed([]), "begin with a brace"),
    "text after the header": (framed('{"a":1}x'), "Extra data"),
    "bad UTF-8": (framed(b'{"\xff":1}'), "UTF-8"),
    "string entry": (framed({"a": "x"}), "'a': its entry is not an object"),
    "null entry": (framed({"a": None}), "not an object"),
    "array entry": (framed({"a": ["U8", [2], [0, 2]]}, b"xx"), "not an object"),
    "no dtype": (framed({"a": {"shape": [2], "data_offsets": [0, 2]}}, b"xx"), "'a': its entry has no dtype"),
    "no shape": (framed({"a": {"dtype": "U8", "data_offsets": [0, 2]}}, b"xx"), "no shape"),
    "no offsets": (framed({"a": {"dtype": "U8", "shape": [2]}}, b"xx"), "no data_offsets"),
    "unknown dtype": (framed({"a": entry("F128")}, b"xx"), "unknown dtype 'F128'"),
    "a dtype of another format": (framed({"a": entry("C128", [1], (0, 16))}, bytes(16)), "unknown dtype 'C128'"),
    "dtype list": (framed({"a": entry(["U8"])}, b"xx"), "unknown dtype"),
    "lower case": (framed({"a": entry("u8")}, b"xx"), "unknown dtype"),
    "shape is a number": (framed({"a": entry(shape=2)}, b"xx"), "shape is not a list"),
    "bool in shape": (framed({"a": entry(shape=[True, 2])}, b"xx"), "shape holds True"),
    "float in shape": (framed({"a": entry(shape=[2.0])}, b"xx"), "shape holds 2.0"),
    "negative shape": (framed({"a": entry(shape=[-1, -2])}, b"xx"), "shape holds -1"),
    "nested shape": (framed({"a": entry(shape=[[2]])}, b"xx"), "shape holds [2]"),
    "null in shape": (framed({"a": entry(shape=[None])}, b"xx"), "shape holds None"),
    "three offsets": (framed({"a": entry(offsets=[0, 1, 2])}, b"xx"), "not a begin and an end"),
    "offsets object": (framed({"a": entry(offsets={"0": 0, "1": 2})}, b"xx"), "not a begin and an end"),
    "bool offset": (framed({"a": entry(offsets=[False, 2])}, b"xx"), "[False, 2] are not byte offsets"),
    "float offset": (framed({"a": entry(offsets=[0, 2.0])}, b"xx"), "not byte offsets"),
    "negative offset": (framed({"a": entry(offsets=[-2, 0])}, b"xx"), "[-2, 0] are not byte offsets"),
    "offset beyond 64 bits": (framed({"a": entry(offsets=[0, 2**64])}, b"xx"), "not byte offsets"),
    "reversed": (framed({"a": entry(offsets=[2, 0])}, b"xx"), "'a', U8 [2], bytes 2-0: ends before it begins"),
    "size and shape": (framed({"a": entry("F32", [2], (0, 4))}, bytes(4)), "'a', F32 [2], bytes 0-4: the shape needs 8 bytes, the offsets give 4"),
    "empty shape, some bytes": (framed({"a": entry(shape=[0])}, b"xx"), "needs 0 bytes"),
    "wrapping product": (framed({"a": entry(shape=[2**63, 2], offsets=(0, 0))}), "overflows"),
    "wrapping bits": (framed({"a": entry("F64", shape=[2**61], offsets=(0, 0))}), "overflows"),
    "wrapping before a zero": (framed({"a": entry(shape=[2**63, 2, 0], offsets=(0, 0))}), "overflows"),
    "dimension beyond 64 bits": (framed({"a": entry(shape=[0, 2**64], offsets=(0, 0))}), "overflows"),
    "half a byte": (framed({"a": entry("F4", [3], (0, 2))}, b"xx"), "12 bits are no whole number of bytes"),
    "hole at the start": (framed({"a": entry(offsets=(1, 3))}, b"xxx"), "'a', bytes 1-3: leaves a hole of 1 bytes after the header"),
    "hole": (framed({"a": entry(), "b": entry(offsets=(3, 5))}, b"xxxxx"), "'b', bytes 3-5: leaves a hole of 1 bytes after 'a', which ends at 2"),
    "overlap": (framed({"a": entry(), "b": entry(offsets=(1, 3))}, b"xxx"), "'b', bytes 1-3: overlaps 'a', which ends at 2"),
    "same bytes twice": (framed({"a": entry(), "b": entry()}, b"xx"), "overlaps 'a'"),
    "nothing in the middle": (framed({"a": entry(), "b": entry(shape=[0], offsets=(1, 1))}, b"xx"), "overlaps"),
    "trailing bytes": (framed({"a": entry()}, b"xxxx"), "2 bytes follow the last tensor"),
    "data without tensors": (framed({}, b"x"), "1 bytes follow"),
    "duplicate tensor": (framed('{"a":%s,"a":%s}' % ((json.dumps(entry()),) * 2), b"xx"), "key 'a' twice"),
    "duplicate field": (framed('{"a":{"dtype":"U8","dtype":"U8","shape":[2],"data_offsets":[0,2]}}', b"xx"), "key 'dtype' twice"),
    "metadata list": (framed({"__metadata__": []}), "not a map of strings"),
    "metadata number": (framed({"__metadata__": {"k": 1}}), "'k' is 1"),
    "metadata nested": (framed({"__metadata__": {"k": {"j": "v"}}}), "'k' is {'j': 'v'}"),
    "duplicate metadata": (framed('{"__metadata__":{"k":"1","k":"2"}}'), "key 'k' twice"),
    "empty name": (framed({"": entry()}, b"xx"), "empty name"),
    "endless number": (framed('{"a":{"dtype":"U8","shape":[%s],"data_offsets":[0,2]}}' % ("9" * 5000), b"xx"), "digits"),
    "deep header": (framed('{"a":' * 100_000 + "1" + "}" * 100_000), "nested deeper"),
    "empty header": (framed(""), "is empty"),
    "four bytes": (b"\0\0\0\0", "truncated: 4 bytes"),
    "enormous header": (struct.pack("<Q", 2**64 - 1) + b"{}", "the format allows 100,000,000"),
    "header cut off": (framed({"a": entry()}, b"xx")[:30], "truncated: the header ends at byte"),
}  # fmt: skip
STRICTER_THAN_THE_LIBRARY = {
    "not a brace first", "array entry", "duplicate tensor", "duplicate metadata", "empty name",
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_a_bad_file_is_refused_with_its_place(tmp_path: Path, case: str) -> None:
    data, why = BAD[case]
    assert why in refusal(tmp_path, data)
    assert (reference_reads(data) is None) == (case not in STRICTER_THAN_THE_LIBRARY)


def test_a_cut_off_download_says_how_much_is_missing(tmp_path: Path) -> None:
    data = framed({"a": entry(), "b": entry("F32", [4], (2, 18))}, bytes(18))
    message = refusal(tmp_path, data[:-5])
    assert f"truncated: header promises {len(data)} bytes, file has {len(data) - 5}" in message
    assert "'b' (bytes 2-18)" in message


def test_names_and_ranks_are_limited(tmp_path: Path) -> None:
    assert "name_bytes" in refusal(tmp_path, framed({"x" * 5000: entry()}, b"xx"), LimitError)
    assert "rank" in refusal(tmp_path, framed({"x": entry(shape=[1] * 65 + [2])}, b"xx"), LimitError)
    (tmp_path / "long").write_bytes(framed({"é" * 2048: entry(shape=[1] * 63 + [2])}, b"xx"))
    assert len(read(tmp_path / "long")) == 1


def test_what_the_library_reads_over_is_a_finding(tmp_path: Path) -> None:
    (tmp_path / "m").write_bytes(framed({"a": {**entry(), "scale\x1b[31m": 1}, "__metadata__": None}, b"xx"))
    with open_checkpoint(tmp_path / "m") as cp:
        (f,) = cp.findings
        assert (f.severity, f.where, cp.metadata) == ("info", "a", {})
        assert "scale" in f.message
        assert f.message.isprintable()


def agrees_with_the_library(tmp_path: Path, data: bytes) -> bool:
    """What is accepted is what the library accepts, and it is the same. Whether it was accepted."""
    path = tmp_path / "m.safetensors"
    path.write_bytes(data)
    try:
        ours = read(path)
    except CheckpointError as e:
        assert str(e).isprintable()
        return False
    assert {n: (s.dtype, s.shape, raw) for n, (s, raw) in ours.items()} == reference_reads(data)
    return True


@settings(QUICK, max_examples=400)
@given(st.integers(0, len(SMALL) - 1), st.binary(min_size=1, max_size=4), st.sampled_from(["put", "insert", "cut"]))
def test_any_damage_gives_what_the_library_gives_or_an_error(tmp_path: Path, at: int, noise: bytes, how: str) -> None:
    damaged = {"put": SMALL[:at] + noise + SMALL[at + len(noise) :], "insert": SMALL[:at] + noise + SMALL[at:], "cut": SMALL[:at]}
    agrees_with_the_library(tmp_path, damaged[how])


NUMBER = st.integers(0, 9) | st.sampled_from([0, 1, 2, 4, 8, 2**32, 2**63, 2**64 - 1, 2**64, -1, True, 1.0, None])
ODD_ENTRY = st.fixed_dictionaries(
    {"dtype": st.sampled_from(["U8", "F32", "F4", "BOOL", "F16", "C128", 1]), "shape": st.lists(NUMBER, max_size=3), "data_offsets": st.lists(NUMBER, min_size=2, max_size=2)},
    optional={"extra": NUMBER},
)  # fmt: skip
ODD_HEADER = st.dictionaries(st.sampled_from(["a", "b", "c", "__metadata__"]), ODD_ENTRY | st.none() | st.just({"k": "v"}), max_size=3)


@settings(QUICK, max_examples=300)
@given(ODD_HEADER, st.integers(0, 12))
def test_any_header_gives_what_the_library_gives_or_an_error(tmp_path: Path, header: object, size: int) -> None:
    agrees_with_the_library(tmp_path, framed(header, bytes(size)))


@settings(QUICK, max_examples=200)
@given(st.lists(SPECS, min_size=1, max_size=5), st.randoms(use_true_random=False), st.integers(-1, 1))
def test_any_order_of_whole_tensors_is_accepted_and_only_whole_files(
    tmp_path: Path, tensors: list[TensorSpec], rng: Any, more: int
) -> None:
    at, entries = 0, []
    for i, spec in enumerate(tensors):
        entries.append((f"t{i}", entry(spec.dtype, spec.shape, (at, at + spec.nbytes))))
        at += spec.nbytes
    rng.shuffle(entries)
    assume(at + more >= 0)
    data = framed(dict(entries), bytes(at + more))
    assert agrees_with_the_library(tmp_path, data) == (more == 0)


# ---- recognising files


def test_the_bytes_are_recognised_whatever_the_name(tmp_path: Path) -> None:
    (tmp_path / "weights").write_bytes(SMALL)
    assert open_checkpoint(tmp_path / "weights").container == "safetensors"
    (tmp_path / "config.json").write_text("{}" + " " * 20)
    with pytest.raises(UnknownFormatError):
        open_checkpoint(tmp_path / "config.json")


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (["config.json", "model.safetensors"], [(20, "model.safetensors")]),
        (["model.safetensors", "model.safetensors.index.json"], [(10, "model.safetensors.index.json"), (20, "model.safetensors")]),
        (["a.safetensors.index.json", "model.safetensors.index.json"], [(10, "model.safetensors.index.json")]),
        (["a-00001-of-00002.safetensors", "a.safetensors.index.json"], [(10, "a.safetensors.index.json")]),
        (["adapter.safetensors"], [(30, "adapter.safetensors")]),
        (["a.safetensors", "b.safetensors"], [(30, "a.safetensors"), (30, "b.safetensors")]),
        (["a.safetensors", "model.safetensors"], [(20, "model.safetensors")]),
        (["model.bin", "pytorch_model.bin.index.json"], []),
    ],
)
def test_a_directory_is_searched_in_the_order_of_preference(names: list[str], found: list[tuple[int, str]]) -> None:
    assert container.find("d", names) == [(rank, os.path.join("d", n)) for rank, n in found]


def test_several_unrelated_files_are_a_question(tmp_path: Path) -> None:
    for name in ("a.safetensors", "b.safetensors"):
        (tmp_path / name).write_bytes(SMALL)
    with pytest.raises(UsageError, match=r"holds 2 checkpoints: a\.safetensors, b\.safetensors"):
        open_checkpoint(tmp_path)


# ---- writing


def test_a_layout_is_refused_for_what_the_format_forbids() -> None:
    good = TensorSpec("F32", (2,))
    for tensors, metadata in (
        ([("", good)], {}),
        ([("__metadata__", good)], {}),
        ([("a", good), ("a", good)], {}),
        ([("\ud800", good)], {}),
        ([("a", good)], {"k": 1}),
        ([("a", good)], {"k": "\udfff"}),
    ):
        with pytest.raises(UsageError):
            container.layout(tensors, filename="m", metadata=metadata)  # type: ignore[arg-type]


def test_a_tied_name_is_not_written() -> None:
    spec = TensorSpec("F32", (2,))
    layout = container.layout([("a", spec), ("b", spec)], filename="m", ties={"b": "a"})
    assert list(layout.slots) == ["a"]
    assert b'"b"' not in layout.parts[0].data


def test_shards_are_those_of_huggingface_hub(tmp_path: Path) -> None:
    hub = pytest.importorskip("huggingface_hub")
    torch = pytest.importorskip("torch")
    (tmp_path / "theirs").mkdir()
    state = {f"layer.{i}.{part}": torch.full((n,), i) for i in range(12) for part, n in (("weight", 40), ("bias", 4))}
    hub.save_torch_state_dict(state, tmp_path / "theirs", max_shard_size=1000, metadata={"format": "pt"})
    raw = {n: (TensorSpec("I64", tuple(t.shape)), t.numpy().tobytes()) for n, t in state.items()}
    layout = container.layout(specs(raw), filename="model.safetensors", metadata={"format": "pt"}, max_shard_size=1000)
    write(tmp_path / "ours", layout, raw)
    names = sorted(os.listdir(tmp_path / "theirs"))
    assert sorted(os.listdir(tmp_path / "ours")) == names
    for name in names:
        ours, theirs = ((tmp_path / side / name).read_bytes() for side in ("ours", "theirs"))
        if name.endswith(".json"):  # the hub repeats the shards' metadata there, transformers does not
            theirs = theirs.replace(b',\n    "format": "pt"', b"")
        assert ours.rstrip() == theirs.rstrip()


def test_a_zero_tensor_checkpoint_is_a_file_as_the_librarys(tmp_path: Path) -> None:
    write(tmp_path, container.layout([], filename="m.safetensors", max_shard_size=10), {})
    assert (tmp_path / "m.safetensors").read_bytes() == reference_bytes({}) == framed("{}      ")
    assert read(tmp_path) == {}


# ---- what others made


@pytest.mark.parametrize("case", ["safetensors", "safetensors_bf16", "safetensors_sharded"])
def test_golden_checkpoints_read_as_the_library_reads_them(tmp_path: Path, case: str) -> None:
    folder = FIXTURES / "golden" / "hf_bert" / case
    if not folder.is_dir():
        pytest.skip("no golden checkpoints here")
    theirs: dict[str, tuple[str, tuple[int, ...], bytes]] = {}
    for file in sorted(folder.glob("*.safetensors")):
        theirs |= reference_reads(file.read_bytes()) or {}
    with open_checkpoint(folder) as cp:
        assert cp.findings == []
        assert cp.metadata == {"format": "pt"}
    raw = read(folder)
    assert {n: (s.dtype, s.shape, data) for n, (s, data) in raw.items()} == theirs
    assert len(theirs) > 10
    if case != "safetensors_sharded":
        write(tmp_path, container.layout(specs(raw), filename="m", metadata=cp.metadata), raw)
        assert (tmp_path / "m").read_bytes() == (folder / "model.safetensors").read_bytes()


def hostile() -> list[dict[str, Any]]:
    manifest = FIXTURES / "hostile" / "corpus" / "manifest.json"
    cases = json.loads(manifest.read_text())["cases"] if manifest.is_file() else []
    return [c for c in cases if c["cls"] in ("safetensors", "sharded")]


@pytest.mark.parametrize("case", [pytest.param(c, id=c["id"]) for c in hostile()])
def test_hostile_files_end_as_the_manifest_says(case: dict[str, Any]) -> None:
    try:
        with open_checkpoint(FIXTURES / "hostile" / "corpus" / case["path"]) as cp:
            outcome = "accept" if not cp.findings else "warn"
            text = " ".join(f"{f.where} {f.message} {f.hint}" for f in cp.findings)
            for name in cp.tensors:
                cp.array(name)
    except CheckpointError as e:
        outcome, text = "reject", str(e)
    assert (
        outcome in {"reject": ["reject"], "warn": ["warn"], "accept": ["accept"], "survive": ["accept", "warn", "reject"]}[case["expect"]]
    )
    assert text.isprintable()
    if case["mention"] and case["mention"] != "noesc":
        assert case["mention"] in text
    if case["case"] in ("idx_bom", "total_size_missing", "extra_shard"):
        assert outcome == ("warn" if case["case"] == "extra_shard" else "accept")
