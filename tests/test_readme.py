"""The README tells the truth: its tables are those of the code, its commands run and print what it says."""

from __future__ import annotations

import os
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


def commands() -> list[list[str]]:
    """The commands that it shows to be pasted, without the remarks behind them."""
    shown = re.findall(r"^    ckptkit (.+)$", README.partition("## From Python")[0], re.MULTILINE)
    return [line.partition("   ")[0].split() for line in shown]


def test_what_it_shows_can_be_pasted(tmp_path: Path) -> None:
    (tmp_path / "fixtures").symlink_to(ROOT / "fixtures")
    assert len(commands()) > 12
    for words in commands():
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run([sys.executable, "-m", "ckptkit", *words], capture_output=True, text=True, cwd=tmp_path, env=env, check=False)
        assert done.returncode == 0, (words, done.stdout, done.stderr)


def test_its_picture_is_what_the_commands_print() -> None:
    done = subprocess.run([sys.executable, ROOT / "scripts" / "picture.py", "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_links_lead_somewhere() -> None:
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        for link in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text()):
            assert "://" in link or (page.parent / link).exists(), (page.name, link)


def test_lines_are_not_long() -> None:
    assert not [line for line in README.split("\n") if len(line) > 160 and not line.startswith("|")]


def test_every_option_it_names_exists() -> None:
    helps = "".join(
        subprocess.run([sys.executable, "-m", "ckptkit", c, "--help"], capture_output=True, text=True, check=True).stdout
        for c in ("inspect", "validate", "convert", "verify")
    )
    for option in set(re.findall(r"`(--[a-z-]+)", README)):
        assert option in helps, option
