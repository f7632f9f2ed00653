"""The registry of rules: every id that a finding has is documented, and docs/rules.md is what the rules say."""

from __future__ import annotations

import ast
from pathlib import Path

import oracles
import pytest

import ckptkit
from ckptkit.findings import SEVERITIES
from ckptkit.rules import CHECKS, READS, RULES
from ckptkit.rules.__main__ import page

CONVERTING = {  # what a conversion or a merge says of its target
    "adjusted", "carried", "function", "quantize", "dropped", "initialised", "lossy", "merge", "overflow", "plan",
}  # fmt: skip


def ids_in_the_code() -> set[str]:
    """The rule ids that stand as second argument of a Finding, by reading the code (and the constant RULE of _shards)."""
    found = set()
    for path in (oracles.ROOT / "ckptkit").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Finding" and len(node.args) > 1:
                second = node.args[1]
                if isinstance(second, ast.Constant):
                    found.add(str(second.value))
    return found


def test_every_rule_that_a_finding_names_is_documented() -> None:
    assert ids_in_the_code() - CONVERTING <= RULES.keys()


def test_every_documented_rule_says_what_it_is() -> None:
    for rule in RULES.values():
        assert rule.severity in SEVERITIES and rule.reads in READS and rule.basis in ("confirmed", "inferred", "undecided")
        assert rule.title and len(rule.text) > 20 and not rule.title.endswith("."), rule.id
        assert rule.id == rule.id.lower() and rule.id.replace("-", "").isalnum()
    assert {i for i, _, _ in CHECKS} <= RULES.keys()


def test_the_page_of_rules_is_up_to_date() -> None:
    path = oracles.ROOT / "docs" / "rules.md"
    assert path.read_text(encoding="utf-8") == page(), "python -m ckptkit.rules > docs/rules.md"


@pytest.mark.parametrize("case", ["hf_bert/bin_sharded", "hf_roberta/bin_sharded"])
def test_a_total_that_counts_copied_ties_once_is_right(case: str) -> None:
    assert ckptkit.validate(oracles.golden(case.split("/")[0]) / case.split("/")[1]).findings == ()


def test_another_total_is_a_warning_still(tmp_path: Path) -> None:
    source = oracles.golden("hf_bert") / "bin_sharded"
    for p in source.iterdir():
        (tmp_path / p.name).write_bytes(p.read_bytes())
    index = tmp_path / "pytorch_model.bin.index.json"
    index.write_text(index.read_text().replace("153236", "153240"))
    found = ckptkit.validate(tmp_path).findings
    assert [(f.rule, f.severity) for f in found] == [("shards", "warning")] and "153,240" in found[0].message
