"""Which of several namings with the same names the shapes are those of: nanoGPT keeps transformers' names and turns its matrices.

Policy: the layouts of a naming are equations in the axis sizes (`solve`); a naming in whose equations the shapes contradict each other is
not the one. Where the shapes fit both, they decide nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from math import prod

from ..schema import Architecture, Match, Row, Table, placeholders
from ..tensors import StoredTensor
from .recognition import Candidate
from .solve import solve

Shape = tuple[int, ...]


def held_places(row: Row, name: str, matches: Mapping[str, Match], tensors: Mapping[str, StoredTensor]) -> int:
    """How many places of a placeholder (the experts of a layer) a stored tensor of this row holds in one dimension. That says it, or,
    where each place has several of its elements, another tensor does (the router); 0 where none does."""
    layout, shape = row.layout, tensors[name].spec.shape
    axis, *within = layout.dims[layout.holder_dim]
    most = shape[layout.holder_dim] if len(shape) == len(layout.dims) else 0
    if not within:
        return most
    for stored, m in matches.items():
        other = tensors[stored].spec.shape if (axis,) in m.row.layout.dims else ()
        if len(other) == len(m.row.layout.dims):
            n = other[m.row.layout.dims.index((axis,))]
            return n if n <= most else 0
    return 0


def misfits(arch: Architecture, dialect: str, prefix: str, stored: Mapping[str, Shape], reduced: Mapping[str, str]) -> int:
    """How many dimensions of the `stored` shapes contradict a naming's layouts. `reduced`: stored name -> pattern; of each pattern
    the first name is looked at, since layers are alike."""
    firsts: dict[str, str] = {}
    for name, pattern in reduced.items():
        firsts.setdefault(pattern, name)
    table = arch.table(dialect)
    index, shapes = table.index(prefix), dict[Row, dict[str, Shape]]()
    for pattern, name in firsts.items():
        m = table.match(pattern, re.findall("[0-9]+", name), prefix) if pattern in index else None
        if m is not None and m.row.role == "param":
            shapes.setdefault(m.row, {})[name] = stored[name]
    solution = solve(arch, shapes)
    return len(solution.mismatches) + len(solution.broken)


def unfit(found: Candidate, matches: Mapping[str, Match], stored: Mapping[str, Shape]) -> int:
    """How much speaks against what tensors were taken for: names of a known pattern with numbers that are not (a table in every layer,
    where the first alone has one), dimensions that contradict each other, rows of the core that some places have and others lack, and
    places of two kinds. 0 of every sound checkpoint of that architecture."""
    rows: dict[int, tuple[Row, dict[str, Shape], set[str]]] = {}  # by the row's id: its hash is made anew each time
    arch = found.architecture
    params, table = arch.params, arch.table(found.dialect.name)
    indices: dict[str, set[int]] = {}
    held: dict[str, set[int]] = {}  # word ("moe@layer", "gated") -> the places where it is said
    for name, (row, at) in matches.items():
        if row.role != "param":
            continue
        known = rows.get(id(row))
        if known is None:
            known = rows[id(row)] = row, {}, {w for p in row.parts for w in params[p].words}
        known[1][name] = stored[name]
        for holder, i in at:
            indices.setdefault(holder, set()).add(i)
        for word in known[2]:
            held.setdefault(word, set()).update(i for holder, i in at if word.endswith(f"@{holder}"))
    shapes = {row: by_name for row, by_name, _ in rows.values()}
    wrong = found.score.explained - len(matches)
    wrong += sum(len(places & held.get(f"not {word}", set())) for word, places in held.items())

    def lacking(row: Row) -> bool:
        infos = [params[p] for p in row.parts]
        words = {w for i in infos for w in i.words}
        if row.role != "param" or any(i.tied or i.computed or i.group != "core" or (i.optional and not i.words) for i in infos):
            return False
        if not words <= held.keys() or any(p in table.dialect.lacks for p in row.parts):
            return False
        met = [indices.get(h, set()).intersection(*(held[w] for w in words if w.endswith(f"@{h}"))) for h in placeholders(row.names[0])]
        return len(shapes.get(row, ())) < prod(map(len, met))

    solution = solve(arch, shapes, places={n: dict(m.at) for n, m in matches.items() if m.row.layout.by})
    return wrong + sum(map(lacking, table.rows)) + len(solution.mismatches) + len(solution.broken)


def misnumbered(table: Table, prefix: str, numbered: Sequence[tuple[str, list[str]]]) -> int:
    """Names of a known pattern with numbers that are not, or a second time, and numbers that are left out. `numbered`: the names'
    patterns and numbers."""
    wrong, seen, indices = 0, set(), dict[str, set[int]]()
    index, match = table.index(prefix), table.match
    for pattern, numbers in numbered:
        if pattern not in index:
            continue
        m = match(pattern, numbers, prefix)
        if m is None:
            wrong += 1
            continue
        place = id(m.row), m.at
        wrong += place in seen
        seen.add(place)
        for holder, i in m.at:
            if holder in indices:
                indices[holder].add(i)
            else:
                indices[holder] = {i}
    return wrong + sum(max(i) + 1 - len(i) for i in indices.values())
