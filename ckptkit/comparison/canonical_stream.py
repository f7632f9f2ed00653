"""The canonical parameters of a checkpoint as streams: name, dtype, shape, and their row-major values tile by tile.

Policy: what a model computes with counts. Computed buffers and optimizer state are left out, a tie that holds the same
values as its target counts once, tensors that the architecture does not know go by their stored names, and so do those of other
models in the same file. A tile is read into
memory that is reused, by the engine's own movers; memory does not grow with the checkpoint.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from .._typing import TYPE_CHECKING, Any, NamedTuple
from ..engine.buffers import Buffer
from ..engine.loop_nest import Mover, Nest, check_nest, nest, step_of
from ..engine.sources import Flat, flat
from ..graph.canonical_arrays import adjusted
from ..graph.contradicted import counted
from ..graph.examine import Subject
from ..plan.pieces import by_boxes
from ..plan.values import PackedParts, Piece, Source
from ..schema import Adjust, Lack
from ..schema.layout import Placed, Sizes, stored_shape
from ..schema.layout import nest as loops_of
from ..schema.loops import Loop
from ..store.files import Files
from ..tensors import DTYPES, StoredTensor, TensorSpec

if TYPE_CHECKING:
    from numpy.typing import NDArray

CAP = 16 << 20  # bytes of a tile at most: a transposition larger than that reads its source more than once
SMALL = 1 << 20  # bytes of a tile where no elements change places


class Item(NamedTuple):
    """One canonical parameter: its name, what it is, the stored tensor that holds it, its group and its layer (-1: none)."""

    name: str
    spec: TensorSpec
    stored: str
    group: str
    layer: int
    layer_kind: str
    natural: bool  # whether the stored tensor is the parameter as it stands, or turned


class Canon:
    """Reads canonical values of one subject. One to a thread; close it (or use `with`) to give its files back."""

    def __init__(self, subject: Subject, sizes: Sizes) -> None:
        self._subject, self._sizes = subject, sizes
        self._files = Files()
        self._buffer = Buffer()

    def __enter__(self) -> Canon:
        return self

    def __exit__(self, *exc: object) -> None:
        self._files.close()

    def close(self) -> None:
        self._files.close()

    def _moves(self, item: Item, *, stored_order: bool = False) -> _Moves:
        """How a parameter gets from where it is stored into a row-major one."""
        t = self._subject.checkpoint.tensors[item.stored]
        loops, start = _loops(self._subject, item, self._sizes, t, stored_order)
        adjust = _adjust(self._subject, item)
        weight = self._subject.packings.weights.get(item.stored)
        if (t.read is not None and weight is None) or adjust is not None:
            return _Moves(None, (), (), _array(self._subject, item, loops, start, adjust))
        whole = nest(Piece(0, loops, start), item.name)
        if weight is not None:
            packed = PackedParts(weight.form, tuple((role, p.spec.dtype, tuple(p.extents)) for role, p in weight.parts.items()))
            sources = [Source(t.name, t.spec.dtype, (), packed=packed)]
        else:
            parts = by_boxes(loops, start, 0, t.spec.shape, t.boxes) if t.boxes else None
            if parts is not None:
                sources = [Source(f"{t.name}{b.shown()}", t.spec.dtype, (b.extent,)) for b in t.boxes]
                nests = [nest(Piece(i, part, a, to), item.name) for i, part, a, to in parts]
                return self._checked(item, t, whole, nests, sources)
            sources = [Source(t.name, t.spec.dtype, tuple(t.extents))]
        return self._checked(item, t, whole, [whole], sources)

    @staticmethod
    def _checked(item: Item, t: StoredTensor, whole: Nest | None, nests: list[Nest | None], sources: list[Source]) -> _Moves:
        flats = tuple(flat(s) for s in sources)
        held = tuple(n for n in nests if n is not None)
        for n in held:
            check_nest(n, item.name, flats[n.source], DTYPES[t.spec.dtype].bits, item.spec.numel)
        return _Moves(whole, held, flats, None)

    def tiles(self, item: Item, step: int = 0, *, stored_order: bool = False) -> Iterator[memoryview]:
        """The row-major bytes of a parameter, `step` elements at a time (0: what is best). Each view is good until the next."""
        if not item.spec.numel:
            return
        size = DTYPES[item.spec.dtype].bits // 8
        moves = self._moves(item, stored_order=stored_order)
        numel = item.spec.numel
        step = step or best_step(moves.whole, size)
        if moves.array is not None:
            raw = memoryview(moves.array)
            for low in range(0, numel, step):
                yield raw[low * size : min(low + step, numel) * size]
            return
        if moves.whole is None:
            return
        mover = Mover(self._files, moves.sources, (item.spec.dtype,) * len(moves.sources))
        window = self._buffer.get(min(step, numel) * size)
        for low in range(0, numel, step):
            high = min(low + step, numel)
            part = window[: (high - low) * size]
            for n in moves.nests:
                if n.target_offset < high and low < n.target_offset + n.span:
                    mover.place(n, low, high, part, item.spec.dtype, item.spec.dtype)
            yield part

    def step(self, item: Item, *, stored_order: bool = False) -> int:
        """How many elements a tile of this parameter should have."""
        return best_step(self._moves(item, stored_order=stored_order).whole, DTYPES[item.spec.dtype].bits // 8)


class _Moves(NamedTuple):
    """The movement of a whole parameter, the same as one from each piece that is stored, these pieces; or the array where no extent holds
    it."""

    whole: Nest | None
    nests: tuple[Nest, ...]
    sources: tuple[Flat, ...]
    array: bytes | None


def best_step(piece: Nest | None, size: int) -> int:
    """Elements of a good tile: few where the source is met in order, a whole turned block otherwise."""
    if piece is None or len(piece.loops) <= 1:
        return max(1, SMALL // size)
    return step_of(piece, size, CAP)


def _loops(subject: Subject, item: Item, sizes: Sizes, t: StoredTensor, stored_order: bool) -> tuple[tuple[Loop, ...], int]:
    if item.natural and stored_order and t.strides is None:
        return ((Loop(item.spec.numel, 1, 1),), 0)
    graph = subject.graph
    if item.name in graph.params and graph.params[item.name].stored == item.stored:
        placed = graph.placed(item.name)
        own = placed.parts[placed.which]
        loops, start, _ = loops_of(placed, Placed(own, (own,), 0), sizes)
        return loops, start
    out, step = [], 1
    strides = t.strides
    for i in range(len(t.spec.shape) - 1, -1, -1):
        n = t.spec.shape[i]
        out.append(Loop(n, strides[i] if strides is not None else step, step))
        step *= n
    from ..schema.loops import simplify

    return simplify(tuple(reversed(out))) if item.spec.numel else (), 0


def lies_as_is(subject: Subject, item: Item, sizes: Sizes) -> bool:
    """Whether the row-major bytes of a parameter are those of its stored tensor, from the first to the last."""
    t = subject.checkpoint.tensors[item.stored]
    if not item.natural or item.spec.dtype != t.spec.dtype or item.stored in subject.packings.weights or _adjust(subject, item) is not None:
        return False
    loops, start = _loops(subject, item, sizes, t, stored_order=False)
    return start == 0 and (item.spec.numel == t.spec.numel) and (not loops or loops == (Loop(item.spec.numel, 1, 1),))


def _adjust(subject: Subject, item: Item) -> Adjust | None:
    """How the values follow from what is stored; None where they are it."""
    graph = subject.graph
    return graph.adjust(item.name) if item.name in graph.params and graph.params[item.name].stored == item.stored else None


def _array(subject: Subject, item: Item, loops: tuple[Loop, ...], start: int, adjust: Adjust | None) -> bytes:
    """The row-major bytes of a parameter that is unpacked, or of which other values are stored: a scale, seldom larger than a row."""
    from numpy.lib.stride_tricks import as_strided

    array: NDArray[Any] = subject.checkpoint.array(item.stored).reshape(-1)[start:]
    view = as_strided(array, [n.size for n in loops], [n.source * array.itemsize for n in loops], writeable=False)
    return (view if adjust is None else adjusted(view, adjust)).tobytes()


def items_of(subject: Subject, sizes: Sizes, also: Collection[str] = ()) -> list[Item]:
    """Every canonical parameter of a subject, in the order of the architecture's tables, then what counts beyond them, and what `also`
    names of what is stored."""
    graph = subject.graph
    tensors = subject.checkpoint.tensors
    out = []
    r = graph.recognition
    if r is not None:
        params = r.architecture.params
        for name, bound in graph.params.items():
            info = params[bound.row.parts[bound.which]]
            own = info.layout.at(bound.at)
            shape = stored_shape(own, (own,), sizes)
            kind, layer = next(iter(bound.at.items()), ("", -1))
            dtype = tensors[bound.stored].spec.dtype
            if r.dialect.adjust and graph.adjust(name) is not None and dtype != "F64":
                dtype = "F32"  # what a model computes with: narrower types do not hold it
            item = Item(name, TensorSpec(dtype, shape), bound.stored, info.group, layer, kind, len(bound.row.parts) == 1)
            if info.tied is not None and info.tied in graph.params and same_tie(subject, sizes, item, info.tied):
                continue
            out.append(item)
    for name in dict.fromkeys((*counted(subject), *(n for n in also if n in tensors))):
        t = tensors[name]
        if t.spec.dtype != "STRING" and DTYPES[t.spec.dtype].bits % 8 == 0:
            out.append(Item(name, t.spec, name, "", -1, "", True))
    return out


def same_tie(subject: Subject, sizes: Sizes, item: Item, target: str) -> bool:
    """Whether a tied parameter holds the values of its target."""
    bound = subject.graph.params[target]
    a, b = subject.checkpoint.tensors[item.stored], subject.checkpoint.tensors[bound.stored]
    if a.identity is not None and a.identity == b.identity:
        return True
    other = item._replace(name=target, stored=bound.stored)
    if a.spec.dtype != b.spec.dtype or a.spec.numel != b.spec.numel:
        return False
    with Canon(subject, sizes) as x, Canon(subject, sizes) as y:
        step = max(x.step(item), y.step(other))
        return all(bytes(p) == bytes(q) for p, q in zip(x.tiles(item, step), y.tiles(other, step), strict=True))


def like_absent(subject: Subject, sizes: Sizes, items: list[Item]) -> set[str]:
    """The names of the parameters that some naming of the architecture has no place for and that hold, bit for bit, what its absence means.

    A bias of zeros, an identity, one row of segments that are all zero: with it or without it, it is the same model.
    """
    graph = subject.graph
    if graph.recognition is None:
        return set()
    lacks: dict[str, list[Lack]] = {}
    for d in graph.recognition.architecture.dialects.values():
        for p, lack in d.lacks.items():
            if lack.holds(sizes.axis) and all(sizes.axis.get(a) == n for a, n in lack.sizes.items()):
                lacks.setdefault(p, []).append(lack)
    out = set()
    with Canon(subject, sizes) as canon:
        for item in items:
            bound = graph.params.get(item.name) if lacks and DTYPES[item.spec.dtype].kind == "float" else None
            fills = lacks.get(bound.row.parts[bound.which], []) if bound is not None and bound.stored == item.stored else []
            if any(_holds(canon, item, fill) for fill in dict.fromkeys(k.fill for k in fills)):
                out.add(item.name)
    return out


def _holds(canon: Canon, item: Item, fill: float | str) -> bool:
    """Whether every element is `fill`, or the whole the identity ("identity")."""
    import numpy as np

    from ..support.arrays import numpy_dtype

    dtype, width = numpy_dtype(item.spec.dtype), item.spec.shape[-1] if item.spec.shape else 1
    at = 0
    for tile in canon.tiles(item):
        n = len(tile) // dtype.itemsize
        want = np.zeros(n, dtype) if fill == "identity" else np.full(n, fill, dtype)
        if fill == "identity":
            want[-at % (width + 1) :: width + 1] = 1
        if bytes(tile) != want.tobytes():
            return False
        at += n
    return at > 0
