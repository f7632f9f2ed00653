"""The rules of `validate`: what a checkpoint must be. `RULES` documents each, `CHECKS` runs them; docs/rules.md is made from here.

A module of this package holds the rules of one kind. The order of the modules is that of a report.
"""

from __future__ import annotations

from importlib import import_module

from ._base import CHECKS, READS, RULES, Check, Rule

__all__ = ["CHECKS", "READS", "RULES", "Check", "Rule", "known"]

for _name in ("architecture", "layers", "tensors", "shapes", "beside", "content", "values", "noticed", "expectations"):
    import_module(f"{__name__}.{_name}")


def known(rule: str) -> bool:
    """Whether there is a rule of this id."""
    return rule in RULES
