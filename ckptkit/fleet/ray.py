"""Ray as an engine: each item is a task, which Ray does again where a worker or a node dies."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

from .._typing import Any
from ..errors import CheckpointError, UsageError, with_extra
from .interface import Engine, answers, died

TRIES = 8  # workers that a piece of work may cost


@contextmanager
def cluster(address: str | None = None) -> Iterator[Engine]:
    """The cluster at ray://HOST:PORT; without an address the one that this machine is in (RAY_ADDRESS), else one on this machine alone.

    All its machines need the same version of ckptkit. Raises UsageError where Ray is not installed or not there.
    """
    try:
        import ray
        from ray.exceptions import NodeDiedError, RaySystemError, RayTaskError, WorkerCrashedError
    except ImportError:
        raise UsageError("--on ray needs Ray, which is not installed", hint=with_extra("ray")) from None
    if address is not None:
        answers(address.removeprefix("ray://"), "cluster of Ray")
    mine = not ray.is_initialized()
    if mine:
        try:
            ray.init(address=address, logging_level="ERROR", log_to_driver=False)
        except (ConnectionError, RuntimeError, RaySystemError, TimeoutError):
            raise UsageError("Ray does not start, or does not answer", path=address, hint="`ray status` on its head says more") from None

    def spread(do: Callable[[Any], Any], items: Sequence[Any]) -> Iterable[Any]:
        task = ray.remote(max_retries=TRIES, num_cpus=1)(_call)
        waiting = [task.remote(do, x) for x in items]
        try:
            while waiting:
                yield ray.get(waiting[0])
                waiting.pop(0)
        except RayTaskError as e:
            raise (e.cause if isinstance(e.cause, CheckpointError) else e) from None
        except (WorkerCrashedError, NodeDiedError):
            raise died("a worker", TRIES) from None
        finally:
            for ref in waiting:
                ray.cancel(ref)

    try:
        yield spread
    finally:
        if mine:
            ray.shutdown()


def _call(do: Callable[[Any], Any], item: Any) -> Any:
    return do(item)
