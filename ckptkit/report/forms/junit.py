"""JUnit XML, for whatever collects test reports."""

from __future__ import annotations

from ..._typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ...gate.run import Checked

RECORDS_FAILURES = True


def checked(checked: Sequence[Checked], *, fail_on: str = "error", **_: Any) -> str:
    from ..machine import junit

    return junit([(c.path, c.findings) for c in checked], fail_on)
