"""safetensors files of ranks, as torch.distributed.checkpoint writes them, cut by hand; its own HuggingFaceStorageReader is judge."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import oracles
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

import ckptkit
from ckptkit.containers import below, open_checkpoint
from ckptkit.errors import CheckpointError, CorruptError, FindingsError

WHOLE = oracles.FIXTURES / "forms" / "llama_whole"
CONFIG = str(WHOLE / "config.json")


def whole() -> dict[str, np.ndarray]:
    return dict(load_file(WHOLE / "model.safetensors"))


def ranks(folder: Path, world: int = 3, parts: int = 2) -> Path:
    """The model cut along the first axis among ranks, norms kept by each, its tensors dealt out to as many files."""
    folder.mkdir()
    for part in range(parts):
        mine = sorted(whole().items())[part::parts]
        for rank in range(world):
            held, info = {}, {}
            for name, a in mine:
                cut = np.array_split(a, world)
                kept = "norm" in name
                held[name] = a if kept else cut[rank]
                info[name] = {"saved_offsets": [0 if kept else sum(map(len, cut[:rank])), *[0] * (a.ndim - 1)]}
            said = {"format": "pt", "DCP_VERSION": "1.0", "DCP_SHARDING_INFO": json.dumps(info)}
            save_file(held, folder / file(rank, part, parts), said)
    return folder


def file(rank: int, part: int, parts: int = 2) -> str:
    return f"shard-{rank + 1:05}-model-{part + 1:05}-of-{parts:05}.safetensors"


def rewritten(path: Path, change: Callable[[dict[str, Any], dict[str, Any]], object]) -> None:
    """A file with its tensors and their places changed."""
    held = dict(load_file(path))
    with safe_open(path, "np") as f:
        said = dict(f.metadata())
    info = json.loads(said["DCP_SHARDING_INFO"])
    change(held, info)
    save_file(held, path, {**said, "DCP_SHARDING_INFO": json.dumps(info)})


@pytest.mark.parametrize(("world", "parts"), [(1, 1), (2, 1), (3, 2), (5, 3)])
def test_the_files_of_all_ranks_are_one_model(world: int, parts: int, tmp_path: Path) -> None:
    made = ranks(tmp_path / "c", world, parts)
    with open_checkpoint(made) as a, open_checkpoint(made / file(world - 1, 0, parts)) as b:
        assert a.tensors == b.tensors and a.tensors.keys() == whole().keys()
        assert sorted(set(a.ranks.values())) == [f"rank {r}" for r in range(world)]
    ckptkit.convert(made, tmp_path / "hf", to="hf", config=CONFIG)
    for name, w in load_file(tmp_path / "hf" / "model.safetensors").items():
        np.testing.assert_array_equal(w, whole()[name])
    assert [p.path for p in below(tmp_path)] == [str(made), str(tmp_path / "hf")]


def test_torchs_own_reader_sees_the_same(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    dcp = pytest.importorskip("torch.distributed.checkpoint")
    made = ranks(tmp_path / "c")
    held = {n: torch.zeros(a.shape) for n, a in whole().items()}
    dcp.load(held, storage_reader=dcp.HuggingFaceStorageReader(str(made)), no_dist=True)
    with open_checkpoint(made) as ckpt:
        for name, t in held.items():
            np.testing.assert_array_equal(ckpt.array(name), t.numpy())


def said_of(made: Path, tmp_path: Path) -> str:
    with pytest.raises(FindingsError) as e:
        ckptkit.convert(made, tmp_path / "out", to="hf", config=CONFIG)
    assert not (tmp_path / "out").exists()
    return " ".join(str(f.message) for f in e.value.findings if f.severity == "error")  # type: ignore[attr-defined]


@pytest.mark.parametrize(("rank", "part"), [(0, 0), (1, 1), (2, 0), (2, 1)])
def test_a_file_that_is_gone_is_named(rank: int, part: int, tmp_path: Path) -> None:
    made = ranks(tmp_path / "c")
    (made / file(rank, part)).unlink()
    said = said_of(made, tmp_path)
    assert f"the file of rank {rank}, {file(rank, part)}, is missing" in said and "tensors lack a piece" in said


def test_all_files_of_a_rank_or_of_a_number_that_are_gone_are_named(tmp_path: Path) -> None:
    made = ranks(tmp_path / "c")
    for part in range(2):
        (made / file(1, part)).unlink()
    assert f"the file of rank 1, {file(1, 0)}, is missing" in said_of(made, tmp_path)
    made = ranks(tmp_path / "d")
    for rank in range(3):
        (made / file(rank, 1)).unlink()
    assert "no rank's file 2 of 2 is there" in said_of(made, tmp_path)


def test_that_nothing_tells_how_many_ranks_there_were_is_said_and_the_configuration_tells(tmp_path: Path) -> None:
    made = ranks(tmp_path / "c")
    for part in range(2):
        (made / file(2, part)).unlink()
    with open_checkpoint(made) as ckpt:
        assert any("2 ranks wrote it, as far as the files go" in f.message for f in ckpt.findings)
    assert ckptkit.validate(made, config=CONFIG).exit_code == 1


def test_a_norm_of_another_step_and_a_piece_elsewhere_are_errors(tmp_path: Path) -> None:
    made = ranks(tmp_path / "c")
    norm = "model.layers.1.input_layernorm.weight"
    where = next(p for p in range(2) if norm in load_file(made / file(2, p)))
    rewritten(made / file(2, where), lambda held, _: held.update({norm: held[norm] + 1}))
    said = said_of(made, tmp_path)
    assert repr(norm) in said and "rank 2 is not what rank 0 has" in said
    made = ranks(tmp_path / "d")
    name = "model.layers.0.self_attn.o_proj.weight"
    where = next(p for p in range(2) if name in load_file(made / file(1, p)))
    rewritten(made / file(1, where), lambda _, info: info.update({name: {"saved_offsets": [13, 0]}}))
    assert repr(name) in said_of(made, tmp_path)


@pytest.mark.parametrize(
    "place", [None, 3, [], {"saved_offsets": [0]}, {"saved_offsets": [-1, 0]}, {"saved_offsets": [1 << 60, 0]}, {"saved_offsets": [0.5, 0]}]
)
def test_a_place_that_cannot_be_meant_is_refused(place: Any, tmp_path: Path) -> None:
    made = ranks(tmp_path / "c", 1, 1)
    rewritten(made / file(0, 0, 1), lambda _, info: info.update({"model.embed_tokens.weight": place}))
    with pytest.raises(CorruptError, match=r"model\.embed_tokens\.weight"):
        open_checkpoint(made)


def test_a_far_place_makes_nothing_large_and_metadata_that_are_no_json_are_refused(tmp_path: Path) -> None:
    made = ranks(tmp_path / "c", 1, 1)
    far = {"saved_offsets": [(1 << 47) - 1, 0]}
    rewritten(made / file(0, 0, 1), lambda _, info: info.update({"model.embed_tokens.weight": far}))
    assert "'model.embed_tokens.weight'" in said_of(made, tmp_path)
    made = ranks(tmp_path / "d", 1, 1)
    save_file({"a": np.zeros(2, "f4")}, made / file(0, 0, 1), {"DCP_SHARDING_INFO": "{"})
    with pytest.raises(CheckpointError):
        open_checkpoint(made)


def test_a_piece_under_another_name_is_no_model(tmp_path: Path) -> None:
    made = ranks(tmp_path / "c", 2, 1)
    (tmp_path / "m").mkdir()
    shutil.copy(made / file(1, 0, 1), tmp_path / "m" / "model.safetensors")
    report = ckptkit.validate(tmp_path / "m")
    assert report.exit_code == 1 and any("has pieces of tensors only" in f.message for f in report.findings)
