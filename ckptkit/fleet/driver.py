"""The process that begins a run, has an engine do its units, and commits it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from threading import Condition, Semaphore

from .._typing import Any
from ..engine.run import Result
from ..findings import Finding
from ..plan.values import Plan
from ..store.said import TooSmallError
from .committing import abandon, commit
from .executor import Executor, on_executor
from .interface import Engine
from .receipts import Receipt
from .run import Run, begin, done, known, left, ready
from .units import SMALL_UNIT, UNIT, Unit, size_for

THREADS, MOST_THREADS = 2, 4  # units in memory at once, of the usual size and of small ones: some are read while others are stored
Progress = Callable[[int, int], None]


def in_threads(pool: Executor, room: int) -> Engine:
    """The engine of threads of this process that do units: those at work have at most `room` bytes together, one that has more is alone."""
    free, changed = [room], Condition()

    def spread(do: Callable[[Any], Any], units: Sequence[Unit]) -> Iterable[Any]:
        def one(unit: Unit) -> Any:
            size = min(room, unit.stop - unit.start)
            with changed:
                changed.wait_for(lambda: free[0] >= size)
                free[0] -= size
            try:
                return do(unit)
            finally:
                with changed:
                    free[0] += size
                    changed.notify_all()

        return on_executor(pool)(one, units)

    return spread


def carry_out(run: Run, engine: Engine, told: Callable[[Receipt], object] | None = None) -> tuple[Finding, ...]:
    """Have `engine` do what is left of a run, and commit it. `told` is called with each receipt.

    Units that wait for others come when those are done. Raises what `do` and `commit` raise.
    """
    if run.committed:
        return commit(run, {})
    have = done(run)
    with known(run) as do:
        while units := ready(run, have):
            before = len(have)
            for receipt in engine(do, units):
                have[receipt.unit] = receipt
                if told is not None:
                    told(receipt)
            if len(have) == before:
                break
    return commit(run, have)


def run_on(plan: Plan, engine: Engine, *, shared: bool = True, progress: Progress | None = None, **words: Any) -> Result:
    """Carry out `plan` on an engine; what an earlier run that was killed has stored is taken up. Raises CheckpointError.

    `shared`: the engine's workers are other processes. `words` are those of `begin` (overwrite, unit, on_overflow); `progress` is called
    with the bytes that are done and that there are. Workers on other machines need sources and a target that all of them see.
    """
    started = time.perf_counter()
    return _whole(begin(plan, shared=shared, **words), engine, progress, started)._replace(target=plan.target)


def run_in_threads(plan: Plan, *, jobs: int | None = None, progress: Progress | None = None, **words: Any) -> Result:
    """Carry out `plan` with threads of this process, in units that are smaller than those of other processes: none of them has to be
    handed out, and the last one decides for less time."""
    from concurrent.futures import ThreadPoolExecutor

    started = time.perf_counter()
    run = begin(plan, usual=size_for(plan, SMALL_UNIT), **words)
    count = jobs or threads_for(run.unit)
    run = run._replace(sending=Semaphore(max(2, count - 1)))  # all of them end together otherwise, and the store waits for the next
    with ThreadPoolExecutor(count) as pool:
        return _whole(run, in_threads(pool, count * run.unit), progress, started)._replace(target=plan.target)


def _whole(run: Run, engine: Engine, progress: Progress | None, started: float) -> Result:
    """Carry a run out that was begun at a time of the process's clock."""
    total = sum(u.stop - u.start for u in run.units)
    fresh: list[Receipt] = []
    todo = 0 if run.committed else sum(u.stop - u.start for u in left(run, done(run)))

    def told(receipt: Receipt) -> None:
        fresh.append(receipt)
        if progress is not None:
            progress(total - todo + sum(r.size for r in fresh), total)

    try:
        findings = carry_out(run, engine, told)
    except TooSmallError:
        abandon(run)
        raise
    read, written = sum(r.read for r in fresh), sum(r.size for r in fresh)
    return Result(run.plan.target, tuple(run.plan.layout.files), read, written, time.perf_counter() - started, {}, findings)


def threads_for(unit: int) -> int:
    """How many units of so many bytes are in memory at once, unless somebody says another number."""
    return max(THREADS, min(MOST_THREADS, THREADS * UNIT // unit))
