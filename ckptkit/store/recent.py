"""What a store answered a short while ago, by name: asked again when that is old, or when something was written since."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")
FRESH = 5.0  # seconds for which an answer counts


class Recent(Generic[T]):
    """The answers of `ask`, by name."""

    def __init__(self, ask: Callable[[str], T]) -> None:
        self._ask = ask
        self._kept: dict[str, tuple[float, T]] = {}
        self._writes = 0

    def get(self, name: str) -> T:
        """The answer for a name. One that a write overtook is given, and not kept."""
        kept = self._kept.get(name)
        if kept is not None and time.monotonic() - kept[0] < FRESH:
            return kept[1]
        writes = self._writes
        found = self._ask(name)
        if writes == self._writes:
            self._kept[name] = time.monotonic(), found
        return found

    def known(self, name: str) -> T | None:
        """The answer that is kept, if it counts still."""
        kept = self._kept.get(name)
        return kept[1] if kept is not None and time.monotonic() - kept[0] < FRESH else None

    def changed(self, names: list[str]) -> None:
        """Something was written: what was answered for these names counts no longer."""
        self._writes += 1
        for n in names:
            self._kept.pop(n, None)

    def clear(self) -> None:
        """Ask anew for all."""
        self._writes += 1
        self._kept.clear()
