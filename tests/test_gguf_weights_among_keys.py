"""Apertus' activation has four numbers in each layer, which a GGUF file has as arrays among its keys: here they are tensors like any."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gguf_files
import numpy as np
import pytest
import test_gguf_oracle as oracle
from safetensors.numpy import load_file

import ckptkit
from ckptkit.errors import CheckpointError

NAMES = ("alpha_n", "alpha_p", "beta", "eps")
CASE: dict[str, Any] = json.loads((oracle.FILES[0].parent / "apertus.json").read_text())


def listed(keys: dict[str, Any]) -> dict[str, tuple[int, Any]]:
    """Keys as `gguf_files.gguf` takes them."""
    out = {}
    for k in [k for k in keys if not k.endswith(" type")]:
        kind, item = keys[f"{k} type"]
        out[k] = (kind, keys[k] if kind != 9 else (item, keys[k]))
    return out


def test_they_move_through_split_files_other_containers_and_back(tmp_path: Path) -> None:
    before = oracle.model(CASE, tmp_path / "hf")
    ckptkit.convert(tmp_path / "hf", tmp_path / "split", to="gguf", max_shard_size=4096)
    files = sorted((tmp_path / "split").glob("*.gguf"))
    assert len(files) > 2
    for n in NAMES:
        want = [before[f"model.layers.{i}.mlp.act_fn.{n}"].item() for i in range(2)]
        assert list(gguf_files.keys(files[0])[f"xielu.{n}"]) == want
        assert f"xielu.{n}" not in gguf_files.keys(files[1]) and f"xielu.{n}" not in gguf_files.arrays(files[0])
    ckptkit.convert(files[0], tmp_path / "named.safetensors", container="safetensors")  # names as they are
    named = load_file(tmp_path / "named.safetensors")
    assert named["xielu.beta"][1] == before["model.layers.1.mlp.act_fn.beta"]
    ckptkit.convert(files[0], tmp_path / "one.gguf", container="gguf")
    ckptkit.convert(tmp_path / "one.gguf", tmp_path / "back", to="hf")
    oracle.alike(load_file(tmp_path / "back" / "model.safetensors"), before, "apertus")


def test_in_the_other_byte_order_they_are_turned_round(tmp_path: Path) -> None:
    before = oracle.model(CASE, tmp_path / "hf")
    ckptkit.convert(tmp_path / "hf", tmp_path / "m.gguf", to="gguf")
    arrays = {n: (a.shape, 0, a.astype(">f4").tobytes()) for n, a in gguf_files.arrays(tmp_path / "m.gguf").items()}
    (tmp_path / "big.gguf").write_bytes(gguf_files.gguf(arrays, listed(gguf_files.keys(tmp_path / "m.gguf")), order=">"))
    with ckptkit.open(tmp_path / "big.gguf") as ck:
        for n in NAMES:
            assert [v.item() for v in ck.array(f"xielu.{n}")] == [before[f"model.layers.{i}.mlp.act_fn.{n}"].item() for i in range(2)]


@pytest.mark.parametrize("wrong", ["left out", "of whole numbers", "of three layers"])
def test_an_array_that_is_not_one_of_all_layers_is_an_error_that_names_it(wrong: str, tmp_path: Path) -> None:
    oracle.model(CASE, tmp_path / "hf")
    ckptkit.convert(tmp_path / "hf", tmp_path / "m.gguf", to="gguf")
    arrays = {n: (a.shape, 0, np.ascontiguousarray(a).tobytes()) for n, a in gguf_files.arrays(tmp_path / "m.gguf").items()}
    keys = listed(gguf_files.keys(tmp_path / "m.gguf"))
    _, (_, have) = keys.pop("xielu.beta")
    if wrong != "left out":
        keys["xielu.beta"] = (9, (5, [1, 2]) if wrong == "of whole numbers" else (6, [*have, 0.5]))
    (tmp_path / "bad.gguf").write_bytes(gguf_files.gguf(arrays, keys))
    found = [f for f in ckptkit.validate(tmp_path / "bad.gguf").findings if f.severity == "error"]
    assert any("beta" in f"{f.where} {f.message}" for f in found), found
    with pytest.raises(CheckpointError):
        ckptkit.convert(tmp_path / "bad.gguf", tmp_path / "out", to="hf")
