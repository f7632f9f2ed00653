"""What a fleet of workers costs: how near four come to a quarter of the time of one, and what a unit costs besides its work.

    python -m benchmarks.fleet

The store takes a second for each unit and nothing else is slow, so what is missing at the efficiency of 1 is ckptkit's and the
engine's. All numbers of workers are measured in one run, on the same plan, from the beginning of the run to its commit; the workers
are there before.
"""

from __future__ import annotations

import pickle
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

UNITS, SIZE = 80, 1 << 18
MANY = 5_000


class Slow:
    """Does a unit, and takes a second for it."""

    def __init__(self, do: Callable[[Any], Any]) -> None:
        self.do = do

    def __call__(self, unit: Any) -> Any:
        end = time.monotonic() + 1
        done = self.do(unit)
        time.sleep(max(0.0, end - time.monotonic()))
        return done


def plan_of(folder: Path, matrices: int, columns: int, container: str) -> Any:
    """A plan with as many matrices, float32, `columns` wide and 256 long, into a folder that is new."""
    import numpy as np
    from safetensors.numpy import save_file

    from ckptkit.verbs.convert import convert

    source = folder / f"source-{matrices}-{columns}"
    if not source.exists():
        source.mkdir()
        save_file({f"layers.{i}.weight": np.ones((256, columns), np.float32) for i in range(matrices)}, source / "model.safetensors")
    target = folder / "target"
    shutil.rmtree(target, ignore_errors=True)
    return convert(source, target, container=container, force=True, dry_run=True).plan


def efficiency(folder: Path, workers: int) -> float:
    """The seconds that the units need, shared by the workers, over those that the run takes."""
    from ckptkit import fleet

    with fleet.engine(f"local:{workers}") as engine:
        fleet.run_on(plan_of(folder, 4 * workers, SIZE // 1024, "safetensors"), engine, unit=SIZE)  # the processes are there, and warm
        plan = plan_of(folder, UNITS, SIZE // 1024, "safetensors")
        units = len(fleet.cut(plan, SIZE, 1))
        started = time.perf_counter()
        fleet.run_on(plan, lambda do, items: engine(Slow(do), items), unit=SIZE)
        return units / workers / (time.perf_counter() - started)


def overhead(folder: Path) -> tuple[int, float, int, int]:
    """Of a run of many units whose work is not done: (how many, milliseconds of the driver for each, bytes to a worker, bytes back)."""
    from ckptkit import fleet
    from ckptkit.fleet.run import known

    plan = plan_of(folder, MANY, 4, "torch")
    started = time.process_time()
    run = fleet.begin(plan, unit=4096)
    with known(run) as do:
        sent = [len(pickle.dumps((do, u))) for u in run.units]
    one = fleet.do(run, run.units[7])
    told = [pickle.loads(pickle.dumps(one._replace(unit=u.name))) for u in run.units]
    fleet.fold(run.plan._replace(layout=run.plan.layout._replace(checksum=None)), told)
    spent = time.process_time() - started
    return len(run.units), 1000 * spent / len(run.units), sorted(sent)[-2], len(pickle.dumps(one))


def main() -> None:
    """Measure, and print."""
    with tempfile.TemporaryDirectory(prefix="ckptkit-fleet-") as work:
        print("workers  efficiency")
        for workers in (1, 2, 4):
            print(f"{workers:7}  {efficiency(Path(work), workers):10.2f}", flush=True)
        units, milliseconds, sent, back = overhead(Path(work))
        print(f"{units:,} units: {milliseconds:.2f} ms of the driver each, at most {sent:,} bytes to a worker, {back:,} back")


if __name__ == "__main__":
    main()
