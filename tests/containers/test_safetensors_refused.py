"""safetensors files that break the rules: refused where the reference refuses, with the place."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from safetensors_reference import QUICK, SMALL, SPECS, entry, framed, read, reference_reads

from ckptkit.containers import open_checkpoint
from ckptkit.errors import CheckpointError, CorruptError, LimitError
from ckptkit.tensors import TensorSpec


def refusal(
    tmp_path: Path, data: bytes, kind: type[CheckpointError] | tuple[type[CheckpointError], ...] = (CorruptError, LimitError)
) -> str:
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
    "size and shape": (framed({"a": entry("F32", [2], (0, 4))}, bytes(4)),
        "'a', F32 [2], bytes 0-4: the shape needs 8 bytes, the offsets give 4"),
    "empty shape, some bytes": (framed({"a": entry(shape=[0])}, b"xx"), "needs 0 bytes"),
    "wrapping product": (framed({"a": entry(shape=[2**63, 2], offsets=(0, 0))}), "overflows"),
    "wrapping bits": (framed({"a": entry("F64", shape=[2**61], offsets=(0, 0))}), "overflows"),
    "wrapping before a zero": (framed({"a": entry(shape=[2**63, 2, 0], offsets=(0, 0))}), "overflows"),
    "dimension beyond 64 bits": (framed({"a": entry(shape=[0, 2**64], offsets=(0, 0))}), "overflows"),
    "half a byte": (framed({"a": entry("F4", [3], (0, 2))}, b"xx"), "12 bits are no whole number of bytes"),
    "hole at the start": (framed({"a": entry(offsets=(1, 3))}, b"xxx"), "'a', bytes 1-3: leaves a hole of 1 bytes after the header"),
    "hole": (framed({"a": entry(), "b": entry(offsets=(3, 5))}, b"xxxxx"),
        "'b', bytes 3-5: leaves a hole of 1 bytes after 'a', which ends at 2"),
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
    {"dtype": st.sampled_from(["U8", "F32", "F4", "BOOL", "F16", "C128", 1]), "shape": st.lists(NUMBER, max_size=3),
        "data_offsets": st.lists(NUMBER, min_size=2, max_size=2)},
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
