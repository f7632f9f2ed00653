"""`ckptkit inspect`: its output and its exit status."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import oracles
import pytest
from commands import run


def process(*args: str | Path, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ckptkit", *map(str, args)],
        capture_output=True,
        text=True,
        env={**os.environ, **env},
        timeout=120,
        check=False,
    )


def test_text_says_what_it_is_on_the_first_screen() -> None:
    done = run("inspect", oracles.golden("bert_tf_optim"))
    assert done.returncode == 0 and done.stderr == ""
    screen = "\n".join(done.stdout.splitlines()[:24])
    for word in (
        "BERT (bert)",
        "google",
        "TensorFlow V2 bundle",
        "5 layers x 32 hidden x 4 heads",
        "56,751",
        "F32",
        "66.7 %",
        "bert_config.json",
    ):
        assert word in screen, word


def test_json_is_the_whole_of_it() -> None:
    done = run("inspect", oracles.golden("bert_tf"), "--format", "json")
    data = json.loads(done.stdout)
    assert done.returncode == 0 and data["schema_version"] == 1
    assert data["architecture"]["name"] == "bert" and data["counts"] == {"layers": 3}
    assert {row["name"] for row in data["tensors"]} == set(oracles.tf_variables(oracles.golden("bert_tf") / "bert_model.ckpt"))


def test_markdown_is_tables() -> None:
    out = run("inspect", oracles.golden("bert_tf"), "--format=markdown", "--tree").stdout
    assert "| architecture | BERT (bert)" in out and "## tree" in out and "3 x encoder.layers.\\{0...2\\}" in out


def test_a_contradiction_is_shown_and_the_status_is_0_all_the_same() -> None:
    folder = oracles.made("roberta-large-shaped")
    done = run("inspect", folder, "--config", folder / "config-12.json")
    assert done.returncode == 0 and done.stderr == ""
    assert "says 12 layers" in done.stdout and "hold 24" in done.stdout


def test_output_to_a_pipe_has_no_colour() -> None:
    folder = oracles.made("roberta-large-shaped")
    assert "\x1b" not in run("inspect", folder, "--config", folder / "config-12.json", TERM="xterm-256color").stdout


def test_an_output_without_utf_8_is_no_obstacle(tmp_path: Path) -> None:
    import numpy as np
    from safetensors.numpy import save_file

    save_file({"Gewichte.größe": np.zeros(2, np.float32)}, tmp_path / "x.safetensors")
    done = process("inspect", tmp_path / "x.safetensors", PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert done.returncode == 0 and "Gewichte.gr\\xf6\\xdfe" in done.stdout


@pytest.mark.parametrize("text", [b"", b"hello, this is no checkpoint\n"])
def test_what_is_no_checkpoint_is_one_line_and_status_2(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "x.bin").write_bytes(text)
    one_line(run("inspect", tmp_path / "x.bin"))


def test_missing_empty_and_cut_are_one_line_and_status_2(tmp_path: Path) -> None:
    one_line(run("inspect", tmp_path / "nowhere"))
    one_line(run("inspect", tmp_path))
    whole = (oracles.made("roberta-large-shaped") / "model.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(whole[: len(whole) // 2])
    one_line(run("inspect", tmp_path / "cut.safetensors"))


@pytest.mark.parametrize("option", ["--architecture", "--dialect", "--container"])
def test_a_name_that_there_is_not_is_one_line_with_those_there_are(option: str) -> None:
    done = run("inspect", oracles.golden("bert_tf"), option, "nonsense")
    one_line(done)
    assert "Hint: one of" in done.stderr


def one_line(done: subprocess.CompletedProcess[str]) -> None:
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1 and " Hint: " in done.stderr
