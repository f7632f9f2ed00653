"""Links beside the weights are followed inside the checkpoint's own folder and into a hub's blobs, and nowhere else."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import oracles
import pytest

import ckptkit
from ckptkit.errors import FindingsError
from ckptkit.plan.sidecars import SIDECARS

HF = oracles.made("bert-hf")
SECRET = "root:x:0:0:a secret of this machine\n"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    for name in ("config.json", "model.safetensors"):
        shutil.copyfile(HF / name, folder / name)
    (tmp_path / "secret").write_text(SECRET)
    return folder


@pytest.mark.parametrize("to", ["hf", "google", None, "keras_hub"])
@pytest.mark.parametrize("way", ["/", "../secret", "through a folder"])
def test_no_link_beside_the_weights_brings_a_file_of_this_machine_into_the_target(
    model: Path, tmp_path: Path, to: str | None, way: str
) -> None:
    """Every name that goes along, whatever the target is; a link that leads out by way of another link, too."""
    names = sorted(SIDECARS)
    for name in names:
        if way == "through a folder":
            if not (model / "sub").exists():
                (model / "sub").symlink_to("..")
            (model / name).symlink_to("sub/secret")
        else:
            (model / name).symlink_to(tmp_path / "secret" if way == "/" else way)
    done = ckptkit.convert(model, tmp_path / "out", to=to, container="torch" if to is None else None)
    written = {p.name: p.read_bytes() for p in (tmp_path / "out").rglob("*") if p.is_file()}
    assert not [n for n, raw in written.items() if b"a secret of this machine" in raw]
    said = {f.where for f in done.findings if f.rule == "links"}
    assert {"vocab.txt", "LICENSE", "tokenizer_config.json", "spiece.model", "generation_config.json"} <= said
    assert all("leads out" in f.message and f.severity == "warning" for f in done.findings if f.rule == "links")


def test_a_configuration_that_leads_out_is_not_read_unless_it_is_named(model: Path, tmp_path: Path) -> None:
    shutil.move(model / "config.json", tmp_path / "elsewhere.json")
    (model / "config.json").symlink_to("../elsewhere.json")
    report = ckptkit.validate(model)
    assert [(f.rule, f.severity) for f in report.findings if "leads out" in f.message] == [("config", "error")]
    with pytest.raises(FindingsError):
        ckptkit.convert(model, tmp_path / "out", to="hf")
    ckptkit.convert(model, tmp_path / "out", to="hf", config=str(tmp_path / "elsewhere.json"))


def test_links_inside_the_folder_and_of_a_hub_cache_are_followed(model: Path, tmp_path: Path) -> None:
    blobs = tmp_path / "models--x" / "blobs"
    snapshot = tmp_path / "models--x" / "snapshots" / "0123"
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    (model / "vocab.txt").write_text("".join(f"t{i}\n" for i in range(json.loads((model / "config.json").read_text())["vocab_size"])))
    for p in model.iterdir():
        shutil.copyfile(p, blobs / f"hash-{p.name}")
        (snapshot / p.name).symlink_to(f"../../blobs/hash-{p.name}")
    done = ckptkit.convert(snapshot, tmp_path / "out", to="hf")
    assert (tmp_path / "out" / "vocab.txt").read_bytes() == (model / "vocab.txt").read_bytes()
    (model / "real.txt").write_text("licence")
    (model / "LICENSE").symlink_to("real.txt")
    inside = ckptkit.convert(model, tmp_path / "out2", to="hf")
    assert (tmp_path / "out2" / "LICENSE").read_text() == "licence"
    (blobs / "hash-evil").symlink_to(tmp_path / "secret")
    (snapshot / "LICENSE").symlink_to("../../blobs/hash-evil")
    out = ckptkit.convert(snapshot, tmp_path / "out3", to="hf")
    assert not (tmp_path / "out3" / "LICENSE").exists()
    counts = [sum(f.rule == "links" for f in d.findings) for d in (done, inside, out)]
    assert counts == [0, 0, 1]


def test_a_folder_that_is_named_by_a_link_is_a_folder(model: Path, tmp_path: Path) -> None:
    (model / "LICENSE").write_text("licence")
    (tmp_path / "link").symlink_to(model)
    (tmp_path / "weights.safetensors").symlink_to(model / "model.safetensors")
    done = ckptkit.convert(tmp_path / "link", tmp_path / "out", to="hf")
    assert (tmp_path / "out" / "LICENSE").exists() and not [f for f in done.findings if f.rule == "links"]
    os.unlink(model / "LICENSE")
    ckptkit.convert(tmp_path / "weights.safetensors", tmp_path / "out2", to="hf", config=str(model / "config.json"))


@pytest.mark.parametrize("case, file", [
    ("meta_llama_tp2", "consolidated.01.pth"), ("deepspeed_llama_z3/checkpoint", "global_step1/zero_pp_rank_1_mp_rank_00_optim_states.pt"),
    ("megatron_legacy_llama_tp2pp2/checkpoint", "iter_0000100/mp_rank_01_001"),
    ("../made/fsdp/run", "global_step_3/actor/model_world_size_2_rank_1.pt"),
])  # fmt: skip
def test_a_ranks_file_that_leads_out_is_read_and_said(case: str, file: str, tmp_path: Path) -> None:
    """Each is a whole file of its format, so that nothing else comes in by it; a link inside the folder is no news."""
    run = tmp_path / "run"
    shutil.copytree(oracles.FIXTURES / "forms" / case, run)

    def said() -> list[str]:
        return [f.message for f in ckptkit.validate(run).findings if "leads out" in f.message]

    assert said() == []
    inside = (run / file).parent / "inside"
    (run / file).rename(inside)
    (run / file).symlink_to(inside)
    assert said() == []
    inside.rename(tmp_path / "outside")
    (run / file).unlink()
    (run / file).symlink_to(tmp_path / "outside")
    (found,) = said()
    assert "rank 1" in found and str(tmp_path / "outside") in found
