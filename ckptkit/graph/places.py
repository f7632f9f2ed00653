"""Where a stored tensor stands in its model: which stack of layers, which layer, which module."""

from __future__ import annotations

import re
from collections.abc import Sequence

from .._typing import NamedTuple
from ..schema import expand, placeholders
from ..schema.templates import reduce_name
from .examine import Subject


class Place(NamedTuple):
    """`stack` is what comes before the layer's number ("encoder.layers"), `module` what comes after it ("attention.query.weight").

    Outside of layers `layer` is None, and `stack` the first component of the name ("embeddings").
    """

    stack: str
    layer: int | None
    module: str


def places(subject: Subject) -> dict[str, Place]:
    """The place of every stored tensor: by the parameters that it holds, or, where nobody knows it, by its name."""
    r, roles = subject.graph.recognition, subject.graph.roles
    out = {}
    for name in subject.checkpoint.tensors:
        match = r.matches.get(name) if r is not None else None
        known = match is not None and roles[name].kind in ("param", "tied", "repeat")
        out[name] = place_of(name, match.row.parts, match.at) if match is not None and known else by_name(name)
    return out


def place_of(name: str, templates: Sequence[str], at: Sequence[tuple[str, int]]) -> Place:
    """The place of a stored tensor that holds the parameters of these templates; by its name where there are none."""
    parts = [_of_template(p, dict(at)) for p in templates]
    if len(parts) < 2:
        return parts[0] if parts else by_name(name)
    return parts[0]._replace(module=_together([p.module for p in parts]))


def by_name(name: str) -> Place:
    """The place that a stored name tells: its first number is the layer's."""
    pattern, numbers = reduce_name(name)
    head, mark, _ = pattern.partition("#")
    if not mark or len(numbers[0]) > 8:
        return _outside(name)
    return Place(head.rstrip("._/"), int(numbers[0]), name[len(head) + len(numbers[0]) :].lstrip("._/"))


def _outside(name: str) -> Place:
    found = re.match(r"([^./]+)[./](.+)", name, re.DOTALL)
    return Place(found[1], None, found[2]) if found is not None else Place("", None, name)


def _of_template(template: str, at: dict[str, int]) -> Place:
    holders = placeholders(template)
    if not holders or holders[0] not in at:
        return _outside(re.sub(r"\{\w+\}", "*", template))
    head, _, tail = template.partition(f"{{{holders[0]}}}")
    for holder in holders[1:]:  # a tensor that holds all experts has no number of one
        if holder not in at:
            tail = tail.replace(f"{{{holder}}}", "*")
    return Place(head.rstrip("."), at[holders[0]], expand(tail, at).lstrip("."))


def _together(modules: Sequence[str]) -> str:
    """ "attention.query+key+value.weight": the modules that one tensor holds, by what tells them apart."""
    split = [m.split(".") for m in modules]
    if len({len(parts) for parts in split}) > 1:
        return "+".join(modules)
    return ".".join("+".join(dict.fromkeys(same)) for same in zip(*split, strict=True))
