"""The forms of --format are the modules of report/forms: one file more is one form more, in the help and in what is printed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import oracles
import pytest

import ckptkit

FORMS = Path(ckptkit.__file__).parent / "report" / "forms"
TSV = '''"""Values between tabs: a line for each tensor."""


def inspection(i, **options):
    return "\\n".join(f"{t.name},{t.dtype}" for t in i.tensors)


def checked(checked, *, fail_on="error", **options):
    return "\\n".join(f"{c.path},{len(c.findings)},{fail_on}" for c in checked)
'''
COMMANDS = {
    "inspect": "inspection",
    "validate": "checked",
    "verify": "verification",
    "diff": "diff",
    "convert": "plan",
    "list": "catalogue",
}


def run(root: Path, *args: str | Path) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(root)}
    return subprocess.run(
        [sys.executable, "-m", "ckptkit", *map(str, args)], capture_output=True, text=True, env=env, cwd=root, check=False
    )


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package with one file more."""
    root = tmp_path_factory.mktemp("package")
    shutil.copytree(FORMS.parents[1], root / "ckptkit", ignore=shutil.ignore_patterns("__pycache__"))
    (root / "ckptkit" / "report" / "forms" / "tsv.py").write_text(TSV)
    return root


def test_a_form_is_one_file_that_is_found_by_being_there(copied: Path, tmp_path: Path) -> None:
    model = oracles.golden("hf_bert") / "safetensors"
    done = run(copied, "inspect", model, "--format", "tsv")
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.splitlines()) == sorted(f"{t.name},{t.dtype}" for t in ckptkit.inspect(model).tensors)
    done = run(copied, "validate", model, "--report", f"tsv={tmp_path / 'out.tsv'}", "--fail-on", "warning", "--format", "json")
    assert json.loads(done.stdout)["exit_code"] == 0
    assert (tmp_path / "out.tsv").read_text() == f"{model},0,warning\n"


def test_help_and_messages_name_the_forms_that_show_a_thing(copied: Path) -> None:
    assert "|tsv|" in run(copied, "inspect", "--help").stdout.replace("]", "|")
    done = run(copied, "diff", "a", "b", "--format", "tsv")  # it shows no differences
    assert done.returncode == 2 and "there is no 'tsv': one of text, json, markdown" in done.stderr
    done = run(copied, "validate", "x", "--report", "pdf=x")
    assert done.returncode == 2 and "--report pdf: no such format" in done.stderr and "tsv" in done.stderr
    assert "tsv" not in run(FORMS.parents[2], "inspect", "--help").stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_offers_the_forms_that_have_its_function(command: str) -> None:
    stated = {p.stem for p in FORMS.glob("[!_]*.py") if f"\ndef {COMMANDS[command]}(" in p.read_text()}
    offered = run(FORMS.parents[2], command, "--help").stdout
    words = offered.partition("--format [")[2].partition("]")[0]
    assert set(words.replace("\n", "").replace(" ", "").split("|")) == stated
