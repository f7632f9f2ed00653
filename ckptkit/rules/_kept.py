"""Which parameters are kept in a wider floating type than the matrices, on purpose: norms, what a router chooses by, the constants of state
spaces and attention sinks, and the second matrix of T5's feed-forwards.

Source: transformers' `_keep_in_fp32_modules` and `_keep_in_fp32_modules_strict` (modeling files of 5.23), and published files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..graph.examine import Subject
from ..schema import Row, placeholders
from ..tensors import DTYPES

ENDS = ("router", "router_norm", "shared_gate")
INSIDE = (".state.conv", ".indexer.weights", ".sparse.", ".heavy.", "_streams.")
WHOLE = {"t5": ".ffn.output", "mt5": ".ffn.output", "umt5": ".ffn.output", "longt5": ".ffn.output"}


def kept_wide(s: Subject, by: Mapping[str, Sequence[str]], main: str) -> set[str]:
    """Of the tensors of each type those that are wider than `main`, the type of most, as such a part, in every layer that has it. A tensor
    that is there once (the last norm) is, where one of its kind in the layers is."""
    r = s.graph.recognition
    wide = {n for dtype, names in by.items() if DTYPES[dtype].bits > DTYPES[main].bits for n in names}
    if r is None or not wide:
        return set()
    rows: dict[int, tuple[Row, list[str]]] = {}
    for name, (row, _) in r.matches.items():
        if row.role in ("param", "repeat") and name in s.graph.roles:
            rows.setdefault(id(row), (row, []))[1].append(name)
    whole = [(row, names) for row, names in rows.values() if wide.issuperset(names) and _kind(s, row)]
    layered = {_kind(s, row) for row, names in whole if placeholders(row.names[0])}
    return {n for row, names in whole if placeholders(row.names[0]) or _kind(s, row) in layered for n in names}


def _kind(s: Subject, row: Row) -> str:
    """What such a part is: "norm" or "other"; "" of all else."""
    arch = s.architecture
    assert arch is not None
    found = set()
    for p in row.parts:
        info = arch.params[p]
        module = arch.modules[info.module]
        if arch.learned:
            owner = info.module.rpartition(".")[0].rpartition(".")[2]
            kept = len(info.layout.dims) <= 1 or owner in ("gate", "router")
            found.add(("norm" if "norm" in owner.lower() else "other") if kept else "")
        elif module.kind == "norm":
            found.add("norm")
        elif info.module.endswith(WHOLE.get(arch.name, "?")):
            found.add("other")
        else:
            part = info.module.endswith(ENDS) or any(w in info.module for w in INSIDE)
            found.add("other" if module.kind == "param" or part else "")
    return next(iter(found)) if len(found) == 1 else ""
