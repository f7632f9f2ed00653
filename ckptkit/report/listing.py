"""The checkpoints of a folder, a row each."""

from __future__ import annotations

import json

from .. import store
from .._typing import TYPE_CHECKING
from ..errors import printable
from ..support.progress import human_bytes
from ._columns import columns

if TYPE_CHECKING:
    from ..verbs.listing import Listing, Row

SCHEMA_VERSION = 1
HEADINGS = ("checkpoint", "architecture", "dialect", "container", "#layers", "#tensors", "#parameters", "#size", "")


def listing_text(found: Listing) -> str:
    n = len(found.rows)
    return "\n".join(
        [f"{printable(found.path)}: {n} checkpoint{'s' * (n != 1)}", "", *columns(HEADINGS, (_cells(found, r) for r in found.rows))]
    )


def _cells(found: Listing, row: Row) -> tuple[str, ...]:
    path = printable(store.relative(row.path, found.path), 500)
    if row.problem:
        return (path, *[""] * 7, printable(row.problem, 500))
    layers = " + ".join(str(n) for _, n in row.counts)
    return (
        path, row.architecture or "unknown", row.dialect, row.container, layers, f"{row.tensors:,}", f"{row.parameters:,}",
        human_bytes(row.nbytes), "",
    )  # fmt: skip


def listing_json(found: Listing) -> str:
    rows = [
        {"path": r.path, "problem": r.problem}
        if r.problem
        else {
            "path": r.path, "container": r.container, "architecture": r.architecture or None, "dialect": r.dialect or None,
            "counts": dict(r.counts), "tensors": r.tensors, "parameters": r.parameters, "bytes": r.nbytes,
        }
        for r in found.rows
    ]  # fmt: skip
    return json.dumps({"schema_version": SCHEMA_VERSION, "path": found.path, "checkpoints": rows}, indent=2, ensure_ascii=False)
