"""Tables for spreadsheets: a line for each tensor."""

from __future__ import annotations

from ..._typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ...verbs.inspect import Inspection


def inspection(i: Inspection, **_: Any) -> str:
    from ..figures import inspection_csv

    return inspection_csv(i)
