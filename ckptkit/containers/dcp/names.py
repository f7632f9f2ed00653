"""Which of the flat names of a distributed checkpoint are the model's, and which are an optimizer's or a trainer's.

Policy: what the planner flattened is what a training script handed over, a dict of dicts, and is told apart as such: by the keys that hold
an optimizer's state, by the few keys that scripts put a model under, and by where the tensors are. Keys may hold dots, so a flat name alone
tells little; without the planner's word the names count as they stand.

Sources: torch/distributed/checkpoint/_nested_dict.py; torchtitan components/checkpoint.py (the model's tensors at the top, `optimizer`
beside); accelerate utils/fsdp_utils.py ({"model": ...}, {"optimizer": ...}); megatron/core/dist_checkpointing (no planner's word;
`optimizer.state.exp_avg.NAME`, `chained_0.optimizer...`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from ..._typing import NamedTuple
from ..torch.outline import COUNTERS, KNOWN, OPTIMIZER, TRAINER

_MODEL = (*KNOWN, "app", "ema", "ema_model")
_TRAINERS = ("train_state", "dataloader")
_FLAT = ("optimizer.", "optim.", "chained_", "opt_param_scheduler", "rng_state", "rerun_state_machine", "lr_scheduler.", "dataloader")


class Named(NamedTuple):
    """What `name_all` gives: the names of the tensors, those that are state, those of other models, and the keys of the model."""

    names: dict[str, str]  # flat name -> the tensor's
    state: frozenset[str]  # flat names
    parts: dict[str, str]  # flat name -> the model it is of
    wrapper: str


def name_all(flat: Sequence[str], paths: Mapping[str, tuple[str, ...]], slight: Callable[[str], bool]) -> Named:
    """Tell the tensors called `flat` apart. `slight` says whether one can be no weight: a single element, or whole numbers."""
    if not all(n in paths for n in flat):
        state = frozenset(n for n in flat if n.startswith(_FLAT))
        return Named({n: n for n in flat}, state, {}, "")
    state = frozenset(n for n in flat if _is_state(paths[n], slight(n)))
    left = [n for n in flat if n not in state]
    where = _model({n: paths[n] for n in left if not slight(n)} or {n: paths[n] for n in left})
    own = {n for n in left if paths[n][: len(where)] == where}
    parts = {n: ".".join(paths[n][: max(1, len(where))]) for n in left if n not in own}
    names = {n: ".".join(paths[n][len(where) :]) if n in own else n for n in flat}
    return Named(names, state, parts, ".".join(where))


def _is_state(path: tuple[str, ...], slight: bool) -> bool:
    """Whether a tensor is an optimizer's or a trainer's: one of its keys says so, or it is no weight and called like what trainers keep."""
    above = [k.lower() for k in path[:-1]]
    if any(k.startswith(OPTIMIZER) for k in above[:2]):
        return True
    return slight and (any(k.startswith((*TRAINER, *_TRAINERS)) for k in above[:1]) or path[-1].lower().startswith(COUNTERS))


def _model(paths: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    """The keys under which the model is: as deep as one key, or a known one, holds it."""
    at: tuple[str, ...] = ()
    while paths:
        if any(len(p) == len(at) + 1 for p in paths.values()):
            return at
        keys = list(dict.fromkeys(p[len(at)] for p in paths.values()))
        known = next((k for k in _MODEL if k in keys), None)
        if known is None and (len(keys) > 1 or at):
            return at
        at = (*at, known if known is not None else keys[0])
        paths = {n: p for n, p in paths.items() if p[: len(at)] == at}
    return at
