"""Modules that are imported when something of them is first asked for.

A directory may hold any format, so every container is asked what it finds there, and its readers are needed by one at most. Importing
them all takes longer than inspecting a checkpoint (some 15 ms).
"""

from __future__ import annotations

from importlib import import_module

from .._typing import Any


class _Later:
    """Stands for a module under its name in another's globals, until an attribute is asked for."""

    __slots__ = ("_as", "_name", "_where")

    def __init__(self, where: dict[str, Any], as_: str, name: str) -> None:
        self._where, self._as, self._name = where, as_, name

    def __getattr__(self, attribute: str) -> Any:
        module = import_module(self._name, self._where["__package__"])
        self._where[self._as] = module
        return getattr(module, attribute)


def later(where: dict[str, Any], **modules: str) -> None:
    """Put modules into `where` (a module's globals()) under the names given, each imported at its first use.

    `modules`: name -> module, relative to the package of `where` ("._tensorflow.table"). For type checkers the caller imports
    the same ones under TYPE_CHECKING.
    """
    for as_, name in modules.items():
        where[as_] = _Later(where, as_, name)
