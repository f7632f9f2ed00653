"""Universal checkpoints: a folder `zero` with one folder a parameter, in which each of its tensors is a file.

Source: deepspeed/checkpoint/ds_to_universal.py (0.19): zero/NAME/fp32.pt, exp_avg.pt, exp_avg_sq.pt, step.pt, each a dict with the whole
tensor under "param" (a vocabulary may be padded, which "vocab_tensor" says).
"""

from __future__ import annotations

import os

from ... import store
from ...errors import CorruptError, printable
from ...findings import Finding
from ...limits import LIMITS
from .._pickle.globals import Tensor
from ..torch.rank_file import RankFile, open_rank
from .flat import STATE, Found, extras_of
from .states import KNOWN, States, mapping


def read_universal(folder: str, held: States) -> Found:
    """The weights and the optimizer's state. Raises CorruptError for a parameter without its weights."""
    first = held.model[0]
    states = mapping(first.value)
    found = Found({}, {}, frozenset(), extras_of(states), [], [], [], [])
    names = sorted(store.listdir(held.zero))
    LIMITS.check("tensors", len(names), "the number of tensors", folder)
    for name in names:
        inside = os.path.join(held.zero, name)
        if not store.is_folder(inside) or store.is_link(inside):
            continue
        files = sorted(f for f in store.listdir(inside) if f.endswith(".pt"))
        if "fp32.pt" not in files:
            text = f"{printable(name)!r} has no fp32.pt, which holds its weights"
            found.findings.append(Finding("error", "pieces", printable(name), text, "copy the folder again"))
        for file in files:
            _take(found, name, open_rank(os.path.join(inside, file), KNOWN), file.removesuffix(".pt"))
    module = mapping(states.get("module"))
    for name in states.get("buffer_names") or ():
        if type(name) is str and isinstance(module.get(name), Tensor):
            found.tensors[name] = first.tensor(name, module[name])
    return found._replace(beside=frozenset(n for n in found.tensors if n.startswith(STATE)))


def _take(found: Found, name: str, file: RankFile, moment: str) -> None:
    value = file.value.get("param") if isinstance(file.value, dict) else file.value
    if not isinstance(value, Tensor):
        if moment == "fp32":
            raise CorruptError(f"holds no tensor, though it has the weights of {printable(name)!r}", path=file.path)
        return
    target = name if moment == "fp32" else f"{STATE}{name}.{moment}"
    found.tensors[target] = file.tensor(target, value)
    found.files.append(file.path)
    found.more.append(file)
    found.findings.extend(file.findings)
