"""The files of tensor-parallel ranks as Meta publishes its models: consolidated.00.pth, consolidated.01.pth, ... beside params.json.

Source: meta-llama/llama llama/generation.py (each rank loads the file of its number), llama/model.py (which layers are parallel). Each is a
PyTorch file with the same names; along which axes they are cut the naming says (`schema.split`). A single file is a PyTorch file like any
other, and read as one. Mixtral's first (consolidated.00.pt and on; transformers 4 models/mixtral convert_mixtral_weights_to_hf.py) are no
pieces: each tensor lies whole in one of the files.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence

from .. import store
from .._typing import TYPE_CHECKING
from ..errors import CorruptError
from ..limits import LIMITS
from ..support.lazy import later
from ..tensors import StoredTensor, TensorSpec
from ._interface import NOTHING, Checkpoint, FileLayout, Inside, Part, Ranked

if TYPE_CHECKING:
    from . import _ranks, torch
    from .torch import rank_file, rank_write, write
else:
    later(
        globals(), _ranks="._ranks", rank_file=".torch.rank_file", rank_write=".torch.rank_write", torch=".torch", write=".torch.write",
    )  # fmt: skip

NAME = "consolidated"
TITLE = "PyTorch files of tensor-parallel ranks (consolidated.0N.pth)"
SUFFIXES: tuple[str, ...] = ()
MARKS = ("consolidated.",)
DEFAULT_FILE = "consolidated.00.pth"
WRITABLE = True
TIES = False
SINGLE = False
PARTS = r"consolidated\.[0-9]{2}\.pth?"  # what ranks have, in a folder that is one checkpoint
STRINGS = False

_FILE = re.compile(r"consolidated\.([0-9]{2})\.pth?")


def _files(names: Sequence[str]) -> dict[int, str]:
    """The files of a folder by their numbers. One number twice is `.pth`'s, the usual one."""
    return {int(found[1]): n for n in sorted(names) if (found := _FILE.fullmatch(n))}


def sniff(head: bytes, tail: bytes, path: str) -> bool:
    """One of several such files."""
    folder = os.path.dirname(path) or "."
    return bool(_FILE.fullmatch(os.path.basename(path))) and len(_files(store.listdir(folder))) > 1 and torch.sniff(head, tail, path)


def find(directory: str, names: Sequence[str]) -> list[tuple[int, str]]:
    """The first of several such files."""
    files = _files(names)
    return [(8, os.path.join(directory, files[min(files)]))] if len(files) > 1 else []


def prefix(path: str) -> str | None:
    """A folder is named by itself."""
    return None


def open(path: str) -> Checkpoint:
    """Read the pickles of every rank. Raises CorruptError for a rank whose file is missing between others."""
    folder = os.path.dirname(path)
    numbered = _files(store.listdir(folder or "."))
    LIMITS.check("shards", len(numbered), "the number of ranks", path)
    gone = [n for n in range(max(numbered) + 1) if n not in numbered]
    if gone:
        lost = f"consolidated.{gone[0]:02}{os.path.splitext(numbered[max(numbered)])[1]}"
        text = f"{lost}, the file of rank {gone[0]}, is missing: every tensor lacks its piece"
        raise CorruptError(text, path=folder, hint="fetch it: each rank's file has a piece of every tensor")
    files = [rank_file.open_rank(os.path.join(folder, numbered[n])) for n in sorted(numbered)]
    ranks = [_tensors(f) for f in files]
    labels = {f.path: f"rank {n}" for n, f in zip(sorted(numbered), files, strict=True)}
    whole = {name: t for held in ranks for name, t in held.items()}
    dealt = len(whole) == sum(map(len, ranks))  # no name twice: each tensor lies in one of the files
    made = Checkpoint(
        path, NAME, whole if dealt else dict(ranks[0]), files=[f.path for f in files], findings=_ranks.findings_of(files),
        checks=lambda: _ranks.checks_of(files, labels),
    )  # fmt: skip
    made.findings += _ranks.linked(folder or ".", labels)
    if dealt:
        made.ranks = labels
        made.audit = lambda: [_ranks.of_a_step(os.path.basename(path))]
        return made
    made.findings += _ranks.misnamed(files, _rank_of, labels, (t for held in ranks for t in held.values()))
    made.per_rank = tuple(ranks)
    made.ranks = labels
    if not all(_FILE.fullmatch(f"{f.called}.pth") for f in files):
        made.untold = lambda: [_ranks.untold(os.path.basename(path))]
    return made


def _rank_of(name: str) -> int | None:
    """The rank that a name is of; None of another file's."""
    found = _FILE.fullmatch(name)
    return int(found[1]) if found else None


def _tensors(file: rank_file.RankFile) -> dict[str, StoredTensor]:
    """The state dict of a rank. CorruptError where the file holds something else."""
    value = file.value
    if not isinstance(value, dict) or not value or not all(type(k) is str for k in value):
        raise CorruptError("holds no state dict", path=file.path)
    LIMITS.check("tensors", len(value), "the number of tensors", file.path)
    return {name: file.tensor(name, t) for name, t in value.items()}


def layout(
    tensors: Sequence[tuple[str, TensorSpec]],
    *,
    filename: str,
    ties: Mapping[str, str] = {},
    inside: Inside = NOTHING,
    max_shard_size: int | None = None,
) -> FileLayout:
    """Lay out a file for each rank that `inside.ranks` names; without them one. Raises UnsupportedError."""
    by: dict[int, list[rank_write.Member]] = {}
    for key, spec in tensors:
        place = inside.ranks.get(key, Ranked(0, 0, key))
        by.setdefault(place.rank, []).append(rank_write.Member(key, place.name, spec))
    files = [rank_write.RankFile(f"consolidated.{r:02}.pth", by[r], "", {}) for r in sorted(by)]
    return rank_write.lay_out(NAME, files, {})


def finish(layout: FileLayout, crcs: Mapping[str, int]) -> Iterator[Part]:
    """What follows each tensor's bytes, given the CRC-32 of each."""
    return write.make_finish(layout, crcs)
