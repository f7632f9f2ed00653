"""A house rule."""

from __future__ import annotations

from collections.abc import Iterator

from ..findings import Finding
from ..graph.examine import Subject
from ._base import rule


@rule("few-layers", "warning", "There are at least twelve layers")
def few_layers(s: Subject) -> Iterator[Finding]:
    """Here nobody trains fewer."""
    n = s.graph.counts.get("layers", 12)
    if n < 12:
        yield Finding("warning", "few-layers", "layers", f"{n} layers", "train more")
