"""What FSDP's ranks leave, file by file, as verl saves it: read as one checkpoint, against what torch itself gathers."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import oracles
import pytest

import ckptkit
from ckptkit.containers import open_checkpoint
from ckptkit.containers._pickle.globals import FROM_TYPE, Storage, StorageType, Tensor, TorchName
from ckptkit.containers.fsdp import pieces
from ckptkit.errors import CorruptError, NotFoundError, UnsupportedError, UsageError
from ckptkit.support.opaque import Opaque

MADE = oracles.FIXTURES / "made" / "fsdp"
ACTOR = MADE / "run" / "global_step_3" / "actor"
KINDS = ("fsdp2", "hsdp", "tp", "fsdp1", "sharded", "llama")
EMBED = "model.embed_tokens.weight"


def expected() -> dict[str, Any]:
    from safetensors.numpy import load_file

    return load_file(MADE / "expected.safetensors")


@pytest.fixture
def actor(tmp_path: Path) -> Path:
    shutil.copytree(ACTOR, tmp_path / "actor")
    return tmp_path / "actor"


def edit(path: Path, change: Callable[[Any], None]) -> None:
    """Load a rank's file with torch, change what it holds, save it under its name."""
    torch = pytest.importorskip("torch")
    held = torch.load(path, weights_only=False)
    change(held)
    torch.save(held, path)


def file(folder: Path, rank: int, kind: str = "model", world: int = 2) -> Path:
    return folder / f"{kind}_world_size_{world}_rank_{rank}.pt"


def errors(folder: Path) -> list[str]:
    return [f.message for f in ckptkit.validate(folder).findings if f.severity == "error"]


# --- what is read -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["run", "run/global_step_3", "run/global_step_3/actor"])
def test_a_run_is_its_latest_step_and_a_step_its_actor(where: str) -> None:
    truth = expected()
    with open_checkpoint(MADE / where) as c:
        assert c.container == "fsdp" and c.mesh == "2 (fsdp)" and set(c.ranks.values()) == {"rank 0", "rank 1"}
        steps = {n for n in c.tensors if n.endswith(".step")}
        assert set(c.tensors) - steps == set(truth) and len(steps) == 12 and not c.unread
        assert all(np.array_equal(c.array(n), truth[n]) for n in truth)
        assert c.beside == {n for n in c.tensors if n.startswith("optimizer.state.")}
        assert c.folder.endswith("huggingface") and not c.findings and not list(c.audit())


def test_one_command_makes_transformers_of_a_run(tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    ckptkit.convert(MADE / "run", tmp_path / "out", to="hf")
    written, truth = load_file(tmp_path / "out" / "model.safetensors"), expected()
    assert set(written) == {n for n in truth if not n.startswith("optimizer.")}
    assert all(np.array_equal(written[n], truth[n]) for n in written)
    assert (tmp_path / "out" / "config.json").exists()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("torch")
    folder = tmp_path_factory.mktemp("trained")
    script = oracles.ROOT / "tests" / "fsdp_runs.py"
    subprocess.run([sys.executable, str(script), str(folder), "4", *KINDS], check=True, capture_output=True, timeout=600)
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_the_pieces_are_what_torch_gathers(kind: str, trained: Path) -> None:
    truth = np.load(trained / f"{kind}.npz")
    with open_checkpoint(trained / kind) as c:
        assert set(c.tensors) == set(truth.files) and not c.unread
        assert [n for n in truth.files if not np.array_equal(c.array(n).astype(np.float32), truth[n])] == []
        assert {f.severity for f in [*c.findings, *c.audit()]} <= {"info"}
        tied = c.tensors["words.weight"].storage if "words.weight" in c.tensors else None
        assert kind in ("fsdp1", "sharded", "tp", "llama") or (tied is not None and tied == c.tensors["head.weight"].storage)


def test_transformers_computes_the_same_with_what_is_joined(trained: Path, tmp_path: Path) -> None:
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    ckptkit.convert(trained / "llama", tmp_path / "out", to="hf")
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float32)
    truth = np.load(trained / "llama.npz")
    state = model.state_dict()
    assert set(state) == {n for n in truth.files if not n.startswith("optimizer.")}
    assert all(np.array_equal(t.numpy(), truth[n]) for n, t in state.items())


def test_replicas_that_differ_name_tensor_and_rank(trained: Path, tmp_path: Path) -> None:
    folder = tmp_path / "hsdp"
    shutil.copytree(trained / "hsdp", folder)
    edit(file(folder, 2, world=4), lambda held: held["up.weight"]._local_tensor.add_(1))
    (said,) = errors(folder)
    assert "'up.weight' is kept more than once" in said and "rank 2 is not what rank 0 has" in said
    for kind in ("model", "optim", "extra_state"):
        file(folder, 2, kind, 4).unlink()
    found = ckptkit.validate(folder).findings
    assert [f.severity for f in found if f.rule == "pieces"] == ["warning", "warning"]  # every piece is rank 0's too
    assert all("the file of rank 2, " in f.message for f in found if f.rule == "pieces")


# --- what is damaged ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["model", "optim"])
def test_a_file_that_is_gone_or_cut_names_the_rank_and_what_lacks_a_piece(kind: str, actor: Path) -> None:
    name = EMBED if kind == "model" else f"optimizer.state.{EMBED}.exp_avg"
    whole = file(actor, 1, kind).read_bytes()
    file(actor, 1, kind).write_bytes(whole[:5000])
    (said,) = errors(actor)
    assert f"the file of rank 1, {kind}_world_size_2_rank_1.pt, cannot be read" in said and name in said
    file(actor, 1, kind).unlink()
    (said,) = errors(actor)
    assert f"the file of rank 1, {kind}_world_size_2_rank_1.pt, is missing" in said and name in said
    with open_checkpoint(actor) as c:
        assert c.unread[name].shape == (19, 8) and name not in c.tensors


def test_files_that_were_exchanged_are_told_by_the_mesh_and_read_in_their_places(actor: Path) -> None:
    a, b = file(actor, 0), file(actor, 1)
    a.rename(actor / "x")
    b.rename(a)
    (actor / "x").rename(b)
    said = errors(actor)
    assert len(said) == 2 and "model_world_size_2_rank_0.pt is named as the file of rank 0, and was saved by rank 1" in said[0]
    assert EMBED in said[0]
    with open_checkpoint(actor) as c:
        assert np.array_equal(c.array(EMBED), expected()[EMBED])


def test_a_file_copied_over_anothers_leaves_that_ranks_pieces_missing(actor: Path) -> None:
    shutil.copy(file(actor, 0), file(actor, 1))
    (said,) = errors(actor)
    assert "model_world_size_2_rank_1.pt, is not its own: it was saved by rank 0: 12 tensors lack a piece" in said and EMBED in said


def test_files_of_another_step_are_told_by_the_scheduler_and_by_the_optimizer(actor: Path) -> None:
    edit(file(actor, 1, "extra_state"), lambda held: held["lr_scheduler"].update(last_epoch=9))
    (said,) = errors(actor)
    assert "the extra_state of rank 1 is of step 9, those of others of 3" in said
    shutil.copy(file(ACTOR, 1, "extra_state"), file(actor, 1, "extra_state"))
    edit(file(actor, 1, "optim"), lambda held: held["state"][2]["step"].add_(6))
    (said,) = errors(actor)
    assert "optimizer.state.model.layers.0.self_attn.k_proj.weight.step" in said and "rank 1 is not what rank 0 has" in said


def _shorter(held: Any) -> None:
    held[EMBED]._local_tensor = held[EMBED]._local_tensor[:-1].clone()


def _wider(held: Any) -> None:
    held[EMBED]._local_tensor = held[EMBED]._local_tensor.double()


def _gone(held: Any) -> None:
    del held[EMBED]


@pytest.mark.parametrize(("change", "said"), [
    (_shorter, "rank 1 has F32 [8, 8] of 'model.embed_tokens.weight', and its place in F32 [19, 8] is [9, 8]"),
    (_wider, "rank 1 has F64 [9, 8] of 'model.embed_tokens.weight', and its place in F32 [19, 8] is [9, 8]"),
    (_gone, "rank 1 does not have them all: 1 tensor lacks a piece, model.embed_tokens.weight"),
])  # fmt: skip
def test_a_piece_that_does_not_fit_its_place_names_rank_and_tensor(change: Callable[[Any], None], said: str, actor: Path) -> None:
    edit(file(actor, 1), change)
    assert said in errors(actor)
    with open_checkpoint(actor) as c:
        assert EMBED in c.unread and np.array_equal(c.array("lm_head.weight"), expected()["lm_head.weight"])


def test_ranks_of_different_models_are_told(actor: Path) -> None:
    edit(file(actor, 1), lambda held: held.update({EMBED: held["model.norm.weight"]}))
    assert f"rank 1 has '{EMBED}' as F32 [8], rank 0 as F32 [19, 8]" in errors(actor)


# --- what is refused ----------------------------------------------------------------------------------------------------


def test_plain_tensors_of_several_ranks_are_refused_and_of_one_rank_read(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    for rank in range(2):
        torch.save({"w": torch.ones(3)}, file(tmp_path, rank))
    with pytest.raises(UnsupportedError, match="plain tensors in each rank's file"):
        open_checkpoint(tmp_path)
    one = tmp_path / "one"
    one.mkdir()
    torch.save({"w": torch.ones(3)}, file(one, 0, world=1))
    with open_checkpoint(one) as c:
        assert c.container == "fsdp" and c.array("w").tolist() == [1, 1, 1] and not list(c.audit())


def test_two_runs_in_a_folder_are_a_choice_unless_the_settings_say_which(actor: Path) -> None:
    shutil.copy(file(actor, 0), file(actor, 0, world=4))
    with open_checkpoint(actor) as c:  # fsdp_config.json says 2
        assert len(c.tensors) == 48
    (actor / "fsdp_config.json").unlink()
    with pytest.raises(UsageError, match="the files of 2 and of 4 ranks"):
        open_checkpoint(actor)


def test_a_step_with_a_critic_is_a_choice(tmp_path: Path) -> None:
    shutil.copytree(MADE / "run", tmp_path / "run")
    step = tmp_path / "run" / "global_step_3"
    shutil.copytree(step / "actor", step / "critic")
    with pytest.raises(NotFoundError, match=r"2 lie below it.*actor.*critic"):
        open_checkpoint(step)


def test_a_file_with_a_payload_is_told(actor: Path) -> None:
    class Payload:
        def __reduce__(self) -> Any:
            import os

            return os.system, ("true",)

    edit(file(actor, 1, "extra_state"), lambda held: held.update(x=Payload()))
    assert any("system" in m and "runs on the machine" in m for m in errors(actor))


def test_a_file_beyond_the_number_of_ranks_is_refused(actor: Path) -> None:
    shutil.copy(file(actor, 1), file(actor, 2))
    with pytest.raises(CorruptError, match="ranks are numbered from 0"):
        open_checkpoint(actor)


# --- the forms of other releases, described by hand -------------------------------------------------------------------------

OLD, NEW = "torch.distributed._tensor.placement_types", "torch.distributed.tensor.placement_types"


def tensor(*size: int) -> Tensor:
    return Tensor(Storage("storage", StorageType("F32", "FloatStorage"), "0", "cpu", 1 << 20, None), 0, size, (1,) * len(size), None, None)


def placed(name: str, module: str = NEW, **state: int) -> Opaque:
    return Opaque(module, name, (), state)


def dtensor(shape: tuple[int, ...], mesh: dict[str, Any], *placements: Opaque, slots: bool = True, **spec: Any) -> Any:
    cls = Opaque("torch.distributed.tensor", "DTensor")
    made = Opaque("torch._utils", "_rebuild_wrapper_subclass", (cls, TorchName("torch.float32"), shape, (), 0))
    about = Opaque("x", "DTensorSpec", (), {"mesh": Opaque("x", "DeviceMesh", (), mesh), "placements": placements, **spec})
    state = {"_local_tensor": tensor(1), "_spec": about}
    return pieces.held(Opaque(*FROM_TYPE, (cls, made, (None, state) if slots else state)))


def old_mesh(*sizes: int, at: list[int] | None) -> dict[str, Any]:
    """As releases before 2.9 pickle a mesh: the tensor of its ranks."""
    ranks = tuple(range(int(np.prod(sizes))))
    return {"device_type": "cuda", "mesh": tensor(*sizes), "_flatten_mesh_list": ranks, "mesh_dim_names": ("ddp", "fsdp")[-len(sizes) :],
        "_coordinate_on_dim": at}  # fmt: skip


def test_the_mesh_of_older_releases_says_rank_and_place() -> None:
    got = dtensor((11, 6), old_mesh(2, 4, at=[1, 2]), placed("Replicate", OLD), placed("Shard", OLD, dim=0), slots=False)
    assert got is not None and (got.rank, got.mesh, got.why) == (6, "2 (ddp) x 4 (fsdp)", "")
    assert (got.pieces[0].offset, got.pieces[0].shape) == ((6, 0), (3, 6))


def test_axes_are_cut_as_chunk_cuts_them_one_after_another() -> None:
    torch = pytest.importorskip("torch")
    for n in range(14):
        for a, b in ((0, 0), (0, 2), (1, 1), (2, 0), (2, 2)):
            got = dtensor((n, 2), old_mesh(3, 3, at=[a, b]), placed("Shard", dim=0), placed("Shard", dim=0))
            outer = [*torch.arange(n).chunk(3), *[torch.arange(0)] * 3][a]
            inner = [*outer.chunk(3), *[torch.arange(0)] * 3][b].tolist()
            assert got is not None and got.pieces[0].shape == (len(inner), 2)
            assert not inner or got.pieces[0].offset == (inner[0], 0)


@pytest.mark.parametrize(("mesh", "placements", "why"), [
    (old_mesh(2, at=None), (placed("Shard", dim=0),), "has no place"),
    (old_mesh(2, at=[2]), (placed("Shard", dim=0),), "has no place"),
    (old_mesh(2, at=[0, 0]), (placed("Shard", dim=0),), "has no place"),
    (old_mesh(2, at=[0]), (placed("Shard", dim=5),), "an axis that it does not have"),
    (old_mesh(2, at=[0]), (placed("Shard", dim=-1),), "an axis that it does not have"),
    (old_mesh(2, at=[0]), (placed("Partial"),), "to be summed"),
    (old_mesh(2, at=[0]), (placed("_Partial", OLD),), "to be summed"),
    (old_mesh(2, at=[0]), (placed("Ragged", dim=0),), "the placement Ragged"),
    (old_mesh(2, at=[0]), (), "a form that is not known"),
    ({**old_mesh(2, at=[0]), "mesh": tensor(1 << 40)}, (placed("Shard", dim=0),), "a form that is not known"),
    ({**old_mesh(2, at=[0]), "mesh": tensor(0)}, (placed("Shard", dim=0),), "a form that is not known"),
    ({"_layout": Opaque("x", "L", (), {"axes": None})}, (placed("Shard", dim=0),), "a form that is not known"),
    (old_mesh(2, 2, at=[0, 0]), (placed("_StridedShard", dim=0, split_factor=3), placed("Shard", dim=0)), "split_factor 3"),
])  # fmt: skip
def test_what_cannot_be_placed_says_why(mesh: dict[str, Any], placements: tuple[Opaque, ...], why: str) -> None:
    got = dtensor((4, 4), mesh, *placements)
    assert got is not None and why in got.why and got.pieces == ()


def test_another_order_of_the_cuts_is_that_which_is_said() -> None:
    mesh = old_mesh(2, 2, at=[0, 1])
    shards = placed("Shard", dim=0), placed("Shard", dim=0)
    usual, other = dtensor((8,), mesh, *shards), dtensor((8,), mesh, *shards, shard_order=((0, (1, 0)),))
    assert usual is not None and other is not None
    assert (usual.pieces[0].offset, other.pieces[0].offset) == ((2,), (4,))


def test_only_the_class_of_the_ranks_is_fetched_of_a_sharded_tensor() -> None:
    from ckptkit.containers._pickle.interpreter import load

    def fetching(name: str) -> bytes:
        owner = b"ctorch.distributed._shard.sharded_tensor.api\nShardedTensor\n"
        return b"\x80\x02cbuiltins\ngetattr\n" + owner + b"X" + len(name).to_bytes(4, "little") + name.encode() + b"\x86R."

    got = load(fetching("ProcessGroupState"), path="x")
    assert not got.calls and got.value.module.endswith(".ShardedTensor") and got.value.name == "ProcessGroupState"
    assert "builtins.getattr" in load(fetching("gather"), path="x").calls
