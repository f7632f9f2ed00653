"""docs/models.md tells the truth: its Python runs, its commands do what it says."""

from __future__ import annotations

import re
from pathlib import Path

import oracles
import pytest
import running
from safetensors.numpy import load_file, save_file

TEXT = (oracles.ROOT / "docs" / "models.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^    ckptkit (.+)$", TEXT, re.M)
PROGRAM = re.compile(r"--to (onnx|pt2|savedmodel|keras)$")  # tested in test_export.py: they take long


def incomplete(folder: Path) -> None:
    source = oracles.made("bert-hf")
    arrays = dict(load_file(source / "model.safetensors"))
    del arrays["bert.encoder.layer.1.output.dense.weight"]
    folder.mkdir()
    save_file(arrays, folder / "model.safetensors")
    (folder / "config.json").write_bytes((source / "config.json").read_bytes())


def test_its_commands_run_in_its_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    incomplete(tmp_path / "incomplete")
    (tmp_path / "fixtures").symlink_to(oracles.FIXTURES)
    monkeypatch.chdir(tmp_path)
    assert len(COMMANDS) >= 14
    for line in COMMANDS:
        if PROGRAM.search(line):
            continue
        status, _, err = running.command(monkeypatch, *line.split())
        assert status == 0, f"{line}: {err}"


def test_its_python_runs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    code = re.search(r"```python\n(.*?)```", TEXT, re.S)
    assert code is not None
    monkeypatch.chdir(oracles.ROOT)
    names: dict[str, object] = {}
    with pytest.warns(UserWarning, match="classifier"):
        exec(code[1], names)
    assert "classifier.weight" in capsys.readouterr().out
    assert names["model"].embeddings.word.weight.shape[0] == 300  # type: ignore[attr-defined]


def test_its_arguments_are_those_of_the_function() -> None:
    import inspect

    import ckptkit

    for name in inspect.signature(ckptkit.build_transformer_model).parameters:
        assert re.search(rf"\b{name}=|`{name}`", TEXT) or name in ("config_path", "checkpoint_path"), name


def test_its_options_exist() -> None:
    from click.testing import CliRunner

    from ckptkit.cli._group import cli

    helps = "".join(CliRunner().invoke(cli, [c, "--help"]).output for c in ("convert", "verify", "summary"))
    for option in sorted(set(re.findall(r"--[a-z][a-z-]+", TEXT))):
        assert option in helps, option
