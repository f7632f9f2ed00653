"""Where the objects of TensorFlow programs hold a dialect's tensors: what a written object graph needs besides the names.

A dialect's `Objects` table says it as templates; here they are expanded for the layers that there are. Under which attributes
a program hung the model (`tf.train.Checkpoint(model=...)`) is remembered in a configuration's own block, so that what comes back
from another naming has the keys it had.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import product as combinations
from itertools import takewhile

from .._typing import NamedTuple
from ..configuration.read import BLOCK
from ..schema import Dialect, Objects, Row, Table, count_name, expand, placeholders
from .recognition import Recognition

MEMORY = "objects"


class Hung(NamedTuple):
    """How a checkpoint's names begin: `root`, then the dialect's prefix; `called`: first name template of a row -> another of its names."""

    root: str
    prefix: str
    called: Mapping[str, str]

    def name(self, row: Row, at: Mapping[str, int], counts: Mapping[str, int]) -> str:
        """The name that a row's tensor is written under."""
        name = expand(self.called.get(row.names[0], row.names[0]), at, counts)
        return self.root + (self.prefix + name if row.prefixed else name)


def hung(r: Recognition, counts: Mapping[str, int]) -> dict[str, object]:
    """What to remember of a recognised object-based checkpoint; {} where it is as it would be written anyway."""
    objects = r.dialect.files.objects
    if objects is None:
        return {}
    root, called = r.wrapper, {}
    paths = dict(_paths(r.table, objects, "", counts))
    for stored, (row, at) in r.matches.items():
        if row.role != "param":
            continue
        if paths:
            path = paths.get(row.names[0] if "{" not in row.names[0] else expand(row.names[0], dict(at), counts), "")
            if path and (stored == path or stored.endswith("/" + path)):
                root = stored[: len(stored) - len(path)]
                break
            return {}
        within = stored.removeprefix(r.wrapper)
        within = within.removeprefix(r.prefix) if row.prefixed else within
        other = next((n for n in row.names[1:] if expand(n, dict(at), counts) == within), None)
        if other is not None:
            called[row.names[0]] = other
    found = Hung(root, r.prefix, called)
    earlier = [d for d in takewhile(lambda d: d is not r.dialect, r.architecture.dialects.values()) if d.alias == r.dialect.alias != ""]
    told = any(
        r.architecture.table(d.name).groups == r.table.groups for d in earlier
    )  # asked for by that name, the other one would be written
    return {} if found == usual(r.dialect) and not told else {r.dialect.name: {"root": root, "prefix": r.prefix, "called": called}}


def scope(dialect: Dialect, names: Sequence[str], cls: str) -> dict[str, object]:
    """What to remember of names whose model is called otherwise than its class says; {} of others."""
    called = dialect.files.spelling.scope(names, cls) if dialect.files.spelling is not None else ""
    return {dialect.name: {"scope": called, "class": cls}} if called else {}


def recalled_scope(dialect: Dialect, cls: str, memory: Mapping[str, object]) -> str:
    """What the model of a class is called in a dialect's names, as remembered; "" where nothing is, or no name that a layer can have."""
    said = memory.get(dialect.name)
    called = said.get("scope") if isinstance(said, Mapping) and said.get("class") == cls else None
    return (
        called
        if isinstance(called, str) and len(called) < 200 and "/" not in called and called.isprintable() and called.strip(". ")
        else ""
    )


def remembered(raw: Mapping[str, object] | None) -> Mapping[str, object]:
    """What a configuration's own block remembers, by dialect."""
    block = (raw or {}).get(BLOCK)
    memory = block.get(MEMORY) if isinstance(block, Mapping) else None
    return memory if isinstance(memory, Mapping) else {}


def usual(dialect: Dialect) -> Hung:
    """How a dialect is written where nothing is remembered."""
    return Hung(dialect.files.objects.root if dialect.files.objects is not None else "", dialect.prefixes[0], {})


def recalled(dialect: Dialect, table: Table, raw: Mapping[str, object] | None) -> Hung:
    """How a dialect with objects is written: as remembered in a configuration, if that fits its tables."""
    said = remembered(raw).get(dialect.name)
    if not isinstance(said, Mapping):
        return usual(dialect)
    root, prefix, called = said.get("root"), said.get("prefix"), said.get("called")
    names = {r.names[0]: r.names for r in table.rows}
    if not isinstance(root, str) or prefix not in dialect.prefixes or not isinstance(called, Mapping) or root.startswith("/"):
        return usual(dialect)
    return Hung(root, str(prefix), {str(k): str(v) for k, v in called.items() if v in names.get(str(k), ())})


def object_places(table: Table, at: Hung, counts: Mapping[str, int]) -> dict[str, object]:
    """`object_paths` (stored name -> path) and `object_aliases` (path -> path) for a container that keeps an object graph."""
    objects = table.dialect.files.objects
    if objects is None:
        return {}
    aliases = dict(_aliases(objects, at, counts))
    return {"object_paths": dict(_paths(table, objects, at.root, counts)), "object_aliases": aliases}


def _paths(table: Table, objects: Objects, root: str, counts: Mapping[str, int]) -> Iterator[tuple[str, str]]:
    """(stored name, attribute path) of every tensor, where names are no paths."""
    if not objects.paths:
        return
    for row in table.rows:
        template, rest = row.names[0], ""
        while template not in objects.paths and template:
            template, _, last = template.rpartition("/")
            rest = f"/{objects.words.get(last, last)}{rest}"
        for at in _places(row.names[0], counts) if template else ():
            yield expand(row.names[0], at, counts), root + expand(objects.paths[template], at, counts) + rest


def _places(template: str, counts: Mapping[str, int]) -> Iterator[dict[str, int]]:
    holders = placeholders(template)
    for values in combinations(*(range(counts.get(count_name(h), 0)) for h in holders)):
        yield dict(zip(holders, values, strict=True))


def _aliases(objects: Objects, hung: Hung, counts: Mapping[str, int]) -> Iterator[tuple[str, str]]:
    """Further paths: of the dialect's own objects, then of the whole model under every attribute that programs hang it at."""
    root, prefix, called = hung
    for alias, path in objects.aliases.items():
        for at in _places(alias, counts):
            yield (
                root + expand(alias.replace("~", prefix), at, counts),
                "=" * path.startswith("=") + root + expand(_called(path.removeprefix("="), called).replace("~", prefix), at, counts),
            )
    model = prefix[:-1]
    for name in objects.roots:
        if name != model:
            yield (root + name, root + model) if model else (f"{root}{name}/*", f"{root}*")
    if model and objects.roots:
        yield f"{root}*", f"{root}{model}/*"
    if root:
        yield "*", f"{root}*"
    if root != "model/":
        yield "model/*", "*"


def _called(path: str, called: Mapping[str, str]) -> str:
    """The path of an object whose tensors are called otherwise."""
    for own, other in called.items():
        if own.rpartition("/")[0] == path:
            return other.rpartition("/")[0]
    return path
