"""What tripped people in their first ten minutes, each line by line where no other file of tests holds it.

Alone and `list`: test_terminal. Completion: test_terminal. How a source is read: test_reading. Progress: test_progress_line. Widths, pager,
colours, help: test_terminal. Python's objects and arguments: test_python_objects. README's commands: test_documentation; examples that
learn: runtime/test_examples. A hub cache: test_folders. Templates, tokens, tokenizers: rules/test_tokenization.
"""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import oracles
import pytest
from terminals import COLOUR, on_terminal

import ckptkit

MODEL = oracles.made("bert-hf")
WIDTHS = (60, 80, 200)
SHOWN = {
    "alone": (),
    "list": ("list",),
    "summary": ("summary", MODEL),
    "flow": ("summary", MODEL, "--flow"),
    "memory": ("inspect", MODEL, "--memory"),
    "sorted": ("inspect", MODEL, "--sort", "norm", "--top", "5"),
    "histogram": ("inspect", MODEL, "--histogram", "*query.weight"),
    "digest": ("digest", MODEL, "--parameters"),
    "verify": ("verify", MODEL, oracles.made("bert-google"), "--level", "values"),
    "rules": ("validate", MODEL, "--select", "layrs"),
    "browse's help": ("browse", "--help"),
    "list's help": ("list", "--help"),
    "packed": ("inspect", oracles.FIXTURES / "forms" / "quant_gptq_v1", "--stats"),
    "folder": ("validate", "--recursive", oracles.made("bert-hf").parent, "--no-integrity"),
    "adapter": ("validate", oracles.FIXTURES / "adapters" / "rslora" / "adapter"),
    "dry run": ("merge", *(oracles.FIXTURES / "adapters" / "rslora" / n for n in ("base", "adapter")), "/nonexistent/out", "--dry-run"),
    "environment": ("env",),
    "no store": ("clean", "/nonexistent/models"),
}


@pytest.mark.parametrize("columns", WIDTHS)
@pytest.mark.parametrize("what", SHOWN)
def test_what_is_shown_fits_the_terminal(what: str, columns: int) -> None:
    out, _ = on_terminal(*SHOWN[what], columns=columns, rows=400)
    lines = [COLOUR.sub("", line.rpartition("\r")[2]) for line in out.split("\n")]
    assert any(line.strip() for line in lines)
    assert [line for line in lines if len(line) > columns and len(line.split()) > 1] == []


@pytest.mark.parametrize("words", [(), ("list",)])
def test_alone_it_is_help_and_no_error(words: tuple[str, ...]) -> None:
    out, status = on_terminal(*words, NO_COLOR="1")
    assert status == 0 and out.startswith("Usage: ckptkit") and "error" not in out and "\\" not in out


def test_no_hint_names_a_stranger_s_package() -> None:
    """The name on package indexes is another project's: what installs an extra is a clone's `pip install '.[extra]'`."""
    sources = [p for p in (oracles.ROOT / "ckptkit").rglob("*.py") if "ckptkit" in p.read_text(encoding="utf-8")]
    words = [n.value for p in sources for n in ast.walk(ast.parse(p.read_text(encoding="utf-8"))) if isinstance(n, ast.Constant)]
    assert len(words) > 1000
    said = [w for w in words if isinstance(w, str) and re.search(r"pip3? install\s+(-\S+\s+)*['\"]?ckptkit", w)]
    pages = (*oracles.ROOT.glob("*.md"), *(oracles.ROOT / "docs").rglob("*.md"))
    said += [str(p) for p in pages if re.search(r"pip3? install\s+(-\S+\s+)*['\"]?ckptkit(\[| *$)", p.read_text(encoding="utf-8"), re.M)]
    assert said == []


def test_without_torch_verify_says_how_to_install_it(tmp_path: Path) -> None:
    for name in ("torch", "keras", "tensorflow"):
        (tmp_path / f"{name}.py").write_text("raise ImportError('not here')\n")
    env = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{oracles.ROOT}"}
    words = ["verify", str(MODEL), str(MODEL), "--level", "behaviour"]
    done = subprocess.run([sys.executable, "-m", "ckptkit", *words], capture_output=True, text=True, env=env, check=False)
    assert done.returncode in (2, 3) and "pip install '.[torch]'" in done.stdout + done.stderr


def test_options_that_hints_name_are_options_of_the_command() -> None:
    """Each command that can hint --architecture, --set or --config takes them."""
    for command in ("inspect", "validate", "summary", "convert", "digest", "lock", "fix", "diff", "verify", "report", "browse", "merge"):
        flags = {f for p in import_module(f"ckptkit.cli.{command}").command.parameters for f in p.flags}
        assert {"--architecture", "--set", "--config"} <= flags, command


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        ("ftp://server/model/", "s3://, gs://"),
        ("oss://bucket/model.safetensors", "name a copy on a disk"),
    ],
)
def test_an_address_is_told_from_a_file_that_is_not_there(path: str, hint: str) -> None:
    with pytest.raises(ckptkit.CheckpointError, match="this is an address") as e:
        ckptkit.inspect(path)
    assert hint in (e.value.hint or "") and e.value.exit_code == 2


def test_a_folder_of_checkpoints_is_listed(tmp_path: Path) -> None:
    for name in ("bert-hf", "bert-google"):
        shutil.copytree(oracles.made(name), tmp_path / "runs" / name)
    out, status = on_terminal("inspect", tmp_path / "runs", columns=60, rows=200, NO_COLOR="1")
    assert status == 0 and "bert-hf" in out and "bert-google" in out and "holds no checkpoint" not in out


def test_what_nobody_asked_for_is_not_said_to_be_undecided() -> None:
    for path in (MODEL, oracles.made("roberta-large-shaped")):
        out, status = on_terminal("validate", path, NO_COLOR="1", columns=200)
        assert status == 0 and "undecided" not in out and out.rpartition("\r")[2].count("\n") == 1
