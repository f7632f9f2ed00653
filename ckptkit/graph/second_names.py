"""One tensor that is two parameters, stored under the second one's name: output and input tables that are tied.

safetensors' save_model keeps one name of a tied pair, not always the embeddings', and says the other in the file's metadata. That is
believed where the architecture ties the two and the configuration does not deny it: of any other pair no loader looks at the metadata.
Source: safetensors/torch.py `save_model`, `_remove_duplicate_names`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from ..schema import Dialect, Param, Row
from ..schema.layout import Layout
from ..schema.templates import reduce_name
from ..support.columns import pluck
from ..tensors import StoredTensor
from .recognition import Recognition


def says_second_name(ties: Mapping[str, str], r: Recognition, canonical: str, stored: str) -> bool:
    """Whether `ties` (second name -> stored one) give a stored tensor the name of a canonical parameter."""
    for name, first in ties.items():
        plain = name.removeprefix(r.wrapper) if name.startswith(r.wrapper) else ""
        match = r.table.match(*reduce_name(plain), r.prefix) if first == stored and plain else None
        if match is not None and match.row.parts == (canonical,):
            return True
    return False


def lie_alike(one: Row, two: Row, params: Mapping[str, Param]) -> bool:
    """Whether the parameters of two rows, each of one, lie in their tensors alike, whatever their axes are called."""
    other = dict(zip(params[one.parts[0]].layout.axes, params[two.parts[0]].layout.axes, strict=False))
    return _axes(one.layout, other) == _axes(two.layout, {})


def _axes(layout: Layout, other: Mapping[str, str]) -> list[list[str]]:
    return [[other.get(a, a) for a in dim] for dim in layout.dims]


def denies_ties(dialect: Dialect, config: Mapping[str, object]) -> bool:
    """Whether a configuration, in a dialect's keys, says that the tables of input and output are two."""
    ties = [k for k, said in dialect.config.keys.items() if (said if isinstance(said, str) else said.canonical) == "tied"]
    return any(config.get(key.strip()) is False for k in ties for key in k.split("|"))


def shared_storages(tensors: Mapping[str, StoredTensor]) -> set[str]:
    """The storages that more than one tensor lies in: of the others no two tensors are one."""
    storages = [s for s in pluck(tensors, 4) if s is not None]
    if len(set(storages)) == len(storages):
        return set()
    return {s for s, n in Counter(storages).items() if n > 1}
