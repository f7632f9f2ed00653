"""Every container: a module or a package of this folder, found by being there (but for those that begin with an underscore)."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from functools import cache
from importlib import import_module

from .._typing import cast
from ..errors import UsageError, one_of
from ..support.discovery import stems
from ._interface import Container


def each(name: str = "") -> Iterator[Container]:
    """Every container module, each imported when it is reached: whoever has found his own need not pay for the rest.

    Those come first whose own name is in the file's `name` (safetensors, torch).
    """
    for stem in sorted(stems(os.path.dirname(__file__)), key=lambda s: s not in name):
        yield cast(Container, import_module(f"{__package__}.{stem}"))


@cache
def containers() -> dict[str, Container]:
    """Every container module by its NAME."""
    return {m.NAME: m for m in each()}


def by_name(name: str) -> Container:
    """The container called `name`, or a UsageError that lists them."""
    loaded = (sys.modules.get(f"{__package__}.{stem}") for stem in stems(os.path.dirname(__file__)))
    opened = (cast(Container, m) for m in loaded if m is not None and getattr(m, "NAME", None) == name)  # saves loading the others
    found = next(opened, None) or next((c for c in each(name) if name == c.NAME), None)
    if found is None:
        raise UsageError(f"no container is called {name!r}", hint=one_of(name, containers()))
    return found
