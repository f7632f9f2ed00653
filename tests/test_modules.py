"""sentence-transformers: the modules that modules.json names go along, or it is said that they do not; what else stays behind is said."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import oracles
import pytest
from safetensors.numpy import save_file

import ckptkit
from ckptkit.containers import open_checkpoint
from ckptkit.errors import NotFoundError
from ckptkit.verbs.fix import fix

HF = oracles.made("bert-hf")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    shutil.copytree(HF, folder)
    for name in ("1_Pooling", "2_Dense"):
        (folder / name).mkdir()
        (folder / name / "config.json").write_text(json.dumps({"of": name}))
    save_file({"linear.weight": np.ones((4, 32), np.float32)}, folder / "2_Dense" / "model.safetensors")
    kinds = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Dense", "Dense"), ("3_Normalize", "Normalize")]
    listed = [{"idx": i, "name": str(i), "path": p, "type": f"sentence_transformers.models.{t}"} for i, (p, t) in enumerate(kinds)]
    (folder / "modules.json").write_text(json.dumps(listed))
    return folder


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("to", ["hf", "torch"])
def test_modules_go_along_with_what_names_them(model: Path, tmp_path: Path, to: str) -> None:
    done = ckptkit.convert(model, tmp_path / "out", to=to)
    was, out = files(model), files(tmp_path / "out")
    assert {n: raw for n, raw in out.items() if "/" in n} == {n: raw for n, raw in was.items() if "/" in n}
    assert "modules.json" in out and not [f for f in done.findings if f.severity == "warning"]


@pytest.mark.parametrize("to", ["google", "npz", "hf_flax"])
def test_where_nobody_would_load_them_all_of_it_stays_and_is_said(model: Path, tmp_path: Path, to: str) -> None:
    done = ckptkit.convert(model, tmp_path / "out", to=to)
    assert not {"modules.json", "2_Dense/model.safetensors"} & files(tmp_path / "out").keys()
    said = " ".join(f.message for f in done.findings if f.severity == "warning")
    assert all(n in said for n in ("modules.json", "1_Pooling/", "2_Dense/"))


@pytest.mark.parametrize("path", ["../secret", "/etc", "2_Dense/../../secret", "out"])
def test_a_module_outside_of_the_folder_stays_outside(model: Path, tmp_path: Path, path: str) -> None:
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "hidden").write_text("a secret")
    (model / "out").symlink_to("../secret")
    (model / "2_Dense" / "link").symlink_to("../../secret/hidden")
    listed = json.loads((model / "modules.json").read_text())
    (model / "modules.json").write_text(json.dumps([*listed, {"idx": 9, "name": "9", "path": path, "type": "x.Dense"}]))
    done = ckptkit.convert(model, tmp_path / "target", to="hf")
    assert b"a secret" not in b"".join(files(tmp_path / "target").values())
    assert any(path in f.message or f.where == path for f in done.findings if f.severity == "warning")


def test_a_module_that_is_named_and_not_there_is_said(model: Path, tmp_path: Path) -> None:
    shutil.rmtree(model / "2_Dense")
    done = ckptkit.convert(model, tmp_path / "out", to="hf")
    assert [f.where for f in done.findings if f.severity == "warning"] == ["2_Dense"]


def test_a_single_file_has_no_place_for_modules_and_says_so(model: Path, tmp_path: Path) -> None:
    done = ckptkit.convert(model, tmp_path / "out.safetensors", to="hf")
    assert any("2_Dense/" in f.message for f in done.findings if f.severity == "warning")


def test_the_old_layout_names_the_transformers_folder(model: Path) -> None:
    inner = model / "0_Transformer"
    inner.mkdir()
    for name in ("model.safetensors", "config.json"):
        (model / name).rename(inner / name)
    with pytest.raises(NotFoundError, match="0_Transformer"):
        ckptkit.validate(model)


def test_what_else_a_folder_holds_and_stays_behind_is_said(model: Path, tmp_path: Path) -> None:
    (model / "onnx").mkdir()
    (model / "onnx" / "model.onnx").write_bytes(b"x")
    (model / "training_args.bin").write_bytes(b"x")
    done = ckptkit.convert(model, tmp_path / "out", to="hf")
    said = " ".join(f.message for f in done.findings if f.rule == "dropped")
    assert "onnx/" in said and "training_args.bin" in said and "vocab.txt" not in said and "1_Pooling" not in said


def test_fix_takes_them_along_too(model: Path, tmp_path: Path) -> None:
    with open_checkpoint(model) as held:
        arrays = {f"module.{n}": held.array(n) for n in held.tensors}
    save_file(arrays, model / "model.safetensors")
    fix(model, tmp_path / "out")
    assert "2_Dense/model.safetensors" in files(tmp_path / "out")
