"""One rank's file of a checkpoint that a trainer cut up: a torch.save file whose value is looked at by who knows the trainer.

`open` in the package makes a Checkpoint of a file, and tells model and optimizer apart by what scripts usually do; here nothing is told
apart, and tensors are made as they are asked for.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator
from functools import partial

from ... import store
from ..._typing import Any, NamedTuple
from ...errors import CorruptError, printable
from ...findings import Finding
from ...support.collector import paused
from ...tensors import Check, StoredTensor
from .._pickle.globals import Tensor
from . import legacy, read_zip
from .views import Maker


class RankFile(NamedTuple):
    """`value` is what the pickle describes; `maker` makes stored tensors of the Tensors in it; `called` is the name that the file was saved
    under, without its suffix, "" where it does not say."""

    path: str
    value: Any
    maker: Maker
    checks: Callable[[], Iterator[Check]]
    findings: list[Finding]
    called: str = ""

    def tensor(self, name: str, value: object) -> StoredTensor:
        """The stored tensor of a Tensor. CorruptError where the value is none."""
        if not isinstance(value, Tensor):
            raise CorruptError(f"has {printable(name)!r} as a {type(value).__name__}, not as a tensor", path=self.path)
        return self.maker.tensor(name, value)


def open_rank(path: str, known: Collection[str] = ()) -> RankFile:
    """Read the pickle of a torch.save file, in the zip or the legacy form. `known` are names that it may hold as data (classes of the
    trainer's own), of which nothing is said. Raises CheckpointError."""
    blob = store.open_blob(path)
    try:
        size = blob.size
        with paused():
            if blob.pread(2, 0) == b"PK":
                held = read_zip(blob, size, path, known)
                return RankFile(path, held.value, Maker(held.locate, path), held.checks, held.findings, held.called)
            stream = legacy.Stream(blob, size, path)
            if stream.next() != legacy.MAGIC:
                raise CorruptError("is no file of torch.save", path=path)
            value, _, _, locate = legacy.read_legacy(stream)
            from .._pickle import interpreter

            opaque = [n for n in stream.opaque if n not in known]
            said = interpreter.findings(opaque, os.path.basename(path), stream.calls)
            return RankFile(path, value, Maker(locate, path), partial(iter, ()), said)
    finally:
        blob.close()
