"""Configurations are found by the names they were released under, where exactly one fits; ALBERT without one is undecided."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import oracles
import pytest

import ckptkit
from ckptkit.graph.examine import examine

HF = oracles.made("bert-hf")
ALBERT = Path(__file__).parents[1] / "fixtures" / "golden" / "albert_tf"
RIGHT = json.loads((HF / "config.json").read_text())
NAMES = [
    "bert_config_large.json", "bert_config_zh.json", "albert_config_tiny_g.json", "config_albert.json", "albert_config_base.json",
    "my_config.json",
    "bert-base-config.json",
]  # fmt: skip


def model(folder: Path, weights: str = "model.safetensors", **configs: object) -> Path:
    """The fixture's weights under a name, and configurations by their names (NAME__json=value)."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(HF / "model.safetensors", folder / weights)
    for name, raw in configs.items():
        (folder / name).write_text(json.dumps(raw))
    return folder


def found(path: Path) -> str:
    with examine(path) as s:
        return Path(s.config.source).name if s.config is not None else ""


@pytest.mark.parametrize("name", NAMES)
def test_a_released_name_is_found_beside_what_is_no_models_configuration(tmp_path: Path, name: str) -> None:
    others = {"processor_config.json": {"size": 224}, "label_config.json": {"labels": ["a"]}, "train_config.json": {"batch_size": 8}}
    assert found(model(tmp_path, **{name: RIGHT}, **others)) == name


def test_of_two_the_one_that_fits_the_weights_is_taken_and_of_two_that_fit_none(tmp_path: Path) -> None:
    large = {**RIGHT, "hidden_size": 1024, "num_hidden_layers": 24}
    deeper = {**RIGHT, "num_hidden_layers": 12}
    assert found(model(tmp_path / "1", **{"bert_config_large.json": large, "bert_config_tiny.json": RIGHT})) == "bert_config_tiny.json"
    assert found(model(tmp_path / "2", **{"bert_config_deep.json": deeper, "bert_config_tiny.json": RIGHT})) == "bert_config_tiny.json"
    assert found(model(tmp_path / "3", **{"bert_config_a.json": RIGHT, "bert_config_b.json": RIGHT})) == ""
    assert found(model(tmp_path / "4", **{"bert_config_large.json": large})) == "bert_config_large.json"  # and contradicts them


def test_the_weights_own_name_comes_first(tmp_path: Path) -> None:
    folder = model(tmp_path, "language_model.safetensors", **{
        "language_model_config.json": RIGHT, "prediction_head_0_config.json": {"layer_dims": [32, 5]},
        "config.json": {**RIGHT, "num_hidden_layers": 9},
    })  # fmt: skip
    assert found(folder / "language_model.safetensors") == "language_model_config.json"


@pytest.mark.parametrize("weights", ["model.safetensors", "pytorch_model.safetensors"])
def test_a_usual_name_is_nobodys_own(tmp_path: Path, weights: str) -> None:
    folder = model(
        tmp_path, weights, **{"config.json": RIGHT, "model_config.json": {"hidden_size": 3}, "pytorch_model_config.json": {"a": 1}}
    )
    assert found(folder / weights) == "config.json"


def test_a_broken_configuration_that_is_the_only_one_is_said(tmp_path: Path) -> None:
    (model(tmp_path) / "bert_config_x.json").write_text("{")
    assert found(tmp_path) == ""
    (tmp_path / "bert_config_x.json").rename(tmp_path / "bert_x_config.json")
    assert [f.severity for f in ckptkit.validate(tmp_path).findings if f.rule == "config"] == ["error"]


def test_albert_without_a_configuration_is_undecided_and_with_its_released_name_is_not(tmp_path: Path) -> None:
    for file in ALBERT.glob("model.ckpt-best*"):
        shutil.copy(file, tmp_path)
    report = ckptkit.validate(tmp_path / "model.ckpt-best")
    assert report.exit_code == 3
    assert [f.where for f in report.findings if f.basis == "undecided" and f.severity == "warning"] == ["layers"]
    shutil.copy(ALBERT / "albert_config.json", tmp_path / "albert_config_tiny_g.json")
    report = ckptkit.validate(tmp_path / "model.ckpt-best")
    assert (
        report.exit_code == 0
        and report.subject.value("layers") == json.loads((ALBERT / "albert_config.json").read_text())["num_hidden_layers"]
    )
