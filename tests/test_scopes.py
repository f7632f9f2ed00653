"""Scopes before names and wrappers inside them: whatever they are called, the model below them is the same model."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import oracles
import pytest
from safetensors.numpy import load_file, save_file

import ckptkit
from ckptkit.graph.examine import examine
from ckptkit.graph.scopes import scopes, without_inner

HF = oracles.made("bert-hf")
ARRAYS = load_file(HF / "model.safetensors")


def renamed(folder: Path, rename: Callable[[str], str], **more: np.ndarray) -> Path:
    folder.mkdir()
    shutil.copy(HF / "config.json", folder)
    save_file({**{rename(n): a for n, a in ARRAYS.items()}, **more}, folder / "model.safetensors")
    return folder


SCOPES = (
    "0.auto_model.", "auto_model.", "_module.", "backbone.bert.", "base_model.model.", "bert.bert.", "bert_encoder.", "bert_layer.", "lm.",
    "bert_model.", "embedder.", "hf_model.", "language_model.", "pl_module.model.", "plm.", "student_model.", "text_encoder.", "a.b.c.d.",
    "module/",
)  # fmt: skip


@pytest.mark.parametrize("scope", SCOPES)
def test_a_scope_is_found_from_the_names(tmp_path: Path, scope: str) -> None:
    path = renamed(tmp_path / "m", lambda n: scope + n)
    with examine(path) as s:
        assert s.architecture is not None and s.architecture.name == "bert"
        r = s.graph.recognition
        assert r is not None and (r.wrapper + r.prefix).startswith(scope) and len(r.matches) == len(ARRAYS)
    assert ckptkit.digest(path).whole == ckptkit.digest(HF).whole and ckptkit.diff(path, HF).exit_code == 0


def test_what_lies_beside_the_scope_is_unexplained(tmp_path: Path) -> None:
    path = renamed(tmp_path / "m", lambda n: f"encoder_q.{n}", **{"projection.weight": np.ones((4, 4), np.float32)})
    with examine(path) as s:
        assert s.architecture is not None and s.graph.of_role("unexplained") == ["projection.weight"]
    with pytest.raises(ckptkit.CheckpointError, match="nothing was written"):
        ckptkit.convert(path, tmp_path / "out", to="hf")


def test_of_two_encoders_each_can_be_asked_for(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    shutil.copy(HF / "config.json", tmp_path / "m")
    both = {f"question.{n}": a for n, a in ARRAYS.items()} | {f"passage.{n}": a + np.float32(1) for n, a in ARRAYS.items()}
    save_file(both, tmp_path / "m" / "model.safetensors")
    assert ckptkit.digest(tmp_path / "m", part="question").whole == ckptkit.digest(HF).whole
    assert ckptkit.digest(tmp_path / "m", part="passage").whole != ckptkit.digest(HF).whole
    with pytest.raises(ckptkit.CheckpointError, match="nothing was written"):
        ckptkit.convert(tmp_path / "m", tmp_path / "out", to="google")


@pytest.mark.parametrize(
    "rename",
    [
        lambda n: n.replace("layer.1.", "layer.1._orig_mod."),
        lambda n: n.replace("layer.", "layer._fsdp_wrapped_module.").replace("attention.", "attention._checkpoint_wrapped_module."),
        lambda n: "module." + n.replace("bert.", "bert._orig_mod."),
    ],
)
def test_wrappers_inside_names_are_taken_off_and_said(tmp_path: Path, rename: Callable[[str], str]) -> None:
    path = renamed(tmp_path / "m", rename)
    assert ckptkit.digest(path).whole == ckptkit.digest(HF).whole
    with examine(path) as s:
        assert s.graph.recognition is not None and any("inside of names" in e for e in s.graph.recognition.evidence)
    ckptkit.fix(path, tmp_path / "fixed")
    assert set(load_file(tmp_path / "fixed" / "model.safetensors")) == set(ARRAYS)


def test_a_scope_that_few_names_have_is_none_and_wrappers_that_hide_two_names_stay() -> None:
    assert scopes(["a.x.w", "a.y.w", "b.w", "c.w", "d.w"]) == []
    assert scopes([f"m.n.{i}" for i in range(5)]) == ["m.", "m.n."]
    assert without_inner(["a._orig_mod.w", "a.w"]) == ({}, ())
    assert without_inner(["a._orig_mod.w"])[0] == {"a._orig_mod.w": "a.w"}


@pytest.mark.parametrize("packed", [True, False])
def test_a_part_of_a_compressed_archive_goes_by_its_own_names(tmp_path: Path, packed: bool) -> None:
    arrays = {f"left/{n}": np.full((3, 2), i + 1.0) for i, n in enumerate("ab")} | {"right/a": np.zeros(2)}
    (np.savez_compressed if packed else np.savez)(tmp_path / "m.npz", **arrays)
    ckptkit.convert(tmp_path / "m.npz", tmp_path / "left.safetensors", part="left")
    got = load_file(tmp_path / "left.safetensors")
    assert got.keys() == {"a", "b"} and all(np.array_equal(got[n], arrays[f"left/{n}"]) for n in got)
    ckptkit.convert(tmp_path / "m.npz", tmp_path / "left", part="left", container="safetensors")
    told = json.loads((tmp_path / "left" / "ckptkit-ledger.json").read_text())
    assert {n: t["shape"] for n, t in told["source"]["tensors"].items()} == {"a": [3, 2], "b": [3, 2], "right/a": [2]}
