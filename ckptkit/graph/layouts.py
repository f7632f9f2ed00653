"""Which of several namings with the same names the shapes are those of: nanoGPT keeps transformers' names and turns its matrices.

Policy: the layouts of a naming are equations in the axis sizes (`solve`); a naming in whose equations the shapes contradict each other is
not the one. Where the shapes fit both, they decide nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from ..schema import Architecture, Row
from .solve import solve

Shape = tuple[int, ...]


def misfits(arch: Architecture, dialect: str, prefix: str, stored: Mapping[str, Shape], reduced: Mapping[str, str]) -> int:
    """How many dimensions of the `stored` shapes contradict a naming's layouts. `reduced`: stored name -> pattern; of each pattern the first
    name is looked at, since layers are alike."""
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
