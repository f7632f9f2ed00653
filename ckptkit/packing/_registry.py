"""Every packing: a module of this folder, found by being there (but for those that begin with an underscore)."""

from __future__ import annotations

import os
from functools import cache
from importlib import import_module

from .._typing import cast
from ..errors import UnsupportedError
from ..support.discovery import stems
from ._values import Packing


@cache
def packings() -> dict[str, Packing]:
    """Every packing module by its NAME."""
    return {m.NAME: m for m in (cast(Packing, import_module(f"{__package__}.{stem}")) for stem in stems(os.path.dirname(__file__)))}


def by_name(name: str) -> Packing:
    """The packing called `name`."""
    found = packings().get(name)
    if found is None:
        raise UnsupportedError(f"no packing is called {name!r}", hint=f"one of {', '.join(packings())}")
    return found
