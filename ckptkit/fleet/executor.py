"""Engines that have `submit`, such as executors of concurrent.futures: processes of this machine, Dask's, mpi4py's, your own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager

from .._typing import Any, Protocol
from ..errors import UsageError, with_extra
from .engines import Engine, answers, died

TRIES = 4  # workers that a piece of work may cost


class Executor(Protocol):
    """What is needed of an executor: a future with `result` and `cancel`."""

    def submit(self, fn: Callable[..., Any], /, *args: Any) -> Any: ...


def on_executor(executor: Executor) -> Engine:
    """The engine of an executor. Where a worker's death ends it (a pool of processes), what is done is taken up by the next run."""

    def spread(do: Callable[[Any], Any], items: Sequence[Any]) -> Iterable[Any]:
        futures = [executor.submit(do, x) for x in items]
        try:
            yield from (f.result() for f in (as_completed(futures) if isinstance(executor, ThreadPoolExecutor) else futures))
        finally:
            for f in futures:
                f.cancel()

    return spread


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


@contextmanager
def dask(address: str) -> Iterator[Engine]:
    """The workers of Dask's scheduler at HOST:PORT. Raises UsageError."""
    try:
        from distributed import Client, KilledWorker
    except ImportError:
        raise UsageError("--on dask needs distributed, which is not installed", hint=with_extra("dask")) from None
    answers(address, "scheduler of Dask")
    with Client(f"tcp://{address}", timeout=30) as client:
        try:  # pure=False: equal calls are not one call
            yield on_executor(client.get_executor(pure=False, retries=TRIES))
        except KilledWorker:
            raise died("a worker", TRIES) from None
