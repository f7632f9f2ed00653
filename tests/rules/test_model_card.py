"""The front matter of the model card beside the weights."""

from __future__ import annotations

import datetime
import shutil
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

import ckptkit
from ckptkit.errors import CorruptError
from ckptkit.rules import card

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


LINES = (
    "license: other", "license: apache-2.0", "license: yes", "license: No", "license:", "license: null", "license: [a",
    "license: Mit # own",
    "license: 12", "license: 'other'", "language:", "- en", "- zh", "- text: x", "-", "  - en", "", "tags: a b", "license_link: LICENSE",
    "license_link: https://a/b", "model-index:", "# words", "a: &x b", "b: *x", "date: 2024-01-01", "w: e1", "l: on",
)  # fmt: skip


@settings(max_examples=400)
@given(lines=st.lists(st.sampled_from(LINES), max_size=6))
def test_plain_lines_say_what_yaml_says(lines: list[str]) -> None:
    try:
        want = yaml.safe_load("\n".join(lines))
    except yaml.YAMLError:
        want = "refused"
    try:
        said = card._front_matter(lines)
    except CorruptError:
        return  # also what has an alias, a key twice, or is no mapping
    assert said.keys() == (want or {}).keys()
    words = {k: str(v) for k, v in (want or {}).items() if isinstance(v, (str, datetime.date))}
    assert words == {k: v for k, v in said.items() if isinstance(v, str)}


def test_a_plain_card_is_read_without_yaml(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yaml, "safe_load", None)
    lines = ["license: apache-2.0", "language:", "- en", "tags:", "- text-generation", "pipeline_tag: fill-mask"]
    assert card._front_matter(lines) == {"license": "apache-2.0", "language": None, "tags": None, "pipeline_tag": "fill-mask"}
