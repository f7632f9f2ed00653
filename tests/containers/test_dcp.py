"""Distributed checkpoints of PyTorch: torch is the oracle; damages and attacks are made with torch's own classes."""

from __future__ import annotations

import io
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import oracles
import pytest
from safetensors.numpy import load_file

import ckptkit
from ckptkit.containers import Checkpoint, open_checkpoint
from ckptkit.errors import CheckpointError, CorruptError, FindingsError, LimitError, UnsafeError
from ckptkit.tensors import Extent

torch = pytest.importorskip("torch")
import torch.distributed.checkpoint as dcp  # noqa: E402
from torch.distributed.checkpoint import metadata as md  # noqa: E402

FORMS = oracles.FIXTURES / "forms"
MESH = FORMS / "dcp_llama_tp2d"
WHOLE = FORMS / "llama_whole"


def arrays(checkpoint: Checkpoint) -> dict[str, np.ndarray]:
    return {n: checkpoint.array(n) for n in checkpoint.tensors}


def saved(path: Path, state: dict[str, Any]) -> Path:
    dcp.save(state, checkpoint_id=path, no_dist=True)
    return path


def test_a_mesh_of_four_is_the_model_bit_for_bit_with_its_optimizer_apart() -> None:
    truth, state = load_file(WHOLE / "model.safetensors"), load_file(MESH / "optimizer.safetensors")
    with open_checkpoint(MESH / "checkpoint") as ckpt:
        assert ckpt.container == "dcp" and ckpt.wrapper == "model" and not ckpt.findings
        assert sorted(set(ckpt.ranks.values())) == ["rank 0", "rank 1", "rank 2", "rank 3"]
        assert ckpt.extras["train_state.step"] == 1 and ckpt.extras["optim.param_groups.0.betas"] == (0.9, 0.999)
        model = {n: a for n, a in arrays(ckpt).items() if n not in ckpt.beside}
        optimizer = {n: a for n, a in arrays(ckpt).items() if n in ckpt.beside}
        assert [f.rule for f in ckpt.audit()] == ["ranks"]  # torch spread the steps over two of the ranks
    lm_head = model.pop("lm_head.weight")
    assert sorted(model) == sorted(truth.keys() - {"lm_head.weight"})
    for name, a in truth.items():
        np.testing.assert_array_equal(model.get(name, lm_head), a)
    assert {n.removeprefix("optim.state.") for n in optimizer} >= {n.removeprefix("optim.state.") for n in state}
    for name, a in state.items():
        found = next(v for n, v in optimizer.items() if n.endswith(name.removeprefix("optim.state.").removeprefix("state.")))
        np.testing.assert_array_equal(found.reshape(a.shape), a)


def test_the_run_becomes_a_model_of_transformers_with_one_command(tmp_path: Path) -> None:
    ckptkit.convert(MESH / "checkpoint", tmp_path / "hf", to="hf", config=str(WHOLE / "config.json"))
    have, want = load_file(tmp_path / "hf" / "model.safetensors"), load_file(WHOLE / "model.safetensors")
    for name, a in have.items():
        np.testing.assert_array_equal(a, want.get(name, want.get("lm_head.weight")))
    assert ckptkit.diff(MESH / "checkpoint", tmp_path / "hf").exit_code == 0


def dtensors(names: list[str]) -> dict[str, Any]:
    return {n: torch.arange(24.0).reshape(4, 6) + i for i, n in enumerate(names)}


@pytest.mark.parametrize(
    ("state", "wrapper", "tensors", "beside"),
    [
        (lambda: {"model": dtensors(["a.w", "b.w"]), "optimizer": {"state": {"a.w": {"exp_avg": torch.ones(4, 6)}}}},
            "model", ["a.w", "b.w"], ["optimizer.state.a.w.exp_avg"]),
        (lambda: {**dtensors(["tok.w", "out.w"]), "optimizer": {"state.tok.w.exp_avg": torch.ones(4, 6)}},
            "", ["tok.w", "out.w"], ["optimizer.state.tok.w.exp_avg"]),
        (lambda: {"app": {"model": dtensors(["x.w"]), "optim": {"state": {"x.w": {"step": torch.tensor(3.0)}}}}},
            "app.model", ["x.w"], ["app.optim.state.x.w.step"]),
        (lambda: {"state_dict": dtensors(["x.w"]), "rng": {"torch": torch.zeros(9, dtype=torch.uint8)}},
            "state_dict", ["x.w"], ["rng.torch"]),
        (lambda: dtensors(["amp.w", "loops.w", "best.w"]), "", ["amp.w", "loops.w", "best.w"], []),
    ],
)  # fmt: skip
def test_the_keys_that_a_script_handed_over_tell_the_model(
    tmp_path: Path, state: Callable[[], dict[str, Any]], wrapper: str, tensors: list[str], beside: list[str]
) -> None:
    with open_checkpoint(saved(tmp_path / "c", state())) as ckpt:
        assert ckpt.wrapper == wrapper
        assert sorted(n for n in ckpt.tensors if n not in ckpt.beside) == sorted(tensors)
        assert sorted(ckpt.beside) == sorted(beside)


def test_the_folders_of_accelerate_and_of_torchtitan_are_read_as_their_model(tmp_path: Path) -> None:
    saved(tmp_path / "a" / "pytorch_model_fsdp_0", {"model": dtensors(["x.w"])})
    saved(tmp_path / "a" / "optimizer_0", {"optimizer": {"state": {"x.w": {"exp_avg": torch.ones(4, 6)}}}})
    for step in (5, 10, 9):
        saved(tmp_path / "t" / f"step-{step}", dtensors([f"w{step}"]))
    with open_checkpoint(tmp_path / "a") as ckpt:
        assert list(ckpt.tensors) == ["x.w"]
        assert [f.rule for f in ckpt.findings if "in optimizer_0, a checkpoint of its own: not looked at" in f.message] == ["optimizer"]
    with open_checkpoint(tmp_path / "t") as ckpt:
        assert list(ckpt.tensors) == ["w10"]


def test_the_configuration_beside_accelerates_folder_is_the_models(tmp_path: Path) -> None:
    """transformers' Trainer writes checkpoint-N with config.json, tokenizer and trainer's files, and FSDP's shards in a folder of it."""
    there = oracles.FIXTURES / "forms" / "llama_whole"
    hf, run = load_file(there / "model.safetensors"), tmp_path / "checkpoint-10"
    saved(run / "pytorch_model_fsdp_0", {"model": {n: torch.from_numpy(a) for n, a in hf.items()}})
    shutil.copy(there / "config.json", run)
    (run / "tokenizer_config.json").write_text("{}")
    torch.save({"last_epoch": 1}, run / "scheduler.pt")
    done = ckptkit.convert(run, tmp_path / "hf", to="hf")
    got = load_file(tmp_path / "hf" / "model.safetensors")
    assert got.keys() == hf.keys() and all(np.array_equal(got[n], a) for n, a in hf.items())
    assert (tmp_path / "hf" / "tokenizer_config.json").exists()
    assert any("scheduler.pt" in f.message for f in done.findings if f.rule == "dropped")


def test_two_models_are_parts_and_none_of_them_is_state(tmp_path: Path) -> None:
    made = saved(tmp_path / "c", {"model": dtensors(["a.w"]), "generator": dtensors(["a.w"])})
    with open_checkpoint(made) as ckpt:
        assert sorted(ckpt.tensors) == ["a.w", "generator.a.w"] and not ckpt.beside
        assert ckpt.parts == {"generator.a.w": "generator"}


@pytest.mark.parametrize(
    "dtype", ["float64", "float32", "float16", "bfloat16", "int64", "int8", "uint8", "bool", "complex64", "float8_e4m3fn"]
)
def test_every_dtype_turned_or_empty_comes_as_torch_reads_it(tmp_path: Path, dtype: str) -> None:
    kind = getattr(torch, dtype)
    want = {
        "plain": (torch.arange(30).reshape(5, 6) % 2).to(kind), "turned": (torch.arange(30) % 2).reshape(5, 6).to(kind).T,
        "scalar": torch.tensor(1).to(kind), "empty": torch.zeros(0, 3).to(kind),
    }  # fmt: skip
    with open_checkpoint(saved(tmp_path / "c", dict(want))) as ckpt:
        for name, t in want.items():
            have = ckpt.array(name)
            assert have.shape == tuple(t.shape) and have.tobytes() == t.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes(), name


# --- damage -----------------------------------------------------------------------------------------------------------------


def damaged(tmp_path: Path, change: Callable[[Any], None]) -> Path:
    """The mesh with other metadata, written by torch's own classes."""
    there = tmp_path / "c"
    shutil.copytree(MESH / "checkpoint", there)
    meta = pickle.loads((there / ".metadata").read_bytes())
    change(meta)
    (there / ".metadata").write_bytes(pickle.dumps(meta))
    return there


def refused(path: Path) -> list[str]:
    """The error findings for which a conversion is refused."""
    with pytest.raises(FindingsError) as e:
        ckptkit.convert(path, path.parent / "out", to="hf", config=str(WHOLE / "config.json"))
    assert not (path.parent / "out").exists()
    return [str(f.message) for f in e.value.findings if f.severity == "error"]  # type: ignore[attr-defined]


def test_a_rank_whose_file_is_gone_is_named_with_what_it_costs(tmp_path: Path) -> None:
    there = damaged(tmp_path, lambda m: None)
    (there / "__3_0.distcp").unlink()
    said = " ".join(refused(there))
    assert "the file of rank 3, __3_0.distcp, is missing" in said and "model.layers" in said
    with open_checkpoint(there) as ckpt:  # what other ranks have is read
        assert ckpt.tensors and ckpt.unread


def test_a_file_that_is_cut_short_names_the_rank(tmp_path: Path) -> None:
    there = damaged(tmp_path, lambda m: None)
    file = there / "__2_0.distcp"
    os.truncate(file, file.stat().st_size - 100)
    assert "the file of rank 2, __2_0.distcp, ends at byte" in " ".join(refused(there))


def test_a_file_of_another_step_is_told_by_the_step_that_it_counts(tmp_path: Path) -> None:
    """The bytes of the other step lie at the same places: nothing but the values of `step` can tell."""
    there = damaged(tmp_path, lambda m: None)
    by: dict[str, list[Extent]] = {}
    with open_checkpoint(there) as ckpt:
        for name, t in ckpt.tensors.items():
            if name.endswith(".step"):
                by.setdefault(t.extents[0].path, []).append(t.extents[0])
    assert len(by) > 1
    path, places = min(by.items(), key=lambda item: len(item[1]))
    raw = bytearray(Path(path).read_bytes())
    for e in places:
        raw[e.offset : e.offset + 4] = np.float32(2).tobytes()
    Path(path).write_bytes(raw)
    with open_checkpoint(there) as ckpt:
        (finding,) = (f for f in ckpt.audit() if f.rule == "pieces")
    assert finding.severity == "error" and f"rank {Path(path).name[2]}" in finding.message and "another step" in finding.message
    assert ".step" in finding.message


def test_a_shifted_box_is_an_error_that_names_rank_and_tensor(tmp_path: Path) -> None:
    def shift(m: Any) -> None:
        name = "model.model.layers.1.mlp.up_proj.weight"
        chunk = m.state_dict_metadata[name].chunks[-1]
        old = chunk.offsets
        new = torch.Size((old[0] - 1, *old[1:]))
        m.state_dict_metadata[name].chunks[-1] = md.ChunkStorageMetadata(new, chunk.sizes)
        index = next(i for i in m.storage_data if i.fqn == name and i.offset == old)
        m.storage_data[md.MetadataIndex(name, new, index.index)] = m.storage_data.pop(index)

    said = " ".join(refused(damaged(tmp_path, shift)))
    assert "up_proj.weight" in said and "rank" in said and "leave out" in said


def test_a_piece_of_other_size_than_the_metadata_say_names_the_rank(tmp_path: Path) -> None:
    def swap(m: Any) -> None:
        a = next(i for i in m.storage_data if i.fqn.endswith("embed_tokens.weight"))
        b = next(i for i in m.storage_data if i.fqn.endswith("layers.0.mlp.up_proj.weight") and "optim" not in i.fqn)
        m.storage_data[a], m.storage_data[b] = m.storage_data[b], m.storage_data[a]

    said = " ".join(refused(damaged(tmp_path, swap)))
    assert "embed_tokens.weight" in said and "rank 0 has F32" in said


# --- attacks ----------------------------------------------------------------------------------------------------------------


class Payload:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch /tmp/never",)


def raw_metadata(tmp_path: Path, value: object) -> Path:
    (tmp_path / ".metadata").write_bytes(pickle.dumps(value))
    return tmp_path


def tiny() -> Any:
    meta = md.Metadata({}, None, {})
    name, size = "w", torch.Size([2, 2])
    meta.state_dict_metadata[name] = md.TensorStorageMetadata(
        md.TensorProperties(torch.float32), size, [md.ChunkStorageMetadata(torch.Size([0, 0]), size)]
    )
    from torch.distributed.checkpoint.filesystem import _StorageInfo

    meta.storage_data = {md.MetadataIndex(name, torch.Size([0, 0])): _StorageInfo("__0_0.distcp", 0, 10)}
    return meta


def test_a_payload_in_the_metadata_is_refused_and_never_called(tmp_path: Path) -> None:
    meta = tiny()
    meta.planner_data = Payload()
    with pytest.raises(UnsafeError, match=r"posix\.system"):
        open_checkpoint(raw_metadata(tmp_path, meta))


@pytest.mark.parametrize("file", ["../x.distcp", "/etc/passwd", "a/../../x", "", "a\0b", "..", "C:\\x"])
def test_a_path_that_leads_out_is_refused(tmp_path: Path, file: str) -> None:
    meta = tiny()
    (info,) = meta.storage_data.values()
    object.__setattr__(info, "relative_path", file)
    with pytest.raises(UnsafeError, match="outside of the checkpoint"):
        open_checkpoint(raw_metadata(tmp_path, meta))


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m.state_dict_metadata["w"].chunks.append(md.ChunkStorageMetadata(torch.Size([1, 0]), torch.Size([2, 2]))),
        lambda m: m.state_dict_metadata["w"].chunks.append(md.ChunkStorageMetadata(torch.Size([0]), torch.Size([2]))),
        lambda m: setattr(m, "storage_data", None),
        lambda m: setattr(m, "state_dict_metadata", {"w": m}),
        lambda m: m.state_dict_metadata.update(w=m.state_dict_metadata),
        lambda m: setattr(m.state_dict_metadata["w"], "chunks", m),
        lambda m: m.storage_data.update({md.MetadataIndex("w", torch.Size([0, 0])): 3}),
    ],
)
def test_metadata_that_cannot_be_meant_are_refused(tmp_path: Path, change: Callable[[Any], None]) -> None:
    meta = tiny()
    change(meta)
    with pytest.raises(CorruptError):
        open_checkpoint(raw_metadata(tmp_path, meta))


def test_more_chunks_than_the_limit_are_refused(tmp_path: Path) -> None:
    meta = tiny()
    meta.state_dict_metadata["w"].chunks *= 20_001
    with pytest.raises(LimitError, match="slices"):
        open_checkpoint(raw_metadata(tmp_path, meta))


def test_what_is_no_metadata_is_an_error_in_words(tmp_path: Path) -> None:
    for value in (None, [], {"a": 1}, io.BytesIO):
        with pytest.raises(CheckpointError):
            open_checkpoint(raw_metadata(tmp_path, value))


def test_a_folder_without_its_metadata_says_so(tmp_path: Path) -> None:
    shutil.copy(MESH / "checkpoint" / "__0_0.distcp", tmp_path)
    with pytest.raises(CheckpointError, match=r"whose \.metadata is missing"):
        open_checkpoint(tmp_path)


# --- writing ----------------------------------------------------------------------------------------------------------------


def loaded(path: Path, into: dict[str, Any]) -> dict[str, Any]:
    dcp.load(into, checkpoint_id=path, no_dist=True)
    return into


@pytest.mark.parametrize("size", [None, 20_000])
def test_what_is_written_torch_loads_whole(tmp_path: Path, size: int | None) -> None:
    ckptkit.convert(WHOLE, tmp_path / "c", container="dcp", max_shard_size=size)
    assert len(list((tmp_path / "c").glob("*.distcp"))) == 1 if size is None else len(list((tmp_path / "c").glob("*.distcp"))) > 3
    want = {n: torch.from_numpy(a) for n, a in load_file(WHOLE / "model.safetensors").items()}
    have = loaded(tmp_path / "c", {n: torch.zeros_like(t) for n, t in want.items()})
    for name, t in want.items():
        assert torch.equal(have[name], t), name
    with open_checkpoint(tmp_path / "c") as ckpt:
        assert not ckpt.findings and not [f for f in ckpt.audit() if f.rule != "ranks"]
    assert ckptkit.diff(WHOLE, tmp_path / "c").exit_code == 0


@pytest.mark.parametrize("dtype", ["float64", "float16", "bfloat16", "int64", "int8", "uint8", "bool", "complex64", "float8_e4m3fn"])
def test_every_dtype_is_written_as_torch_loads_it(tmp_path: Path, dtype: str) -> None:
    want = {"w": (torch.arange(30).reshape(5, 6) % 2).to(getattr(torch, dtype)), "s": torch.tensor(1).to(getattr(torch, dtype))}
    torch.save(want, tmp_path / "w.pt")
    ckptkit.convert(tmp_path / "w.pt", tmp_path / "c", container="dcp")
    have = loaded(tmp_path / "c", {n: torch.zeros_like(t) for n, t in want.items()})
    for name, t in want.items():
        assert have[name].dtype == t.dtype and torch.equal(have[name].flatten().view(torch.uint8), t.flatten().view(torch.uint8)), name


def test_the_optimizer_goes_along_from_one_mesh_to_another(tmp_path: Path) -> None:
    from torch.distributed.checkpoint.format_utils import dcp_to_torch_save

    ckptkit.convert(MESH / "checkpoint", tmp_path / "c", container="dcp")
    dcp_to_torch_save(MESH / "checkpoint", tmp_path / "before.pt")
    dcp_to_torch_save(tmp_path / "c", tmp_path / "after.pt")
    a, b = (torch.load(tmp_path / f"{n}.pt", weights_only=False) for n in ("before", "after"))

    def same(x: Any, y: Any, at: str) -> None:
        assert type(x) is type(y), at
        if isinstance(x, dict):
            assert x.keys() == y.keys(), at
            for k in x:
                same(x[k], y[k], f"{at}.{k}")
        elif isinstance(x, (list, tuple)):
            assert len(x) == len(y), at
            for i, (p, q) in enumerate(zip(x, y, strict=True)):
                same(p, q, f"{at}.{i}")
        else:
            assert torch.equal(x, y) if isinstance(x, torch.Tensor) else x == y, at

    same(a, b, "")


def test_a_name_that_is_no_place_in_the_model_is_its_own_key(tmp_path: Path) -> None:
    torch.save({"a.b.c": torch.ones(2), "plain": torch.ones(3)}, tmp_path / "w.pt")
    ckptkit.convert(tmp_path / "w.pt", tmp_path / "c", container="dcp")
    meta = pickle.loads((tmp_path / "c" / ".metadata").read_bytes())
    assert meta.planner_data == {"a.b.c": ("a.b.c",), "plain": ("plain",)} and set(meta.state_dict_metadata) == {"a.b.c", "plain"}


def test_a_form_of_megatron_that_is_not_known_is_said_and_read_name_for_name(tmp_path: Path) -> None:
    """Megatron-FSDP's fsdp_dtensor is a distributed checkpoint with metadata.json and without common.pt."""
    name = "module.module.decoder.layers.0.mlp.linear_fc1.weight_w"
    where = saved(tmp_path / "iter_0000100", {"model": dtensors([name]), "iteration": 100})
    (where / "metadata.json").write_text('{"sharded_backend": "fsdp_dtensor", "sharded_backend_version": 1}')
    report = ckptkit.validate(where)
    said = [f.message for f in report.findings if f.rule == "version" and f.severity == "warning"]
    assert len(said) == 1 and "'fsdp_dtensor'" in said[0] and "read as they are" in said[0]
    with open_checkpoint(where) as ckpt:
        assert list(ckpt.tensors) == [name]
        assert ckpt.extras["iteration"] == 100
    (where / "metadata.json").write_text('{"title": "no word of Megatron"}')
    assert not [f for f in ckptkit.validate(where).findings if f.rule == "version"]
