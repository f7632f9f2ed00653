"""The rules of `validate`: what a checkpoint must be. `RULES` documents each, `CHECKS` runs them; docs/rules.md is made from here.

A module of this package holds the rules of one kind. The order of the modules is that of a report. `inspect` runs only
what headers tell, so the modules that read weights are imported when `RULES` or `CHECKS` is first asked for.
"""

from __future__ import annotations

from importlib import import_module

from .._typing import TYPE_CHECKING
from . import _base
from ._base import READS, Check, Rule

if TYPE_CHECKING:
    from ._base import CHECKS, RULES

__all__ = ["CHECKS", "READS", "RULES", "Check", "Rule", "header_checks", "known"]

_HEADERS = ("architecture", "layers", "tensors", "shapes", "configuration", "beside")
_WEIGHTS = ("content", "values", "noticed", "expectations")

for _name in _HEADERS:
    import_module(f"{__name__}.{_name}")


def header_checks() -> list[tuple[str, str, Check]]:
    """The checks that read headers and what lies beside the weights, in their order."""
    return [c for c in _base.CHECKS if c[1] in ("headers", "beside")]


def known(rule: str) -> bool:
    """Whether there is a rule of this id."""
    rules: dict[str, Rule] = __getattr__("RULES")  # type: ignore[assignment]
    return rule in rules


def __getattr__(name: str) -> object:
    if name not in ("CHECKS", "RULES"):
        raise AttributeError(f"module 'ckptkit.rules' has no attribute {name!r}")
    for module in _WEIGHTS:
        import_module(f"{__name__}.{module}")
    globals().update(CHECKS=_base.CHECKS, RULES=_base.RULES)
    return globals()[name]
