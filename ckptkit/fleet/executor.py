"""Whatever has `submit` as an engine: executors of concurrent.futures, of mpi4py, of Dask, your own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, as_completed

from .._typing import Any, Protocol
from .interface import Engine


class Executor(Protocol):
    """What is needed of an executor: a future with `result` and `cancel`."""

    def submit(self, fn: Callable[..., Any], /, *args: Any) -> Any: ...


def on_executor(executor: Executor) -> Engine:
    """The engine of an executor. Where a worker's death ends it (a pool of processes), what is done is taken up by the next run."""

    def spread(do: Callable[[Any], Any], items: Sequence[Any]) -> Iterable[Any]:
        # a future is let go with its result: what one holds Dask does again where the worker that had done it dies
        pending = dict.fromkeys(executor.submit(do, x) for x in items)
        coming = as_completed(pending) if all(isinstance(f, Future) for f in pending) else iter([*pending])
        try:
            for f in coming:
                del pending[f]
                result = f.result()
                del f
                yield result
        finally:
            for f in pending:
                f.cancel()

    return spread
