"""The packed weights of a model by kinds of modules: what one module of a kind holds, all of its kind hold.

Policy: a model has ten thousands of modules and a few dozen kinds of them: names that differ in numbers alone, parts of the same types and
shapes. `find_packed` is asked of one module of each kind, and columns of names are made of its answer. That holds as long as the
configuration says the same of all modules, every part of a weight lies in the weight's own module, and its form does not depend on the
content of parts. Where that is not so, and where anything is wrong, `find_packed` is asked of the whole model, so that faults are found
and worded as ever.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from .._typing import TYPE_CHECKING, Any, NamedTuple
from ..schema.templates import by_pattern
from ..tensors import DTYPES, TensorSpec

if TYPE_CHECKING:
    from ..packing import Form, Found

_Kind = dict[str, list[int]]  # last component -> the places of the tensors that have it, in each of the modules of a kind


class Alike(NamedTuple):
    """Packed weights of one form: their names, and for each role the places of the parts among the stored tensors, in the same order."""

    form: Form
    names: Sequence[str]
    parts: Mapping[str, Sequence[int]]
    first: Sequence[int]  # of the parts by which `find_packed` meets the weights: it gives them in the order of these


def packed_by_kind(specs: Mapping[str, TensorSpec], words_of: Callable[[str], Mapping[str, Any]]) -> list[Alike] | None:
    """All packed weights among `specs`; None where `find_packed` has to be asked of the whole model. `words_of` as there, the same for all
    modules."""
    from ..packing import find_packed, packings

    names, held = list(specs), list(specs.values())
    keys = {t for p in packings().values() for t in (p.PARTS[role] for role in (*p.KEY, p.CODES))}
    elsewhere = {t.rpartition(".")[2] for t in keys if t[0] == "@" and "." in t}  # parts that make a module of the weight's name
    modules: dict[str, _Kind] = {}  # by the module's pattern
    for pattern, places in by_pattern(names).items():
        cut = pattern.rfind(".") + 1
        last = pattern[cut:]
        if "#" in last or last in elsewhere:
            return None
        modules.setdefault(pattern[:cut], {})[last] = places
    kinds: list[_Kind] = []
    for module in modules.values():
        found = _kinds(module, names, held)
        if found is None:
            return None
        kinds += found
    read: list[str] = []

    def content(name: str) -> bytes:
        read.append(name)
        return b""

    firsts = {names[places[0]]: (last, kind) for kind in kinds for last, places in kind.items()}
    groups = find_packed({n: specs[n] for n in firsts}, words_of, content)
    if groups.faults or read:
        return None
    alike = [_alike(f, firsts, names, held, keys) for f in groups.found.values()]
    return None if None in alike else [a for a in alike if a is not None]


def _kinds(module: _Kind, names: Sequence[str], held: Sequence[TensorSpec]) -> list[_Kind] | None:
    """Modules whose names differ in numbers alone, by the types and shapes of what they hold; None where not all hold the same parts."""
    if len(module) > 1:
        stems = [[names[i][:-n] for i in places] for n, places in zip(map(len, module), module.values(), strict=True)]
        if any(stem != stems[0] for stem in stems[1:]):
            return None
    columns = [[held[i] for i in places] for places in module.values()]
    if all(len(set(column)) == 1 for column in columns):
        return [module]
    by: dict[object, list[int]] = {}
    for i, kind in enumerate(zip(*columns, strict=True)):
        by.setdefault(kind, []).append(i)
    return [{last: [places[i] for i in those] for last, places in module.items()} for those in by.values()]


def _alike(
    found: Found, firsts: Mapping[str, tuple[str, _Kind]], names: Sequence[str], held: Sequence[TensorSpec], keys: set[str]
) -> Alike | None:
    """The weights of all modules of the kind of which this one is in the first; None where a part lies in another module."""
    parts = {role: firsts[stored] for role, stored in found.parts.items()}
    last, kind = next(iter(parts.values()))
    if any(k is not kind for _, k in parts.values()):
        return None
    own = found.name[found.name.rfind(".") + 1 :]
    met = {own + t[1:] if t[0] == "@" else t[1:] for t in keys if t != "@" and (t[0] == "@" or own == "weight")}
    first = next((p for n, p in kind.items() if n in met or (n == own and DTYPES[held[p[0]].dtype].block > 1)), None)
    if first is None:
        return None
    weights = [names[i] for i in kind[own]] if own in kind else [names[i][: -len(last)] + own for i in kind[last]]
    return Alike(found.form, weights, {role: kind[n] for role, (n, _) in parts.items()}, first)
