"""Which of the containers of a torch.save file hold models, which of them is meant, and which hold an optimizer's state or a trainer's.

Policy: what training scripts write is told by form (torch.optim's `state` and `param_groups`) and by the few keys that mean nothing
else. What is neither is a model: one state dict among such things is the checkpoint; of several the one under a known key, and the
others are its parts; where no key tells, the whole file is, under the names of its keys. Nothing is taken for an optimizer's since it
is beside.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ..._typing import TYPE_CHECKING, NamedTuple
from ...limits import LIMITS
from ...support.opaque import Opaque
from ...tensors import Unread
from .._pickle.globals import Tensor

if TYPE_CHECKING:
    from .wrapped import Leaf

# the keys under which training scripts put the weights, the most telling first
KNOWN = ("state_dict", "model_state_dict", "model_state", "model", "module", "net", "network", "params", "weights")
OPTIMIZER = ("optim", "adam")  # beginnings of keys that hold an optimizer's state
PLAIN = (
    "optim",
    "optimizer",
    "optimizers",
    "optimizer_state",
    "optimizer_states",
    "optim_state",
    "optimizer_state_dict",
    "optim_state_dict",
)
TRAINER = (
    "scheduler", "lr_scheduler", "scaler", "grad_scaler", "rng", "random", "torch_rng", "cuda_rng", "amp", "callbacks", "loops", "sampler",
)  # fmt: skip
COUNTERS = ("epoch", "step", "global_step", "iter", "best", "loss", "val_", "train_", "num_updates", "accuracy", "metric", "lr", "seed")
CONTAINERS = (dict, list, tuple, Opaque)


def is_module(value: object) -> bool:
    """Whether this is a pickled nn.Module."""
    state = value.state if type(value) is Opaque else None
    return type(state) is dict and type(state.get("_parameters")) is dict and type(state.get("_modules")) is dict


def children(value: object) -> Iterator[tuple[object, object]]:
    """(key, value) of a container; of a pickled nn.Module what its state_dict() would give, and the buffers that it leaves out; of another
    Opaque what it was filled with."""
    if type(value) is dict:
        yield from value.items()
    elif type(value) is list or type(value) is tuple:
        yield from enumerate(value)
    elif type(value) is Opaque:
        state = value.state
        if is_module(value):
            for part in ("_parameters", "_buffers", "_modules"):
                yield from children(state.get(part) if type(state) is dict else None)
            return
        for inner in (state, value.items):
            if type(inner) is dict:
                yield from inner.items()
            elif inner is not None:
                yield "state", inner
        if value.args:
            yield "args", value.args


def passing(value: object) -> frozenset[str]:
    """The buffers that a pickled nn.Module does not save: state_dict() leaves them out, and whoever loads that makes them anew."""
    state = value.state if type(value) is Opaque and is_module(value) else None
    names = state.get("_non_persistent_buffers_set") if type(state) is dict else None
    return frozenset(n for n in names if type(n) is str) if isinstance(names, (list, tuple)) else frozenset()


class Outline(NamedTuple):
    """What `outline` finds. `main` is the container of the weights, `where` its key path; `parts` are the others that hold a model of
    their own, by key path; `state` the key paths of those that hold an optimizer's or a trainer's state."""

    main: object
    where: tuple[str, ...]
    parts: dict[tuple[str, ...], object]
    state: set[tuple[str, ...]]


def outline(
    root: object, count: Callable[[object], int], leaf: Callable[[object], Leaf | None], key_text: Callable[[object], str]
) -> Outline:
    """The models of a file. `count` gives the tensors below a container, `leaf` what a value is, `key_text` a key as text."""
    state: set[tuple[str, ...]] = set()
    models: dict[tuple[str, ...], tuple[object, bool]] = {}  # containers with tensors of their own -> whether one has several elements
    main, where = known(root, count)
    queue: list[tuple[object, tuple[str, ...], frozenset[int]]] = [(root, (), frozenset((id(root),)))]
    for node, at, above in queue:
        LIMITS.check("pickle_values", len(queue), "the number of containers, shared ones counted as often as they are reached,")
        if is_module(node) or (where and at == where):
            models[at] = node, True
            continue
        if is_optimizer(node):
            state.add(at)
            continue
        own, large = 0, False
        for key, child in children(node):
            if large and type(child) is Tensor:
                own += 1
                continue
            found = leaf(child)
            text = key_text(key)
            if found is not None:
                own += not (_single(found) and text.lower().startswith(COUNTERS))
                large |= not _single(found)
            elif type(child) in CONTAINERS and id(child) not in above and count(child) and len(at) < LIMITS.pickle_depth:
                low = text.lower()
                optim = low.startswith(OPTIMIZER) and (low in PLAIN or low.startswith("adam") or not _is_state_dict(child, leaf))
                if type(key) is str and (optim or (low.startswith(TRAINER) and _no_weight(child, leaf, 0))):
                    state.add((*at, text))
                else:
                    queue.append((child, (*at, text), above | {id(child)}))
        if own:
            models[at] = node, large
    foremost = [at for at, (_, large) in models.items() if large] or [*models]
    if not where and len(foremost) == 1:
        where = foremost[0]
        main = models[where][0]
        if type(main) is not dict and type(main) is not Opaque:
            main, where = root, ()
    parts = {at: node for at, (node, _) in models.items() if where and at[: len(where)] != where and at != where[: len(at)]}
    return Outline(main, where, _largest(parts), state)


def known(root: object, count: Callable[[object], int]) -> tuple[object, tuple[str, ...]]:
    """The container under the known keys, and its key path; () where there is none."""
    value, path = root, ()  # type: tuple[object, tuple[str, ...]]
    found = True
    while found and type(value) is dict:
        found = False
        for name in KNOWN:
            child = value.get(name)
            if type(child) in (dict, Opaque) and child is not value and count(child) and len(path) < LIMITS.pickle_depth:
                value, path, found = child, (*path, name), True
                break
    return value, path


def _largest(parts: dict[tuple[str, ...], object]) -> dict[tuple[str, ...], object]:
    """Those that lie in no other."""
    return {at: node for at, node in parts.items() if not any(at[:n] in parts for n in range(1, len(at)))}


def is_optimizer(value: object) -> bool:
    """Whether this is torch.optim's state_dict(): the states of parameters by number (or name) and the groups of these."""
    if type(value) is not dict or type(value.get("state")) is not dict:
        return False
    groups = value.get("param_groups")
    if type(groups) is list:
        return all(type(g) is dict for g in groups)
    states = value["state"]
    return "param_groups" not in value and bool(states) and all(type(k) is int and type(v) is dict for k, v in states.items())


def _is_state_dict(value: object, leaf: Callable[[object], Leaf | None]) -> bool:
    """Whether a container holds tensors under the names of modules' parameters ("encoder.0.weight"), as no optimizer's does on top."""
    if type(value) is not dict:
        return False
    names = [k for k, child in value.items() if leaf(child) is not None]
    return bool(names) and all(type(k) is str and k.rpartition(".")[2] in ("weight", "bias", "gamma", "beta") for k in names)


def _single(found: Leaf) -> bool:
    size = found.shape if isinstance(found, Unread) else found.size if isinstance(found, Tensor) else getattr(found, "shape", None)
    return type(size) is tuple and all(n == 1 for n in size)


def _no_weight(value: object, leaf: Callable[[object], Leaf | None], depth: int) -> bool:
    """Whether a container holds no tensor that could be a weight: whole numbers (random states) and single numbers only."""
    if depth > 16:
        return False
    for _, child in children(value):
        found = leaf(child)
        if found is not None:
            dtype = (
                getattr(found, "dtype", None)
                if not isinstance(found, Tensor)
                else getattr(getattr(found.storage, "type", None), "dtype", "")
            )
            if not _single(found) and not str(dtype).startswith(("U", "I", "BOOL")):
                return False
        elif type(child) in CONTAINERS and not _no_weight(child, leaf, depth + 1):
            return False
    return True
