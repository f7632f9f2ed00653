"""docs/models.md tells the truth: its Python runs, and names every argument (tests/test_documentation.py runs its commands)."""

from __future__ import annotations

import re

import oracles
import pytest

TEXT = (oracles.ROOT / "docs" / "models.md").read_text(encoding="utf-8")


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
