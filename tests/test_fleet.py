"""A plan on workers that are processes of their own: the same bytes, and a worker's death costs its unit."""

from __future__ import annotations

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from ckptkit.fleet import executor
from ckptkit.fleet import run as fleet
from ckptkit.verbs.convert import convert

UNIT = 100_000


class Fatal:
    """An executor whose second unit kills its worker."""

    def __init__(self, pool: ProcessPoolExecutor) -> None:
        self.pool, self.given = pool, 0

    def submit(self, fn: Any, /, *args: Any) -> Any:
        self.given += 1
        return self.pool.submit(os._exit, 9) if self.given == 2 else self.pool.submit(fn, *args)


@pytest.mark.parametrize("container", ["torch", "safetensors"])
def test_processes_write_the_bytes_that_one_writes_and_a_dead_one_costs_its_unit(tmp_path: Path, container: str) -> None:
    rng = np.random.default_rng(0)
    (tmp_path / "source").mkdir()
    save_file({f"w{i}": rng.standard_normal((200, 150), np.float32) for i in range(5)}, tmp_path / "source" / "model.safetensors")
    convert(tmp_path / "source", tmp_path / "here", container=container, force=True)
    plan = convert(tmp_path / "source", tmp_path / "there", container=container, force=True, dry_run=True).plan
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, spawn) as pool, pytest.raises(BrokenProcessPool):
        executor.run_on(plan, Fatal(pool), unit=UNIT)
    had = len(fleet.done(fleet.begin(plan, unit=UNIT)))
    assert 1 <= had < len(fleet.begin(plan, unit=UNIT).units)
    with ProcessPoolExecutor(2, spawn) as pool:
        executor.run_on(plan, pool, unit=UNIT)
    here = {p.name: p.read_bytes() for p in (tmp_path / "here").iterdir() if p.name != "ckptkit-ledger.json"}
    assert {n: (tmp_path / "there" / n).read_bytes() for n in here} == here
