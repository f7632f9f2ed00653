"""Graphviz' DOT."""

from __future__ import annotations

from ..._typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ...runtime.summary import Summary


def flow(s: Summary, **_: Any) -> str:
    from ..summary import flow_dot

    return flow_dot(s)
