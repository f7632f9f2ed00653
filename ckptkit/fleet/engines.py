"""Where work is done: an engine is a function that does something for each of several items, in whatever order, and gives the results.

Policy: no scheduler of ours. An engine is an existing one behind this one function, a file of its own each; `--on` names it. What it is
given can be pickled, and each call stands for itself, so that an engine may do one twice, or again where a worker died.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager

from .._typing import Any, Protocol
from ..errors import CheckpointError, UsageError

KNOWN = "local:N (processes of this machine), ray, ray://HOST:10001, dask://HOST:8786"


class Engine(Protocol):
    """`do(item)` for each of `items`: the results as they come. Raises what a call raised."""

    def __call__(self, do: Callable[[Any], Any], items: Sequence[Any], /) -> Iterable[Any]: ...


def engine(on: str) -> AbstractContextManager[Engine]:
    """The engine that `--on` names, to be used in a `with`. Raises UsageError where it is none, not installed, or not there."""
    scheme, _, rest = on.partition(":")
    if scheme == "local" and re.fullmatch(r"[1-9][0-9]{0,3}", rest):
        from .executor import processes

        return processes(int(rest))
    if on == "ray" or (scheme == "ray" and re.fullmatch(r"//[\w.-]+:\d{1,5}", rest, re.ASCII)):
        from .ray import cluster

        return cluster(None if on == "ray" else on)
    if scheme == "dask" and re.fullmatch(r"//[\w.-]+:\d{1,5}", rest, re.ASCII):
        from .executor import dask

        return dask(rest[2:])
    raise UsageError(f"--on {on}: there is no such engine", hint=KNOWN)


def answers(address: str, what: str) -> None:
    """UsageError where nothing listens at HOST:PORT."""
    import socket

    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), 10).close()
    except (OSError, OverflowError):
        raise UsageError(f"no {what} answers at {address}", hint="check the address, and that it is running") from None


def died(what: str, times: int) -> CheckpointError:
    """The error of work whose worker died each time."""
    message = f"{what} died {times} times at the same piece of work"
    return CheckpointError(message, hint="is there memory enough for each? What is done is kept: the same command goes on")
