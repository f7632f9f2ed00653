"""The rules of `validate`: what a checkpoint must be. `RULES` documents each, `CHECKS` runs them; docs/rules.md is made from here.

A module of this folder holds the rules of one kind and is found by being here. Its `ORDER`, if it has one, is its place in a
report. `inspect` runs only what headers tell; rules that read weights lie in the folder `weights`, whose modules are imported when
`RULES` or `CHECKS` is first asked for.
"""

from __future__ import annotations

import os
import sys
from functools import cache
from importlib import import_module

from .._typing import TYPE_CHECKING
from ..support.discovery import stems
from . import _base
from ._base import READS, Check, Rule

if TYPE_CHECKING:
    from ._base import CHECKS, RULES

__all__ = ["CHECKS", "READS", "RULES", "Check", "Rule", "header_checks", "known"]

_LAST = 1000  # the place of a module that says none


@cache
def _load(folder: str = "") -> None:
    """Import every module of this folder, or of one within it; each registers its rules."""
    for stem in stems(os.path.join(os.path.dirname(__file__), folder)):
        import_module(".".join(filter(None, (__name__, folder, stem))))


def _ordered() -> list[tuple[str, str, Check]]:
    return sorted(_base.CHECKS, key=lambda c: getattr(sys.modules.get(c[2].__module__), "ORDER", _LAST))


@cache
def header_checks() -> list[tuple[str, str, Check]]:
    """The checks that read headers and what lies beside the weights, in their order."""
    _load()
    return [c for c in _ordered() if c[1] in ("headers", "beside")]


def known(rule: str) -> bool:
    """Whether there is a rule of this id."""
    rules: dict[str, Rule] = __getattr__("RULES")  # type: ignore[assignment]
    return rule in rules


def __getattr__(name: str) -> object:
    if name not in ("CHECKS", "RULES"):
        raise AttributeError(f"module 'ckptkit.rules' has no attribute {name!r}")
    _load()
    _load("weights")
    globals().update(CHECKS=_ordered(), RULES=_base.RULES)
    return globals()[name]
