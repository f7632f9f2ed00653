"""The public names: each documented, loaded when first used, and what the commands do, from Python."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from pathlib import Path

import oracles
import pytest
from commands import run

import ckptkit

HF, GOOGLE = oracles.made("bert-hf"), oracles.made("bert-google")


@pytest.mark.parametrize("name", ckptkit.__all__)
def test_a_public_name_is_there_and_says_what_it_is(name: str) -> None:
    thing = getattr(ckptkit, name)
    assert inspect.getdoc(thing) and name in dir(ckptkit)
    assert name == "Finding" or inspect.isclass(thing) or inspect.isfunction(thing)


def test_a_public_function_stays_one_whatever_has_been_imported() -> None:
    """A module of the package that is called as a function is would take its name."""
    code = (
        "import pkgutil, importlib, ckptkit\nfor m in pkgutil.iter_modules(ckptkit.__path__): m.name in "
        "ckptkit.__all__ and importlib.import_module('ckptkit.' + m.name)\n"
    )
    code += "bad = [n for n in ckptkit.__all__ if not callable(getattr(ckptkit, n))]; assert not bad, bad"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False, cwd=oracles.ROOT)
    assert done.returncode == 0, done.stderr


def test_importing_it_and_looking_its_light_functions_up_imports_no_numpy() -> None:
    code = (
        "import sys, ckptkit; ckptkit.digest, ckptkit.lock, ckptkit.fix, ckptkit.diff, ckptkit.validate; "
        "print([m for m in ('numpy', 'torch', 'tensorflow', 'blake3', 'click') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False, cwd=oracles.ROOT)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_digest_lock_diff_and_fix_from_python_are_the_commands(tmp_path: Path) -> None:
    assert ckptkit.digest(HF).whole == ckptkit.digest(GOOGLE).whole == run("digest", HF).stdout.split()[0]
    assert ckptkit.lock(HF) == run("lock", HF).stdout
    assert json.loads(ckptkit.lock(HF))["digest"] == ckptkit.digest(HF).whole
    same = ckptkit.diff(HF, GOOGLE)
    assert (same.exit_code, same.different) == (0, []) and len(same.changes) == len(ckptkit.digest(HF).parameters)
    assert ckptkit.fix(HF, tmp_path / "out").repairs == () and not (tmp_path / "out").exists()
    with pytest.raises(ckptkit.CheckpointError):
        ckptkit.diff(HF, tmp_path / "none")
