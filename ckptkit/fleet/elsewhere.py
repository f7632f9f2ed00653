"""Runs whose processes something else starts: a plan is written to a place that all of them see, `work` does a share, `finish` commits."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from .. import store
from ..errors import CheckpointError, CorruptError, NotFoundError
from ..findings import Finding
from ..plan.values import Plan
from ..store.below import tree_at
from .array import Share
from .committing import commit
from .driver import in_threads, threads_for
from .receipts import Receipt
from .run import Run, begin, do, done, join, left, noted, read_whole
from .saved import Saved, from_anywhere, load, save
from .units import Unit

ONLY = Share()
MOST = 1 << 30  # bytes of a plan


def plan_to(plan: Plan, place: str, *, overwrite: bool = False, unit: int = 0, on_overflow: str = "error") -> Run:
    """Begin the run of `plan`, and write the plan to `place`, a file here or an object of a store. Raises UsageError."""
    plan = from_anywhere(plan)
    run = begin(plan, overwrite=overwrite, unit=unit, on_overflow=on_overflow)
    folder, _, name = store.absolute(place).rpartition("/")
    tree_at(folder).put(name, save(Saved(plan, run.unit, on_overflow, overwrite)))
    return run


def run_at(place: str) -> Run:
    """The run of the plan at a place. Raises NotFoundError where there is no plan, or the run is not under way."""
    folder, _, name = store.absolute(place).rpartition("/")
    tree = tree_at(folder)
    tree.fresh()
    entry = tree.entry(name)
    if entry is None or entry.size < 0:
        raise NotFoundError("there is no plan", path=place, hint="`ckptkit convert SRC DST --plan-to` writes one")
    if entry.size > MOST:
        raise CorruptError("is no plan of ckptkit", path=place, hint="name what `ckptkit convert SRC DST --plan-to` wrote")
    saved = load(read_whole(tree, name), place)
    return join(saved.plan, unit=saved.unit, on_overflow=saved.on_overflow)


def work(
    run: Run, share: Share = ONLY, *, jobs: int | None = None, told: Callable[[Receipt], object] | None = None
) -> int:
    """Do this worker's share of the units that are not done; then those that wait for others and now can be done, whosever they are.

    `told` is called with each receipt. How many units are left of all. Raises what `do` raises.
    """
    mine = [u for u in run.units if not u.waits][share.number :: share.workers]
    have = done(run, mine)
    count = jobs or threads_for(run.unit)
    with ThreadPoolExecutor(count) as pool:
        engine = in_threads(pool, count * run.unit)

        def spread(units: list[Unit]) -> None:
            for receipt in engine(partial(do, run), units):
                if told is not None:
                    told(receipt)

        spread([u for u in mine if u.name not in have])
        while True:
            run.tree.fresh()
            names = noted(run)
            units = [u for u in run.units if u.waits and u.name not in names and names.issuperset(u.waits)]
            if not units:
                return sum(u.name not in names for u in run.units)
            spread(units)


def finish(run: Run) -> tuple[Finding, ...]:
    """Commit a run whose units are done. CheckpointError where some are not, FindingsError for values that were lost."""
    have = {} if run.committed else done(run)
    lacking = [] if run.committed else left(run, have)
    if lacking:
        message = f"{len(lacking)} of {len(run.units)} units are not done"
        raise CheckpointError(message, path=run.plan.target, hint="`ckptkit work` with the plan does them, whoever was to")
    return commit(run, have)
