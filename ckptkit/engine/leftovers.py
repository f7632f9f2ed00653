"""What must not outlive this process: staging directories and temporary files that are in use now, each with what removes it.

An interrupt may come at any instant, also in the middle of the tidying up that an exception sets off. So whoever makes something beside a
target says so here first, and the program that was told to end removes once more whatever is still listed.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress

_kept: dict[str, Callable[[], object]] = {}  # path -> what removes it


def keep(path: str, remove: Callable[[], object]) -> None:
    """`path` is about to be made; `remove` takes it away, whatever has become of it."""
    _kept[path] = remove


def gone(path: str) -> None:
    """`path` has been removed, or is no longer this process's."""
    _kept.pop(path, None)


def sweep() -> list[str]:
    """Remove what is listed; what could not be removed."""
    left = []
    for path, remove in list(_kept.items()):
        with suppress(Exception):  # the program ends: what is left is named
            remove()
        _kept.pop(path, None)
        if os.path.lexists(path):
            left.append(path)
    return left
