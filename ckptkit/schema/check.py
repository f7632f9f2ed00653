"""Holding an architecture's tables against each other, so that a mistake in a row is found when it is made."""

from __future__ import annotations

from .architecture import Architecture
from .layout import LayoutError
from .table import Row, Table
from .templates import placeholders


def check(arch: Architecture) -> None:
    """Hold an architecture's tables against each other; LayoutError names the row that is wrong.

    Every parameter of a group that a dialect stores is held exactly once (or its absence is explained by `lacks`, or
    it is tied, or its module is optional), no axis is lost, placeholders agree on both sides, and no two rows share a name unless they are
    of different kinds of layers.
    """
    for switch in arch.kinds:
        if switch not in (*arch.layer_kinds, *arch.switches):
            raise LayoutError(f"{arch.name}: no module is there when {switch!r}")
    for dialect in arch.dialects.values():
        table = arch.table(dialect.name)
        where = f"{arch.name}/{dialect.name}"
        held: dict[str, Row] = {}
        seen: dict[str, list[Row]] = {}
        for row in table.rows:
            for name in row.names:
                if not all(_apart(table, row, other) for other in seen.get(name, ())):
                    raise LayoutError(f"{where}: two rows are named {name!r}")
                seen.setdefault(name, []).append(row)
            if row.role in ("derived", "stray", "beside"):
                continue
            for p in row.parts:
                if p not in arch.params:
                    raise LayoutError(f"{where}: {row.names[0]!r} holds {p!r}, which is no parameter")
                if row.role == "param" and p in held:
                    raise LayoutError(f"{where}: {p!r} is held twice, by {held[p].names[0]!r} and {row.names[0]!r}")
                if row.role == "param":
                    held[p] = row
                lost = set(arch.params[p].layout.axes) - set(row.layout.axes)
                if lost:
                    raise LayoutError(f"{where}: {row.names[0]!r} loses the axes {sorted(lost)} of {p!r}")
                for name in row.names:
                    if {*placeholders(name), *filter(None, (row.layout.holder,))} != set(placeholders(p)):
                        raise LayoutError(f"{where}: {name!r} and {p!r} differ in their placeholders")
            extra = set(row.layout.axes) - {a for p in row.parts for a in arch.params[p].layout.axes}
            if extra:
                raise LayoutError(f"{where}: {row.names[0]!r} has the axes {sorted(extra)}, which none of its parts has")
            if row.layout.holder in {h for n in row.names for h in placeholders(n)}:
                raise LayoutError(f"{where}: {row.names[0]!r} joins every {row.layout.holder}, and is named by it")
            if (len(row.parts) > 1) != row.layout.joins:
                raise LayoutError(f"{where}: {row.names[0]!r} joins {len(row.parts)} parts: a star is missing or too many")
        for p in (*dialect.adjust, *dialect.unties):
            if p not in held:
                raise LayoutError(f"{where}: no row holds {p!r}, which is said to be stored otherwise")
        for p in dialect.unties:
            if arch.params[p].tied is None:
                raise LayoutError(f"{where}: {p!r} is not tied, so it cannot be untied")
        groups = {arch.params[p].group for p in held}
        for p, info in arch.params.items():
            if p not in held and info.group in groups and not (info.tied or info.optional or p in dialect.lacks):
                raise LayoutError(f"{where}: no row holds {p!r}")


def _apart(table: Table, row: Row, other: Row) -> bool:
    """Whether two rows may have one name: where they are of different kinds of layers."""
    if row.role != "param" or other.role != "param" or row.names != other.names:
        return False
    mine, theirs = table.kinds_of(row), table.kinds_of(other)
    return bool(mine and theirs and not mine & theirs)
