"""safetensors: read and written as the reference library does, byte for byte."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file
from safetensors_reference import (
    NAMES,
    QUICK,
    REFERENCE,
    SMALL,
    SUB_BYTE,
    TENSORS,
    Raw,
    entry,
    filled,
    framed,
    read,
    reference_bytes,
    reference_reads,
    specs,
    write,
)

from ckptkit.containers import Inside, open_checkpoint
from ckptkit.containers import safetensors as container
from ckptkit.errors import CheckpointError, UnknownFormatError, UnsupportedError, UsageError
from ckptkit.tensors import DTYPES, TensorSpec

FIXTURES = Path(__file__).parents[2] / "fixtures"


# ---- exact bytes


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
    write(tmp_path, container.layout(specs(shuffled), filename="b.safetensors", inside=Inside(metadata={"format": "pt"})), raw)
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
    write(tmp_path, container.layout(specs(raw), filename="ours", inside=Inside(metadata={"format": "np"})), raw)
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
    blocks = {n for n, d in DTYPES.items() if d.kind == "block"}  # ggml's, which only GGUF has
    assert refused - blocks == {"C128", "STRING"} and {"Q4_0", "Q6_K", "MXFP4"} <= blocks <= refused
    for dtype in refused:
        with pytest.raises(UnsupportedError, match=dtype):
            container.layout([("w", TensorSpec(dtype, (2, DTYPES[dtype].block)))], filename="x")


def test_torch_reads_what_is_written_and_writes_what_is_read(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from safetensors.torch import load_file
    from safetensors.torch import save_file as save_torch

    given = {d.name: torch.arange(6).reshape(2, 3).to(getattr(torch, d.torch)) for d in DTYPES.values() if d.torch and d.name != "C128"}
    save_torch(given, tmp_path / "theirs.safetensors", {"format": "pt"})
    raw = read(tmp_path / "theirs.safetensors")
    assert {n: s.dtype for n, (s, _) in raw.items()} == {n: n for n in given}
    write(tmp_path, container.layout(specs(raw), filename="ours.safetensors", inside=Inside(metadata={"format": "pt"})), raw)
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


@QUICK
@given(TENSORS, st.none() | st.tuples(NAMES, st.text(st.characters(exclude_categories=["Cs"]), max_size=5)))
def test_any_tensors_are_written_as_the_library_writes_them(tmp_path: Path, tensors: Mapping[str, TensorSpec], note: Any) -> None:
    raw = {n: (spec, filled(spec, i)) for i, (n, spec) in enumerate(tensors.items())}
    metadata = dict([note]) if note else {}
    write(tmp_path, container.layout(specs(raw), filename="ours", inside=Inside(metadata=metadata)), raw)
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
    layout = container.layout(specs(raw), filename="model.safetensors", inside=Inside(metadata={"k": "v"}), max_shard_size=limit)
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
        (["config.json", "model.safetensors"], [(10, "model.safetensors")]),
        (["model.safetensors", "model.safetensors.index.json"], [(11, "model.safetensors.index.json"), (10, "model.safetensors")]),
        (["a.safetensors.index.json", "model.safetensors.index.json"], [(11, "model.safetensors.index.json")]),
        (["a-00001-of-00002.safetensors", "a.safetensors.index.json"], [(11, "a.safetensors.index.json")]),
        (["adapter.safetensors"], [(30, "adapter.safetensors")]),
        (["a.safetensors", "b.safetensors"], [(30, "a.safetensors"), (30, "b.safetensors")]),
        (["a.safetensors", "model.safetensors"], [(10, "model.safetensors")]),
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
            container.layout(tensors, filename="m", inside=Inside(metadata=metadata))  # type: ignore[arg-type]


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
    layout = container.layout(specs(raw), filename="model.safetensors", inside=Inside(metadata={"format": "pt"}), max_shard_size=1000)
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
        write(tmp_path, container.layout(specs(raw), filename="m", inside=Inside(metadata=cp.metadata)), raw)
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
