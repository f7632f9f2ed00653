"""Every packing: a module of this folder, found by being there (but for those that begin with an underscore)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cache
from importlib import import_module

from .._typing import Any, cast
from ..errors import UnsupportedError, UsageError, one_of
from ..support.discovery import stems
from ._values import Packing, Quantizer


@cache
def _every() -> dict[str, Packing]:
    return {m.NAME: m for m in (cast(Packing, import_module(f"{__package__}.{stem}")) for stem in stems(os.path.dirname(__file__)))}


@cache
def packings() -> dict[str, Packing]:
    """Every packing that a file may have, by its NAME."""
    return {n: m for n, m in _every().items() if not getattr(m, "PLANNED", False)}


def by_name(name: str) -> Packing:
    """The packing called `name`, also one that only a plan has."""
    found = _every().get(name)
    if found is None:
        raise UnsupportedError(f"no packing is called {name!r}", hint=one_of(name, packings()))
    return found


def quantizer(name: str) -> tuple[Quantizer, Mapping[str, Any]]:
    """The packing that encodes as `name` says, and its settings. UsageError with the names that there are."""
    known = {n: (cast(Quantizer, p), s) for p in packings().values() for n, s in getattr(p, "QUANTIZERS", {}).items()}
    if name.lower() not in known:
        raise UsageError(f"no quantisation is called {name!r}", hint=one_of(name, sorted(known)))
    return known[name.lower()]
