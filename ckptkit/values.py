"""Comparing stored values where two tensors should be one: streamed, exact to the bit."""

from __future__ import annotations

import os

from .containers import Checkpoint
from .graph import WeightGraph
from .layout import Sizes, nest

CHUNK = 1 << 20


def compare_values(checkpoint: Checkpoint, a: str, b: str) -> bool:
    """Whether two stored tensors of one checkpoint hold the same bits (and the same dtype and shape)."""
    x, y = checkpoint.tensors[a], checkpoint.tensors[b]
    if x.identity is not None and x.identity == y.identity:
        return True
    if x.spec != y.spec:
        return False
    simple = all(t.strides is None and t.read is None and len(t.extents) == 1 for t in (x, y))
    if not simple:
        return checkpoint.array(a).tobytes() == checkpoint.array(b).tobytes()
    ex, ey = x.extents[0], y.extents[0]
    fx, fy = checkpoint.fd(ex.path), checkpoint.fd(ey.path)
    return all(
        os.pread(fx, min(CHUNK, ex.length - at), ex.offset + at) == os.pread(fy, min(CHUNK, ex.length - at), ey.offset + at)
        for at in range(0, ex.length, CHUNK)
    )


def compare_ties(graph: WeightGraph, a: str, b: str, sizes: Sizes) -> bool | None:
    """Whether two canonical parameters hold the same values; None where their shapes do not allow the question."""
    pa, pb = graph.placed(a), graph.placed(b)
    ta, tb = graph.tensor(a), graph.tensor(b)
    if pa.layout == pb.layout and len(pa.parts) == len(pb.parts) == 1:
        return compare_values(graph.checkpoint, ta.name, tb.name)
    if ta.spec.numel != tb.spec.numel or len(pa.parts) > 1 or len(pb.parts) > 1:
        return None
    loops, _, _ = nest(pa, pb, sizes)
    x, y = graph.checkpoint.array(ta.name), graph.checkpoint.array(tb.name)
    if len(loops) == 2:
        x = x.T
    return bool(x.tobytes() == y.tobytes())
