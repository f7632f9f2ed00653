"""Comparing stored values where two tensors should be one: streamed, exact to the bit."""

from __future__ import annotations

from collections.abc import Iterator

from .._typing import TYPE_CHECKING
from ..containers import Checkpoint, Packed
from ..limits import using
from ..schema.layout import Placed, Sizes, nest, stored_shape
from ..tensors import Extent, StoredTensor
from .weight_graph import WeightGraph

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

CHUNK = 1 << 20


def pieces(checkpoint: Checkpoint, t: StoredTensor, width: int = 1) -> Iterator[bytes]:
    """The row-major bytes of a tensor, some whole elements of `width` bytes at a time; a strided one's all at once."""
    if t.strides is not None:
        yield checkpoint.array(t.name).tobytes()
        return
    left = b""
    for part in _parts(checkpoint, t):
        part = left + part if left else part
        whole = len(part) - len(part) % width
        left = part[whole:]
        if whole:
            yield part[:whole] if left else part


def _parts(checkpoint: Checkpoint, t: StoredTensor) -> Iterator[bytes]:
    if t.read is None:
        for e in t.extents:
            for at in range(0, e.length, CHUNK):
                yield checkpoint.read_extent(Extent(e.path, e.offset + at, min(CHUNK, e.length - at)))
        return
    packed = t.read.pieces() if isinstance(t.read, Packed) else (t.read() for _ in range(1))
    while True:
        with using(**checkpoint.limits):  # for each piece by itself: others may be read in between
            part = next(packed, None)
        if part is None:
            return
        assert isinstance(part, bytes), t.name
        if part:
            yield part


def compare_values(checkpoint: Checkpoint, a: str, b: str) -> bool:
    """Whether two stored tensors of one checkpoint hold the same bits (and the same dtype and shape)."""
    x, y = checkpoint.tensors[a], checkpoint.tensors[b]
    if x.spec == y.spec and not (_whole(x) and _whole(y)) and (x.identity is None or x.identity != y.identity):
        return _alike(pieces(checkpoint, x), pieces(checkpoint, y))
    return same_bits(checkpoint, x, y)


def _alike(a: Iterator[bytes], b: Iterator[bytes]) -> bool:
    """Whether two runs of bytes are the same, whatever pieces they come in."""
    p = q = memoryview(b"")
    while True:
        p, q = p or memoryview(next(a, b"")), q or memoryview(next(b, b""))  # no piece is empty
        n = min(len(p), len(q))
        if not n:
            return not p and not q
        if bytes(p[:n]) != bytes(q[:n]):  # views compare element by element
            return False
        p, q = p[n:], q[n:]


def _whole(t: StoredTensor) -> bool:
    """Whether the bytes lie row-major in one piece."""
    return t.strides is None and t.read is None and len(t.extents) == 1


def same_bits(checkpoint: Checkpoint, x: StoredTensor, y: StoredTensor) -> bool:
    """Whether two tensors of the checkpoint's files hold the same bits (and the same dtype and shape), stored alike and in one piece."""
    if x.identity is not None and x.identity == y.identity:
        return True
    if x.spec != y.spec or x.strides != y.strides or x.read is not None or y.read is not None or len(x.extents) != 1 or len(y.extents) != 1:
        return False
    ex, ey = x.extents[0], y.extents[0]
    fx, fy = checkpoint.blob(ex.path), checkpoint.blob(ey.path)
    return (
        all(
            fx.pread(min(CHUNK, ex.length - at), ex.offset + at) == fy.pread(min(CHUNK, ex.length - at), ey.offset + at)
            for at in range(0, ex.length, CHUNK)
        )
        and ex.length == ey.length
    )


def canonical_array(graph: WeightGraph, name: str, sizes: Sizes) -> NDArray[np.generic]:
    """A canonical parameter as a row-major array in its canonical layout, heads and other groups flattened. Imports numpy."""
    from numpy.lib.stride_tricks import as_strided

    placed = graph.placed(name)._replace(strides=None)  # `array` gives views row-major
    own = placed.parts[placed.which]
    loops, start, _ = nest(placed, Placed(own, (own,), 0), sizes)
    array = graph.checkpoint.array(graph.params[name].stored)
    flat = array.reshape(-1)[start:]
    view = as_strided(flat, [n.size for n in loops], [n.source * array.itemsize for n in loops], writeable=False)
    return view.reshape(stored_shape(own, (own,), sizes))


def compare_ties(graph: WeightGraph, a: str, b: str, sizes: Sizes) -> bool | None:
    """Whether two canonical parameters hold the same values; None where their shapes do not allow the question."""
    ta, tb = graph.tensor(a), graph.tensor(b)
    if graph.params[a] is graph.params[b]:
        return True
    if ta.spec.dtype != tb.spec.dtype:
        return None
    if _plain(graph, a) and _plain(graph, b):
        return compare_values(graph.checkpoint, ta.name, tb.name)
    return _alike(_runs(canonical_array(graph, a, sizes)), _runs(canonical_array(graph, b, sizes)))


def _runs(array: NDArray[np.generic]) -> Iterator[bytes]:
    """The row-major bytes of an array, a few rows at a time."""
    rows = array.reshape(len(array), -1) if array.ndim else array.reshape(1, 1)
    step = max(1, CHUNK // max(1, rows[0].nbytes)) if len(rows) else 1
    for at in range(0, len(rows), step):
        yield rows[at : at + step].tobytes()


def _plain(graph: WeightGraph, name: str) -> bool:
    """Whether the stored tensor is the parameter as it stands."""
    placed = graph.placed(name)
    own = placed.parts[placed.which]
    return placed.layout == own and len(placed.parts) == 1
