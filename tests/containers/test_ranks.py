"""Files of tensor-, pipeline- and expert-parallel ranks (Megatron's and Meta's), cut by hand, or by the library itself."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import oracles
import pytest
from megatron_files import megatron_rank, meta_rank, write_rank
from ranks_makers import ranks
from safetensors.numpy import load_file

import ckptkit
from ckptkit.containers import open_checkpoint
from ckptkit.errors import CheckpointError, CorruptError, FindingsError, UnsupportedError

torch = pytest.importorskip("torch")
FORMS = oracles.FIXTURES / "forms"
WHOLE = FORMS / "llama_whole"
CONFIG = str(WHOLE / "config.json")


def whole() -> dict[str, np.ndarray]:
    found = load_file(WHOLE / "model.safetensors")
    return {**found, "lm_head.weight": found.get("lm_head.weight", found.get("model.embed_tokens.weight"))}  # type: ignore[dict-item]


def becomes_the_model(source: Path, tmp_path: Path, **words: Any) -> None:
    """What the source converts to is the model, bit for bit."""
    words = {"config": CONFIG, **words}
    ckptkit.convert(source, tmp_path / "hf", to="hf", **{k: v for k, v in words.items() if v is not None})
    want, have = whole(), load_file(tmp_path / "hf" / "model.safetensors")
    assert have.keys() == want.keys() or have.keys() == want.keys() - {"lm_head.weight"}
    for name, a in have.items():
        np.testing.assert_array_equal(a, want[name], err_msg=name)


def errors(source: Path, tmp_path: Path) -> str:
    with pytest.raises(FindingsError) as e:
        ckptkit.convert(source, tmp_path / "out", to="hf", config=CONFIG)
    assert not (tmp_path / "out").exists()
    return " ".join(str(f.message) for f in e.value.findings if f.severity == "error")  # type: ignore[attr-defined]


@pytest.mark.parametrize("case", ["megatron_legacy_llama_tp2pp2", "megatron_torch_dist_llama_tp2pp2"])
def test_what_megatron_core_saved_is_the_model(case: str, tmp_path: Path) -> None:
    becomes_the_model(FORMS / case / "checkpoint", tmp_path)
    with ckptkit.examine(FORMS / case / "checkpoint", config=CONFIG) as a, ckptkit.examine(tmp_path / "hf") as b:
        assert ckptkit.diff(a, b).different == []


def test_what_meta_published_is_the_model(tmp_path: Path) -> None:
    with open_checkpoint(FORMS / "meta_llama_tp2") as ckpt:
        assert ckpt.container == "consolidated" and sorted(set(ckpt.ranks.values())) == ["rank 0", "rank 1"]
    becomes_the_model(FORMS / "meta_llama_tp2", tmp_path, config=None)


# --- cut by hand --------------------------------------------------------------------------------------------------------------


def megatron(path: Path, tp: int, stages: list[range], *, te: bool = False, **more: Any) -> Path:
    """A run of as many tensor-parallel ranks, and stages with these layers."""
    folder = path / "iter_0000007"
    for p, layers in enumerate(stages):
        for t in range(tp):
            held = megatron_rank(whole(), tp, t, layers, first=p == 0, last=p == len(stages) - 1, te=te)
            name = f"mp_rank_{t:02}" + (f"_{p:03}" if len(stages) > 1 else "")
            write_rank(folder, name, {"model": held}, **more)
    (path / "latest_checkpointed_iteration.txt").write_text("7")
    return path


@pytest.mark.parametrize("te", [True, False])
@pytest.mark.parametrize(
    ("tp", "stages"), [(1, [range(3)]), (2, [range(3)]), (1, [range(1), range(1, 3)]), (2, [range(2), range(2, 3), range(0)])]
)
def test_any_number_of_ranks_and_stages(tp: int, stages: list[range], te: bool, tmp_path: Path) -> None:
    made = megatron(tmp_path / "c", tp, stages, te=te)
    becomes_the_model(made, tmp_path)
    shutil.rmtree(tmp_path / "hf")
    becomes_the_model(
        made / "iter_0000007", tmp_path, config=None, architecture="llama", given={"initializer_range": 0.02}
    )  # by the run's own settings


def test_interleaved_stages_are_numbered_through(tmp_path: Path) -> None:
    """Two stages of two chunks: the first chunks of all stages come first."""
    hf = whole()
    order = {(0, 0): range(1), (1, 0): range(1, 2), (0, 1): range(2, 3), (1, 1): range(0)}
    for p in range(2):
        chunks = {
            f"model{c}": megatron_rank(hf, 1, 0, order[p, c], first=(p, c) == (0, 0), last=(p, c) == (1, 1)) for c in range(2)
        }  # fmt: skip
        write_rank(tmp_path / "c", f"mp_rank_00_{p:03}", chunks)
    becomes_the_model(tmp_path / "c", tmp_path)


def test_experts_of_expert_parallel_ranks_are_numbered_through(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    shared = {"decoder.final_layernorm.weight": rng.normal(size=4).astype("f4")}
    experts = rng.normal(size=(4, 6, 4)).astype("f4")
    for e in range(2):
        own = {f"decoder.layers.0.mlp.experts.local_experts.{i}.linear_fc2.weight": experts[2 * e + i] for i in range(2)}
        write_rank(tmp_path / "c", f"mp_rank_00_000_{e:03}", {"model": {**shared, **own}})
    with open_checkpoint(tmp_path / "c") as ckpt:
        for i in range(4):
            held = ckpt.per_rank[0][f"decoder.layers.0.mlp.experts.local_experts.{i}.linear_fc2.weight"]
            assert b"".join(map(ckpt.read_extent, held.extents)) == experts[i].tobytes()
        assert [r.name for r in ckpt.replicas] == ["decoder.final_layernorm.weight"]


def meta(path: Path, tp: int, words: int) -> Path:
    path.mkdir()
    for r in range(tp):
        held = {n: torch.from_numpy(np.ascontiguousarray(w).copy()) for n, w in meta_rank(whole(), tp, r, words=words).items()}
        torch.save(held, path / f"consolidated.{r:02}.pth")
    said = {
        "dim": 32,
        "n_layers": 3,
        "n_heads": 4,
        "n_kv_heads": 2,
        "multiple_of": 32,
        "norm_eps": 1e-6,
        "rope_theta": 10000.0,
        "vocab_size": -1,
    }
    (path / "params.json").write_text(json.dumps(said))
    return path


@pytest.mark.parametrize(("tp", "words"), [(1, 1), (2, 1), (2, 0)])
def test_embeddings_may_be_cut_either_way_and_unevenly(tp: int, words: int, tmp_path: Path) -> None:
    becomes_the_model(meta(tmp_path / "c", tp, words), tmp_path, config=None)


# --- damage -------------------------------------------------------------------------------------------------------------------


def changed(file: Path, change: Any) -> None:
    held = torch.load(file, weights_only=False)
    change(held)
    torch.save(held, file)


def test_a_norm_that_differs_in_one_rank_names_tensor_and_rank(tmp_path: Path) -> None:
    made = meta(tmp_path / "c", 2, 1)
    changed(made / "consolidated.01.pth", lambda m: m["layers.1.ffn_norm.weight"].add_(1))
    said = errors(made, tmp_path)
    assert "'layers.1.ffn_norm.weight'" in said and "rank 1 is not what rank 0 has" in said
    there = megatron(tmp_path / "m", 2, [range(2), range(2, 3)])
    changed(there / "iter_0000007/mp_rank_01_001/model_optim_rng.pt", lambda m: m["model"]["decoder.final_layernorm.weight"].add_(1))
    said = errors(there, tmp_path)
    assert "decoder.final_layernorm.weight" in said and "tensor-parallel rank 1, pipeline stage 1 is not what" in said


def test_a_rank_whose_file_is_gone_is_named(tmp_path: Path) -> None:
    made = ranks("meta_llama_tp2")(tmp_path)
    (made / "consolidated.00.pth").unlink()
    shutil.copy(made / "consolidated.01.pth", made / "consolidated.02.pth")
    with pytest.raises(CorruptError, match="the file of rank 0, is missing"):
        open_checkpoint(made)
    there = megatron(tmp_path / "c", 2, [range(2), range(2, 3)])
    shutil.rmtree(there / "iter_0000007" / "mp_rank_01_000")
    with pytest.raises(CorruptError, match="tensor-parallel rank 1, pipeline stage 0 is missing"):
        open_checkpoint(there)
    last = megatron(tmp_path / "d", 2, [range(3)], args=__import__("megatron_files").args(tensor_model_parallel_size=3))
    with pytest.raises(CorruptError, match="tensor-parallel rank 2 is missing"):
        open_checkpoint(last)


@pytest.mark.parametrize("left", [0, 1])
def test_metas_file_of_one_rank_alone_names_those_that_are_gone(left: int, tmp_path: Path) -> None:
    made = ranks("meta_llama_tp2", f"consolidated.0{1 - left}.pth")(tmp_path)
    said = [f for f in ckptkit.validate(made / f"consolidated.0{left}.pth").findings if f"rank {left} of 2" in f.message]
    assert [f.where for f in said] == ["layers.0.attention.wo.weight"] and f"that of rank {1 - left} is missing" in said[0].message
    whole = [f for f in ckptkit.validate(FORMS / "meta_llama_tp2").findings if "is missing" in f.message]
    assert whole == []


def test_a_rank_of_another_iteration_is_named(tmp_path: Path) -> None:
    made = megatron(tmp_path / "c", 2, [range(1), range(1, 3)])
    changed(made / "iter_0000007/mp_rank_00_001/model_optim_rng.pt", lambda m: m.update(iteration=8))
    assert "tensor-parallel rank 0, pipeline stage 1 is of iteration 8, the others of 7" in errors(made, tmp_path)


def test_a_piece_of_another_shape_names_tensor_and_rank(tmp_path: Path) -> None:
    made = meta(tmp_path / "c", 2, 1)
    changed(made / "consolidated.01.pth", lambda m: m.update({"layers.0.attention.wo.weight": torch.ones(31, 16)}))
    assert "rank 1 has 'layers.0.attention.wo.weight' as F32 [31, 16]" in errors(made, tmp_path)
    changed(made / "consolidated.01.pth", lambda m: m.pop("layers.0.attention.wo.weight"))
    assert "rank 1 has no piece of 'layers.0.attention.wo.weight'" in errors(made, tmp_path)


def test_files_of_ranks_in_no_naming_that_is_known_are_not_guessed_at(tmp_path: Path) -> None:
    (tmp_path / "c").mkdir()
    for r in range(2):
        torch.save({"some.weight": torch.ones(3, 4), "other": torch.ones(2)}, tmp_path / "c" / f"consolidated.{r:02}.pth")
    with ckptkit.examine(tmp_path / "c") as s:
        assert not s.checkpoint.tensors and sorted(e.name for e in s.account.unread) == ["other", "some.weight"]


def test_the_models_before_core_are_refused_by_name(tmp_path: Path) -> None:
    write_rank(tmp_path / "c", "mp_rank_00", {"model": {}}, model={"language_model": {"embedding": {}}})
    with pytest.raises(UnsupportedError, match="before Megatron-core"):
        open_checkpoint(tmp_path / "c")


@pytest.mark.parametrize("said", ["", "abc", "../x", "-1", "9" * 40, "release"])
def test_a_tracker_that_names_no_iteration_is_not_followed(said: str, tmp_path: Path) -> None:
    made = megatron(tmp_path / "c", 1, [range(3)])
    (made / "latest_checkpointed_iteration.txt").write_text(said)
    with pytest.raises(CheckpointError):
        open_checkpoint(made)


class _Payload:
    """Runs when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        import os

        return os.system, ("false",)


@pytest.mark.parametrize("case", ["megatron_legacy_llama_tp2pp2", "megatron_torch_dist_llama_tp2pp2"])
def test_a_payload_in_a_ranks_file_or_beside_is_an_error_and_not_run(case: str, tmp_path: Path) -> None:
    shutil.copytree(oracles.FIXTURES / "forms" / case / "checkpoint", tmp_path / "m")
    path = next(p for n in ("common.pt", "model_optim_rng.pt") for p in sorted((tmp_path / "m").rglob(n)))
    held = torch.load(path, weights_only=False)
    torch.save({**held, "rng_state": _Payload()}, path)
    report = ckptkit.validate(tmp_path / "m")
    assert any(f.severity == "error" and f.rule == "pickle" and "system" in f.message for f in report.findings)
    assert report.exit_code == 1


def test_a_run_that_holds_itself_is_read_once(tmp_path: Path) -> None:
    shutil.copytree(oracles.FIXTURES / "forms" / "megatron_legacy_llama_tp2pp2" / "checkpoint", tmp_path / "m")
    path = next((tmp_path / "m").rglob("model_optim_rng.pt"))
    held = torch.load(path, weights_only=False)
    held["args"].loop = held["args"]
    held["loop"] = held
    torch.save(held, path)
    assert ckptkit.validate(tmp_path / "m").exit_code == 0
