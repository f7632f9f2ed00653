"""SARIF 2.1.0, for code scanning."""

from __future__ import annotations

from ..._typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ...gate.run import Checked

RECORDS_FAILURES = True


def checked(checked: Sequence[Checked], **_: Any) -> str:
    from ..machine import sarif

    return sarif([(c.path, c.findings) for c in checked])
