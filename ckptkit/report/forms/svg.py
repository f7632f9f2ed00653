"""Pictures."""

from __future__ import annotations

from ..._typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ...runtime.summary import Summary


def flow(s: Summary, **_: Any) -> str:
    from ..flow_picture import flow_file

    return flow_file(s)
