"""Which rank the file in an mp_rank folder was saved by, as far as its content tells.

Sources: megatron/training/arguments.py (`args.rank`, `args.world_size`), megatron/core/parallel_state.py (tensor-parallel ranks are
neighbours, and those of a later stage come later), megatron/core/tensor_parallel/random.py (a model-parallel random generator begins at
seed + 100 * stage + 2718 + tensor-parallel rank; of a generator's state on CUDA the first eight bytes are its seed).

Policy: a word counts where all files say it and no two the same: tools that convert checkpoints save every file as one rank, and a run that
went on from one of other ranks keeps no such seeds. Where nothing counts, `tell` says so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from ... import store
from ..._typing import NamedTuple
from ...errors import CheckpointError, printable
from ...findings import Finding
from .._pickle.globals import Tensor
from ..torch.rank_file import RankFile
from .names import arguments

_GENERATOR = "model-parallel-rng"


class Place(NamedTuple):
    """A rank among those of tensor, pipeline and expert parallelism."""

    tensor: int
    stage: int
    expert: int


class Told(NamedTuple):
    """What the files tell: whether anything does, and an error for each that belongs elsewhere."""

    known: bool
    findings: list[Finding]


def tell(files: Mapping[Place, RankFile], label: Callable[[Place], str], first: Callable[[RankFile], str]) -> Told:
    """Hold the places of files against what they hold. `first` names a tensor of a file."""
    for said, due in ((_ranks(files), _in_order), (_seeds(files), _by_offset)):
        values = list(said.values())
        twice = next(([p for p, v in said.items() if v == w] for w in values if values.count(w) > 1), [])
        if len(said) < len(files) or len(set(values)) == 1 < len(files):
            continue
        if twice:
            a, b = label(twice[0]), label(twice[1])
            return Told(True, [_wrong(first(files[twice[1]]), f"the folders of {a} and of {b} have the file of one rank")])
        places = due(said)
        if places is not None:
            return Told(True, [
                _wrong(first(files[p]), f"the folder of {label(p)} has the file of {label(places[v])}")
                for p, v in said.items() if places[v] != p
            ])  # fmt: skip
    return Told(False, [])


def _wrong(name: str, why: str) -> Finding:
    text = printable(f"{why}: its part of {name!r} and of others belongs elsewhere", 1000)
    return Finding("error", "pieces", printable(name), text, "the folders of two ranks were exchanged, or one was copied")


def _ranks(files: Mapping[Place, RankFile]) -> dict[Place, int]:
    """The ranks in the run that the settings in the files say. Where experts are spread, which ranks are neighbours differs by version."""
    said = {p: arguments(f.value.get("args")).get("rank") for p, f in files.items()}
    return {p: r for p, r in said.items() if type(r) is int and not p.expert}


def _in_order(said: Mapping[Place, int]) -> dict[int, Place]:
    """Rank -> its place: those of a stage come before those of the next."""
    return dict(zip(sorted(said.values()), sorted(said, key=lambda p: (p.stage, p.tensor)), strict=True))


def _seeds(files: Mapping[Place, RankFile]) -> dict[Place, int]:
    return {p: s for p, f in files.items() if not p.expert and (s := _seed(f)) is not None}


def _by_offset(said: Mapping[Place, int]) -> dict[int, Place] | None:
    """Seed -> its place; None where they are not those of a run that began with these ranks."""
    least = min(said.values())
    due = {least + 100 * p.stage + p.tensor: p for p in said}
    return due if due.keys() == set(said.values()) else None


def _seed(file: RankFile) -> int | None:
    """The seed of a file's model-parallel random generator; None where it keeps none."""
    kept = file.value.get("rng_state")
    state = kept[0] if isinstance(kept, Sequence) and kept else kept
    tracked = state.get("rng_tracker_states") if isinstance(state, Mapping) else None
    generator = tracked.get(_GENERATOR) if isinstance(tracked, Mapping) else None
    if not isinstance(generator, Tensor):
        return None
    try:
        t = file.tensor(_GENERATOR, generator)
    except CheckpointError:
        return None
    if t.spec.dtype != "U8" or t.spec.nbytes != 16 or len(t.extents) != 1:
        return None
    blob = store.open_blob(file.path)
    try:
        return int.from_bytes(blob.pread(8, t.extents[0].offset), "little")
    finally:
        blob.close()
