"""The rules of architectures that have no table, by the schema that was learned of them.

What they do is in _learned.py, which is imported only where there is such a schema: it saves the start of `inspect` a millisecond.
"""

from __future__ import annotations

from collections.abc import Iterator

from ..findings import Finding
from ..graph.examine import Subject
from ._base import also

ORDER = 25


def _is_learned(s: Subject) -> bool:
    return s.graph.recognition is not None and s.graph.recognition.learned is not None


@also("layers")
def learned_layers(s: Subject) -> Iterator[Finding]:
    """Counts that are more than one key: lists of stages, several stacks by one key, stacks of which nothing is there."""
    if _is_learned(s):
        from ._learned import layers

        yield from layers(s)


@also("missing")
def learned_missing(s: Subject) -> Iterator[Finding]:
    """Tensors that the library's class has at this configuration."""
    if _is_learned(s):
        from ._learned import missing

        yield from missing(s)


@also("unexpected")
def learned_unexpected(s: Subject) -> Iterator[Finding]:
    """Tensors of the schema that the class does not have at this configuration."""
    if _is_learned(s):
        from ._learned import unexpected

        yield from unexpected(s)


@also("size")
def learned_sizes(s: Subject) -> Iterator[Finding]:
    """Sizes that follow from several keys, or differ from layer to layer."""
    if _is_learned(s):
        from ._learned import sizes

        yield from sizes(s)
