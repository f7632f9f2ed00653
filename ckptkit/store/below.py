"""A part of a tree as a tree of its own: what lies below one prefix of a bucket."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from .._typing import TYPE_CHECKING
from ..support.urls import is_url
from .interface import Entry, Uploads
from .local import LocalTree
from .trees import tree_of

if TYPE_CHECKING:
    from .interface import Blob, Sink, Tree


class Below:
    """The objects of `tree` whose names begin with `prefix` and a slash, called without it."""

    def __init__(self, tree: Tree, prefix: str) -> None:
        self._tree, self._prefix = tree, prefix.strip("/")
        self.root = tree.label(self._prefix)
        self.least_part = tree.least_part
        self.equal_parts = tree.equal_parts
        self.at_once = tree.at_once

    def _full(self, name: str) -> str:
        return f"{self._prefix}/{name}" if name else self._prefix

    @property
    def stale(self) -> bool:
        """As the whole tree."""
        return self._tree.stale

    def list(self, folder: str = "") -> dict[str, Entry]:
        """What a folder holds."""
        return self._tree.list(self._full(folder))

    def fresh(self) -> None:
        """Ask anew what there is."""
        self._tree.fresh()

    def known(self, folder: str) -> dict[str, Entry] | None:
        """The kept listing of a folder."""
        return self._tree.known(self._full(folder))

    def entry(self, name: str) -> Entry | None:
        """What is called so."""
        return self._tree.entry(self._full(name))

    def blob(self, name: str, tag: str | None = None) -> Blob:
        """Open an object."""
        return self._tree.blob(self._full(name), tag)

    def pin(self, name: str) -> object:
        """Hold an object as it is now."""
        return self._tree.pin(self._full(name))

    def warm(self, wanted: Sequence[tuple[str, int, int]]) -> None:
        """Fetch pieces of many objects together."""
        self._tree.warm([(self._full(name), at, n) for name, at, n in wanted])

    def save(self) -> None:
        """As the whole tree."""
        self._tree.save()

    def put(self, name: str, data: bytes, *, only_if: str | None = None) -> str:
        """Write a small object at once; its tag."""
        return self._tree.put(self._full(name), data, only_if=only_if)

    def delete(self, name: str) -> None:
        """Remove an object."""
        self._tree.delete(self._full(name))

    def delete_all(self, names: Iterable[str]) -> None:
        """Remove objects, several at a time."""
        self._tree.delete_all(map(self._full, names))

    def sink(self, name: str) -> Sink:
        """Where an object is written in parts."""
        return self._tree.sink(self._full(name))

    def uploads(self, prefix: str = "") -> Uploads:
        """What was begun below `prefix` and neither committed nor aborted."""
        cut = len(self._prefix) + 1
        return [(n[cut:], u) for n, u in self._tree.uploads(self._full(prefix)) if n.startswith(self._prefix + "/")]

    def label(self, name: str) -> str:
        """The whole address of an object."""
        return self._tree.label(self._full(name))


def tree_at(where: str) -> Tree:
    """The tree that begins at a place, which may be a folder of this machine: what a run reads its plan from and writes to."""
    if is_url(where):
        tree, name = tree_of(where)
        return Below(tree, name) if name else tree
    return LocalTree(where)
