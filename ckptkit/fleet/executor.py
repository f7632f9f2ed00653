"""A run whose units are done by whatever has `submit`, such as an executor of concurrent.futures (processes of their own, by spawn).

Policy: what travels is the place of the target, the number of a unit and its receipt. The plan lies with the run's notes, and each
process reads it once. A worker that dies takes its unit with it, and begun again the run takes up all others.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from .._typing import Any, Protocol
from ..findings import Finding
from ..plan.values import Plan
from ..store.below import tree_at
from .receipts import Receipt, receipt_of
from .run import Run, begin, commit, do, done, left, load_plan, place_of, save_plan
from .units import UNIT


class Executor(Protocol):
    """What is needed of an executor."""

    def submit(self, fn: Callable[..., Any], /, *args: Any) -> Any: ...


def run_on(plan: Plan, executor: Executor, *, overwrite: bool = False, unit: int = UNIT, on_overflow: str = "error") -> tuple[Finding, ...]:
    """Carry out `plan` on `executor`; its target is an address, or a folder that all workers see. Raises what a worker raised."""
    run = begin(plan, overwrite=overwrite, unit=unit, on_overflow=on_overflow)
    if run.committed:
        return commit(run, {})
    note = run.note("plan.json")
    run.tree.put(note, save_plan(plan))
    have = done(run)
    folder, _ = place_of(plan)
    coming = [executor.submit(do_one, folder, note, u.file, u.number, unit, on_overflow) for u in left(run, have)]
    for future in coming:
        receipt = receipt_of(future.result())
        have[receipt.unit] = receipt
    return commit(run, have)


def do_one(folder: str, note: str, file: int, number: int, unit: int, on_overflow: str) -> dict[str, object]:
    """Do one unit of the run whose plan is the note at a place; its receipt as plain data. Called in the worker."""
    run = _run(folder, note, unit, on_overflow)
    receipt: Receipt = do(run, next(u for u in run.units if (u.file, u.number) == (file, number)))
    return receipt.to_json()


@lru_cache(4)
def _run(folder: str, note: str, unit: int, on_overflow: str) -> Run:
    """The run as this process knows it."""
    blob = tree_at(folder).blob(note)
    try:
        plan = load_plan(blob.pread(blob.size, 0))
    finally:
        blob.close()
    return begin(plan, overwrite=True, unit=unit, on_overflow=on_overflow)
