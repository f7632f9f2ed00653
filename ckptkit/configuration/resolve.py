"""Values of a table that refer to others: "=layers", "=4 hidden", "=hidden / heads"."""

from __future__ import annotations

from collections.abc import Mapping


def refers(value: object) -> bool:
    return isinstance(value, str) and value.startswith("=")


def resolved(value: object, values: Mapping[str, object]) -> object:
    """A value of a table: "=layers" is another value, "=4 hidden" a multiple of it, "=hidden / heads" a quotient, "=inputs - 1" a
    difference, "=streams + 2" a sum,
    "=count layer_types" the length of a list, "=any experts" whether there are some; None where that is not
    known, or leaves a rest."""
    if not isinstance(value, str) or not value.startswith("="):
        return value
    for sign in (-1, 1):
        more, found, less = value[1:].partition(" - " if sign < 0 else " + ")
        if found:
            whole = resolved(f"={more}", values)
            return whole + sign * int(less) if isinstance(whole, int) else None
    over, _, under = value[1:].partition(" / ")
    if not under:
        factor, _, name = over.rpartition(" ")
        other = values.get(name)
        if factor == "any":
            return isinstance(other, int) and other > 0
        if factor == "count":
            return len(other) if isinstance(other, (list, tuple, str)) else None
        return int(factor) * other if factor and isinstance(other, int) else other if not factor else None
    a, b = resolved(f"={over}", values), resolved(f"={under}", values) if not under.isdigit() else int(under)
    return a // b if isinstance(a, int) and isinstance(b, int) and b > 0 and a % b == 0 else None
