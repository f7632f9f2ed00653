"""What runs that nobody finishes leave in a place: uploads whose parts are paid for and seen by nobody, and notes."""

from __future__ import annotations

from .. import store
from .._typing import NamedTuple
from ..errors import NotFoundError
from ..store.below import tree_at
from ..store.interface import Tree
from .run import NOTES


class Leftovers(NamedTuple):
    """What was found: the objects that were begun, by name and number of parts, and the notes; whether they were removed."""

    where: str
    uploads: tuple[tuple[str, int], ...]
    notes: tuple[str, ...]
    removed: bool

    def __str__(self) -> str:
        lines = [f"{name}: begun, {parts} part{'s' * (parts != 1)} stored" for name, parts in self.uploads]
        lines += [f"{name}: a note" for name in self.notes]
        if not lines:
            return f"{self.where}: nothing was left behind"
        return "\n".join([*lines, "removed" if self.removed else "--remove throws this away; a run that is still under way needs it"])


def clean(where: str, *, remove: bool = False) -> Leftovers:
    """What runs into `where` (a folder or a file, of a store or of this machine) have left; with `remove` it is thrown away.

    A run that is still under way looks the same: who removes it ends it. Raises NotFoundError, CheckpointError.
    """
    if not store.is_url(where) and not store.exists(where):
        raise NotFoundError("there is no such place", path=where)
    name = ""
    tree = tree_at(where)
    if store.is_file(where) or (not tree.list() and not tree.uploads() and "." in where.rpartition("/")[2]):  # of one file
        folder, _, name = store.absolute(where).rpartition("/")
        tree = tree_at(folder)
    tree.fresh()
    begun = [(n, u) for n, u in tree.uploads(name) if not name or n == name]
    notes = _below(tree, f"{NOTES}/{name}" if name else NOTES)
    listed = tuple((tree.label(n), len(tree.sink(n).parts(u))) for n, u in begun)
    if remove:
        for n, upload in begun:
            tree.sink(n).abort(upload)
        tree.delete_all(notes)
    return Leftovers(where, listed, tuple(map(tree.label, notes)), remove)


def _below(tree: Tree, folder: str) -> list[str]:
    """The objects in and below a folder."""
    out = []
    for name, entry in sorted(tree.list(folder).items()):
        full = f"{folder}/{name}"
        out += _below(tree, full) if entry.size < 0 else [full]
    return out
