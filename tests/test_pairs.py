"""Two different models are never the same: for each container that can hold them, pairs that differ only in a tensor more, in its
values, in a second model of the same file, or in one key of the configuration; and shards under indexes that are not theirs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import oracles
import pytest
from commands import run
from flax_files import pack
from safetensors.numpy import load_file, save_file
from test_account import unlike

import ckptkit

HF = oracles.made("bert-hf")
ARRAYS = load_file(HF / "model.safetensors")
CONTAINERS = ["safetensors", "torch", "tf", "hdf5", "npz", "flax"]
FORMS = {"safetensors": "hf", "torch": "hf", "hdf5": "hf_tf", "flax": "hf_flax"}  # with names of their own, in shards


def base(folder: Path, more: dict[str, np.ndarray], **keys: Any) -> Path:
    folder.mkdir()
    raw = {**json.loads((HF / "config.json").read_text()), **keys}
    (folder / "config.json").write_text(json.dumps(raw))
    save_file({**ARRAYS, **more}, folder / "model.safetensors")
    return folder


def written(folder: Path, container: str, more: dict[str, np.ndarray], **keys: Any) -> Path:
    """bert-hf with these tensors beside, under the names that it has, in a container."""
    source = base(folder.parent / f"{folder.name}.source", more, **keys)
    if container == "safetensors":
        return source
    ckptkit.convert(source, folder, container=container)
    if not (folder / "config.json").exists():
        shutil.copy(source / "config.json", folder)
    return folder


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("name", ["adapter.down.weight", "bert.encoder.layer.0.attention.self.gate.weight", "ema.scale"])
def test_a_tensor_more_and_its_values_make_another_model(container: str, name: str, tmp_path: Path) -> None:
    one = np.ones((3, 3), np.float32)
    plain = written(tmp_path / "plain", container, {})
    a, b = written(tmp_path / "a", container, {name: one}), written(tmp_path / "b", container, {name: one * 2})
    assert ckptkit.diff(a, a).exit_code == 0
    for x, y in ((a, b), (plain, a), (a, plain)):
        (tmp_path / f"{x.name}-{y.name}").mkdir()
        unlike(x, y, tmp_path / f"{x.name}-{y.name}")
    assert ckptkit.verify(a, b).exit_code in (1, 3)


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("key", ["is_decoder", "hidden_act", "layer_norm_eps", "my_gate", "num_attention_heads"])
def test_a_key_of_the_configuration_makes_another_model(container: str, key: str, tmp_path: Path) -> None:
    value = {"is_decoder": True, "hidden_act": "relu", "layer_norm_eps": 1e-3, "my_gate": 0.5, "num_attention_heads": 1}[key]
    a, b = written(tmp_path / "a", container, {}), tmp_path / "b"
    shutil.copytree(a, b)
    raw = json.loads((b / "config.json").read_text())
    (b / "config.json").write_text(json.dumps({**raw, key: value}))
    assert ckptkit.diff(a, b).exit_code in (1, 3) and ckptkit.verify(a, b).exit_code in (1, 3)
    (tmp_path / "a.lock").write_text(ckptkit.lock(a))
    assert run("validate", b, "--lock", tmp_path / "a.lock").returncode in (1, 3)


@pytest.mark.parametrize("second", ["ema_params", "target_params", "generator"])
def test_a_second_tree_of_a_flax_file_counts(second: str, tmp_path: Path) -> None:
    paths = []
    for n in (1.0, 2.0):
        tree = {
            "params": {"Dense_0": {"kernel": np.ones((3, 4), np.float32)}},
            second: {"Dense_0": {"kernel": np.full((3, 4), n, np.float32)}},
        }
        paths.append(tmp_path / f"{n}.msgpack")
        paths[-1].write_bytes(pack(tree))
    unlike(*paths, tmp_path)


@pytest.mark.parametrize("second", ["ema_state_dict", "teacher", "generator", "discriminator", "model_ema", "optimizer_net"])
def test_a_second_state_dict_of_a_torch_file_counts(second: str, tmp_path: Path) -> None:
    import torch

    for n in (1.0, 2.0):
        first = {k: torch.from_numpy(x) for k, x in ARRAYS.items()}
        torch.save({"state_dict": first, second: {k: x * n for k, x in first.items()}, "epoch": 3}, tmp_path / f"{n}.pt")
    unlike(tmp_path / "1.0.pt", tmp_path / "2.0.pt", tmp_path)
    assert ckptkit.verify(tmp_path / "1.0.pt", tmp_path / "2.0.pt", config=str(HF / "config.json"), level="values").exit_code in (1, 3)


def sharded(folder: Path, form: str) -> tuple[Path, Path, list[str]]:
    """bert-hf in shards: its folder, its index, its shards."""
    ckptkit.convert(HF, folder, to=FORMS[form], container=form, max_shard_size=20_000)
    (index,) = folder.glob("*.index.json")
    return folder, index, sorted(p.name for p in folder.iterdir() if "-of-" in p.name)


def _rewritten(index: Path, change: Callable[[dict[str, str]], object]) -> None:
    raw = json.loads(index.read_text())
    change(raw["weight_map"])
    index.write_text(json.dumps(raw))


def _elsewhere(weights: dict[str, str]) -> None:
    name = sorted(weights)[5]
    weights[name] = next(s for s in weights.values() if s != weights[name])


BROKEN: dict[str, Callable[[Path, list[str]], object]] = {
    "no index": lambda index, shards: index.unlink(),
    "no shard": lambda index, shards: index.with_name(shards[1]).unlink(),
    "neither": lambda index, shards: (index.unlink(), index.with_name(shards[-1]).unlink()),
    "a shard cut": lambda index, shards: index.with_name(shards[1]).write_bytes(index.with_name(shards[1]).read_bytes()[:-100]),
    "a shard unlisted": lambda index, shards: _rewritten(index, lambda w: [w.pop(n) for n in list(w) if w[n] == shards[1]]),
    "a tensor elsewhere": lambda index, shards: _rewritten(index, _elsewhere),
    "a tensor that is nowhere": lambda index, shards: _rewritten(index, lambda w: w.update({"ghost.weight": shards[0]})),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("broken", BROKEN)
def test_shards_that_are_not_what_their_index_says_are_concluded_on_by_nothing(form: str, broken: str, tmp_path: Path) -> None:
    whole, _, _ = sharded(tmp_path / "whole", form)
    folder, index, shards = sharded(tmp_path / "broken", form)
    BROKEN[broken](index, shards)
    for words in (["digest", folder], ["lock", folder], ["diff", folder, whole], ["diff", whole, folder], ["validate", folder]):
        assert run(*words).returncode in (1, 2, 3), words
    for a, b in ((folder, whole), (whole, folder)):
        assert run("verify", a, b, "--level", "values").returncode in (1, 2, 3)
    assert run("convert", folder, tmp_path / "out", "--to", "google").returncode in (1, 2, 3) and not (tmp_path / "out").exists()
    assert run("diff", whole, HF).returncode == 0
