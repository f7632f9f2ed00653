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
from ..support.json_text import parse
from ._learned_folder import LEARNED, TIMM, is_learned, timm_index

INDEX = "_index.json"


class Part(NamedTuple):
    """A part of a composite model: the library's type and class of it at the default, and the beginning of its names."""

    type: str
    class_name: str
    at: str


class LearnedSchema(NamedTuple):
    """What was learned of a model type. `classes`: name -> prefix, "NAME@memory" for the names in memory; `defaults` of keys, `derived`:
    keys that are computed of others where nothing says them; `ignored`: the library's own expressions of names that it passes over;
    `spread`: keys of which one number is that of each item of a list; the `words` and `types` that were met, and keys that were left
    `fixed`, of other libraries' models: at a configuration that says others nothing is known."""

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
    types: Mapping[str, Any]


def _read(name: str) -> Any:
    try:
        with open(os.path.join(LEARNED, name), encoding="utf-8") as f:
            return parse(f.read())
    except FileNotFoundError:
        return None


@cache
def read_index() -> Mapping[str, Any]:
    """{"types": [model type...], "classes": {class: model type}, "marks": {pattern: [model types]}}, of what was learned."""
    found: Mapping[str, Any] = _read(INDEX) or {"types": [], "classes": {}, "marks": {}, "counts": []}
    return found


# what timm takes besides a model's name, and what no tensor depends on
_TIMM_ARGUMENTS = (
    "drop_rate", "drop_path_rate", "proj_drop_rate", "attn_drop_rate", "patch_drop_rate", "pos_drop_rate", "dynamic_img_size",
    "dynamic_img_pad",
)  # fmt: skip


def _read_timm(name: str) -> LearnedSchema:
    """The schema of an architecture of timm's, from the file of its module."""
    data = _read(os.path.join("timm", f"{timm_index()[name]}.json"))
    found, patterns, shapes, whens = data["types"][name], data["patterns"], data["shapes"], data["whens"]
    rows = []
    for p, shape, *more in found["rows"]:
        dims = tuple([str(d) if isinstance(d, int) else d for d in shapes[shape]])
        rows.append(LearnedRow(patterns[p], dims, whens[more[0]] if more else True, frozenset(), "", len(more) > 1))
    only = {"pretrained_cfg.input_size": found["size"]} if found["size"] else {}
    arguments = [*_TIMM_ARGUMENTS, *([] if only else ["img_size"])]
    return LearnedSchema(
        TIMM + name, data["library"], {name: ""}, {n: Place(*p) for n, p in found["places"].items()}, tuple(rows),
        {"num_classes": found["classes"]}, {}, {}, {}, (), {}, {"model_args": arguments}, only, {},
    )  # fmt: skip


@cache
def read_schema(model_type: str) -> LearnedSchema:
    """The learned schema of a model type. UsageError where there is none."""
    if model_type.startswith(TIMM) and is_learned(model_type):
        return _read_timm(model_type.removeprefix(TIMM))
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
        data.get("types", {}),
    )  # fmt: skip
