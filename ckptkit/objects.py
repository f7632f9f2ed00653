"""What a written object graph of TensorFlow needs besides the tensors' names: their attribute paths and the further paths of objects.

A dialect's `Objects` table says both as templates; here they are expanded for the layers that there are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import product as combinations

from .plan import walk
from .schema import Objects, Table, count_name, expand, placeholders


def object_places(table: Table, prefix: str, counts: Mapping[str, int]) -> dict[str, object]:
    """`object_paths` (stored name -> path) and `object_aliases` (path -> path) for a container that keeps an object graph."""
    objects = table.dialect.objects
    if objects is None:
        return {}
    return {"object_paths": dict(_paths(table, objects, prefix, counts)), "object_aliases": dict(_aliases(objects, prefix, counts))}


def _paths(table: Table, objects: Objects, prefix: str, counts: Mapping[str, int]) -> Iterator[tuple[str, str]]:
    if not objects.paths:
        return
    for row, at in walk(table.rows, counts):
        template, rest = row.names[0], ""
        while template not in objects.paths and template:
            template, _, last = template.rpartition("/")
            rest = f"/{objects.words.get(last, last)}{rest}"
        if template:
            yield table.stored_name(row, at, prefix, counts), expand(objects.paths[template], at, counts) + rest


def _aliases(objects: Objects, prefix: str, counts: Mapping[str, int]) -> Iterator[tuple[str, str]]:
    for alias, path in objects.aliases.items():
        holders = placeholders(alias)
        for values in combinations(*(range(counts.get(count_name(h), 0)) for h in holders)):
            at = dict(zip(holders, values, strict=True))
            yield expand(alias.replace("~", prefix), at, counts), expand(path.replace("~", prefix), at, counts)
