"""Folders: what a loader of the folder reads is what is read, stale and cut indexes are said and mended, and whatever else lies there is
named."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import commands
import numpy as np
import oracles
import pytest
from safetensors.numpy import load_file, save_file

import ckptkit
from ckptkit.containers import below, open_checkpoint
from ckptkit.errors import CorruptError, FindingsError, NotFoundError, UnknownFormatError, UnsupportedError, UsageError
from ckptkit.verbs.fix import fix
from ckptkit.verbs.listing import list_folder

HF = oracles.made("bert-hf")
INDEX = "model.safetensors.index.json"
LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 438007537\n"
TEXTS = {
    LFS: "a Git LFS pointer to 438,007,537 bytes",
    "<!DOCTYPE html>\n<html><title>404</title></html>": "a web page",
    '<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>': "a server's answer",
    "Entry not found": "text, no checkpoint format: 'Entry not found'",
    '{"error":"Repository not found"}': "text, no checkpoint format",
}


def arrays(seed: int = 0) -> dict[str, np.ndarray]:
    """The fixture's model, with other weights for another seed."""
    return {n: x + np.array(seed, x.dtype) if seed else x for n, x in load_file(HF / "model.safetensors").items()}


def sharded(folder: Path, held: Mapping[str, np.ndarray], of: int = 3, stem: str = "model", index: str = INDEX) -> list[str]:
    """`held` in `of` shards, with their index and the configuration. Gives the names of the shards."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(HF / "config.json", folder)
    names = [f"{stem}-{i:05d}-of-{of:05d}.safetensors" for i in range(1, of + 1)]
    order = sorted(held)
    parts = [order[len(order) * i // of : len(order) * (i + 1) // of] for i in range(of)]
    for name, part in zip(names, parts, strict=True):
        save_file({n: held[n] for n in part}, folder / name, {"format": "pt"})
    weight_map = {n: name for name, part in zip(names, parts, strict=True) for n in part}
    size = sum(x.nbytes for x in held.values())
    (folder / index).write_text(json.dumps({"metadata": {"total_size": size}, "weight_map": weight_map}))
    return names


def edit(path: Path, change: Callable[[dict[str, str]], dict[str, str]]) -> None:
    said = json.loads(path.read_text())
    path.write_text(json.dumps({**said, "weight_map": change(said["weight_map"])}))


def reads(folder: Path, held: Mapping[str, np.ndarray]) -> bool:
    """Whether what is read of a folder are these arrays, bit for bit."""
    with open_checkpoint(folder) as c:
        return c.tensors.keys() == held.keys() and all(np.array_equal(c.array(n), x) for n, x in held.items())


def said(folder: Path, rule: str = "shards") -> list[tuple[str, str]]:
    with open_checkpoint(folder) as c:
        return [(f.severity, f.message) for f in c.findings if f.rule == rule]


def run(*words: str | os.PathLike[str]) -> tuple[int, str]:
    got = commands.run(*words)
    return got.returncode, got.stdout + got.stderr


# --- indexes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shards_there", [True, False])
def test_a_whole_file_is_read_before_old_shards_as_transformers_does(tmp_path: Path, shards_there: bool) -> None:
    import torch
    import transformers

    names = sharded(tmp_path, arrays())
    save_file(arrays(1), tmp_path / "model.safetensors", {"format": "pt"})
    for name in () if shards_there else names:
        (tmp_path / name).unlink()
    assert reads(tmp_path, arrays(1))
    ((severity, message),) = said(tmp_path)
    assert severity == "warning" and INDEX in message
    assert ("its 3 shards lie beside" in message) if shards_there else (names[0] in message and "not there" in message)
    loaded = transformers.BertForPreTraining.from_pretrained(tmp_path).state_dict()
    assert all(torch.equal(loaded[n], torch.from_numpy(x)) for n, x in arrays(1).items() if n in loaded)

    done = fix(tmp_path, tmp_path / "out")
    assert [r.kind for r in done.repairs] == ["index"]
    assert reads(tmp_path / "out", arrays(1)) and not (tmp_path / "out" / INDEX).exists()


def test_an_index_of_the_one_file_is_no_old_one(tmp_path: Path) -> None:
    """mlx-lm writes one beside a single file; what it names otherwise than the file is said."""
    save_file(arrays(), tmp_path / "model.safetensors", {"format": "mlx"})
    names = dict.fromkeys(arrays(), "model.safetensors")
    (tmp_path / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": names}))
    assert said(tmp_path) == []
    one = next(iter(names))
    del names[one]
    (tmp_path / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": {**names, "other": "model.safetensors"}}))
    ((severity, message),) = said(tmp_path)
    assert severity == "warning" and "names 1 tensors that model.safetensors has not, and not 1 that it has" in message


def test_shards_and_a_whole_file_of_another_name_are_ambiguous(tmp_path: Path) -> None:
    """diffusers follows the index, others the file."""
    stem = "diffusion_pytorch_model"
    names = sharded(tmp_path, arrays(), stem=stem, index=f"{stem}.safetensors.index.json")
    save_file(arrays(1), tmp_path / f"{stem}.safetensors")
    for verb in ("validate", "digest"):
        code, out = run(verb, tmp_path)
        assert code == 2 and f"{stem}.safetensors" in out and "loaders differ" in out, verb
    with pytest.raises(UsageError, match="loaders differ"):
        ckptkit.convert(tmp_path, tmp_path / "out", to="hf")
    assert [os.path.basename(r.path) for r in list_folder(tmp_path).rows] == [f"{stem}.safetensors.index.json", f"{stem}.safetensors"]
    (tmp_path / names[1]).unlink()
    assert reads(tmp_path, arrays(1)) and said(tmp_path)[0][0] == "error"  # diffusers would fail


def test_an_index_of_other_files_is_an_error_and_is_made_again_from_the_shards(tmp_path: Path) -> None:
    sharded(tmp_path, arrays())
    edit(tmp_path / INDEX, lambda m: {n: s.replace("-of-00003", "-of-00006") for n, s in m.items()})
    assert reads(tmp_path, arrays())
    ((severity, message),) = said(tmp_path)
    assert severity == "error" and "model-00001-of-00006.safetensors" in message and "3 other shards lie there" in message
    with pytest.raises(FindingsError):
        ckptkit.convert(tmp_path, tmp_path / "no", to="hf")
    fix(tmp_path, tmp_path / "out")
    assert reads(tmp_path / "out", arrays()) and not said(tmp_path / "out")


def test_a_tensor_that_only_such_an_index_knows_is_lost_and_nothing_mends_it(tmp_path: Path) -> None:
    sharded(tmp_path, arrays())
    edit(tmp_path / INDEX, lambda m: {n: s.replace("-of-00003", "-of-00006") for n, s in {**m, "ghost": next(iter(m.values()))}.items()})
    assert ("error", "the index lists 1 tensors that no shard holds: ghost") in said(tmp_path)
    with pytest.raises(FindingsError):
        fix(tmp_path, tmp_path / "out")


@pytest.mark.parametrize("which", [0, 1, 2])
def test_a_shard_that_the_index_leaves_out_is_read_and_never_lost(tmp_path: Path, which: int) -> None:
    names = sharded(tmp_path, arrays())
    edit(tmp_path / INDEX, lambda m: {n: s for n, s in m.items() if s != names[which]})
    assert reads(tmp_path, arrays())
    ((severity, message),) = said(tmp_path)
    assert severity == "error" and message.startswith(names[which]) and "loaders miss its" in message
    assert run("validate", "--no-integrity", tmp_path)[0] == 1
    assert run("digest", tmp_path)[0] == 3
    code, out = run("diff", tmp_path, HF)
    assert code == 3 and "loaders read another model" in " ".join(out.split())
    fix(tmp_path, tmp_path / "out")
    assert reads(tmp_path / "out", arrays()) and not said(tmp_path / "out")
    assert json.loads((tmp_path / "out" / INDEX).read_text())["weight_map"].keys() == arrays().keys()


def test_an_index_is_not_made_of_shards_of_which_one_is_lacking(tmp_path: Path) -> None:
    names = sharded(tmp_path, arrays(), of=4)
    edit(tmp_path / INDEX, lambda m: {n: s for n, s in m.items() if s in names[:2]})
    (tmp_path / names[3]).unlink()
    with pytest.raises(FindingsError):
        fix(tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_cut_index_is_an_error_and_is_made_again_where_every_shard_is_there(tmp_path: Path) -> None:
    names = sharded(tmp_path, arrays())
    (tmp_path / INDEX).write_text((tmp_path / INDEX).read_text()[:300])
    assert reads(tmp_path, arrays()) and said(tmp_path)[0][0] == "error"
    fix(tmp_path, tmp_path / "out")
    assert reads(tmp_path / "out", arrays())
    (tmp_path / names[1]).unlink()
    with pytest.raises(CorruptError, match="not valid JSON"):
        open_checkpoint(tmp_path)


def test_without_an_index_the_shard_that_is_missing_is_named(tmp_path: Path) -> None:
    names = sharded(tmp_path, arrays(), of=4)
    (tmp_path / INDEX).unlink()
    (tmp_path / names[2]).unlink()
    with pytest.raises(CorruptError, match=rf"shard 3 of 4 is missing \({names[2]}\)") as e:
        open_checkpoint(tmp_path)
    assert names[0] in str(e.value.hint)


def test_of_shards_that_are_half_there_what_lies_there_is_said(tmp_path: Path) -> None:
    names = sharded(tmp_path, arrays())
    (tmp_path / names[1]).rename(tmp_path / f"{names[1]}.incomplete")
    with pytest.raises(CorruptError, match="1 of 3 shards missing") as e:
        open_checkpoint(tmp_path)
    assert names[0] in str(e.value.hint) and f"{names[1]}.incomplete" in str(e.value.hint)


def test_two_sets_of_shards_without_an_index_are_ambiguous(tmp_path: Path) -> None:
    sharded(tmp_path, arrays(), of=2)
    sharded(tmp_path, arrays(1), of=3)
    assert reads(tmp_path, arrays(1))  # by the index
    assert any("lies beside the shards, but the index does not list it" in m for _, m in said(tmp_path))
    (tmp_path / INDEX).unlink()
    with pytest.raises(UsageError, match="several sets of shards"):
        open_checkpoint(tmp_path)


def test_transformers_own_variant_is_read_by_its_index(tmp_path: Path) -> None:
    sharded(tmp_path, arrays(), stem="model.fp16", index="model.safetensors.index.fp16.json")
    assert reads(tmp_path, arrays()) and not said(tmp_path)
    assert run("validate", tmp_path)[0] == 0


# --- what lies there ---------------------------------------------------------------------------------------------------


def test_a_second_checkpoint_of_a_folder_is_named(tmp_path: Path) -> None:
    import torch

    shutil.copytree(HF, tmp_path / "m")
    for name in ("pytorch_model.bin", "pytorch_model_1.bin", "teacher.pt", "optimizer.pt", "training_args.bin"):
        torch.save({"w": torch.ones(2)}, tmp_path / "m" / name)
    text = " ".join(m for _, m in said(tmp_path / "m", "folder"))
    assert "pytorch_model_1.bin" in text and "teacher.pt" in text and "pytorch_model.bin lies there too" in text
    assert "optimizer" not in text and "training_args" not in text


@pytest.mark.parametrize("name", ["checkpoint.pth.tar", "roberta.th", "weights", "best.model.2024"])
def test_where_names_say_nothing_bytes_decide(tmp_path: Path, name: str) -> None:
    import torch

    torch.save({"state_dict": {n: torch.from_numpy(x) for n, x in arrays().items()}}, tmp_path / name)
    shutil.copy(HF / "config.json", tmp_path)
    (tmp_path / "README.md").write_text("a model")
    assert reads(tmp_path, arrays())


def test_checkpoints_below_are_named_and_listed_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for n in (1, 2, 10):
        shutil.copytree(HF, tmp_path / f"checkpoint-{n}")
    np.savez(tmp_path / "results.npz", loss=np.zeros(3))
    with pytest.raises(NotFoundError, match="checkpoint-1, checkpoint-2, checkpoint-10"):
        open_checkpoint(tmp_path)
    assert [os.path.basename(p.path) for p in below(str(tmp_path))] == ["checkpoint-1", "checkpoint-2", "checkpoint-10"]
    code, out = run("inspect", tmp_path)
    assert code == 0 and sum("bert" in line and line.startswith("checkpoint-") for line in out.splitlines()) == 3
    data = json.loads(run("inspect", tmp_path, "--format", "json")[1])
    assert [r["architecture"] for r in data["checkpoints"]] == ["bert"] * 3
    code, out = run("validate", "--recursive", tmp_path)
    assert code == 0 and out.count("BERT (hf, safetensors)") == 3


def test_recursive_is_as_bad_as_the_worst(tmp_path: Path) -> None:
    shutil.copytree(HF, tmp_path / "good")
    shutil.copytree(HF, tmp_path / "holes")
    held = {n: x for n, x in arrays().items() if "layer.0.attention.self.query" not in n}
    save_file(held, tmp_path / "holes" / "model.safetensors")
    assert run("validate", "--recursive", "--no-integrity", tmp_path)[0] == 1
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut" / "model.safetensors").write_bytes((HF / "model.safetensors").read_bytes()[:500])
    assert run("validate", "--recursive", "--no-integrity", tmp_path)[0] == 2
    assert run("inspect", tmp_path)[0] == 2
    (tmp_path / "nothing").mkdir()
    assert run("validate", "--recursive", tmp_path / "nothing")[0] == 2


def test_what_is_looked_at_in_the_same_run_is_not_said_to_be_left_out(tmp_path: Path) -> None:
    shutil.copytree(HF, tmp_path / "runs")
    for name in ("other.safetensors", "third.safetensors", "pytorch_model.safetensors"):
        shutil.copyfile(HF / "model.safetensors", tmp_path / "runs" / name)
    alone = run("validate", tmp_path / "runs")[1]
    assert "other.safetensors, third.safetensors are other checkpoints" in alone and "pytorch_model.safetensors lies there too" in alone
    code, every = run("validate", "--recursive", tmp_path)
    assert code == 0 and every.count("BERT (hf, safetensors)") == 4 and "not looked at" not in every
    some = run("validate", tmp_path / "runs", tmp_path / "runs" / "other.safetensors")[1]
    assert "third.safetensors is another checkpoint" in some and "pytorch_model.safetensors lies there too" in some


def test_results_alone_are_what_they_are(tmp_path: Path) -> None:
    np.savez(tmp_path / "results.npz", loss=np.zeros(3))
    assert reads(tmp_path, {"loss": np.zeros(3)})


def test_a_hub_cache_is_the_revision_that_main_names(tmp_path: Path) -> None:
    root = tmp_path / "models--org--name"
    for revision, seed in (("a" * 40, 1), ("b" * 40, 2)):
        snapshot = root / "snapshots" / revision
        snapshot.mkdir(parents=True)
        (root / "blobs").mkdir(exist_ok=True)
        save_file(arrays(seed), root / "blobs" / f"blob{seed}", {"format": "pt"})
        (snapshot / "model.safetensors").symlink_to(f"../../blobs/blob{seed}")
    with pytest.raises(UsageError, match="2 snapshots"):
        open_checkpoint(root)
    (root / "refs").mkdir()
    (root / "refs" / "main").write_text("b" * 40)
    assert reads(root, arrays(2))
    (root / "refs" / "main").write_text("../../elsewhere")
    with pytest.raises(UsageError, match="2 snapshots"):
        open_checkpoint(root)
    shutil.rmtree(root / "snapshots" / ("b" * 40))
    assert reads(root, arrays(1))
    assert [p.path for p in below(str(tmp_path))] == [str(root / "snapshots" / ("a" * 40))]


def test_links_to_folders_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "up").symlink_to("..")
    shutil.copytree(HF, tmp_path / "a" / "m")
    assert [p.path for p in below(str(tmp_path))] == [str(tmp_path / "a" / "m")]


def test_a_distributed_checkpoint_without_its_metadata_is_called_what_it_is(tmp_path: Path) -> None:
    import torch
    import torch.distributed.checkpoint as dcp

    dcp.save({"model": {"w": torch.ones(4)}}, checkpoint_id=str(tmp_path / "out" / "model_0"), no_dist=True)
    part = next((tmp_path / "out" / "model_0").glob("*.distcp"))
    for path in (tmp_path / "out" / "model_0", part):
        with open_checkpoint(path) as ckpt:
            assert ckpt.container == "dcp" and list(ckpt.tensors) == ["w"]
    with pytest.raises(NotFoundError, match="model_0"):
        open_checkpoint(tmp_path / "out")
    (tmp_path / "out" / "model_0" / ".metadata").unlink()
    for path in (tmp_path / "out" / "model_0", part):
        with pytest.raises(UnsupportedError, match=r"\.metadata is missing") as e:
            open_checkpoint(path)
        assert "dcp_to_torch" not in str(e.value.hint)


SUFFIXES = ("bin", "pt", "pth", "ckpt", "th", "safetensors", "h5", "hdf5", "msgpack", "npz", "npy", "keras", "gguf", "joblib", "index")


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("text", TEXTS)
def test_text_in_the_place_of_weights_is_called_what_it_is(tmp_path: Path, suffix: str, text: str) -> None:
    (tmp_path / f"m.{suffix}").write_text(text)
    with pytest.raises(UnknownFormatError, match=TEXTS[text].replace("(", r"\(")):
        open_checkpoint(tmp_path / f"m.{suffix}")


@pytest.mark.parametrize(
    "name", ["pytorch_model.bin", "model.safetensors", "tf_model.h5", "flax_model.msgpack", "model.npz", "model.keras", "m.th"]
)
def test_and_so_it_is_in_a_folder_and_as_a_shard(tmp_path: Path, name: str) -> None:
    for i, (text, what) in enumerate(TEXTS.items()):
        folder = tmp_path / str(i)
        folder.mkdir()
        shutil.copy(HF / "config.json", folder)
        (folder / name).write_text(text)
        code, out = run("validate", folder)
        assert code == 2 and what in out
    names = sharded(tmp_path / "shards", arrays())
    (tmp_path / "shards" / names[1]).write_text(LFS)
    with pytest.raises(UnknownFormatError, match="Git LFS pointer"):
        open_checkpoint(tmp_path / "shards")


def test_a_pointer_in_the_place_of_tensorflows_data_is_called_what_it_is(tmp_path: Path) -> None:
    shutil.copytree(oracles.made("bert-google"), tmp_path / "m")
    next((tmp_path / "m").glob("*.data-*")).write_text(LFS)
    with pytest.raises(UnknownFormatError, match="Git LFS pointer"):
        open_checkpoint(tmp_path / "m")


def test_of_a_file_and_its_variants_the_plain_one_is_read(tmp_path: Path) -> None:
    for seed, name in enumerate(("diffusion_pytorch_model", "diffusion_pytorch_model.fp16", "diffusion_pytorch_model.non_ema")):
        save_file(arrays(seed), tmp_path / f"{name}.safetensors")
    assert reads(tmp_path, arrays(0))
    assert "diffusion_pytorch_model.fp16.safetensors" in said(tmp_path, "folder")[0][1]
    (tmp_path / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(UsageError, match="holds 2 checkpoints"):
        open_checkpoint(tmp_path)


def test_shards_of_another_stem_than_the_index_names_are_the_only_ones_there(tmp_path: Path) -> None:
    sharded(tmp_path, arrays(), stem="renamed")
    edit(tmp_path / INDEX, lambda m: {n: s.replace("renamed", "model") for n, s in m.items()})
    assert reads(tmp_path, arrays()) and said(tmp_path)[0][0] == "error"
    assert run("digest", tmp_path)[0] == 3
    fix(tmp_path, tmp_path / "out")
    assert reads(tmp_path / "out", arrays()) and not said(tmp_path / "out")


@pytest.mark.parametrize("names", [
    ("pytorch_model_fsdp_0_rank0.bin", "pytorch_model_fsdp_0_rank1.bin"),
    ("layer_01-model_00-model_states.pt", "layer_02-model_00-model_states.pt"),
    ("mp_rank_00.pt", "mp_rank_01.pt"), ("rank0.pt", "rank1.pt"),
])  # fmt: skip
def test_the_files_of_ranks_are_parts_of_one_model_and_no_choice(names: tuple[str, ...], tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    for n in names:
        torch.save({"w": torch.zeros(2)}, tmp_path / n)
    with pytest.raises(UnsupportedError, match="each with a part of one model, which are not joined here: ") as e:
        ckptkit.validate(tmp_path)
    assert "name one" not in str(e.value)
    assert ckptkit.inspect(tmp_path / names[0]).parameters == 2


@pytest.mark.parametrize(
    "names", [("epoch=1.ckpt", "epoch=2.ckpt"), ("step_1.pt", "step_2.pt"), ("trank1.pt", "best.pt"), ("a.pt", "rank0.pt")]
)
def test_several_checkpoints_remain_a_choice(names: tuple[str, ...], tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    for n in names:
        torch.save({"w": torch.zeros(2)}, tmp_path / n)
    with pytest.raises(UsageError, match="holds 2 checkpoints"):
        ckptkit.validate(tmp_path)
