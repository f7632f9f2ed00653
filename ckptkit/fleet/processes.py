"""Processes of this machine as an engine: one that dies is replaced, and costs what it was at."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager

from .._typing import Any
from .executor import on_executor
from .interface import Engine, died

TRIES = 4  # processes that a piece of work may cost


@contextmanager
def processes(count: int) -> Iterator[Engine]:
    """`count` processes of this machine (spawned: a store is not read after a fork). One that dies is replaced, and costs its item."""
    import multiprocessing
    from queue import SimpleQueue

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
        raise died("a process", TRIES)

    with ThreadPoolExecutor(count) as threads:
        for _ in range(count):
            free.put(ProcessPoolExecutor(1, spawn))
        try:
            yield lambda do, items: on_executor(threads)(lambda x: one(do, x), items)
        finally:
            for _ in range(count):
                free.get().shutdown(cancel_futures=True)
