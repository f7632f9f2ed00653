"""Files that a command writes besides its answer: each held against all that the command has read, then all written."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping

from .. import store
from .._typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..graph.examine import Subject
    from ..schema import Architecture


def files_of(subject: Subject) -> list[str]:
    """All that belongs to an open checkpoint: its weights, its index, its configuration, its vocabulary and the like."""
    from ..plan.sidecars import SIDECARS
    from ..verbs.lock import files_of

    folder = subject.checkpoint.folder
    own = SIDECARS | (_named(subject.architecture) if subject.architecture is not None else set())
    beside = [os.path.join(folder, n) for n in sorted(own)]
    return [subject.checkpoint.path, *files_of(subject).values(), *(p for p in beside if store.lexists(p))]


def _named(architecture: Architecture) -> set[str]:
    """The names that the dialects have for what lies beside the weights."""
    return {
        n for d in architecture.dialects.values() for n in (*d.files.sidecars.values(), *d.config.writer.beside, d.config.filename) if n
    }


def unread(path: str) -> list[str]:
    """What a checkpoint that could not be read may be made of: the file, or all files of the folder."""
    return [os.path.join(path, n) for n in store.listdir(path)] if store.is_folder(path) else [path]


def write_outputs(texts: Mapping[str, str], inputs: Iterable[str]) -> None:
    """Write each file's text. Raises UsageError before any is written where one is an input."""
    from ..engine.small_output import check_output, write_output

    read = [p for p in inputs if not store.is_url(p) and not os.path.isdir(p)]
    for path in texts:
        check_output(path, read)
    for path, text in texts.items():
        write_output(path, text)
