"""Which of several namings with the same names the shapes are those of: nanoGPT keeps transformers' names and turns its matrices.

Policy: the layouts of a naming are equations in the axis sizes (`solve`); a naming in whose equations the shapes contradict each other is
not the one. Where the shapes fit both, they decide nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from ..schema import Architecture, Row, Table
from .solve import solve

Shape = tuple[int, ...]


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
