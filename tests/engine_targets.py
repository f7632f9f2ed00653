"""What the tests of the engine's target share: a small plan, and what is left in a folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from plans import copy_of, plan_of, store

from ckptkit.plan.values import Plan

DATA = np.arange(300_000, dtype="f4")


def simple(tmp_path: Path, target: str = "out", value: float = 0.0, **options: object) -> Plan:
    (tmp_path / "src").mkdir(exist_ok=True)
    s = list(store(tmp_path / "src/in", {"a": DATA + value}).values())
    return plan_of(tmp_path / target, s, [("t", "F32", DATA.shape, (copy_of(0, DATA.size),))], **options)  # type: ignore[arg-type]


def left(tmp_path: Path) -> list[str]:
    return sorted(p.name for p in tmp_path.iterdir() if p.name != "src")


def tree(path: Path) -> dict[str, bytes]:
    return {str(p.relative_to(path)): p.read_bytes() for p in path.rglob("*") if p.is_file()}
