"""The front matter of the model card beside the weights."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import ckptkit

MODEL = Path(__file__).resolve().parents[2] / "fixtures" / "made" / "bert-hf"


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("# no front matter\n", ""),
        ("---\n---\n# empty\n", ""),
        ("---\nlicense: apache-2.0\nbase_model: a/b\ndate: 2024-01-01\nmodel-index:\n- name: x\n---\n", ""),
        ("---\nlicense: other\nlicense_name: own\nlicense_link: https://a/b\n---\n", ""),
        ("---\nlicense: other\nlicense_name: own\nlicense_link: LICENSE\n---\n", "license_link"),
        ("---\na: &x [1]\nb: *x\n---\n", ""),
        ("---\nlicense: other\n---\n", "license"),
        ("---\nlicense: [apache\n---\n", "README.md"),
        ("---\n- apache\n---\n", "README.md"),
        ("---\nlicense: mit\n", "README.md"),
    ],
)
def test_what_a_card_says_of_itself(text: str, where: str, tmp_path: Path) -> None:
    folder = tmp_path / "m"
    shutil.copytree(MODEL, folder)
    (folder / "README.md").write_text(text)
    found = [f for f in ckptkit.validate(folder, integrity=False).findings if f.rule == "card"]
    assert [(f.severity, f.where) for f in found] == ([("warning", where)] if where else [])
    (folder / "LICENSE").write_text("own")
    assert where != "license_link" or not [f for f in ckptkit.validate(folder, integrity=False).findings if f.rule == "card"]
