"""Makers of checkpoints as trainers leave them, whole and damaged, out of fixtures/forms."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import oracles


def ranks(case: str, without: str = "") -> Callable[[Path], Path]:
    """The folder of a case, without one of its files."""

    def make(tmp: Path) -> Path:
        there = oracles.FIXTURES / "forms" / case
        shutil.copytree(there / "checkpoint" if (there / "checkpoint").is_dir() else there, tmp / "m")
        if without:
            (tmp / "m" / without).unlink()
        return tmp / "m"

    return make
