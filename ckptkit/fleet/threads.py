"""A run whose units are done by threads of this process: one reads while another works and a third stores."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed

from ..engine.run import Result
from ..plan.values import Plan
from .receipts import Receipt
from .run import begin, carry_out
from .units import UNIT, Unit

THREADS = 3  # units in memory at once


def run_in_threads(
    plan: Plan,
    *,
    overwrite: bool = False,
    jobs: int | None = None,
    unit: int = UNIT,
    on_overflow: str = "error",
    progress: Callable[[int, int], None] | None = None,
) -> Result:
    """Carry out `plan`, whose target is an address; what an earlier run that was killed has stored is taken up. Raises CheckpointError."""
    started = time.perf_counter()
    run = begin(plan, overwrite=overwrite, unit=unit, on_overflow=on_overflow)
    total = sum(u.stop - u.start for u in run.units)
    read = written = 0

    def spread(do: Callable[[Unit], Receipt], units: Sequence[Unit]) -> Iterator[Receipt]:
        nonlocal read, written
        done = total - sum(u.stop - u.start for u in units)
        with ThreadPoolExecutor(jobs or THREADS) as pool:
            try:
                for future in as_completed([pool.submit(do, u) for u in units]):
                    receipt = future.result()
                    done, read, written = done + receipt.size, read + receipt.read, written + receipt.size
                    if progress is not None:
                        progress(done, total)
                    yield receipt
            except BaseException:
                pool.shutdown(wait=True, cancel_futures=True)
                raise

    findings = carry_out(run, spread)
    files = tuple((n, size) for n, size in run.plan.layout.files)
    return Result(plan.target, files, read, written, time.perf_counter() - started, {}, findings)
