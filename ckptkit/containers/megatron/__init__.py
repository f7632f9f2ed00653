"""Megatron's own checkpoints: a folder for each rank of tensor, pipeline and expert parallelism (mp_rank_TT_PPP_EEE/model_optim_rng.pt).

Sources: megatron/training/checkpointing.py (the folders, `latest_checkpointed_iteration.txt`, what a file holds), megatron/core/transformer
(names, and that layers are numbered anew in each stage). The folders that Megatron calls torch_dist are distributed checkpoints of PyTorch
(`dcp`), found here by the same file of the latest iteration.

Policy: the stages of a pipeline are numbered through, and so are the experts of expert-parallel ranks; along which axes tensor-parallel
ranks cut a tensor the naming says. Ranks that count other iterations than each other are an error. `_extra_state` is of TransformerEngine,
without weights.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence

from ... import store
from ..._typing import TYPE_CHECKING
from ...support.lazy import later
from ...support.opaque import Opaque
from ...tensors import TensorSpec
from .._interface import FOLDERS, NOTHING, Checkpoint, FileLayout, Inside, Part, Ranked

if TYPE_CHECKING:
    from .. import _ranks
    from ..torch import rank_write, write
    from . import legacy
    from . import names as naming
else:
    later(globals(), _ranks=".._ranks", legacy=".legacy", naming=".names", rank_write="..torch.rank_write", write="..torch.write")

NAME = "megatron"
TITLE = "Megatron (mp_rank folders)"
SUFFIXES: tuple[str, ...] = ()
MARKS = ("latest_checkpointed_iteration.txt", FOLDERS)
DEFAULT_FILE = "model_optim_rng.pt"
WRITABLE = True
TIES = False
SINGLE = False
PARTS = r"mp_rank_.*"  # what ranks have, in a folder that is one checkpoint
STRINGS = False

TRACKER = "latest_checkpointed_iteration.txt"
_RANK = re.compile(r"mp_rank_[0-9]{2}(?:_[0-9]{3}){0,2}")
_WORDS = "embedding.word_embeddings.weight"
_FILES = ("model_optim_rng.pt", "model_rng.pt")


def sniff(head: bytes, tail: bytes, path: str) -> bool:
    """A rank's file in a rank's folder; the file that names the latest iteration."""
    if os.path.basename(path) == TRACKER:
        return bool(find(os.path.dirname(path), store.listdir(os.path.dirname(path) or ".")))
    if os.path.basename(path) not in _FILES or not _RANK.fullmatch(os.path.basename(os.path.dirname(store.absolute(path)))):
        return False
    return head[:2] == b"PK" or head[:1] == b"\x80"


def find(directory: str, names: Sequence[str]) -> list[tuple[int, str]]:
    """The first rank's file of a folder, or of that of the latest iteration; a torch_dist folder's metadata."""
    if TRACKER in names and (folder := latest(os.path.join(directory, TRACKER))) is not None:
        inner = sorted(store.listdir(folder))
        return find(folder, inner) if TRACKER not in inner and ".metadata" not in inner else []
    folders = sorted(n for n in names if _RANK.fullmatch(n))
    for n in folders:
        for file in _FILES:
            if store.is_file(os.path.join(directory, n, file)):
                return [(5, os.path.join(directory, n, file))]
    return []


def latest(tracker: str) -> str | None:
    """The folder of the iteration that Megatron's own file names: iter_0000100, or release."""

    said = _ranks.read_latest(tracker) or ""
    name = "release" if said == "release" else f"iter_{int(said):07}" if said.isdigit() and len(said) < 12 else ""
    folder = os.path.join(os.path.dirname(tracker), name)
    return folder if name and store.is_folder(folder) else None


def prefix(path: str) -> str | None:
    """A folder is named by itself."""
    return None


def open(path: str) -> Checkpoint:
    """Read the pickles of every rank. Raises CorruptError, UnsupportedError, LimitError."""
    folder = os.path.dirname(os.path.dirname(store.absolute(path)))
    held = legacy.read_ranks(folder)
    first = held.tensors[0]
    made = Checkpoint(
        folder, NAME, dict(first), files=[f.path for f in held.files], extras=held.extras, findings=held.findings,
        checks=lambda: _ranks.checks_of(held.files, held.ranks),
    )  # fmt: skip
    made.ranks = held.ranks
    made.findings += _ranks.linked(folder, held.ranks)
    made.mesh = held.mesh
    made.per_rank = held.tensors
    made.replicas = list(held.replicas)
    if not held.known:
        made.untold = lambda: [_ranks.untold(os.path.basename(folder))]
    return made


def layout(
    tensors: Sequence[tuple[str, TensorSpec]],
    *,
    filename: str,
    ties: Mapping[str, str] = {},
    inside: Inside = NOTHING,
    max_shard_size: int | None = None,
) -> FileLayout:
    """Lay out a folder for each rank that `inside.ranks` names; without them one. Raises UnsupportedError."""
    by: dict[tuple[int, int], list[rank_write.Member]] = {}
    for key, spec in tensors:
        place = inside.ranks.get(key, Ranked(0, 0, key))
        by.setdefault((place.rank, place.stage), []).append(rank_write.Member(key, place.name, spec))
    tp, pp = (max((p[i] for p in by), default=0) + 1 for i in range(2))
    given = inside.extras.get("args")
    args = {**given} if isinstance(given, Mapping) else {}
    args |= {"tensor_model_parallel_size": tp, "pipeline_model_parallel_size": pp, **_uneven([by.get((0, p), []) for p in range(pp)])}
    words = next((s.shape[0] * tp for k, s in tensors if inside.ranks.get(k, Ranked(0, 0, k)).name == _WORDS), None)
    if words is not None:
        args["padded_vocab_size"] = words
    extras = {"args": Opaque("argparse", "Namespace", (), args, safe=True, new=True), "checkpoint_version": 3.0, "iteration": 1}
    files = [
        rank_write.RankFile(
            f"iter_0000001/mp_rank_{r:02}{f'_{p:03}' if pp > 1 else ''}/{DEFAULT_FILE}", by.get((r, p), []), "model", extras
        )
        for p in range(pp) for r in range(tp)
    ]  # fmt: skip
    return rank_write.lay_out(NAME, files, {TRACKER: b"1"})


def _uneven(stages: Sequence[Sequence[rank_write.Member]]) -> dict[str, int]:
    """What Megatron has to be told of stages that have not as many layers as each other: those of the first, and of the last."""
    counts = [max((naming.layer_of(m.name) for m in held), default=-1) + 1 for held in stages]
    if len(set(counts)) < 2:
        return {}
    return {"decoder_first_pipeline_num_layers": counts[0]} | ({"decoder_last_pipeline_num_layers": counts[-1]} if len(counts) > 2 else {})


def finish(layout: FileLayout, crcs: Mapping[str, int]) -> Iterator[Part]:
    """What follows each tensor's bytes, given the CRC-32 of each."""
    return write.make_finish(layout, crcs)
