"""The files of a DeepSpeed folder: which rank each is of, and what their pickles hold."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence

from ... import store
from ..._typing import Any, NamedTuple
from ...errors import CheckpointError, CorruptError, UnsupportedError, printable
from ...findings import Finding
from .._ranks import findings_of
from ..torch.rank_file import RankFile, open_rank

_MODEL = re.compile(r"(?:zero_pp_rank_([0-9]{1,6})_)?mp_rank_([0-9]{1,4})_model_states\.pt")
_OPTIM = re.compile(r"(?:[a-z0-9]{1,8}_)?zero_pp_rank_([0-9]{1,6})_mp_rank_([0-9]{1,4})_optim_states\.pt")
_EXPERTS = re.compile(r"(?:layer_[0-9]{1,5}_)?expert_[0-9]{1,5}_mp_rank_[0-9]{1,4}_model_states\.pt|layer_[0-9]{1,5}-model_.*states\.pt")
# classes of DeepSpeed's own that its pickles hold as data
KNOWN = frozenset((
    "deepspeed.runtime.fp16.loss_scaler.LossScaler", "deepspeed.runtime.fp16.loss_scaler.DynamicLossScaler",
    "deepspeed.runtime.zero.config.ZeroStageEnum", "deepspeed.utils.tensor_fragment.fragment_address",
    "deepspeed.runtime.zero.config.DeepSpeedZeroConfig", "deepspeed.checkpoint.ds_to_universal.SubparamShape",
    "deepspeed.runtime.lr_schedules.WarmupLR", "torch.nn.parameter.Parameter",
))  # fmt: skip


class States(NamedTuple):
    """What a folder holds, by rank of the data-parallel group. `zero`: the folder of a universal checkpoint, "" if it is none; `ranks`:
    whose each file is; `lost`: the ranks whose file cannot be read -> why."""

    model: dict[int, RankFile]
    optim: dict[int, RankFile]
    zero: str
    ranks: dict[str, str]
    files: list[str]
    findings: list[Finding]
    lost: dict[int, str]


def read_states(folder: str) -> States:
    """Read the pickles of a folder. Raises UnsupportedError for a model that is cut up besides (tensor or pipeline parallel, experts)."""
    names = sorted(store.listdir(folder))
    if other := next((n for n in names if _EXPERTS.fullmatch(n)), None):
        what = "of experts" if "_expert_" in other or other.startswith("expp_") else "of a pipeline"
        raise UnsupportedError(f"holds states {what} ({printable(other, 100)}), which are not joined here", path=folder)
    model: dict[int, RankFile] = {}
    optim: dict[int, RankFile] = {}
    ranks: dict[str, str] = {}
    lost: dict[int, str] = {}
    mine = {n: found for n in names if (found := _MODEL.fullmatch(n) or _OPTIM.fullmatch(n))}
    parallel = {found[2] for found in mine.values()}
    if len(parallel) > 1:
        raise UnsupportedError(
            f"is cut up among {len(parallel)} tensor-parallel ranks besides ZeRO, which is not joined here", path=folder,
            hint="ds_to_universal.py, which comes with DeepSpeed, makes a universal checkpoint of it",
        )  # fmt: skip
    for name, found in mine.items():
        rank, path = int(found[1] or 0), os.path.join(folder, name)
        into = model if name.endswith("model_states.pt") else optim
        if rank in into:
            raise CorruptError(f"has two files of rank {rank}: {printable(name, 100)}", path=folder)
        ranks[path] = f"rank {rank}" if found[1] else "all ranks"
        try:
            into[rank] = open_rank(path, KNOWN)
        except CheckpointError as e:
            if into is model and rank == 0:
                raise
            lost[rank] = f"the file of rank {rank}, {name}, cannot be read: {e.message}"
    if 0 not in model:
        apart = any(found[1] for n, found in mine.items() if n.endswith("model_states.pt"))
        lacking = f"{'zero_pp_rank_0_' if apart else ''}mp_rank_{min(parallel, default='00')}_model_states.pt"
        text = f"{lacking}, the file of rank 0, is missing: what the weights are called, and their shapes, is not known"
        raise CorruptError(text, path=folder, hint="fetch it: every file of a step belongs to the checkpoint")
    zero = os.path.join(folder, "zero")
    shown = findings_of((*model.values(), *optim.values()))
    shown += _of_one_step(model)
    alone = [r for r in optim if r not in model] if any(ranks[f.path] != "all ranks" for f in model.values()) else []
    for r in (r for r in alone if r not in lost):
        what = f"the model_states of rank {r} are missing: its weights are in its optim_states, its buffers and frozen weights are not"
        shown.append(Finding("warning", "pieces", f"rank {r}", what, "fetch it: every file of a step belongs to the checkpoint"))
    return States(
        model, optim, zero if store.is_folder(zero) and not optim else "", ranks, list(ranks), shown, lost
    )  # fmt: skip


def _of_one_step(model: Mapping[int, RankFile]) -> list[Finding]:
    """An error for the states of a rank that count other steps than those of most."""
    counts = {r: n for r, f in model.items() if type(n := mapping(f.value).get("global_steps")) is int}
    usual = max(counts.values(), key=lambda n: list(counts.values()).count(n), default=0)
    said = "its buffers and frozen weights are not of that step"
    return [
        Finding("error", "pieces", f"rank {r}", f"the model_states of rank {r} are of step {n}, those of others of {usual}: {said}",
            "its file is of another step of the run")
        for r, n in counts.items() if n != usual
    ]  # fmt: skip


def rank_of(name: str) -> int | None:
    """The data-parallel rank that a file's name is of; None of one that all ranks share, or of no such file."""
    found = _MODEL.fullmatch(name) or _OPTIM.fullmatch(name)
    return int(found[1]) if found and found[1] else None


def mapping(value: object) -> Mapping[Any, Any]:
    """`value` if it is a dict, else an empty one."""
    return value if isinstance(value, dict) else {}


def shapes_of(value: object, path: str) -> list[dict[str, tuple[int, ...]]]:
    """`param_shapes`: for each group of parameters the shape of each, in the order in which they lie. CorruptError."""
    groups: Sequence[object] = value if isinstance(value, list) else [value]
    out: list[dict[str, tuple[int, ...]]] = []
    for group in groups:
        if not isinstance(group, dict):
            raise CorruptError("its param_shapes are no shapes by name", path=path)
        shapes: dict[str, tuple[int, ...]] = {}
        for name, shape in group.items():
            if type(name) is not str or type(shape) is not tuple or not all(type(n) is int and 0 <= n < 1 << 48 for n in shape):
                raise CorruptError(f"its param_shapes give {printable(name, 100)!r} no shape", path=path)
            shapes[name] = shape
        out.append(shapes)
    return out
