"""A JSON object a line, for programs that read one tensor after another."""

from __future__ import annotations

from ..._typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ...verbs.inspect import Inspection


def inspection(i: Inspection, **_: Any) -> str:
    from ..figures import inspection_jsonl

    return inspection_jsonl(i)
