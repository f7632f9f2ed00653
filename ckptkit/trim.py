"""Leaving out the padding rows of a vocabulary: every tensor whose first dimension is the vocabulary keeps its first rows."""

from __future__ import annotations

from ._relay import clip, nest
from .errors import UnsupportedError, UsageError
from .moves import Loop, Piece
from .plan import Request, Weights
from .subject import Subject
from .tensors import TensorSpec


def trimmed(subject: Subject, request: Request, weights: Weights, rows: int) -> Weights:
    """`weights` with `rows` rows of the vocabulary.

    Raises UnsupportedError where a tensor of the target has the vocabulary elsewhere than in its first dimension.
    """
    arch, dialect = subject.architecture, request.dialect or subject.graph.dialect
    have = subject.sizes().axis.get("vocab")
    if arch is None or dialect is None or have is None or not 0 < rows <= have:
        raise UsageError(f"a vocabulary of {rows} rows cannot be cut from one of {have or 'unknown size'}", path=subject.checkpoint.path)
    table = arch.table(dialect.name)
    targets = []
    for name, spec, pieces in weights.targets:
        story = weights.came[name] or {}
        holds = story.get("holds")
        names = holds if isinstance(holds, list) else []
        templates = [b.row.parts[b.which] for n in names if (b := subject.graph.params.get(n)) is not None]
        layouts = [table.by_param[t][0].layout for t in templates if "vocab" in arch.params[t].layout.axes and t in table.by_param]
        if layouts and layouts[0].dims[0] != ("vocab",):
            raise UnsupportedError(f"{name} has the vocabulary in another dimension than the first: its padding is not cut off", path=subject.checkpoint.path)
        if layouts and spec.shape[0] == have:
            rest = spec.numel // have
            cut = [p for piece in pieces for p in _cut(piece, name, rows * rest)]
            targets.append((name, TensorSpec(spec.dtype, (rows, *spec.shape[1:])), tuple(cut)))
            weights.came[name] = {**story, "how": f"{story['how']}, the first {rows} of {have} rows"}
        else:
            targets.append((name, spec, pieces))
    return weights._replace(targets=tuple(targets))


def _cut(piece: Piece, name: str, elements: int) -> list[Piece]:
    """The part of a movement that writes the first `elements` of its target."""
    x = nest(piece, name)
    if x is None:
        return []
    parts = clip(x.loops, x.source_offset, x.target_offset, 0, elements)
    return [piece._replace(loops=tuple(Loop(*v) for v in loops), source_offset=so, target_offset=to) for loops, so, to in parts]
