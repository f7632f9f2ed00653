"""Findings: what was noticed about a checkpoint, as values. Made by readers and by `validate`, shown by `report`."""

from __future__ import annotations

from ._typing import NamedTuple

SEVERITIES = ("error", "warning", "info")


class Finding(NamedTuple):
    """One thing noticed. `where` names a tensor, a run of tensors, a config key or a file; `basis` what it rests on."""

    severity: str  # one of SEVERITIES
    rule: str  # a stable id: "layers", "missing", "shape", ...
    where: str
    message: str
    hint: str = ""
    basis: str = "confirmed"  # confirmed | inferred | undecided


def worst(findings: tuple[Finding, ...] | list[Finding]) -> str | None:
    """The gravest severity among `findings`, or None."""
    seen = {f.severity for f in findings}
    return next((s for s in SEVERITIES if s in seen), None)
