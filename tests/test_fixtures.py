"""The fixtures are what their lists say they are."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import oracles
import pytest


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", oracles.FIXTURES / "generate.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_made_fixtures_are_what_their_script_makes() -> None:
    done = subprocess.run(
        [sys.executable, str(oracles.FIXTURES / "generate.py"), "--check"], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("case", ["bert_tf", "bert_tf_sharded", "bert_tf_v1", "roberta_wwm_large_tf"])
def test_the_made_google_names_are_those_of_googles_code(case: str, generate: ModuleType) -> None:
    import torch

    folder = oracles.golden(case)
    state = torch.load(folder / "hf430_converted" / "pytorch_model.bin", map_location="cpu", weights_only=True)
    derived = {"bert.embeddings.position_ids", "cls.predictions.decoder.weight", "cls.predictions.decoder.bias"}
    renamed = generate.google_bert({name: tensor.numpy() for name, tensor in state.items() if name not in derived})
    original = oracles.tf_variables(folder / "bert_model.ckpt")
    assert renamed.keys() == original.keys() - {"global_step"}
    for name, array in renamed.items():
        np.testing.assert_array_equal(array, original[name], err_msg=name)


def test_the_golden_index_lists_exactly_the_files_that_are_there() -> None:
    listed = {case: set(entry["files"]) for case, entry in oracles.golden_index().items()}
    folders = [path for path in (oracles.FIXTURES / "golden").iterdir() if path.is_dir()]
    there = {folder.name: {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()} for folder in folders}
    assert listed == there


def test_the_hostile_manifest_lists_only_what_is_there() -> None:
    for row in oracles.hostile_cases():
        path = Path(row["path"])
        assert path.exists() or list(path.parent.glob(path.name + "*")), row["id"]
    assert len(oracles.hostile_cases("safetensors", "zip")) == 36
