"""A list of ticks: what validate finds, and what inspect sees, as a line each."""

from __future__ import annotations

from collections.abc import Sequence

from ..._typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ...gate.run import Checked
    from ...verbs.inspect import Inspection


def checked(checked: Sequence[Checked], **_: Any) -> str:
    return "\n".join(f"[{' ' if c.findings else 'x'}] {c.path}" for c in checked)


def inspection(i: Inspection, **_: Any) -> str:
    return f"[x] {i.path}"
