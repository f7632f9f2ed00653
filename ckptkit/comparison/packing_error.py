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
from ..graph.examine import Subject
from ..graph.packed_weights import PackedWeight
from ..packing import decoded, in_file, in_steps, part_fetcher, ruler, tile_rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

RUN = 32  # columns
LOST = {"BF16": 2.0**-8, "F16": 2.0**-11}
CALIBRATED = ("gptq", "awq", "awq-gemv", "hqq")
FAR = 0.6  # steps that a run is off on average: no nearest values are


class Steps(NamedTuple):
    """The error of one packed weight in steps. `beyond` is the share of elements off by more than rounding gives, `usual` the median over
    runs of their means; `off` are the runs far above it, `place` the rows and columns that hold these (first, last), `worst` the row, first
    column and mean of the worst run."""

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
        return self.beyond == 0

    @property
    def is_damage(self) -> bool:
        """Whether part of it is off by far more than the rest, or all of it by more than any choice of values explains."""
        return not self.is_rounding and (self.off > 0 or self.usual > (1.5 if self.packing in CALIBRATED else FAR))


def steps_of(a: Subject, stored: str, b: Subject, weight: PackedWeight) -> Steps | None:
    """How far `weight` of b is from the tensor `stored` of a, which has its shape; None for a packing without steps."""
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
    means = np.empty((form.rows, len(edges)), np.float32)
    with np.errstate(all="ignore"), in_file(b.checkpoint.path):
        for packed, original in zip(decoded(form, fetch), _rows(a, stored, weight), strict=True):
            stop = start + len(packed)
            far, allowed = in_steps(rule, original, packed, np.broadcast_to(rule.unit(start, stop), packed.shape), lost)
            largest, total = max(largest, float(far.max())), total + float(far.sum(dtype=np.float64))
            beyond += int(np.count_nonzero(far > allowed))
            means[start:stop] = np.add.reduceat(far, edges, axis=1) / np.minimum(RUN, form.columns - edges)
            start = stop
    usual = float(np.median(means))
    row, run = divmod(int(means.argmax()), means.shape[1])
    bad = np.argwhere(means > max(FAR, 2.2 * usual))
    place = (0, 0, 0, 0)
    if len(bad):
        (r0, c0), (r1, c1) = bad.min(axis=0).tolist(), bad.max(axis=0).tolist()
        place = (r0, r1, c0 * RUN, min(c1 * RUN + RUN, form.columns) - 1)
    numel = form.rows * form.columns
    worst = (row, run * RUN, float(means[row, run]))
    return Steps(
        form.packing, largest, total / numel, beyond / numel, usual, len(bad), means.size, place, worst, form.strides is not None
    )  # fmt: skip


def _rows(a: Subject, stored: str, weight: PackedWeight) -> Iterator[Array]:
    """The original in the order of the decoded matrix, tile by tile, float32."""
    import numpy as np

    form, t = weight.form, a.checkpoint.tensors[stored]
    step = tile_rows(form)
    if form.strides is None and t.read is None and t.strides is None:
        fetch = part_fetcher({"a": (t.spec.dtype, t.extents)}, a.checkpoint.read_extent)
        for start in range(0, form.rows, step):
            stop = min(start + step, form.rows)
            yield fetch("a", start * form.columns, stop * form.columns).astype(np.float32).reshape(stop - start, form.columns)
        return
    whole = a.checkpoint.array(stored).astype(np.float32)
    if form.strides is not None:
        flat = np.empty(form.rows * form.columns, np.float32)
        np.lib.stride_tricks.as_strided(flat, form.shape, [4 * s for s in form.strides])[...] = whole
        whole = flat
    matrix = whole.reshape(form.rows, form.columns)
    for start in range(0, form.rows, step):
        yield matrix[start : min(start + step, form.rows)]


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


def comparable(a: Subject, stored: str, b: Subject, packed: str, name: str) -> bool:
    """Whether a tensor of a is the whole original of a packed weight of b, in the same order: a parameter of its own in one layout."""
    if stored not in a.checkpoint.tensors or stored in a.packings.weights:
        return False
    x, y = a.graph.params.get(name), b.graph.params.get(name)
    alike = x is None or y is None or (x.row.layout == y.row.layout and len(y.row.parts) == 1)
    return alike and a.checkpoint.tensors[stored].spec.shape == b.packings.weights[packed].form.shape


def steps_between(a: Subject, b: Subject) -> Iterator[tuple[str, Steps]]:
    """The packed weights of either side against what the other has of them."""
    for original, other in ((a, b), (b, a)):
        names = {bound.stored: name for name, bound in other.graph.params.items()}
        for packed, weight in other.packings.weights.items():
            name = names.get(packed, packed)
            bound = original.graph.params.get(name)
            stored = bound.stored if bound is not None else packed
            if comparable(original, stored, other, packed, name):
                steps = steps_of(original, stored, other, weight)
                if steps is not None:
                    yield name, steps
