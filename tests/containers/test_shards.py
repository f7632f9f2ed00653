"""Shards: who holds what, what index and files disagree about, and huggingface_hub's rule for splitting."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from ckptkit.containers import Checkpoint, open_checkpoint
from ckptkit.containers._sharding import index_json, open_sharded, read_index, shard_names, split
from ckptkit.errors import CheckpointError, CorruptError, UnsafeError, UsageError
from ckptkit.findings import Finding
from ckptkit.tensors import Check, Extent, StoredTensor, TensorSpec

FIXTURES = Path(__file__).parents[2] / "fixtures"
ONE, TWO = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
INDEX = "model.safetensors.index.json"
SHARDS = {ONE: ["a", "b"], TWO: ["c"]}
WEIGHT_MAP = {"a": ONE, "b": ONE, "c": TWO}


def write(
    folder: Path,
    shards: Mapping[str, list[str]] = SHARDS,
    weight_map: object = WEIGHT_MAP,
    metadata: object = {"total_size": 24},
) -> str:
    """Shards of two-element float32 tensors, and an index that says what it is told to."""
    folder.mkdir(parents=True, exist_ok=True)
    for shard, names in shards.items():
        save_file({n: np.array([ord(n[0]), ord(shard[10])], np.float32) for n in names}, folder / shard, {"format": "pt"})
    (folder / INDEX).write_text(json.dumps({"metadata": metadata, "weight_map": weight_map}))
    return str(folder / INDEX)


def findings(path: str) -> list[Finding]:
    with open_checkpoint(path) as cp:
        assert all(f.rule == "shards" and f.message.isprintable() for f in cp.findings)
        return cp.findings


def test_a_sharded_checkpoint_reads_as_one(tmp_path: Path) -> None:
    path = write(tmp_path, weight_map={"c": TWO, "b": ONE, "a": ONE})
    with open_checkpoint(tmp_path) as cp:
        assert (cp.path, cp.container, cp.findings) == (path, "safetensors", [])
        assert list(cp.tensors) == ["c", "b", "a"]
        assert cp.files == (path, str(tmp_path / TWO), str(tmp_path / ONE))
        assert cp.metadata == {"format": "pt"}
        assert {n: cp.array(n)[0] for n in cp.tensors} == {"a": 97, "b": 98, "c": 99}


def test_it_opens_from_within_its_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert findings(INDEX) == []


def test_shards_may_be_links_as_in_the_hub_cache(tmp_path: Path) -> None:
    write(tmp_path / "blobs")
    (tmp_path / "snapshot").mkdir()
    for name in (ONE, TWO, INDEX):
        (tmp_path / "snapshot" / name).symlink_to(Path("..") / "blobs" / name)
    with open_checkpoint(tmp_path / "snapshot") as cp:
        assert [(f.severity, f.where) for f in cp.findings] == [("info", ONE)]
        assert "is a link to ../blobs/" in cp.findings[0].message
        assert cp.array("c")[0] == 99


@pytest.mark.parametrize("gone", ["absent", "directory", "dangling", "pipe"])
def test_a_missing_shard_is_named(tmp_path: Path, gone: str) -> None:
    path = write(tmp_path)
    (tmp_path / TWO).unlink()
    if gone == "directory":
        (tmp_path / TWO).mkdir()
    elif gone == "dangling":
        (tmp_path / TWO).symlink_to("nothing")
    elif gone == "pipe":
        os.mkfifo(tmp_path / TWO)
    with pytest.raises(CorruptError, match=f"1 of 2 shards missing: {TWO}"):
        open_checkpoint(path)


def test_a_tensor_that_no_shard_holds_is_an_error(tmp_path: Path) -> None:
    (f,) = findings(write(tmp_path, weight_map={**WEIGHT_MAP, "ghost": TWO}))
    assert (f.severity, f.where) == ("error", "ghost")
    assert TWO in f.message


def test_a_tensor_that_the_index_does_not_list_is_read_with_a_warning(tmp_path: Path) -> None:
    path = write(tmp_path, {**SHARDS, TWO: ["c", "d"]}, metadata={})
    (f,) = findings(path)
    assert (f.severity, f.where) == ("warning", "d")
    assert TWO in f.message
    with open_checkpoint(path) as cp:
        assert list(cp.tensors) == ["a", "b", "c", "d"]


def test_a_tensor_in_two_shards_is_an_error_and_the_index_decides(tmp_path: Path) -> None:
    path = write(tmp_path, {**SHARDS, TWO: ["c", "a"]}, weight_map={"a": TWO, "b": ONE, "c": TWO})
    (f,) = findings(path)
    assert (f.severity, f.where) == ("error", "a")
    assert ONE in f.message
    assert TWO in f.message
    with open_checkpoint(path) as cp:
        assert cp.tensors["a"].extents[0].path.endswith(TWO)


def test_a_tensor_in_another_shard_than_listed_is_an_error_and_is_read(tmp_path: Path) -> None:
    path = write(tmp_path, weight_map={"a": TWO, "b": ONE, "c": TWO})
    (f,) = findings(path)
    assert (f.severity, f.where) == ("error", "a")
    assert ONE in f.message
    assert TWO in f.message
    with open_checkpoint(path) as cp:
        assert cp.array("a")[0] == 97


@pytest.mark.parametrize("metadata", [{"total_size": 24}, {"total_size": 24.0}, {}, {"format": "pt"}])
def test_a_right_or_absent_total_size_is_silent(tmp_path: Path, metadata: object) -> None:
    assert findings(write(tmp_path, metadata=metadata)) == []


@pytest.mark.parametrize(
    ("metadata", "says"),
    [
        ({"total_size": 4096}, ["4,096", "24"]),
        ({"total_size": 0}, ["0", "24"]),
        ({"total_size": "24"}, ["'24'"]),
        ({"total_size": True}, ["True"]),
        ({"total_size": -1}, ["-1"]),
        ([], ["not an object"]),
    ],
)
def test_a_wrong_total_size_is_a_warning_with_the_numbers(tmp_path: Path, metadata: object, says: list[str]) -> None:
    (f,) = findings(write(tmp_path, metadata=metadata))
    assert f.severity == "warning"
    assert all(s in f.message for s in says)


def test_a_tied_tensor_may_count_once_or_for_each_name(tmp_path: Path) -> None:
    def open_one(path: str) -> Checkpoint:
        spec, extents = TensorSpec("F32", (2,)), (Extent(path, 0, 8),)
        return Checkpoint(path, "x", {n: StoredTensor(n, spec, extents, storage="0") for n in "ab"}, files=[path])

    for size, count in ((8, 0), (16, 0), (12, 1)):
        path = write(tmp_path, {ONE: ["a"]}, weight_map={"a": ONE, "b": ONE}, metadata={"total_size": size})
        assert sum(f.where == "metadata.total_size" for f in open_sharded(path, "x", open_one).findings) == count


def test_a_further_shard_file_is_a_warning_but_other_files_are_not(tmp_path: Path) -> None:
    path = write(tmp_path, {**SHARDS, "model-00003-of-00002.safetensors": ["z"], "other-00001-of-00002.safetensors": ["z"]})
    (tmp_path / "model-00001-of-00002.bin").touch()
    (tmp_path / "model.fp16-00001-of-00002.safetensors").touch()
    (f,) = findings(path)
    assert (f.severity, f.where) == ("warning", "model-00003-of-00002.safetensors")


@pytest.mark.parametrize(
    ("shard", "kind"),
    [
        ("../x.safetensors", UnsafeError),
        ("/etc/passwd", UnsafeError),
        ("./x", UnsafeError),
        ("a/b", UnsafeError),
        ("..\\x", UnsafeError),
        ("C:\\x", UnsafeError),
        ("..", UnsafeError),
        (".", UnsafeError),
        ("", CorruptError),
        ("a\0b", CorruptError),
        (None, CorruptError),
        (1, CorruptError),
        (["x"], CorruptError),
    ],
)
def test_a_shard_must_be_a_file_beside_the_index(tmp_path: Path, shard: object, kind: type[CheckpointError]) -> None:
    path = write(tmp_path, weight_map={"a": ONE, "evil": shard})
    with pytest.raises(kind, match="evil"):
        read_index(path)
    with pytest.raises(kind):
        open_checkpoint(path)


def test_an_index_that_names_itself_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CorruptError):
        open_checkpoint(write(tmp_path, weight_map={"a": INDEX}))


@pytest.mark.parametrize(
    "content", ["[]", "{}", '{"weight_map":[]}', '{"weight_map":{}}', '{"weight_map":null}', '{"weight_map":{"a":', ""]
)
def test_what_is_no_index_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / INDEX).write_text(content)
    with pytest.raises(CorruptError):
        read_index(str(tmp_path / INDEX))


def test_duplicate_keys_in_the_index_are_warned_of(tmp_path: Path) -> None:
    path = write(tmp_path)
    (tmp_path / INDEX).write_text(f'{{"weight_map":{{"a":"{ONE}","a":"{ONE}","b":"{ONE}","c":"{TWO}"}}}}')
    (f,) = findings(path)
    assert (f.severity, f.where) == ("warning", "a")


def test_read_index_gives_what_the_file_says(tmp_path: Path) -> None:
    got = read_index(write(tmp_path, metadata={"total_size": 5, "total_parameters": 3}))
    assert got == (WEIGHT_MAP, 5, {"total_size": 5, "total_parameters": 3}, [])
    assert list(got.weight_map) == list(WEIGHT_MAP)


def test_closing_closes_the_shards_and_so_does_a_failure(tmp_path: Path) -> None:
    opened: list[Checkpoint] = []
    path = write(tmp_path)

    def open_one(path: str) -> Checkpoint:
        if len(opened) == 2:
            raise CorruptError("damaged", path=path)
        opened.append(Checkpoint(path, "x", {}, files=[path], wrapper="model"))
        return opened[-1]

    merged = open_sharded(path, "x", open_one)
    assert merged.wrapper == "model"
    assert opened[0].blob(path).size >= 0
    merged.close()
    for cp in opened:
        with pytest.raises(CheckpointError, match="closed"):
            cp.blob(path)
    del opened[1]
    opened[0]._closed = False
    with pytest.raises(CorruptError, match="damaged"):
        open_sharded(path, "x", open_one)
    assert opened[1]._closed


def test_the_checks_of_all_shards_are_kept(tmp_path: Path) -> None:
    def open_one(path: str) -> Checkpoint:
        def checks() -> Iterator[Check]:
            yield Check(os.path.basename(path), "crc32", (), 0)

        return Checkpoint(path, "x", {}, files=[path], checks=checks)

    assert [c.where for c in open_sharded(write(tmp_path), "x", open_one).checks()] == [ONE, TWO]


SIZES = st.lists(st.integers(0, 12), max_size=12)


@given(SIZES, st.integers(1, 15))
def test_split_is_huggingface_hubs_rule(sizes: list[int], limit: int) -> None:
    serialization = pytest.importorskip("huggingface_hub.serialization._base")
    state = {f"t{i}": n for i, n in enumerate(sizes)}
    theirs = serialization.split_state_dict_into_shards_factory(
        state, get_storage_size=int, filename_pattern="m{suffix}.safetensors", max_shard_size=limit
    ) if state else None  # fmt: skip
    ours = split(list(state.items()), limit)
    assert ours == (list(theirs.filename_to_tensors.values()) if theirs else [])
    names = shard_names("m.safetensors", len(ours)) if len(ours) > 1 else ["m.safetensors"] * len(ours)
    assert names == (list(theirs.filename_to_tensors) if theirs else [])
    assert all(ours)


def test_split_without_a_limit_is_one_shard_and_nothing_fits_into_none() -> None:
    assert split([("a", 1), ("b", 10**15)], None) == [["a", "b"]]
    assert split([], None) == []
    for limit in (0, -5):
        with pytest.raises(UsageError):
            split([("a", 1)], limit)


def test_shard_names_keep_the_extension() -> None:
    assert shard_names("model.safetensors", 3) == [f"model-0000{i}-of-00003.safetensors" for i in (1, 2, 3)]
    assert shard_names("pytorch_model.bin", 2)[1] == "pytorch_model-00002-of-00002.bin"


def test_index_bytes_are_transformers_layout_in_the_models_order() -> None:
    assert index_json({"h.2": ONE, "h.10": TWO}, 8) == (
        b'{\n  "metadata": {\n    "total_size": 8\n  },\n  "weight_map": {\n'
        b'    "h.2": "model-00001-of-00002.safetensors",\n    "h.10": "model-00002-of-00002.safetensors"\n  }\n}\n'
    )


@given(st.binary(max_size=60), st.integers(0, 120))
def test_a_damaged_index_is_a_result_or_an_error(tmp_path_factory: pytest.TempPathFactory, noise: bytes, at: int) -> None:
    folder = tmp_path_factory.getbasetemp() / "damaged"
    path = write(folder)
    raw = bytearray(Path(path).read_bytes())
    raw[at : at + len(noise)] = noise
    Path(path).write_bytes(raw)
    try:
        with open_checkpoint(path, "safetensors") as cp:
            assert all(cp.array(n).shape == (2,) for n in cp.tensors)
            assert "a" in cp.tensors or cp.findings
    except CheckpointError as e:
        assert "\n" not in str(e)


@pytest.mark.parametrize(
    ("beside", "says"),
    [("model.safetensors", "reads it, and not them"), ("model-00003-of-00002.safetensors", "does not list it"), ("other.safetensors", "")],
)
def test_what_lies_beside_the_shards_and_would_be_read_instead_is_said(tmp_path: Path, beside: str, says: str) -> None:
    path = write(tmp_path)
    (tmp_path / beside).write_bytes((tmp_path / ONE).read_bytes())
    with open_checkpoint(path) as c:
        assert [f.where for f in c.findings] == ([beside] if says else []) and all(says in f.message for f in c.findings)


def test_shards_that_are_called_one_of_more_than_the_index_lists_are_told(tmp_path: Path) -> None:
    path = write(tmp_path, {ONE: ["a"]}, {"a": ONE}, {})
    with open_checkpoint(path) as c:
        assert [(f.severity, f.rule) for f in c.findings] == [("warning", "shards")] and "one of 2; the index lists 1" in c.findings[
            0
        ].message


def test_many_ghosts_are_a_few_findings(tmp_path: Path) -> None:
    path = write(tmp_path, weight_map={**WEIGHT_MAP, **{f"g.{i}.w": ONE for i in range(500)}})
    with open_checkpoint(path) as c:
        assert 2 < len(c.findings) < 30 and "480 more: g.{20...499}.w" in c.findings[-1].message
