"""Whatever has `submit` as an engine: executors of concurrent.futures, of mpi4py, of Dask, your own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed

from .._typing import Any, Protocol
from .interface import Engine


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
