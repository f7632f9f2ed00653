"""A packed weight against its original, in steps of the packing: is it what rounding gives, or more, and where.

Policy: an element may be off by half a step (MLX: by a step, since its scales are moved so that zero is a code), and by what the type
loses in which its library multiplies. More is said with the place: runs of 32 columns of one row that are off by more than nearest
values can be on average, and the smallest rectangle of the decoded matrix that holds them all. So one scale, one block, a shifted row
and a wrong axis each show where they are. GPTQ, AWQ and HQQ choose other values than the nearest ones: for them "more than rounding" is
no damage by itself, a few runs far above all others are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from .._typing import TYPE_CHECKING, Any, NamedTuple
from ..engine.loop_nest import Mover, Nest, check_nest, nest, step_of
from ..engine.sources import Flat, flat
from ..graph.examine import Subject
from ..graph.packed_weights import PackedWeight
from ..packing import Form, decoded, in_file, in_steps, part_fetcher, ruler, tile_rows
from ..plan.pieces import by_boxes
from ..plan.values import Piece, Source
from ..schema.layout import nest as loops_of
from ..schema.loops import Loop
from ..store.files import Files
from ..tensors import DTYPES, row_major_strides

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

RUN = 32  # columns
CAP = 16 << 20  # bytes of a window of the original at most
LOST = {"BF16": 2.0**-8, "F16": 2.0**-11}
CALIBRATED = ("gptq", "awq", "awq-gemv", "hqq")
FAR = 0.6  # steps that a run is off on average: no nearest values are
NEAR = 0.125  # what is off by less on average is too small for the type
WORSE = 3  # a block whose error has so many times the original's own sum of squares: zeros would have been nearer by far


class Steps(NamedTuple):
    """The error of one packed weight in steps. `beyond` is the share of elements off by more than rounding gives, `usual` the median over
    runs of their means; `off` are the runs far above it or worse than zeros, `place` the rows and columns that hold these (first, last),
    `worst` the row, first column and mean of the worst run."""

    packing: str
    largest: float
    mean: float
    beyond: float
    usual: float
    off: int
    runs: int
    place: tuple[int, int, int, int]
    worst: tuple[int, int, float]
    transposed: bool

    @property
    def is_rounding(self) -> bool:
        """Whether it is what rounding gives."""
        return self.beyond == 0 and self.off == 0

    @property
    def is_damage(self) -> bool:
        """Whether part of it is off by far more than the rest, or all of it by more than any choice of values explains."""
        return not self.is_rounding and (self.off > 0 or self.usual > (1.5 if self.packing in CALIBRATED else FAR))


def steps_of(a: Subject, b: Subject, weight: PackedWeight, found: Original) -> Steps | None:
    """How far `weight` of b is from what a has of it (`original_of`); None for a packing without steps."""
    import numpy as np

    form = weight.form
    fetch = part_fetcher({role: (t.spec.dtype, t.extents) for role, t in weight.parts.items()}, b.checkpoint.read_extent)
    with in_file(b.checkpoint.path):
        rule = ruler(form, fetch)
    if rule is None or not form.columns:
        return None
    o = form.options
    kind = "BF16" if form.packing == "ct-fp4" else str(o.get("round") or o.get("dtype", ""))
    lost = 2.0**-4 if "nested" in o else 2 * LOST.get(kind, 2.0**-22)
    largest = total = 0.0
    beyond = start = 0
    edges = np.arange(0, form.columns, RUN)
    every = max(1, DTYPES[str(o["type"])].block // RUN) if form.packing == "ggml" else 1  # runs of a block, in which scales share one
    means, worse = np.empty((form.rows, len(edges)), np.float32), np.zeros((form.rows, len(edges)), np.bool_)
    with np.errstate(all="ignore"), in_file(b.checkpoint.path):
        for packed, original in zip(decoded(form, fetch), _rows(a, b, weight, found), strict=True):
            stop = start + len(packed)
            unit, rounded = rule.unit(start, stop)
            far, allowed = in_steps(rule, original, packed, unit, lost + rounded)
            largest, total = max(largest, float(far.max())), total + float(far.sum(dtype=np.float64))
            beyond += int(np.count_nonzero(far > allowed))
            if form.packing == "ggml":  # whose scales are rounded too: a run beside a large value may be off by more
                far *= np.minimum(np.float32(1), np.float32(0.5) / allowed)
            energy = np.add.reduceat(np.square(original), edges[::every], axis=1)
            error = np.add.reduceat(np.square(original - packed), edges[::every], axis=1)
            worse[start:stop] = np.repeat(error > WORSE * energy, every, axis=1)[:, : len(edges)]
            means[start:stop] = np.add.reduceat(far, edges, axis=1) / np.minimum(RUN, form.columns - edges)
            start = stop
    usual = float(np.median(means))
    row, run = divmod(int(means.argmax()), means.shape[1])
    bad = np.argwhere((means > max(FAR, 2.2 * usual)) | (worse & (means > NEAR)))
    place = (0, 0, 0, 0)
    if len(bad):
        (r0, c0), (r1, c1) = bad.min(axis=0).tolist(), bad.max(axis=0).tolist()
        place = (r0, r1, c0 * RUN, min(c1 * RUN + RUN, form.columns) - 1)
    numel = form.rows * form.columns
    worst = (row, run * RUN, float(means[row, run]))
    return Steps(
        weight.label, largest, total / numel, beyond / numel, usual, len(bad), means.size, place, worst, form.strides is not None
    )  # fmt: skip


def _rows(a: Subject, b: Subject, weight: PackedWeight, found: Original) -> Iterator[Array]:
    """The original in the order of the decoded matrix, tile by tile, float32."""
    import numpy as np

    form = weight.form
    step = tile_rows(form)
    t = a.checkpoint.tensors[found.stored] if found.stored is not None else None
    if t is not None and form.strides is None and t.read is None and t.strides is None:
        fetch = part_fetcher({"a": (t.spec.dtype, t.extents)}, a.checkpoint.read_extent)
        for start in range(0, form.rows, step):
            stop = min(start + step, form.rows)
            yield fetch("a", start * form.columns, stop * form.columns).astype(np.float32, copy=False).reshape(stop - start, form.columns)
        return
    placed = _loops(a, b, form, found)
    if any(a.checkpoint.tensors[stored].read is not None for stored, _, _, _ in placed):  # it has no extents to read parts of
        matrix = _whole(a, form, placed)
        for start in range(0, form.rows, step):
            yield matrix[start : min(start + step, form.rows)]
        return
    sources: list[Source] = []
    nests: list[Nest] = []
    for stored, loops, start, at in placed:
        t = a.checkpoint.tensors[stored]
        parts = by_boxes(loops, start, at, t.spec.shape, t.boxes) if t.boxes else None
        of = [Source(t.name, t.spec.dtype, (box.extent,)) for box in t.boxes] if parts is not None else None
        for i, each, low, to in parts or [(0, loops, start, at)]:
            made = nest(Piece(len(sources) + i, each, low, to), stored)
            nests += [made] if made is not None else []
        sources += of or [Source(t.name, t.spec.dtype, tuple(t.extents))]
    flats = tuple(flat(x) for x in sources)
    for n in nests:
        check_nest(n, weight.name, flats[n.source], DTYPES[sources[n.source].dtype].bits, form.rows * form.columns)
    yield from _tiles(form, step, flats, tuple(x.dtype for x in sources), nests)


def _tiles(form: Form, step: int, flats: tuple[Flat, ...], dtypes: tuple[str, ...], nests: Sequence[Nest]) -> Iterator[Array]:
    """The rows that nests fill, `step` at a time: out of a window as large as what is turned round in it asks for, `CAP` at most."""
    import numpy as np

    best = max((step_of(n, 4, CAP) for n in nests), default=1) // form.columns
    high = min(form.rows, max(step, best // step * step))
    raw = memoryview(bytearray(high * form.columns * 4))
    window: Array = np.frombuffer(raw, np.float32).reshape(high, form.columns)
    files = Files()
    try:
        mover = Mover(files, flats, dtypes)
        for top in range(0, form.rows, high):
            stop = min(top + high, form.rows)
            first, last = top * form.columns, stop * form.columns
            for n in nests:
                if n.target_offset < last and first < n.target_offset + n.span:
                    mover.place(n, first, last, raw[: (last - first) * 4], "F32", "F32")
            for start in range(0, stop - top, step):
                yield window[start : min(start + step, stop - top)]
    finally:
        files.close()


def _loops(a: Subject, b: Subject, form: Form, found: Original) -> list[tuple[str, tuple[Loop, ...], int, int]]:
    """Where what a has goes in the decoded matrix: (stored name, loops, offset in it, in the matrix) of each tensor or parameter."""
    tensors, sizes, out = a.checkpoint.tensors, b.sizes(), []
    if found.stored is not None:
        t = tensors[found.stored]
        own = t.strides if t.read is None and t.strides is not None else row_major_strides(form.shape)
        return [(t.name, tuple(map(Loop, form.shape, own, form.strides or row_major_strides(form.shape))), 0, 0)]
    for name in found.names:
        placed = a.graph.placed(name)
        t = tensors[a.graph.params[name].stored]
        out.append((t.name, *loops_of(placed if t.read is None else placed._replace(strides=None), b.graph.placed(name), sizes)))
    return out


def _whole(a: Subject, form: Form, placed: Sequence[tuple[str, tuple[Loop, ...], int, int]]) -> Array:
    """All of the decoded matrix's original at once: of a container that gives no extents."""
    import numpy as np

    out = np.empty(form.rows * form.columns, np.float32)
    as_strided = np.lib.stride_tricks.as_strided
    for stored, loops, start, at in placed:
        array = a.checkpoint.array(stored).reshape(-1)[start:]
        view = as_strided(out[at:], [n.size for n in loops], [4 * n.target for n in loops])
        view[...] = as_strided(array, [n.size for n in loops], [array.itemsize * n.source for n in loops], writeable=False)
    return out.reshape(form.rows, form.columns)


def in_words(s: Steps) -> str:
    """What a weight's error is: "up to 9.2 steps off in rows 128-255, columns 0-127 (the worst 32 by 8.1 on average)"."""
    row, column, mean = s.worst
    kind = f"{s.packing}: "
    if s.is_rounding:
        return f"{kind}what rounding gives, at most {s.largest:.3g} steps off"
    many = "infinitely many" if s.largest >= 1e9 else f"up to {s.largest:.3g}"
    if not s.off:
        all_of = f"{s.usual:.3g} on average all over, " if s.is_damage else ""
        return f"{kind}more than rounding gives, {all_of}{s.beyond:.2%} of it, {many} steps off"
    rows = f"rows {s.place[0]}-{s.place[1]}, columns {s.place[2]}-{s.place[3]}{' of its transpose' if s.transposed else ''}"
    average = "no number" if mean >= 1e7 else f"{mean:.3g} on average"
    return f"{kind}{many} steps off in {rows} ({s.off:,} of {s.runs:,} runs of {RUN}; the worst, row {row} from column {column}: {average})"


def summary(held: Sequence[tuple[str, Steps]]) -> list[str]:
    """Packed weights against their originals: those that are what rounding gives together, the others one by one, the worst first."""
    fine = [s for _, s in held if s.is_rounding]
    out = []
    for kind in dict.fromkeys(s.packing for s in fine):
        those = [s.largest for s in fine if s.packing == kind]
        out.append(f"packed as {kind}: {len(those)} weights are what rounding gives, at most {max(those):.3g} steps off")
    more = sorted(((n, s) for n, s in held if not s.is_rounding), key=lambda x: (not x[1].is_damage, -x[1].worst[2]))
    out += [f"packed: {name}: {in_words(s)}" for name, s in more[:12]]
    return out + ([f"packed: {len(more) - 12} more weights are more than rounding gives"] if len(more) > 12 else [])


class Original(NamedTuple):
    """What a checkpoint has of a packed weight of another: the tensor `stored`, which has its shape and order, or, where that is None, the
    parameters `names` that the packed tensor is made of."""

    stored: str | None
    names: Sequence[str] = ()


def original_of(a: Subject, b: Subject, packed: str, names: Sequence[str]) -> Original | None:
    """What a has of the packed weight of b that holds the parameters `names`; None where it lacks some of it or packs it too."""
    form = b.packings.weights[packed].form
    if not names or names[0] not in a.graph.params:
        t = a.checkpoint.tensors.get(packed)
        whole = t is not None and packed not in a.packings.weights and t.spec.shape == form.shape
        return Original(packed) if whole and (not names or a.graph.recognition is None) else None
    if any(n not in a.graph.params or b.graph.adjust(n) is not None for n in names):
        return None
    held = [a.graph.params[n] for n in names]
    if any(bound.stored in a.packings.weights or bound.stored not in a.checkpoint.tensors for bound in held):
        return None
    stored, row = held[0].stored, b.graph.params[names[0]].row
    alike = all(bound.stored == stored for bound in held) and held[0].row.layout == row.layout and held[0].row.parts == row.parts
    if alike and a.checkpoint.tensors[stored].spec.shape == form.shape and a.graph.adjust(names[0]) is None:
        return Original(stored)
    assert b.architecture is not None
    sizes = [{n: s.graph.solution.sizes.axis.get(n) for p in row.parts for n in b.architecture.params[p].layout.axes} for s in (a, b)]
    return Original(None, tuple(names)) if sizes[0] == sizes[1] else None


def held_in(s: Subject) -> dict[str, list[str]]:
    """The packed weights of a checkpoint by stored name, and the parameters that each is made of, in order."""
    out: dict[str, list[str]] = {stored: [] for stored in s.packings.weights}
    for name, bound in s.graph.params.items():
        if bound.stored in out and (not out[bound.stored] or len(bound.row.parts) > 1 or bound.row.layout.holder):  # else a tie
            out[bound.stored].append(name)
    return out


def steps_between(a: Subject, b: Subject) -> Iterator[tuple[str, Steps]]:
    """The packed weights of either side against what the other has of them."""
    for original, other in ((a, b), (b, a)):
        for packed, names in held_in(other).items():
            found = original_of(original, other, packed, names)
            steps = steps_of(original, other, other.packings.weights[packed], found) if found is not None else None
            if steps is not None:
                yield names[0] if len(names) == 1 else packed, steps
