"""One model of a checkpoint that holds several: its tensors by their own names, those of the others set apart.

Policy: what the container itself tells apart (the state dicts of one PyTorch file) goes by their key paths; so does any stem that names
have before a point or a slash, so that a scope that nothing else tells can be said by hand.
"""

from __future__ import annotations

from collections.abc import Mapping

from .._typing import TYPE_CHECKING
from ..arch import parts
from ..containers import Checkpoint
from ..errors import UsageError

if TYPE_CHECKING:
    from typing import TypeVar

    T = TypeVar("T")

MAIN = "the rest"


def model_parts(checkpoint: Checkpoint) -> list[str]:
    """The names of the models that the container tells apart; without the one that is taken unless another is asked for."""
    return list(dict.fromkeys(checkpoint.parts.values()))


def select_part(checkpoint: Checkpoint, part: str) -> bool:
    """Make `part` the model that the checkpoint is of. False where nothing in it has that name. UsageError where names would collide."""
    if part not in checkpoint.parts.values() and part in parts():
        return False  # a part that an architecture's own namings know
    inside = {n: n[len(part) + 1 :] for n in checkpoint.tensors if n.startswith((f"{part}.", f"{part}/"))}
    unread = {n: n[len(part) + 1 :] for n in checkpoint.unread if n.startswith((f"{part}.", f"{part}/"))}
    inside = {n: s for n, s in inside.items() if n not in checkpoint.beside and n not in checkpoint.slots}
    if not part or not (inside or unread):
        return False
    main = checkpoint.wrapper
    others = {n: f"{main}.{n}" for n in checkpoint.tensors if main and n not in checkpoint.parts and n not in checkpoint.beside}
    renamed = {n: {**others, **inside}.get(n, n) for n in checkpoint.tensors}
    if len(set(renamed.values())) < len(renamed):
        raise UsageError(f"--part {part}: its tensors would have the names of others", path=checkpoint.path)
    checkpoint.tensors = {renamed[n]: t if renamed[n] == n else t._replace(name=renamed[n]) for n, t in checkpoint.tensors.items()}
    checkpoint.parts = {
        renamed[n]: checkpoint.parts.get(n, main or MAIN) for n in renamed if n not in inside and n not in checkpoint.beside
    }
    checkpoint.unread = _moved(checkpoint.unread, unread)
    checkpoint.classes = _moved(checkpoint.classes, renamed)
    checkpoint.repeats = {renamed.get(a, a): renamed.get(b, b) for a, b in checkpoint.repeats.items()}
    checkpoint.slots = {renamed.get(a, a): renamed.get(b, b) for a, b in checkpoint.slots.items()}
    checkpoint.copies = _moved(checkpoint.copies, renamed)
    aliases = checkpoint.aliases
    checkpoint.aliases = lambda: _moved(aliases(), renamed)
    checkpoint.stored_as = {new: old for old, new in renamed.items() if new != old}
    checkpoint.wrapper = checkpoint.chosen = part
    return True


def _moved(of: Mapping[str, T], renamed: Mapping[str, str]) -> dict[str, T]:
    return {renamed.get(n, n): v for n, v in of.items()}
