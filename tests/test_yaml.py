"""YAML configurations: what PyYAML's safe loader makes of them, as JSON has it; what could hide something or never end is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import oracles
import pytest
import yaml

from ckptkit.configuration.read import read_config
from ckptkit.errors import CorruptError, LimitError
from ckptkit.support.yaml import yaml_mapping

LISTS = """
task:
  model:
    encoder:
      type: bert
      bert: {num_layers: 2, dropout_rate: 0.1}
  train_data:
    seq_lengths: [128, 512]
    files:
    - one
    - name: two
      parts: [a, b]
  init_checkpoint: ''
runtime:
  mesh: [[1, 2], [3, 4]]
"""


def test_lists_are_read_as_they_are_written() -> None:
    found = yaml_mapping(LISTS)
    assert found == yaml.safe_load(LISTS)
    assert found["task"]["train_data"]["files"] == ["one", {"name": "two", "parts": ["a", "b"]}]  # type: ignore[index]
    assert found["runtime"] == {"mesh": [[1, 2], [3, 4]]}


def test_the_published_form_is_what_the_safe_loader_reads() -> None:
    files = sorted(oracles.made("model_garden").glob("*/params.yaml"))
    assert files
    for file in files:
        assert yaml_mapping(file.read_text()) == yaml.safe_load(file.read_text())


def test_values_are_those_that_json_has() -> None:
    found = yaml_mapping("0: zero\ntrue: yes\nday: 2020-02-01\nfar: .inf\nnone: ~\nsmall: 1.0e-5\n")
    assert found == {"0": "zero", "true": True, "day": "2020-02-01", "far": "inf", "none": None, "small": 1e-5}
    assert json.loads(json.dumps(found)) == found


def test_json_is_yaml_and_an_empty_file_says_nothing() -> None:
    assert yaml_mapping('{"a": [1, {"b": null}]}') == {"a": [1, {"b": None}]}
    assert yaml_mapping("") == yaml_mapping("# nothing\n") == {}


def test_our_own_block_stands_in_a_comment() -> None:
    assert yaml_mapping('# ckptkit: {"values": {"heads": 4}}\na: 1\n') == {"a": 1, "ckptkit": {"values": {"heads": 4}}}
    with pytest.raises(CorruptError, match="the block after"):
        yaml_mapping("# ckptkit: {\na: 1\n")


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(8)
)


@pytest.mark.parametrize(
    ("text", "error", "said"),
    [
        (BOMB, CorruptError, "alias [*]a at line 2"),
        ("a: &a {b: *a}\n", CorruptError, "alias"),
        ("a: 1\nb:\n  c: 1\n  c: 2\n", CorruptError, "'c' twice in one mapping at line 4"),
        ("? [1, 2]\n: x\n", CorruptError, "key that is no text"),
        ("- 1\n- 2\n", CorruptError, "a list, not a mapping"),
        ("word", CorruptError, "a single value, not a mapping"),
        ("a: [1, 2\nb: 3\n", CorruptError, "not valid YAML: .* at line 2"),
        ("a: !!python/object/apply:os.system ['true']\n", CorruptError, "could not determine a constructor"),
        ("a: !!binary aGk=\n", CorruptError, "bytes"),
        ("a: 2020-13-45\n", CorruptError, "month"),
        ("a: b\n---\na: c\n", CorruptError, "not valid YAML"),
        ("a: " + "[" * 200 + "]" * 200, LimitError, "json_depth"),
        ("a: " + "9" * 5000, LimitError, "json_digits"),
        ("a: [" + "1, " * 100_000 + "]", LimitError, "yaml_values"),
        ("a: " + "x" * (1 << 20), LimitError, "config_text"),
    ],
    ids=lambda x: x[:20] if isinstance(x, str) else None,
)
def test_what_hides_or_never_ends_is_refused_in_one_line(text: str, error: type[Exception], said: str, tmp_path: Path) -> None:
    with pytest.raises(error, match=said):
        yaml_mapping(text)
    (tmp_path / "params.yaml").write_text(text)
    with pytest.raises(error, match=r"params\.yaml") as e:
        read_config(str(tmp_path / "params.yaml"))
    assert "\n" not in str(e.value)


def test_the_parser_is_imported_only_where_such_a_file_is_met() -> None:
    code = "import sys, ckptkit; ckptkit.inspect({!r}); print('yaml' in sys.modules)"
    for path, imported in ((oracles.golden("hf_bert") / "safetensors", "False"), (oracles.made("model_garden") / "span", "True")):
        done = subprocess.run([sys.executable, "-c", code.format(str(path))], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == imported
