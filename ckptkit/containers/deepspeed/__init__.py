"""DeepSpeed's checkpoints: a folder with a file of states for each rank, in which the weights lie flat (ZeRO 1, 2, 3) or apart (universal).

Sources: deepspeed/utils/zero_to_fp32.py (0.19, which DeepSpeed puts beside every checkpoint), deepspeed/checkpoint/ds_to_universal.py,
deepspeed/runtime/engine.py (the names of the files, `latest`).

Policy: what trains is the master weights in float32, so those are the model; the half-precision copies of `module` are not, and the empty
tensors of ZeRO-3 are nothing. A flat partition is cut by the shapes that the model's states list, in their order, each parameter as far
as it lies in a rank's file; what the optimizer keeps lies in the same way and is named `optimizer.state.PARAMETER.exp_avg`. A rank whose
file is gone is an error that names the rank and what lacks a piece of it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence

from ... import store
from ..._typing import TYPE_CHECKING
from ...errors import UnsupportedError
from ...findings import Finding
from ...support.lazy import later
from ...tensors import TensorSpec
from .._interface import NOTHING, Checkpoint, FileLayout, Inside, Part

if TYPE_CHECKING:
    from .. import _ranks
    from . import flat, states, universal
else:
    later(globals(), _ranks=".._ranks", flat=".flat", states=".states", universal=".universal")

NAME = "deepspeed"
TITLE = "DeepSpeed (ZeRO 1 to 3, universal)"
SUFFIXES: tuple[str, ...] = ()
MARKS = ("\nlatest\n", "\nlatest_universal\n", "_model_states.pt")
DEFAULT_FILE = "latest"
WRITABLE = False
TIES = False
SINGLE = False
PARTS = r".*_(?:model|optim)_states\.pt|zero"  # what ranks have, in a folder that is one checkpoint
STRINGS = False

_LATEST = ("latest", "latest_universal")
_STATES = re.compile(r"(?:zero_pp_rank_[0-9]{1,6}_)?mp_rank_[0-9]{1,4}_model_states\.pt")
# where these lie without the states, a file is lost
_SHARE = re.compile(r"(?:[a-z0-9]{1,8}_)?zero_pp_rank_[0-9]{1,6}_mp_rank_[0-9]{1,4}_optim_states\.pt")


def sniff(head: bytes, tail: bytes, path: str) -> bool:
    """The file that names the latest folder; a file of a rank is a PyTorch file like any other."""
    return os.path.basename(path) in _LATEST and _named(path) is not None


def find(directory: str, names: Sequence[str]) -> list[tuple[int, str]]:
    """The folder that `latest` names, or this one, where it has the states of a model."""
    for latest in _LATEST:
        if latest in names and _named(os.path.join(directory, latest)) is not None:
            return [(5, os.path.join(directory, latest))]
    if any(_STATES.fullmatch(n) for n in names) and (any("optim_states" in n for n in names) or "zero" in names):
        return [(6, os.path.join(directory, next(n for n in names if _STATES.fullmatch(n))))]
    return []


def _named(path: str) -> str | None:
    """The folder beside a `latest` that it names, if there is one with states."""
    tag = _ranks.read_latest(path)
    if tag is None:
        return None
    folder = os.path.join(os.path.dirname(path), tag)
    try:
        return folder if any(_STATES.fullmatch(n) or _SHARE.fullmatch(n) for n in store.listdir(folder)) else None
    except OSError:
        return None


def prefix(path: str) -> str | None:
    """A folder is named by itself."""
    return None


def open(path: str) -> Checkpoint:
    """Read the pickles of every rank. Raises CorruptError, UnsupportedError, LimitError."""
    folder = _named(path) if os.path.basename(path) in _LATEST else os.path.dirname(path)
    if folder is None:
        raise UnsupportedError("names no folder with the states of a model", path=path)
    held = states.read_states(folder)
    if held.zero:
        found = universal.read_universal(folder, held)
    elif held.optim:
        found = flat.read_flat(folder, held)
    else:
        found = flat.read_module(folder, held)
    files = [*held.model.values(), *held.optim.values(), *found.more]
    ranks = {f.path: os.path.basename(f.path) for f in found.more} | held.ranks
    made = Checkpoint(
        path, NAME, found.tensors, files=[*([path] if os.path.basename(path) in _LATEST else []), *held.files, *found.files],
        extras=found.extras, beside=found.beside, findings=[*held.findings, *found.findings], checks=lambda: _ranks.checks_of(files, ranks),
    )  # fmt: skip
    made.findings += _ranks.misnamed([*held.model.values(), *held.optim.values()], states.rank_of, held.ranks, found.tensors.values())
    made.findings += _ranks.linked(folder, held.ranks)
    made.unread = found.unread
    made.ranks = held.ranks
    made.mesh = found.mesh
    shares = [f for f in held.optim.values() if states.rank_of(f"{f.called}.pt") is None]
    told = len(held.optim) < 2 or not shares or all(flat.lists_slices(f) for f in shares)
    made.audit = lambda: [*_audit(made, found), *([] if told else [_ranks.untold(os.path.basename(folder))])]
    return made


def _audit(made: Checkpoint, found: flat.Found) -> Iterator[Finding]:
    """An error where ranks count other steps than each other."""
    by: dict[bytes, list[str]] = {}
    for path, t in found.steps:
        by.setdefault(made.read_extent(t.extents[0]), []).append(made.ranks.get(path, path))
    if len(by) > 1:
        usual, *others = sorted(by.values(), key=len, reverse=True)
        text = (
            f"the optimizer of {others[0][0]} counts another step than that of {usual[0]}: {next(iter(found.tensors), '')!r} is in pieces"
        )
        yield Finding("error", "pieces", others[0][0], text, "its file is of another step of the run")


def layout(
    tensors: Sequence[tuple[str, TensorSpec]],
    *,
    filename: str,
    ties: Mapping[str, str] = {},
    inside: Inside = NOTHING,
    max_shard_size: int | None = None,
) -> FileLayout:
    """Raises UnsupportedError: what a run of DeepSpeed is, only it can write."""
    raise UnsupportedError(f"{TITLE} is read, not written")


def finish(layout: FileLayout, crcs: Mapping[str, int]) -> tuple[Part, ...]:
    """Nothing is ever written."""
    return ()
