"""The engines that there are, by the words of `--on`."""

from __future__ import annotations

import re
from contextlib import AbstractContextManager

from ..errors import UsageError
from .interface import Engine

KNOWN = "local:N (processes of this machine), ray, ray://HOST:10001, dask://HOST:8786"


def engine(on: str) -> AbstractContextManager[Engine]:
    """The engine that `--on` names, to be used in a `with`. Raises UsageError where it is none, not installed, or not there."""
    scheme, _, rest = on.partition(":")
    if scheme == "local" and re.fullmatch(r"[1-9][0-9]{0,3}", rest):
        from .processes import processes

        return processes(int(rest))
    if on == "ray" or (scheme == "ray" and re.fullmatch(r"//[\w.-]+:\d{1,5}", rest, re.ASCII)):
        from .ray import cluster

        return cluster(None if on == "ray" else on)
    if scheme == "dask" and re.fullmatch(r"//[\w.-]+:\d{1,5}", rest, re.ASCII):
        from .dask import workers

        return workers(rest[2:])
    raise UsageError(f"--on {on}: there is no such engine", hint=KNOWN)
