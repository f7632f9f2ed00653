"""Processes of this machine as an engine: one that dies is replaced, and costs what it was at."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager

from .._typing import Any
from ..errors import UsageError
from .executor import on_executor
from .interface import Engine, died

GUARD = "what a script does has to stand below `if __name__ == '__main__':`, since each process reads the script"
TRIES = 4  # processes that a piece of work may cost


@contextmanager
def processes(count: int) -> Iterator[Engine]:
    """`count` processes of this machine (spawned: a store is not read after a fork). One that dies is replaced, and costs its item."""
    import multiprocessing
    from queue import SimpleQueue

    if getattr(multiprocessing.current_process(), "_inheriting", False):  # a script whose every process runs all of it
        raise UsageError("this script would start itself again in each process that it asks for", hint=GUARD)
    spawn = multiprocessing.get_context("spawn")
    free: SimpleQueue[ProcessPoolExecutor] = SimpleQueue()

    def one(do: Callable[[Any], Any], item: Any) -> Any:
        for _ in range(TRIES):
            pool = free.get()
            try:
                return pool.submit(do, item).result()
            except BrokenProcessPool:
                pool = ProcessPoolExecutor(1, spawn)
            finally:
                free.put(pool)
        raise died("a process", TRIES, f"is there memory enough for each? {GUARD[0].upper()}{GUARD[1:]}. What is done is kept")

    with ThreadPoolExecutor(count) as threads:
        for _ in range(count):
            free.put(ProcessPoolExecutor(1, spawn))
        try:
            yield lambda do, items: on_executor(threads)(lambda x: one(do, x), items)
        finally:
            for _ in range(count):
                free.get().shutdown(cancel_futures=True)
