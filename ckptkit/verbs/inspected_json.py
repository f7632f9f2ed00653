"""An inspection as JSON data."""

from __future__ import annotations

from .inspect import Inspection, Sum
from .inspected_rows import TensorRow

SCHEMA_VERSION = 1


def to_json(i: Inspection) -> dict[str, object]:
    """The inspection as JSON data: a schema_version, keys in a stable order, tensors in natural order."""
    rows = i.sorted()
    architecture = {"name": i.architecture, "title": i.architecture_title, "cousins": list(i.cousins)}
    return {
        "schema_version": SCHEMA_VERSION,
        "path": i.path,
        "files": [{"path": p, "bytes": n} for p, n in i.files],
        "container": {"name": i.container, "title": i.container_title, "wrapper": i.wrapper},
        "ranks": [r._asdict() for r in i.ranks],
        "mesh": i.mesh or None,
        "architecture": architecture if i.architecture is not None else None,
        "dialect": {"name": i.dialect, "title": i.dialect_title, "prefix": i.prefix} if i.dialect is not None else None,
        "variant": i.variant,
        "variants": list(i.variants),
        "evidence": {k: list(v) for k, v in i.evidence.items()},
        "config": {"source": i.config, "declared": i.declared} if i.config is not None else None,
        "counts": i.counts,
        "sizes": i.sizes,
        "undecided": i.undecided,
        "groups": list(i.groups),
        "parameters": {"total": i.parameters, "modules": [_sum(m) for m in i.modules]},
        "dtypes": [{"name": d.name, "tensors": d.tensors, "elements": d.parameters, "bytes": d.nbytes} for d in i.dtypes],
        "packings": [
            {**dict(zip(("name", "title", "weights", "parameters", "bytes"), p, strict=True)), "bits": round(p.bits, 4)} for p in i.packings
        ],
        "bytes": i.nbytes,
        "optimizer": {
            "tensors": i.optimizer.tensors, "elements": i.optimizer.parameters, "bytes": i.optimizer.nbytes,
            "share": round(i.optimizer_share, 6),
        },
        "ties": [list(t) for t in i.ties],
        "roles": {k: [row.name for row in rows if row.role == k] for k in ("derived", "stray", "unexplained")},
        "account": {
            "sums": i.account.sums,
            "places": {p: {k: [e.name for e in i.account.of(p, k)] for k in kinds} for p, kinds in i.account.sums.items()},
            "unread": [{"name": e.name, "what": e.what} for e in i.account.unread],
        },
        "metadata": i.metadata,
        "extras": i.extras,
        **({"program": i.program} if i.program else {}),
        "findings": [f._asdict() for f in i.findings],
        "count": {"total": i.total, "selected": len(i.tensors)},
        **({"sampled": i.share} if i.share < 1 else {}),
        **({"memory": i.memory.plain()} if i.memory is not None else {}),
        **({"sentence": i.sentence.plain()} if i.sentence is not None else {}),
        "tensors": [tensor_json(row) for row in rows],
    }  # fmt: skip


def _sum(m: Sum) -> dict[str, object]:
    return {"name": m.name, "tensors": m.tensors, "parameters": m.parameters, "bytes": m.nbytes}


def tensor_json(row: TensorRow) -> dict[str, object]:
    """A row as JSON data."""
    out: dict[str, object] = {
        "name": row.name, "canonical": list(row.canonical), "dtype": row.dtype, "shape": list(row.shape), "elements": row.elements,
        "bytes": row.nbytes, "role": row.role, "note": row.note, "counted": row.counted, "file": row.file, "offset": row.offset,
    }  # fmt: skip
    if row.stats is not None:
        out["stats"] = row.stats.plain()
    return out
