"""A folder of runs: each is one row, and what its ranks have is no checkpoint of its own."""

from __future__ import annotations

import shutil
from pathlib import Path

import oracles

import ckptkit
from ckptkit.containers import below
from ckptkit.verbs.listing import list_folder

FORMS = oracles.FIXTURES / "forms"


def test_files_and_folders_of_ranks_are_no_checkpoints_of_their_own(tmp_path: Path) -> None:
    for case in ("dcp_llama_tp2d", "deepspeed_llama_z3", "megatron_legacy_llama_tp2pp2", "megatron_torch_dist_llama_tp2pp2"):
        shutil.copytree(FORMS / case / "checkpoint", tmp_path / case)
    shutil.copytree(FORMS / "meta_llama_tp2", tmp_path / "meta")
    ckptkit.convert(FORMS / "llama_whole", tmp_path / "orbax", to="flax", container="orbax")
    found = [str(Path(p.path).relative_to(tmp_path)) for p in below(tmp_path)]
    assert found == [
        "dcp_llama_tp2d", "deepspeed_llama_z3", "deepspeed_llama_z3/global_step1", "megatron_legacy_llama_tp2pp2",
        "megatron_legacy_llama_tp2pp2/iter_0000100", "megatron_torch_dist_llama_tp2pp2", "megatron_torch_dist_llama_tp2pp2/iter_0000100",
        "meta", "orbax",
    ]  # fmt: skip
    assert all(not r.problem and r.architecture == "llama" for r in list_folder(tmp_path).rows)


def test_scanned_layers_are_shown_under_their_own_names(tmp_path: Path) -> None:
    ckptkit.convert(FORMS / "llama_whole", tmp_path / "c", to="flax_scanned1", container="orbax")
    text = str(ckptkit.inspect(tmp_path / "c"))
    for x in ("q", "k", "v", "o"):
        assert text.count(f"self_attn.{x}_proj.kernel") == 1
    for x in ("input", "post_attention"):
        assert text.count(f"{x}_layernorm.scale") == 1
