"""DeepSpeed's folders: what its own zero_to_fp32.py makes of them is the truth; others are cut by hand, with torch and numpy."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import oracles
import pytest
from ranks_makers import ranks
from safetensors.numpy import load_file
from zero_files import model_states, params, zero

import ckptkit
from ckptkit.containers import open_checkpoint
from ckptkit.errors import CheckpointError, CorruptError, FindingsError, UnsupportedError

torch = pytest.importorskip("torch")
FORMS = oracles.FIXTURES / "forms"
CONFIG = str(FORMS / "llama_whole" / "config.json")


@pytest.mark.parametrize("case", ["deepspeed_llama_z2", "deepspeed_llama_z3"])
def test_the_masters_are_what_zero_to_fp32_makes_of_them(case: str, tmp_path: Path) -> None:
    truth = load_file(FORMS / case / "expected.safetensors")
    with open_checkpoint(FORMS / case / "checkpoint") as ckpt:
        assert ckpt.container == "deepspeed" and not ckpt.findings
        model = {n for n in ckpt.tensors if n not in ckpt.beside}
        assert model == truth.keys()
        for name, a in truth.items():
            np.testing.assert_array_equal(ckpt.array(name), a)
            for moment in ("exp_avg", "exp_avg_sq"):
                assert ckpt.tensors[f"optimizer.state.{name}.{moment}"].spec.shape == a.shape
        assert any(len(t.extents) == 2 for t in ckpt.tensors.values())
    ckptkit.convert(FORMS / case / "checkpoint", tmp_path / "hf", to="hf", config=CONFIG)
    for name, a in load_file(tmp_path / "hf" / "model.safetensors").items():
        np.testing.assert_array_equal(a, truth[name])


@pytest.mark.parametrize("case", ["deepspeed_llama_z2", "deepspeed_llama_z3"])
def test_a_folder_of_a_step_is_read_as_what_latest_names(case: str) -> None:
    with open_checkpoint(FORMS / case / "checkpoint") as a, open_checkpoint(FORMS / case / "checkpoint" / "global_step1") as b:
        assert a.tensors == b.tensors


@pytest.mark.parametrize(
    ("case", "file"),
    [
        ("deepspeed_llama_z2", "global_step1/bf16_zero_pp_rank_1_mp_rank_00_optim_states.pt"),
        ("deepspeed_llama_z3", "global_step1/zero_pp_rank_0_mp_rank_00_optim_states.pt"),
    ],
)
def test_a_rank_whose_file_is_gone_is_named_with_what_it_costs(case: str, file: str, tmp_path: Path) -> None:
    with pytest.raises(FindingsError) as e:
        ckptkit.convert(ranks(case, file)(tmp_path), tmp_path / "out", to="hf", config=CONFIG)
    rank = file.split("rank_")[1][0]
    said = " ".join(str(f.message) for f in e.value.findings if f.severity == "error")  # type: ignore[attr-defined]
    assert f"the file of rank {rank} of 2 is missing" in said and "tensors lack a piece, " in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("case", "file"),
    [("deepspeed_llama_z2", "mp_rank_00_model_states.pt"), ("deepspeed_llama_z3", "zero_pp_rank_0_mp_rank_00_model_states.pt")],
)
def test_states_that_are_gone_are_named(case: str, file: str, tmp_path: Path) -> None:
    with pytest.raises(CorruptError, match=f"{file}, the file of rank 0, is missing"):
        open_checkpoint(ranks(case, f"global_step1/{file}")(tmp_path))


def test_states_of_a_rank_that_has_its_weights_elsewhere_are_missed(tmp_path: Path) -> None:
    with open_checkpoint(ranks("deepspeed_llama_z3", "global_step1/zero_pp_rank_1_mp_rank_00_model_states.pt")(tmp_path)) as ckpt:
        assert [(f.severity, f.where) for f in ckpt.findings] == [("warning", "rank 1")]


def test_a_run_with_a_rank_of_another_step_is_not_converted(tmp_path: Path) -> None:
    there = ranks("deepspeed_llama_z3")(tmp_path)
    with zip_of(there / "global_step1" / "zero_pp_rank_0_mp_rank_00_optim_states.pt") as (raw, where):
        raw[where : where + 4] = np.float32(7).tobytes()
    with pytest.raises(FindingsError) as e:
        ckptkit.convert(there, tmp_path / "out", to="hf", config=CONFIG)
    said = " ".join(str(f.message) for f in e.value.findings if f.severity == "error")  # type: ignore[attr-defined]
    assert "rank" in said and "another step" in said and not (tmp_path / "out").exists()


def test_a_rank_of_another_step_is_told(tmp_path: Path) -> None:
    there = ranks("deepspeed_llama_z3")(tmp_path)
    file = there / "global_step1" / "zero_pp_rank_1_mp_rank_00_optim_states.pt"
    with open_checkpoint(there) as ckpt:
        assert not list(ckpt.audit())
    with zip_of(file) as (raw, where):
        raw[where : where + 4] = np.float32(7).tobytes()
    with open_checkpoint(there) as ckpt:
        (finding,) = ckpt.audit()
    assert finding.severity == "error" and "rank 1" in finding.message and "another step" in finding.message


class zip_of:
    """The bytes of a rank's file, and where the count of its steps lies in it; written back when the block ends."""

    def __init__(self, file: Path) -> None:
        self.file, self.raw = file, bytearray(file.read_bytes())

    def __enter__(self) -> tuple[bytearray, int]:
        from ckptkit.containers.torch.rank_file import open_rank

        found = open_rank(str(self.file))
        state = found.value["optimizer_state_dict"]["optimizer_state_dict"]["state"]
        return self.raw, found.tensor("s", state[0]["step"]).extents[0].offset

    def __exit__(self, *exc: object) -> None:
        self.file.write_bytes(self.raw)


# --- cut by hand --------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(
    ("stage", "world", "groups"), [(1, 1, 1), (1, 3, 1), (2, 4, 1), (3, 1, 1), (3, 3, 1), (3, 5, 1), (3, 4, 3), (3, 2, 7)]
)
def test_any_number_of_ranks_and_any_padding(stage: int, world: int, groups: int, tmp_path: Path) -> None:
    weights = params()
    made = zero(tmp_path / "c", stage, world, weights, lambda r: model_states(stage), groups)
    with open_checkpoint(made) as ckpt:
        moments = {f"optimizer.state.{n}.exp_avg" for n in weights}
        assert ckpt.tensors.keys() == weights.keys() | moments | {"optimizer.state.step.0"} and not ckpt.findings
        for name, w in weights.items():
            np.testing.assert_array_equal(ckpt.array(name), w.numpy())
            np.testing.assert_array_equal(ckpt.array(f"optimizer.state.{name}.exp_avg"), 2 * w.numpy())


@pytest.mark.parametrize("stage", [2, 3])
def test_frozen_shared_and_buffers_come_from_the_states_of_the_model(stage: int, tmp_path: Path) -> None:
    weights, frozen, buffer = params(), torch.randn(4, 3), torch.randn(6)

    def states(rank: int) -> dict[str, Any]:
        fragment = frozen if stage == 2 else torch.cat([frozen.flatten(), torch.zeros(2)]).split(7)[rank].clone()
        s = model_states(stage, frozen_param_shapes={"f.weight": torch.Size((4, 3))}, frozen_param_fragments={"f.weight": fragment})
        s["module"]["pos"] = buffer
        return {**s, "buffer_names": ["pos"], "shared_params": {"head.weight": "a.weight"}}

    with open_checkpoint(zero(tmp_path / "c", stage, 2, weights, states)) as ckpt:
        assert ckpt.tensors.keys() - ckpt.beside == weights.keys() | {"f.weight", "pos", "head.weight"}
        np.testing.assert_array_equal(ckpt.array("f.weight"), frozen.numpy())
        np.testing.assert_array_equal(ckpt.array("pos"), buffer.numpy())
        np.testing.assert_array_equal(ckpt.array("head.weight"), weights["a.weight"].numpy())
        assert ckpt.tensors["head.weight"].identity == ckpt.tensors["a.weight"].identity != ckpt.tensors["b.weight"].identity


def test_a_universal_checkpoint_has_a_folder_for_each_parameter(tmp_path: Path) -> None:
    weights = params()
    tag = tmp_path / "c" / "step_universal"
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "latest_universal").write_text("step_universal\n")
    for name, w in weights.items():
        (tag / "zero" / name).mkdir(parents=True)
        torch.save({"param": w, "cat_dim": 0}, tag / "zero" / name / "fp32.pt")
        torch.save({"param": w * 0 + 1, "cat_dim": 0}, tag / "zero" / name / "exp_avg.pt")
        torch.save(3, tag / "zero" / name / "step.pt")
    torch.save(model_states(3), tag / "mp_rank_00_model_states.pt")
    with open_checkpoint(tmp_path / "c") as ckpt:
        assert ckpt.tensors.keys() - ckpt.beside == weights.keys() and "optimizer.state.a.bias.exp_avg" in ckpt.beside
        for name, w in weights.items():
            np.testing.assert_array_equal(ckpt.array(name), w.numpy())
    (tag / "zero" / "a.bias" / "fp32.pt").unlink()
    with open_checkpoint(tmp_path / "c") as ckpt:
        assert [f.severity for f in ckpt.findings] == ["error"] and "a.bias" in ckpt.findings[0].message


# --- what is refused ------------------------------------------------------------------------------------------------------------


def test_states_of_another_model_are_refused(tmp_path: Path) -> None:
    def wrong(rank: int) -> dict[str, Any]:
        return {**model_states(3), "param_shapes": [{"a.weight": torch.Size((5000, 7))}]}

    with pytest.raises(CorruptError, match="elements"):
        open_checkpoint(zero(tmp_path / "c", 3, 2, params(), wrong))


@pytest.mark.parametrize(
    "shapes", [None, 3, [{"a": "b"}], [{"a": (-1, 2)}], [{1: (2,)}], [[1]], [{"a.weight": (5, 7)}, {"a.weight": (5, 7)}]]
)
def test_shapes_that_cannot_be_meant_are_refused(shapes: Any, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError):
        open_checkpoint(zero(tmp_path / "c", 2, 2, params(), lambda r: {**model_states(2), "param_shapes": shapes}))


def test_tensor_parallel_ranks_and_experts_are_refused_by_name(tmp_path: Path) -> None:
    made = zero(tmp_path / "c", 2, 2, params(), lambda r: model_states(2))
    tag = made / "global_step3"
    shutil.copy(tag / "mp_rank_00_model_states.pt", tag / "mp_rank_01_model_states.pt")
    with pytest.raises(UnsupportedError, match="tensor-parallel"):
        open_checkpoint(made)
    other = "mp_rank_01_model_states.pt"
    for name, what in (("layer_0_expert_0_mp_rank_00_model_states.pt", "experts"), ("layer_01-model_00-model_states.pt", "a pipeline")):
        (tag / other).rename(tag / name)
        other = name
        with pytest.raises(UnsupportedError, match=f"states of {what}"):
            open_checkpoint(made)


@pytest.mark.parametrize("tag", ["../x", "/etc", "", "..", "a/b", "a\0b"])
def test_a_latest_that_leads_elsewhere_is_not_followed(tag: str, tmp_path: Path) -> None:
    made = zero(tmp_path / "c", 2, 1, params(), lambda r: model_states(2))
    (tmp_path / "x").mkdir()
    shutil.copy(made / "global_step3" / "mp_rank_00_model_states.pt", tmp_path / "x")
    (made / "latest").write_text(tag)
    with pytest.raises(CheckpointError):
        open_checkpoint(made)
