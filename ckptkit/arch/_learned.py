"""Reading the learned schemas: one JSON file a model type in learned/, an index of their names and classes, written by a script.

Only the file that a configuration names is opened; the index is read when a name is asked for that no table has.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from functools import cache

from .._typing import Any, NamedTuple
from ..errors import UsageError
from ..schema.learned import LearnedRow, Place
from ._learned_folder import LEARNED, is_learned

INDEX = "_index.json"


class Part(NamedTuple):
    """A part of a composite model: the library's type and class of it at the default, and the beginning of its names."""

    type: str
    class_name: str
    at: str


class LearnedSchema(NamedTuple):
    """What was learned of a model type. `classes`: name -> prefix, "NAME@memory" for the names in memory; `defaults` of keys, `derived`:
    keys that are computed of others where nothing says them; `ignored`: the library's own expressions of names that it passes over;
    `spread`: keys of which one number is that of each item of a list; `words` that were met, and keys that were left `fixed`, of diffusers'
    models: at a configuration that says others nothing is known."""

    model_type: str
    library: str
    classes: Mapping[str, str]
    places: Mapping[str, Place]
    rows: tuple[LearnedRow, ...]
    defaults: Mapping[str, Any]
    derived: Mapping[str, str]
    aliases: Mapping[str, str]
    parts: Mapping[str, Part]
    ignored: tuple[str, ...]
    spread: Mapping[str, str]
    words: Mapping[str, Any]
    fixed: Mapping[str, Any]


def _read(name: str) -> Any:
    import json

    try:
        with open(os.path.join(LEARNED, name), encoding="utf-8") as f:
            return json.load(f)
    except FileNotFoundError:
        return None


@cache
def read_index() -> Mapping[str, Any]:
    """{"types": [model type...], "classes": {class: model type}, "marks": {pattern: [model types]}}, of what was learned."""
    found: Mapping[str, Any] = _read(INDEX) or {"types": [], "classes": {}, "marks": {}, "counts": []}
    return found


@cache
def read_schema(model_type: str) -> LearnedSchema:
    """The learned schema of a model type. UsageError where there is none."""
    data = _read(f"{model_type}.json") if is_learned(model_type) else None
    if data is None:
        raise UsageError(f"no schema of {model_type!r} was learned")
    dims, whens, classes = data["dims"], data["whens"], list(data["classes"])
    rows = []
    for pattern, sizes, when, *more in data["rows"]:
        of = frozenset(classes[i] for i in more[0]) if more and more[0] else frozenset()
        rows.append(
            LearnedRow(
                sys.intern(pattern),
                tuple([dims[i] for i in sizes]),
                whens[when],
                of,
                more[1] if len(more) > 1 else "",
                len(more) > 2,
            )
        )
    return LearnedSchema(
        model_type, data["library"], data["classes"], {n: Place(*p) for n, p in data["places"].items()}, tuple(rows), data["defaults"],
        data["derived"], data["aliases"], {k: Part(p["type"], p["class"], p["at"]) for k, p in data["parts"].items()},
        tuple(data["ignored"]), data.get("spread", {}), data.get("words", {}), data.get("fixed", {}),
    )  # fmt: skip
