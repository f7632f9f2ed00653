"""The README tells the truth: its tables are those of the code, its commands run and print what it says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def test_the_tables_are_those_of_the_code() -> None:
    done = subprocess.run([sys.executable, ROOT / "scripts" / "readme_tables.py", "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_validation_it_shows_is_what_the_command_prints() -> None:
    shown = re.search(r"    \$ ckptkit (validate fixtures.*)\n((?:    .*\n)+)", README)
    assert shown is not None
    done = subprocess.run([sys.executable, "-m", "ckptkit", *shown[1].split()], capture_output=True, text=True, cwd=ROOT, check=False)
    want = [line.removeprefix("    ").rstrip() for line in shown[2].splitlines()]
    assert done.returncode == 1 and [line.rstrip() for line in done.stdout.splitlines()] == want


def test_the_python_it_shows_runs(tmp_path: Path) -> None:
    code = next(c for c in re.findall(r"```python\n(.*?)```", README, re.S) if "import ckptkit" in c)
    code = code.replace('"bert_model.ckpt"', repr(str(ROOT / "fixtures/made/bert-google/bert_model.ckpt"))).replace(
        '"roberta-large/"', repr(str(ROOT / "fixtures/made/roberta-large-shaped"))
    )
    code = code.replace('"bert-hf/"', repr(str(tmp_path / "hf")))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    assert "BertForPreTraining" in done.stdout and (tmp_path / "hf" / "model.safetensors").exists()


def test_every_option_it_names_exists() -> None:
    helps = "".join(
        subprocess.run([sys.executable, "-m", "ckptkit", c, "--help"], capture_output=True, text=True, check=True).stdout
        for c in ("inspect", "validate", "convert", "verify")
    )
    for option in set(re.findall(r"`(--[a-z-]+)", README)):
        assert option in helps, option
