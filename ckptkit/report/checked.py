"""What validate prints of the checkpoints it has checked."""

from __future__ import annotations

import json
from collections.abc import Sequence

from .._typing import TYPE_CHECKING
from .findings import SCHEMA_VERSION, markdown, note, report_json, report_markdown, report_text, show_findings, unread_json

if TYPE_CHECKING:
    from ..gate.run import Checked


def checked_text(checked: Sequence[Checked]) -> str:
    """One report after another."""
    parts = [report_text(c.report) if c.report is not None else f"{_unread(c)}\n{show_findings(c.findings)}" for c in checked]
    return "\n".join(parts)


def checked_markdown(checked: Sequence[Checked]) -> str:
    parts = [
        report_markdown(c.report) if c.report is not None else f"**{markdown(_unread(c))}**: {markdown(c.findings[0].message)}"
        for c in checked
    ]
    return "\n\n".join([*parts, *(f"_{markdown(said)}_" for said in filter(None, [note(checked)]))])


def checked_json(checked: Sequence[Checked]) -> str:
    """The report of one checkpoint, or those of several in a list."""
    data = [report_json(c.report) if c.report is not None else unread_json(c) for c in checked]
    whole = data[0] if len(data) == 1 else {"schema_version": SCHEMA_VERSION, "checkpoints": data}
    return json.dumps(whole, indent=2, ensure_ascii=False)


def _unread(c: Checked) -> str:
    return f"{c.path}: cannot be read"
