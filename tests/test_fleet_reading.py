"""Digests, statistics and values by an engine: what one process finds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import oracles
import pytest
from commands import run
from safetensors.numpy import load_file, save_file

import ckptkit
from ckptkit.errors import CheckpointError
from ckptkit.verbs import spread
from ckptkit.verbs.digest import digest_some

BERT = oracles.made("bert-hf")


@pytest.fixture(autouse=True)
def _small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spread, "PIECE", 20_000)


def test_the_digest_is_that_of_one_process() -> None:
    alone, spread_out = ckptkit.digest(BERT), ckptkit.digest(BERT, on="local:2")
    assert spread_out == alone and len(alone.parameters) > 20
    google = oracles.made("bert-google")
    assert run("digest", google, "--on", "local:1").stdout == run("digest", google).stdout


def test_statistics_are_those_of_one_process(tmp_path: Path) -> None:
    here, there = (run("inspect", BERT, "--stats", "--format", "csv", *words) for words in ([], ["--on", "local:2"]))
    assert here.returncode == there.returncode == 0 and there.stdout == here.stdout and "," in here.stdout


def test_values_that_are_wrong_are_found(tmp_path: Path) -> None:
    weights = load_file(BERT / "model.safetensors")
    name = sorted(weights)[3]
    weights[name] = np.full_like(weights[name], np.nan)
    for f in BERT.iterdir():
        (tmp_path / f.name).write_bytes(f.read_bytes())
    save_file(weights, tmp_path / "model.safetensors")
    alone, spread_out = ckptkit.validate(tmp_path), ckptkit.validate(tmp_path, on="local:2")
    assert spread_out.findings == alone.findings and any("NaN" in f.message for f in alone.findings)
    here, there = (run("validate", tmp_path, *words) for words in ([], ["--on", "local:2"]))
    assert here.returncode == there.returncode == 1 and there.stdout == here.stdout and "NaN" in here.stdout


def test_differences_are_those_of_one_process(tmp_path: Path) -> None:
    weights = load_file(BERT / "model.safetensors")
    name = sorted(weights)[3]
    weights[name] = weights[name] + 1
    for f in BERT.iterdir():
        (tmp_path / f.name).write_bytes(f.read_bytes())
    save_file(weights, tmp_path / "model.safetensors")
    for other, status in ((oracles.made("bert-google"), 0), (tmp_path, 1)):
        here, there = (run("diff", BERT, other, "--tensors", *words) for words in ([], ["--on", "local:2"]))
        assert here.returncode == there.returncode == status and there.stdout == here.stdout


def test_a_checkpoint_that_was_replaced_meanwhile_is_an_error(tmp_path: Path) -> None:
    save_file({"w": np.ones((10, 10), np.float32)}, tmp_path / "model.safetensors")
    with ckptkit.examine(tmp_path) as subject:
        same = spread.same_as(subject, str(tmp_path), spread.Reading())
    save_file({"w": np.zeros((10, 10), np.float32)}, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match="has changed since it was opened"):
        digest_some(same, ("w",))
