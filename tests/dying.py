"""A process that dies at any call that changes a store."""

from __future__ import annotations

from typing import Any


class Died(BaseException):
    """The process is gone, as by SIGKILL."""


class Dying:
    """A tree or sink whose process dies before or after the `at`-th call that changes something."""

    def __init__(self, inner: Any, clock: list[int], at: int, after: bool) -> None:
        self._inner, self._clock, self._at, self._after = inner, clock, at, after

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if name == "sink":
            return lambda n: Dying(found(n), self._clock, self._at, self._after)
        if name not in ("put", "delete", "begin", "part", "commit", "abort"):
            return found

        def call(*args: Any, **words: Any) -> Any:
            self._clock[0] += 1
            mine = self._clock[0] == self._at
            if mine and not self._after:
                raise Died
            got = found(*args, **words)
            if mine:
                raise Died
            return got

        return call
