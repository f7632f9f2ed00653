"""TensorFlow's SavedModel directory: saved_model.pb (the program) and variables/variables.* (a tensor bundle).

Source: tensorflow/core/protobuf/saved_model.proto, python/saved_model/constants.py. The variables are read as the bundle they
are; of the program only what it is called with and what it could do to files is looked at (`graph_def`). A SavedModel is written
by `ckptkit convert --to savedmodel`, which needs TensorFlow, since a program is more than its weights.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import AbstractContextManager

from .. import store
from .._typing import TYPE_CHECKING, Any
from ..errors import CorruptError
from ..findings import Finding
from ..limits import LIMITS
from ..support.lazy import later
from . import tf_bundle
from ._interface import Checkpoint

if TYPE_CHECKING:
    from ._tensorflow import graph_def
    from ._tensorflow.graph_def import Program
else:
    later(globals(), graph_def="._tensorflow.graph_def")

NAME = "savedmodel"
TITLE = "TensorFlow SavedModel"
SUFFIXES: tuple[str, ...] = ("saved_model.pb",)
DEFAULT_FILE = "saved_model.pb"
WRITABLE = False
TIES = False
SINGLE = False
STRINGS = True

SMALL = 4 << 20  # bytes of a program whose operations are looked through whenever it is opened; of larger ones `validate` does it
DEEP = 16 << 20  # bytes of a program whose nesting `validate` looks through
COUNTERS = ("save_counter", "global_step")


def sniff(head: bytes, tail: bytes, path: str) -> bool:
    """A file of the one name that a SavedModel's program has, which begins with one of its two fields."""
    return os.path.basename(path) == DEFAULT_FILE and head[:1] in (b"\x08", b"\x12")


def find(directory: str, names: Sequence[str]) -> list[tuple[int, str]]:
    """saved_model.pb (40)."""
    path = os.path.join(directory, DEFAULT_FILE)
    return [(40, path)] if DEFAULT_FILE in names and store.is_file(path) else []


def prefix(path: str) -> str | None:
    """A SavedModel has none."""
    return None


def open(path: str) -> Checkpoint:
    """Read the program's signatures and the variables' index.

    Raises CorruptError, UnsupportedError, LimitError, NotFoundError.
    """
    with _mapped(path) as data:
        every = graph_def.programs(data, len(data), path)
    folder = os.path.join(os.path.dirname(path), "variables")
    if store.is_file(os.path.join(folder, "variables.index")):
        checkpoint = tf_bundle.open(os.path.join(folder, "variables.index"))
        checkpoint.path, checkpoint.container, checkpoint.files = path, NAME, (path, *checkpoint.files)
        checkpoint.slots = {n: of for n, of in checkpoint.slots.items() if "/" in n or n in COUNTERS}  # a model may count too
    else:
        checkpoint = Checkpoint(path, NAME, {}, files=[path])
        if store.is_folder(folder) and store.listdir(folder):
            checkpoint.findings.append(
                Finding("warning", "data-file", "variables", "variables/variables.index is missing: the weights cannot be read")
            )
    checkpoint.extras |= _described(every)
    small = store.file_size(path) < SMALL
    checkpoint.findings += _audit(path) if small else ()
    checkpoint.audit = lambda: _audit(path, again=small)
    return checkpoint


def _mapped(path: str) -> AbstractContextManager[Any]:
    blob = store.open_blob(path)
    try:
        LIMITS.check("program_bytes", blob.size, "the program's size in bytes", path)
        if not blob.size:
            raise CorruptError("is empty", path=path, hint="was the download cut short?")
        return blob.mapped()
    finally:
        blob.close()


def _audit(path: str, *, again: bool | None = None) -> list[Finding]:
    """A finding where the program holds operations that touch files. A large program takes longer than all the rest.

    `again` is None while a file is opened: `validate` looks at the nesting too, and at the operations where that was not done.
    """
    with _mapped(path) as data:
        if again is not None and len(data) < DEEP:
            graph_def.hold_depth(data[:], path)
        found = () if again else graph_def.file_operations(data, len(data), path)
    return [_warning(found)] if found else []


def _described(every: Sequence[Program]) -> dict[str, object]:
    """The programs as plain data; of several each under its tags."""
    first = every[0]
    signatures: dict[str, object] = {}
    for p in every:
        signatures |= {(s if p is first else f"{s} ({', '.join(p.tags)})"): held for s, held in sorted(p.signatures.items())}
    out: dict[str, object] = {
        "tensorflow": first.version,
        "tags": [", ".join(p.tags) for p in every],
        "signatures": signatures,
        "callables": {k: list(v) for p in every for k, v in p.callables.items()},
        "functions": [f for p in every for f in p.functions],
        "assets": [a for p in every for a in p.assets],
    }
    return {k: v for k, v in out.items() if v}


def _warning(operations: Sequence[str]) -> Finding:
    return Finding(
        "warning", "program", ", ".join(operations[:6]),
        f"the program holds operations that read, write or send files when it is run: {', '.join(operations)}",
        "load it only if you trust who made it; converting takes the weights and leaves the program",
    )  # fmt: skip
