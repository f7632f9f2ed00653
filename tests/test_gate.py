"""The gate: which findings count, policy files, baselines, and the outputs that other programs read."""

from __future__ import annotations

import json
import re
import shutil
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import oracles
import pytest
from commands import run

LARGE = oracles.made("roberta-large-shaped")
SCHEMA = json.loads((Path(__file__).parent / "data" / "sarif-schema-2.1.0.json").read_text(encoding="utf-8"))


@pytest.fixture
def wrong(tmp_path: Path) -> Path:
    """A model whose configuration says 12 layers and whose weights hold 24, with a warning besides."""
    shutil.copytree(LARGE, tmp_path / "models" / "m")
    raw = json.loads((LARGE / "config-12.json").read_text())
    (tmp_path / "models" / "m" / "config.json").write_text(json.dumps({**raw, "auto_map": {"AutoModel": "x.Y"}}))
    (tmp_path / "models" / "m" / "config-12.json").unlink()
    return tmp_path / "models" / "m"


def conforms(value: Any, schema: dict[str, Any], at: str = "$") -> list[str]:
    """What of `value` breaks a JSON schema (the keywords that SARIF's uses)."""
    if "$ref" in schema:
        target: Any = SCHEMA
        for part in schema["$ref"].removeprefix("#/").split("/"):
            target = target[part]
        return conforms(value, target, at)
    out = []
    kinds = {"object": dict, "array": list, "string": str, "boolean": bool, "integer": int, "number": (int, float)}
    types = schema.get("type", [])
    for kind in [types] if isinstance(types, str) else []:
        if not isinstance(value, kinds[kind]) or (kind in ("integer", "number") and isinstance(value, bool)):
            return [f"{at}: no {kind}"]
    if "enum" in schema and value not in schema["enum"]:
        out.append(f"{at}: {value!r} is none of {schema['enum']}")
    if "pattern" in schema and isinstance(value, str) and not re.search(schema["pattern"], value):
        out.append(f"{at}: {value!r} does not fit {schema['pattern']}")
    if (
        isinstance(value, (int, float))
        and not isinstance(value, bool)
        and (value < schema.get("minimum", value) or value > schema.get("maximum", value))
    ):
        out.append(f"{at}: {value} out of range")
    if "anyOf" in schema and all(conforms(value, s, at) for s in schema["anyOf"]):
        out.append(f"{at}: fits none of anyOf")
    if isinstance(value, list):
        if len(value) < schema.get("minItems", 0) or (
            schema.get("uniqueItems") and len({json.dumps(v, sort_keys=True) for v in value}) < len(value)
        ):
            out.append(f"{at}: too few or repeated items")
        for i, v in enumerate(value):
            out += conforms(v, schema.get("items", {}), f"{at}[{i}]")
    if isinstance(value, dict):
        properties = schema.get("properties", {})
        out += [f"{at}: {k} is missing" for k in schema.get("required", []) if k not in value]
        for k, v in value.items():
            if k in properties:
                out += conforms(v, properties[k], f"{at}.{k}")
            elif schema.get("additionalProperties") is False:
                out.append(f"{at}: {k} is not allowed")
            elif isinstance(schema.get("additionalProperties"), dict):
                out += conforms(v, schema["additionalProperties"], f"{at}.{k}")
    return out


def test_the_schema_check_can_fail() -> None:
    assert conforms({"version": "2.1.0", "runs": [{"tool": {"driver": {}}}]}, SCHEMA) == ["$.runs[0].tool.driver: name is missing"]
    assert conforms({"version": "2.0.0", "runs": [], "x": 1}, SCHEMA)


def test_sarif_fits_its_schema_and_does_not_change_from_run_to_run(wrong: Path) -> None:
    first, second = run("validate", wrong, "--format", "sarif"), run("validate", wrong, "--format", "sarif")
    assert first.returncode == 1 and first.stdout == second.stdout
    log = json.loads(first.stdout)
    assert conforms(log, SCHEMA) == []
    results = log["runs"][0]["results"]
    assert [(r["ruleId"], r["level"]) for r in results] == [("layers", "error"), ("remote-code", "warning")]
    rules = log["runs"][0]["tool"]["driver"]["rules"]
    assert all(rules[r["ruleIndex"]]["id"] == r["ruleId"] for r in results)
    assert "12 layers" in results[0]["message"]["text"] and "hold 24" in results[0]["message"]["text"]


def test_sarif_of_an_unreadable_checkpoint_and_of_hostile_names(tmp_path: Path) -> None:
    (tmp_path / "a b\n%.safetensors").write_bytes(b"junk")
    done = run("validate", tmp_path / "a b\n%.safetensors", "--format", "sarif")
    assert done.returncode == 2 and conforms(json.loads(done.stdout), SCHEMA) == []
    assert json.loads(done.stdout)["runs"][0]["results"][0]["ruleId"] == "unreadable"


@pytest.mark.parametrize(("fail_on", "failures"), [("error", 1), ("warning", 2)])
def test_junit_is_read_by_a_parser(wrong: Path, fail_on: str, failures: int) -> None:
    done = run("validate", wrong, "--format", "junit", "--fail-on", fail_on)
    root = ET.fromstring(done.stdout)
    cases = root.findall("testsuite/testcase")
    failed = {c.get("name"): c.find("failure") for c in cases if c.find("failure") is not None}
    assert len(failed) == failures == int(str(root.get("failures"))) and len(cases) == int(str(root.get("tests")))
    assert "hold 24" in str(failed["layers"].text) and "12" in str(failed["layers"].get("message"))


def test_github_annotations_are_one_command_a_line(wrong: Path) -> None:
    lines = run("validate", wrong, "--format", "github").stdout.splitlines()
    command = r"::(error|warning|notice) file=[^,:\n]+,title=ckptkit [a-z-]+::.+"
    assert [re.match(command, x)[1] for x in lines] == ["error", "warning"]  # type: ignore[index]


def test_rules_are_selected_and_ignored(wrong: Path) -> None:
    def rules(*args: object) -> tuple[int, list[str]]:
        done = run("validate", wrong, "--format", "json", *args)
        return done.returncode, [f["rule"] for f in json.loads(done.stdout)["findings"]]

    assert rules() == (1, ["layers", "remote-code"])
    assert rules("--select", "remote-code") == (0, ["remote-code"])
    assert rules("--select", "remote-code", "--fail-on", "warning") == (1, ["remote-code"])
    assert rules("--ignore", "layers,remote-code") == (0, [])
    unknown = run("validate", wrong, "--ignore", "layer")
    assert unknown.returncode == 2 and "did you mean 'layers'" in unknown.stderr


def test_a_baseline_knows_what_was_there_and_nothing_new(wrong: Path, tmp_path: Path) -> None:
    base = tmp_path / "base.json"
    assert run("validate", wrong, "--write-baseline", base).returncode == 0
    done = run("validate", wrong, "--baseline", base)
    assert done.returncode == 0 and "2 known" in done.stdout and "12 layers" not in done.stdout
    moved = tmp_path / "elsewhere" / "models"
    shutil.copytree(wrong.parent, moved)
    assert run("validate", moved / "m", "--baseline", base).returncode == 0
    config = wrong / "config.json"
    config.write_text(config.read_text().replace('"num_hidden_layers": 12', '"num_hidden_layers": 6'))
    done = run("validate", wrong, "--baseline", base)
    assert done.returncode == 1 and "6 layers" in done.stdout


POLICY = """
ignore = ["remote-code"]
[[checkpoint]]
path = "models/*"
expect = { architecture = "roberta", layers = 24 }
containers = ["safetensors"]
"""


def test_a_policy_is_run_without_a_path_from_any_folder_below(wrong: Path, tmp_path: Path) -> None:
    (tmp_path / "ckptkit.toml").write_text(POLICY)
    done = run("validate", cwd=wrong)
    assert done.returncode == 1 and "hold 24" in done.stdout and "remote-code" not in done.stdout
    (tmp_path / "ckptkit.toml").write_text(POLICY + 'severity = { layers = "warning" }\n')
    assert run("validate", cwd=tmp_path).returncode == 0
    assert run("validate", "--fail-on", "warning", cwd=tmp_path).returncode == 1
    (tmp_path / "ckptkit.toml").write_text(POLICY.replace("24", "23") + 'severity = { layers = "off" }\n')
    done = run("validate", cwd=tmp_path)
    assert done.returncode == 1 and "expected layers 23; the checkpoint has 24" in done.stdout
    (tmp_path / "ckptkit.toml").write_text(POLICY.replace('["safetensors"]', '["tf"]') + 'severity = { layers = "off" }\n')
    assert "allowed: tf" in run("validate", cwd=tmp_path).stdout


def test_a_policy_in_pyproject_and_reports_written_beside(wrong: Path, tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[tool.ckptkit]\nfail-on = "error"\n[[tool.ckptkit.checkpoint]]\npath = "models/m"\n')
    done = run("validate", "--report", "sarif=out.sarif", "--report", "junit=out.xml", "--report", "markdown=out.md", cwd=tmp_path)
    assert done.returncode == 1
    assert conforms(json.loads((tmp_path / "out.sarif").read_text()), SCHEMA) == []
    assert ET.fromstring((tmp_path / "out.xml").read_text()).tag == "testsuites"
    assert (tmp_path / "out.md").read_text().count("\n| error | layers |") == 1


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "lists no checkpoint"),
        ("ignored = []", "did you mean 'ignore'"),
        ('[[checkpoint]]\npath = "nothing/*"', "nothing/*"),
        ('[[checkpoint]]\npath = "models/m"\nexpects = {}', "did you mean 'expect'"),
        ('[[checkpoint]]\npath = "models/m"\nexpect = { layres = 3 }', "layres"),
        ('[[checkpoint]]\npath = "models/m"\nseverity = { layers = "fatal" }', "fatal"),
        ("[[checkpoint", "not valid TOML"),
        ('fail-on = "info"\n[[checkpoint]]\npath = "models/m"', "fail-on"),
    ],
)
def test_a_policy_that_is_wrong_is_a_usage_error_in_one_line(wrong: Path, tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "ckptkit.toml").write_text(text)
    done = run("validate", cwd=tmp_path)
    assert done.returncode == 2 and says in done.stderr and len(done.stderr.splitlines()) == 1, done.stderr


def test_one_unreadable_checkpoint_does_not_hide_the_others(wrong: Path, tmp_path: Path) -> None:
    (tmp_path / "models" / "junk.safetensors").write_bytes(b"junk")
    done = run("validate", wrong, tmp_path / "models" / "junk.safetensors", oracles.made("bert-hf"))
    assert done.returncode == 2 and "hold 24" in done.stdout and "no findings" in done.stdout and "cannot be read" in done.stdout


def test_an_expected_variant_that_is_none_is_told_with_both_shapes() -> None:
    done = run("validate", oracles.made("bert-hf"), "--expect", "variant=bert-base", "--format", "json")
    (found,) = [f for f in json.loads(done.stdout)["findings"] if f["rule"] == "expect"]
    assert done.returncode == 1 and "bert-base (layers 12, hidden 768" in found["message"] and "has layers 4, hidden 32" in found["message"]
    done = run("validate", oracles.made("bert-hf"), "--expect", "variant=bert-bse")
    assert done.returncode == 1 and "no variant known here" in done.stdout


def test_an_index_that_counts_a_copied_tie_of_an_unknown_architecture_once_is_right(tmp_path: Path) -> None:
    import numpy as np
    from safetensors.numpy import save_file

    x, y = np.arange(8, dtype=np.float32), np.arange(6, dtype=np.float32)
    parts = {"model-00001-of-00002.safetensors": {"a.table": x, "b.b": y}, "model-00002-of-00002.safetensors": {"z.head": x, "c.c": y + 1}}
    for name, arrays in parts.items():
        save_file(arrays, tmp_path / name)
    index = {"metadata": {"total_size": 32 + 24 + 24}, "weight_map": {n: f for f, arrays in parts.items() for n in arrays}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "total_size" not in run("validate", tmp_path).stdout
    save_file({"z.head": x + 1, "c.c": y + 1}, tmp_path / "model-00002-of-00002.safetensors")
    assert "total_size 80; the tensors are 112 bytes" in run("validate", tmp_path).stdout
