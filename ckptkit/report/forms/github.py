"""GitHub's workflow commands: annotations of a run."""

from __future__ import annotations

from ..._typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ...gate.run import Checked

RECORDS_FAILURES = True


def checked(checked: Sequence[Checked], **_: Any) -> str:
    from ..machine import github

    return github([(c.path, c.findings) for c in checked])
