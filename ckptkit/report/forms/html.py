"""One HTML page, for people who keep a build's artifacts."""

from __future__ import annotations

from ..._typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ...gate.run import Checked

RECORDS_FAILURES = True


def checked(checked: Sequence[Checked], **_: Any) -> str:
    from ..html import show_html

    return show_html(checked)
