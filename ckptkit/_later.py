"""Modules that are imported when something of them is first asked for.

A directory may hold any format, so every container is asked what it finds there, and its readers are needed by one at most. Importing
them all takes longer than inspecting a checkpoint.
"""

from __future__ import annotations

from importlib import import_module

from ._typing import Any


class _Later:
    """Stands for a module under its name in another's globals, until an attribute is asked for."""

    __slots__ = ("_name", "_where")

    def __init__(self, where: dict[str, Any], name: str) -> None:
        self._where, self._name = where, name

    def __getattr__(self, attribute: str) -> Any:
        module = import_module(f"{self._where['__package__']}.{self._name}")
        self._where[self._name] = module
        return getattr(module, attribute)


def later(where: dict[str, Any], *names: str) -> None:
    """Put modules of the package that `where` (a module's globals()) is in there by name, each imported at its first use.

    For type checkers the caller imports them under TYPE_CHECKING.
    """
    for name in names:
        where[name] = _Later(where, name)
