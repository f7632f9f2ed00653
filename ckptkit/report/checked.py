"""What validate prints of the checkpoints it has checked."""

from __future__ import annotations

import json
from collections.abc import Sequence

from .._typing import TYPE_CHECKING
from ..errors import inert
from .findings import SCHEMA_VERSION, _unreadable, markdown, note, report_json, show_findings, show_report

if TYPE_CHECKING:
    from ..gate.run import Checked


def show_checked(checked: Sequence[Checked], form: str, fail_on: str) -> str:
    """The outcome for one or many checkpoints: text, json, markdown, html, sarif, junit or github; no name in it is a command to a CI job
    that prints it."""
    return inert(_shown(checked, form, fail_on), commands=form == "github")


def _shown(checked: Sequence[Checked], form: str, fail_on: str) -> str:
    if form == "html":
        from .html import show_html

        return show_html(checked)
    if form in ("sarif", "junit", "github"):
        from . import machine

        found = [(c.path, c.findings) for c in checked]
        return machine.junit(found, fail_on) if form == "junit" else (machine.sarif if form == "sarif" else machine.github)(found)
    if form == "json":
        data = [report_json(c.report) if c.report is not None else _unreadable(c) for c in checked]
        return json.dumps(
            data[0] if len(data) == 1 else {"schema_version": SCHEMA_VERSION, "checkpoints": data}, indent=2, ensure_ascii=False
        )
    parts = []
    for c in checked:
        if c.report is not None:
            parts.append(show_report(c.report, form))
        else:
            line = f"{c.path}: cannot be read"
            parts.append(
                f"**{markdown(line)}**: {markdown(c.findings[0].message)}" if form == "markdown" else f"{line}\n{show_findings(c.findings)}"
            )
    if said := note(checked):
        parts.append(f"_{markdown(said)}_" if form == "markdown" else said)
    return "\n\n".join(parts) if form == "markdown" else "\n".join(parts)
