"""The check of a schema: what it foretells of a sample that it has not seen, against what the library has."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ckptkit.schema.learned import abstract_name, expected

from .observe import Sample

if TYPE_CHECKING:
    from .schema import Schema

Named = dict[str, tuple[tuple[int, ...], str]]  # name by pattern ("~" before what takes the prefix) -> shape and kind


def renamed(sample: Sample, prefix: str) -> Named:
    """A sample's names with "~" before those that take the class's prefix."""
    out = {}
    for n, shape in sample.shapes.items():
        key = f"~{n[len(prefix) :]}" if n.startswith(prefix) else n
        out[key] = (shape, sample.kinds[n])
    return out


def disagreements(schema: Schema, sample: Sample) -> tuple[list[str], list[str]]:
    """Names, and sizes, in which a schema's prediction differs from what the library has."""
    prefix = schema.classes[sample.cls]
    told, unknown = expected(schema.rows, schema.places, sample.env, sample.cls)
    have = renamed(sample, prefix)
    names, sizes = [], []
    open_patterns = {r.pattern for r in unknown}
    for n, (shape, kind) in have.items():
        e = told.get(n)
        if e is None:
            if abstract_name(n, schema.places)[0] not in open_patterns:
                names.append(f"not foreseen: {n}")
        elif kind[0] != "t" or e.row.tied:
            if len(shape) != len(e.shape) and e.row.dims:
                sizes.append(f"{n}: {shape}")
            elif any(w is not None and w != s for w, s in zip(e.shape, shape, strict=False)):
                sizes.append(f"{n}: {shape}, foreseen {e.shape}")
    names += [f"not there: {n}" for n, e in told.items() if e.required and (n not in have or have[n][1][0] == "t")]
    return names, sizes
