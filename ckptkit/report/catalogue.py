"""What ckptkit knows, read off its tables: architectures, dialects, containers, variants, and which naming goes into which container."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from ..arch import architectures
from ..containers import Container, containers
from ..schema import Architecture, Dialect
from ._columns import columns

SCHEMA_VERSION = 1
Entry = dict[str, object]


def _architectures() -> Iterator[Entry]:
    for a in architectures().values():
        yield {
            "name": a.name, "title": a.title, "dialects": list(a.dialects),
            "groups": list(dict.fromkeys(p.group for p in a.params.values())),
            "variants": len(a.variants), "called": list(a.names),
        }  # fmt: skip


def _dialects() -> Iterator[Entry]:
    for a in architectures().values():
        for d in a.dialects.values():
            container = containers().get(d.container)
            yield {
                "architecture": a.name, "name": d.name, "title": d.title, "container": d.container,
                "file": d.filename or (container.DEFAULT_FILE if container is not None else None), "config": d.config.filename or None,
                "groups": [g for g in dict.fromkeys(p.group for p in a.params.values()) if g in a.table(d.name).groups],
            }  # fmt: skip


def _containers() -> Iterator[Entry]:
    for c in containers().values():
        writable = c.WRITABLE
        yield {
            "name": c.NAME, "title": c.TITLE, "reads": True, "writes": writable, "file": c.DEFAULT_FILE, "suffixes": list(c.SUFFIXES),
            "ties": writable and c.TIES, "strings": writable and c.STRINGS,
        }  # fmt: skip


def _matrix() -> Iterator[Entry]:
    """Every naming with what each container is to it: its own, one that holds it too (yes), one that it is only read from (read), none
    (no)."""
    for a in architectures().values():
        for d in a.dialects.values():
            yield {"architecture": a.name, "naming": d.name, **{c.NAME: pair(a, d, c) for c in containers().values()}}


def pair(a: Architecture, d: Dialect, c: Container) -> str:
    """What a container is to a naming of an architecture: "own", "yes", "read" or "no"."""
    if getattr(c, "ONLY", a.name) != a.name or (getattr(c, "CONFIGURED", False) and d.config.writer.fold is None and d.container != c.NAME):
        return "no"
    if not c.WRITABLE:
        return "read"
    return "own" if d.container == c.NAME else "yes"


def _variants() -> Iterator[Entry]:
    for a in architectures().values():
        for name, sizes in a.variants.items():
            yield {"architecture": a.name, "name": name, "sizes": dict(sizes)}


TABLES: dict[str, Callable[[], Iterator[Entry]]] = {
    "architectures": _architectures, "dialects": _dialects, "containers": _containers, "variants": _variants, "matrix": _matrix,
}  # fmt: skip


def catalogue(what: str) -> list[Entry]:
    """The entries of one table: "architectures", "dialects", "containers", "variants" or "matrix" (namings against containers)."""
    return list(TABLES[what]())


def catalogue_json(what: str) -> str:
    import json

    return json.dumps({"schema_version": SCHEMA_VERSION, what: catalogue(what)}, indent=2)


def catalogue_markdown(what: str) -> str:
    from .findings import markdown

    headings, rows = _cells(what)
    lines = ["| " + " | ".join(headings) + " |", "|" + " --- |" * len(headings)]
    return "\n".join([*lines, *("| " + " | ".join(markdown(c) for c in r) + " |" for r in rows)])


def catalogue_text(what: str) -> str:
    return "\n".join(columns(*_cells(what)))


def _cells(what: str) -> tuple[list[str], list[list[str]]]:
    entries = catalogue(what)
    headings = list(dict.fromkeys(k for e in entries for k in e))
    return headings, [[_words(e[h]) for h in headings] for e in entries]


def _words(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{k} {v}" for k, v in value.items())
    if isinstance(value, list):
        return ", ".join(str(v) for v in value)
    return "-" if value is None else str(value)
