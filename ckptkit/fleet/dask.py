"""The workers of a scheduler of Dask as an engine; it does what a worker that died was at again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import UsageError, with_extra
from .executor import on_executor
from .interface import Engine, answers, died

TRIES = 4  # times that a piece of work may fail


@contextmanager
def workers(address: str) -> Iterator[Engine]:
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
