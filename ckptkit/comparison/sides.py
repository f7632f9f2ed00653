"""What of two checkpoints is held against what: their parameters by name."""

from __future__ import annotations

from .._typing import Any, NamedTuple
from ..graph.contradicted import contradicted
from ..graph.examine import Subject
from .canonical_stream import Item, items_of, like_absent


class Sides(NamedTuple):
    """The parameters of both by name, their sizes, and what one side lacks and the other holds as nothing."""

    left: dict[str, Item]
    right: dict[str, Item]
    sizes: tuple[Any, Any]
    void: frozenset[str]

    @property
    def both(self) -> list[str]:
        """The names of what is compared value by value."""
        return [n for n, x in self.left.items() if n in self.right and x.spec.shape == self.right[n].spec.shape]


def sides_of(a: Subject, b: Subject) -> Sides:
    """What is held against what."""
    sizes = a.sizes(), b.sizes()
    also = {*contradicted(a), *contradicted(b)}  # computed, or repeated, on one side alone
    sides = items_of(a, sizes[0], also), items_of(b, sizes[1], also)
    left, right = ({i.name: i for i in side} for side in sides)
    void = [like_absent(s, z, side) for s, z, side in zip((a, b), sizes, sides, strict=True)]
    void = [void[0] - right.keys(), void[1] - left.keys()]  # what one naming has no place for, and the other holds as nothing
    if (a.graph.recognition is None) is not (b.graph.recognition is None):  # one is unknown: by stored names
        left, right = ({i.stored: i._replace(name=i.stored) for i in side.values()} for side in (left, right))
    return Sides(left, right, sizes, frozenset(void[0] | void[1]))
