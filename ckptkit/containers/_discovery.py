"""Every container: a module or a package of this folder, found by being there (but for those that begin with an underscore).

To import them all takes a fifth of the time in which a folder of 24 layers is inspected, and one or two are needed. So an index, written
by scripts/index_containers.py, says of each what it is called, how its files end and what a folder has where it may be there. A container
that the index does not know (added since) is imported always.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from functools import cache
from importlib import import_module

from .._typing import Any, NamedTuple, cast
from ..errors import UsageError, one_of
from ..support.discovery import stems
from ..support.json_text import parse
from ._interface import FOLDERS, Container

_HERE = os.path.dirname(__file__)
INDEX = os.path.join(_HERE, "_index.json")


class Known(NamedTuple):
    """What is told of a container without importing it."""

    stem: str
    name: str
    suffixes: tuple[str, ...]
    marks: tuple[str, ...]  # see `Container`
    writable: bool
    single: bool

    def load(self) -> Container:
        return _module(self.stem)


def _module(stem: str) -> Container:
    return cast(Container, import_module(f"{__package__}.{stem}"))


def facts(stem: str) -> Known:
    """Those of a container, from its module."""
    m = _module(stem)
    return Known(stem, m.NAME, m.SUFFIXES, getattr(m, "MARKS", m.SUFFIXES), getattr(m, "WRITABLE", False), getattr(m, "SINGLE", False))


def _index() -> dict[str, Any]:
    with open(INDEX, encoding="utf-8") as f:
        held: dict[str, Any] = parse(f.read())
    return held


@cache
def known() -> tuple[Known, ...]:
    """The facts of every container, in the order of their modules' names."""
    held = _index()
    out = []
    for stem in stems(_HERE):
        if stem in held:
            name, suffixes, marks, writable, single = held[stem]
            out.append(Known(stem, name, tuple(suffixes), tuple(marks), writable, single))
        else:
            out.append(facts(stem))
    return tuple(out)


def asked(names: Iterable[str], folders: Iterable[bool]) -> Iterator[Container]:
    """The containers whose `find` may find something in a folder with these names. `folders`: whether each of them is a folder, looked
    at only as far as it has to be."""
    text = "\n".join(["", *names, ""])
    inner: bool | None = None
    for k in known():
        here = any(mark in text for mark in k.marks if mark != FOLDERS)
        if not here and FOLDERS in k.marks:
            inner = any(folders) if inner is None else inner
            here = inner
        if here:
            yield k.load()


def each(name: str = "") -> Iterator[Container]:
    """Every container module, each imported when it is reached: whoever has found his own need not pay for the rest.

    Those come first whose own name is in the file's `name` (safetensors, torch).
    """
    for stem in sorted(stems(_HERE), key=lambda s: s not in name):
        yield _module(stem)


@cache
def containers() -> dict[str, Container]:
    """Every container module by its NAME."""
    return {m.NAME: m for m in each()}


def by_name(name: str) -> Container:
    """The container called `name`, or a UsageError that lists them."""
    for k in known():
        if k.name == name:
            return k.load()
    raise UsageError(f"no container is called {name!r}", hint=one_of(name, (k.name for k in known())))
