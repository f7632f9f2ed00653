"""What is said of a folder of which transformers loads something else than what lies there, held against what it does load."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import oracles
import pytest
from safetensors.numpy import load_file, save_file

import ckptkit


def folder(tmp: Path, prefix: str, *, under: str = "bert.", file: str = "model.safetensors", **config: Any) -> Path:
    """bert-hf with a prefix before every name, and another before its core's."""
    source, target = oracles.made("bert-hf"), tmp / "m"
    target.mkdir()
    arrays = load_file(source / "model.safetensors")
    named = {prefix + (under + n.removeprefix("bert.") if n.startswith("bert.") else n): x for n, x in arrays.items()}
    save_file(named, target / file, metadata={"format": "pt"})
    raw = {**json.loads((source / "config.json").read_text()), **config}
    (target / "config.json").write_text(json.dumps({k: v for k, v in raw.items() if v is not None}))
    return target


def said(path: Path, rule: str = "architecture") -> list[tuple[str, str]]:
    return [(f.severity, f.message) for f in ckptkit.validate(path).findings if f.rule == rule]


def found(path: Path, name: str) -> int:
    """How many of the tensors transformers takes from a folder."""
    transformers = pytest.importorskip("transformers")
    _, loaded = getattr(transformers, name).from_pretrained(path, output_loading_info=True)
    return len(load_file(path / "model.safetensors").keys() - set(loaded["unexpected_keys"]))


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "model."])
def test_names_in_a_wrapper_are_not_those_that_are_looked_for(prefix: str, tmp_path: Path) -> None:
    path = folder(tmp_path, prefix)
    ((severity, message),) = said(path)
    assert severity == "warning" and repr(prefix) in message and "finds none of the" in message
    assert found(path, "BertForPreTraining") == 0


def test_names_as_they_are_looked_for_are_no_finding(tmp_path: Path) -> None:
    path = folder(tmp_path, "")
    assert said(path) == [] and found(path, "BertForPreTraining") == len(load_file(path / "model.safetensors"))


def test_a_wrapper_in_a_file_that_no_loader_takes_by_itself_is_no_finding(tmp_path: Path) -> None:
    assert said(folder(tmp_path, "module.", file="step-100.safetensors")) == []


@pytest.mark.parametrize(
    ("under", "declared", "name"), [("bert.", "ernie", "ErnieForPreTraining"), ("ernie.", "bert", "BertForPreTraining")]
)
def test_the_prefix_of_a_cousin_is_not_the_one_that_is_looked_for(under: str, declared: str, name: str, tmp_path: Path) -> None:
    path = folder(tmp_path, "", under=under, model_type=declared, architectures=[name])
    ((severity, message),) = said(path)
    assert severity == "warning" and f"{under!r}" in message and f"{declared}.' is looked for" in message
    core = [n for n in load_file(path / "model.safetensors") if n.startswith(under)]
    assert found(path, name) <= len(load_file(path / "model.safetensors")) - len(core)


def test_an_adapters_configuration_beside_whole_weights(tmp_path: Path) -> None:
    path = folder(tmp_path, "")
    (path / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 8, "base_model_name_or_path": "other/model"}))
    ((severity, message),) = said(path, "adapter")
    assert severity == "warning" and "loads other/model" in message
    shutil.move(path / "adapter_config.json", tmp_path)
    assert said(path, "adapter") == []
