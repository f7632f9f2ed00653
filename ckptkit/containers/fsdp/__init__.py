"""The files that FSDP's ranks leave where each saves what it has, as verl does: model_world_size_8_rank_0.pt and on.

Sources: verl verl/utils/checkpoint/fsdp_checkpoint_manager.py (the files, `fsdp_config.json`, `huggingface/`), verl/trainer/ppo
(global_step_N/actor, latest_checkpointed_iteration.txt), verl/model_merger/fsdp_model_merger.py.

Policy: the folder is one checkpoint in pieces. Where a piece lies its DTensor (or ShardedTensor) says, not the order of the files; a plain
tensor is one that every rank has whole. What the optimizer keeps is joined likewise and named after the parameters, in whose order it lies.
Of a run the latest step is read, of a step the actor where there is no other model.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence

from ... import store
from ..._typing import TYPE_CHECKING
from ...errors import CheckpointError, UnsupportedError, UsageError
from ...support.lazy import later
from ...tensors import TensorSpec
from .._interface import NOTHING, Checkpoint, FileLayout, Inside, Part

if TYPE_CHECKING:
    from .. import _ranks
    from . import ranks
else:
    later(globals(), _ranks=".._ranks", ranks=".ranks")

NAME = "fsdp"
TITLE = "FSDP's ranks (model_world_size_N_rank_R.pt of verl)"
SUFFIXES: tuple[str, ...] = ()
MARKS = ("\nmodel_world_size_", "\nactor\n", "latest_checkpointed_iteration.txt")
DEFAULT_FILE = "model_world_size_1_rank_0.pt"
WRITABLE = False
TIES = True
SINGLE = False
PARTS = r"(?:model|optim|extra_state)_world_size_[0-9]{1,6}_rank_[0-9]{1,6}\.pt"  # what ranks have, in a folder that is one checkpoint
STRINGS = False

TRACKER = "latest_checkpointed_iteration.txt"
_MODEL = re.compile(r"model_world_size_([0-9]{1,6})_rank_([0-9]{1,6})\.pt")
_OTHERS = ("critic", "ref", "reward", "reward_model")  # models that a step may hold besides the actor


def sniff(head: bytes, tail: bytes, path: str) -> bool:
    """A file of a rank is a PyTorch file like any other."""
    return False


def find(directory: str, names: Sequence[str]) -> list[tuple[int, str]]:
    """The first rank's file of a folder, of the actor of a step, or of that of a run's latest step."""
    mine = [(int(m[1]), int(m[2]), n) for n in names if (m := _MODEL.fullmatch(n))]
    if mine:
        return [(5, os.path.join(directory, min(mine)[2]))]
    inner = ""
    if TRACKER in names:
        said = _ranks.read_latest(os.path.join(directory, TRACKER)) or ""
        inner = f"global_step_{said}" if said.isdigit() and len(said) < 12 and f"global_step_{said}" in names else ""
    elif "actor" in names and not set(_OTHERS) & set(names):
        inner = "actor"
    folder = os.path.join(directory, inner)
    return find(folder, sorted(store.listdir(folder))) if inner and store.is_folder(folder) else []


def prefix(path: str) -> str | None:
    """A folder is named by itself."""
    return None


def open(path: str) -> Checkpoint:
    """Read the pickles of every rank. Raises CorruptError, UnsupportedError, UsageError, LimitError."""
    folder = os.path.dirname(store.absolute(path))
    names = sorted(store.listdir(folder))
    worlds = sorted({int(m[1]) for n in names if (m := _MODEL.fullmatch(n))})
    settings = _settings(os.path.join(folder, "fsdp_config.json")) if "fsdp_config.json" in names else {}
    said = settings.get("world_size")
    if len(worlds) > 1 and said not in worlds:
        what = f"holds the files of {' and of '.join(map(str, worlds))} ranks, and no fsdp_config.json says which are meant"
        raise UsageError(what, path=folder, hint="move those of one run elsewhere")
    made = ranks.read_ranks(folder, names, said if said in worlds else worlds[0], settings)
    home = os.path.join(folder, "huggingface")
    if "config.json" not in names and store.is_file(os.path.join(home, "config.json")):
        made.home = home
    return made


def _settings(path: str) -> Mapping[str, object]:
    """What fsdp_config.json says: FSDP_version, world_size."""
    try:
        value = store.read_json(path)
    except (CheckpointError, OSError):
        return {}
    return {k: v for k, v in value.items() if type(v) in (int, str)} if isinstance(value, dict) else {}


def layout(
    tensors: Sequence[tuple[str, TensorSpec]],
    *,
    filename: str,
    ties: Mapping[str, str] = {},
    inside: Inside = NOTHING,
    max_shard_size: int | None = None,
) -> FileLayout:
    """Raises UnsupportedError: what a rank of a run saved, only that run can write."""
    raise UnsupportedError(f"{TITLE} are read, not written")


def finish(layout: FileLayout, crcs: Mapping[str, int]) -> tuple[Part, ...]:
    """Nothing is ever written."""
    return ()
