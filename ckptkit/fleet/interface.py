"""What an engine is: a function that does something for each of several items, in whatever order, and gives the results.

Policy: no scheduler of ours. An engine is an existing one behind this one function, a file of its own each. What it is given can be
pickled, and each call stands for itself, so that an engine may do one twice, or again where a worker died.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from .._typing import Any, Protocol
from ..errors import CheckpointError, UsageError


class Engine(Protocol):
    """`do(item)` for each of `items`: the results as they come. Raises what a call raised."""

    def __call__(self, do: Callable[[Any], Any], items: Sequence[Any], /) -> Iterable[Any]: ...


def answers(address: str, what: str) -> None:
    """UsageError where nothing listens at HOST:PORT."""
    import socket

    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), 10).close()
    except (OSError, OverflowError):
        raise UsageError(f"no {what} answers at {address}", hint="check the address, and that it is running") from None


MEMORY = "is there memory enough for each? What is done is kept: the same command goes on"


def died(what: str, times: int, hint: str = MEMORY) -> CheckpointError:
    """The error of work whose worker died each time."""
    return CheckpointError(f"{what} died {times} times at the same piece of work", hint=hint)
