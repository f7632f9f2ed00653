"""A plan carried out in units: by this process, by many, or by many machines, into a store or a folder that all of them see.

    from ckptkit import fleet

    plan = ckptkit.convert(source, target, to="hf", dry_run=True).plan
    units = fleet.cut(plan)                        # each one contiguous range of one file of the target: plain data
    run = fleet.begin(plan)                        # or takes up one that was begun
    receipts = {u.name: fleet.do(run, u) for u in run.units}      # anywhere, in any order in which none comes before what it waits for
    fleet.fold(run.plan, receipts.values())        # the checksum of every tensor, where the format has them
    fleet.commit(run, receipts)                    # readers see the old checkpoint or the new one

`fleet.run_on(plan, engine)` does all of it on an engine: `fleet.engine("ray")` is one, `fleet.on_executor(pool)` another. `plan_to`, `work`
and `finish` are for processes that something else starts. Each is imported when it is first used.
"""

from __future__ import annotations

from .._typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .array import Share, share_of
    from .committing import commit
    from .driver import carry_out, run_on
    from .elsewhere import finish, plan_to, run_at, work
    from .engines import engine
    from .executor import on_executor
    from .interface import Engine
    from .receipts import Receipt, fold
    from .run import Run, begin, do, done, join, left, ready
    from .units import Unit, cut

_WHERE = {
    "Engine": "interface", "Receipt": "receipts", "Run": "run", "Share": "array", "Unit": "units", "begin": "run", "carry_out": "driver",
    "commit": "committing", "cut": "units", "do": "run", "done": "run", "engine": "engines", "finish": "elsewhere", "fold": "receipts",
    "join": "run", "left": "run", "on_executor": "executor", "plan_to": "elsewhere", "ready": "run", "run_at": "elsewhere",
    "run_on": "driver", "share_of": "array", "work": "elsewhere",
}  # fmt: skip

__all__ = [
    "Engine", "Receipt", "Run", "Share", "Unit", "begin", "carry_out", "commit", "cut", "do", "done", "engine", "finish", "fold", "join",
    "left", "on_executor", "plan_to", "ready", "run_at", "run_on", "share_of", "work",
]  # fmt: skip


def __dir__() -> list[str]:
    return [*__all__, "__doc__", "__name__", "__path__", "__file__"]


def __getattr__(name: str) -> object:
    if name not in _WHERE:
        raise AttributeError(f"module 'ckptkit.fleet' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f".{_WHERE[name]}", __name__), name)
    globals()[name] = value
    return value
