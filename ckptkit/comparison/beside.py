"""What `diff` compares beside values: what sort of model it is, configurations, metadata, classes of tensors."""

from __future__ import annotations

from collections.abc import Mapping

from ..graph.examine import Subject
from ..support.name_text import natural
from .canonical_stream import Item
from .left_out import other_keys
from .module_weights import said_modules


def model_of(a: Subject, b: Subject) -> dict[str, tuple[object, object]]:
    """What sort of model and of file they are, where that differs."""

    def of(s: Subject) -> dict[str, object]:
        r = s.graph.recognition
        return {
            "architecture": r.architecture.name if r else None,
            "dialect": r.dialect.name if r else None,
            "container": s.checkpoint.container,
            **s.graph.counts,
        }

    return unlike(of(a), of(b))


def config_of(a: Subject, b: Subject) -> dict[str, tuple[object, object]]:
    """Canonical values that both configurations say, and say differently; and what they say under keys that nobody here understands."""
    modules = said_modules(a), said_modules(b)
    beside = {"modules": modules} if None not in modules and modules[0] != modules[1] else {}
    if a.values is None or b.values is None:
        return {**other_keys(a, b), **beside}
    x, y = a.values.values, b.values.values
    out = {k: (x[k], y[k]) for k in sorted(x.keys() & y.keys()) if x[k] != y[k]}
    return {**out, **other_keys(a, b), **beside}


def metadata_of(a: Subject, b: Subject) -> dict[str, tuple[object, object]]:
    """What lies beside the weights, and the settings, where they differ."""
    out = unlike(dict(a.checkpoint.metadata), dict(b.checkpoint.metadata))
    raws = [{} if s.config is None else {k: v for k, v in s.config.raw.items() if k != "ckptkit"} for s in (a, b)]
    return out | unlike(raws[0], raws[1])


def classes_of(a: Subject, b: Subject, left: Mapping[str, Item], right: Mapping[str, Item]) -> dict[str, tuple[object, object]]:
    """Tensors whose classes are not the same on both sides."""
    kinds = [{n: s.checkpoint.classes.get(i.stored) for n, i in side.items()} for s, side in ((a, left), (b, right))]
    return {n: (kinds[0][n], kinds[1][n]) for n in kinds[0].keys() & kinds[1].keys() if kinds[0][n] != kinds[1][n]}


def unlike(x: Mapping[str, object], y: Mapping[str, object]) -> dict[str, tuple[object, object]]:
    return {k: (x.get(k), y.get(k)) for k in sorted({*x, *y}, key=natural) if x.get(k) != y.get(k)}
