"""On-disk formats. One module or package a format, found by being in this folder; what each gives is in `_interface`."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping

from .. import store
from ..errors import UNREADABLE, CheckpointError, CorruptError
from ..findings import Finding
from ..limits import using
from ._detect import locate
from ._discovery import by_name, containers, each, known
from ._foreign import refuse_text
from ._interface import (
    OBJECT_GRAPH,
    Checkpoint,
    Container,
    FileLayout,
    Inside,
    Packed,
    Part,
    Place,
    Ranked,
    Slot,
    drop_explained,
)
from ._shard_names import LOST, is_index, is_ranked, shard_of
from ._slots import Slots

__all__ = [
    "LOST", "OBJECT_GRAPH", "Checkpoint", "Container", "FileLayout", "Inside", "Packed", "Part", "Place", "Ranked", "Slot", "Slots",
    "below", "by_name", "containers", "drop_explained", "each", "is_index", "known", "locate", "open_checkpoint", "unread",
]  # fmt: skip


def below(folder: str) -> list[Place]:
    """Where checkpoints lie in a folder and below it, each under the name by which it is read."""
    from ._folder import below

    return below(folder)


def unread(opened: Checkpoint, looked_at: Collection[str] = ()) -> list[Finding]:
    """What `opened.findings` say of other checkpoints of the folder that it is read of, without the names in `looked_at`."""
    if not opened.whole_folder:
        return []
    from ._folder import unread

    return unread(os.path.dirname(opened.path), opened, looked_at)


def open_checkpoint(path: str | os.PathLike[str], container: str | None = None, *, limits: Mapping[str, int] | None = None) -> Checkpoint:
    """Read the headers of the checkpoint at `path`. A context manager; weights are read when asked for.

    `container` names the format instead of having it recognised; `limits` raises limits for a file that is trusted ({"rank": 100};
    the names are `ckptkit.limits.Limits`'s), here and in what the checkpoint's own methods read. Raises CheckpointError (see
    `errors`).
    """
    if limits:
        with using(**limits):
            opened = open_checkpoint(path, container)
        opened.limits = dict(limits)
        return opened
    p = os.fspath(path)
    try:
        store.prepare(p)
        if container is not None:
            c = by_name(container)
            p = p if store.is_file(p) else (c.prefix(p) or locate(p)[1])
        else:
            c, p = locate(p)
        refuse_text(p, c)
        opened = _with_others(c.open(p))
        if store.is_folder(os.fspath(path)) and not store.is_folder(p):
            from ._folder import beside

            opened.findings += beside(os.path.dirname(p), opened)
            opened.whole_folder = True
        return opened
    except OSError as e:
        raise CheckpointError(f"cannot be read: {e.strerror}", path=e.filename or p, hint=UNREADABLE) from None
    except RecursionError:
        raise CorruptError("nested too deeply", path=p) from None


def _with_others(checkpoint: Checkpoint) -> Checkpoint:
    """`checkpoint`, with a finding where it is one file whose name says that it is a part of several."""
    shard = shard_of(os.path.basename(checkpoint.path)) if not is_ranked(os.path.basename(checkpoint.path)) else None
    if shard is not None and checkpoint.files == (checkpoint.path,) and shard[3] > 1:
        what = f"is part {shard[2]} of {shard[3]} by its name: the other parts are not looked at"
        hint = "name the index, or the directory, for all of them"
        checkpoint.findings.append(Finding("warning", "shards", os.path.basename(checkpoint.path), what, hint))
    return checkpoint
