"""`diff`: two checkpoints parameter by parameter through the canonical graph, whatever they are stored in.

Policy: a parameter is first compared bit by bit, tile by tile, and only one that differs is read again for its figures, so that
equal checkpoints cost one reading. Figures are of a - b in float32 (float64 where a side is), summed in float64 over blocks of
262,144 elements. Where the types differ, it is also said whether b is a rounded to b's type, which is all a cast does.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing

from .._typing import TYPE_CHECKING, Any, NamedTuple
from ..comparison.alike import equal_ones, layout_of
from ..comparison.beside import classes_of, config_of, metadata_of, model_of
from ..comparison.canonical_stream import Canon, Item
from ..comparison.left_out import not_compared
from ..comparison.module_weights import module_weights
from ..comparison.sides import sides_of
from ..engine.casts import cast
from ..errors import EXIT_FINDINGS, EXIT_OK, EXIT_UNDECIDED
from ..graph.examine import Subject, examine
from ..graph.examine_two import examine_two
from ..support.arrays import numpy_dtype
from ..support.kernels import kernels
from ..support.progress import Watch
from ..support.shown import html_of, line, text_of
from ..support.threads import on_threads
from ..tensors import DTYPES

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..comparison.packing_error import Steps

    Array = NDArray[Any]

BLOCK = 1 << 18  # elements: with smaller ones two threads wait for each other between numpy's calls
NONE: Mapping[str, Change] = {}
KINDS = ("same", "changed", "retyped", "reshaped", "added", "removed")


class Change(NamedTuple):
    """One parameter on both sides. `kind` is one of KINDS; figures are there where values were compared and differ.

    It is "same" with one side None where that side's naming has no place for it and the other holds what its absence means.
    """

    name: str
    kind: str
    a: Item | None
    b: Item | None
    changed: int = 0  # elements that differ (beyond the tolerance, if one was given)
    largest: float = 0.0  # of |a - b|
    mean: float = 0.0  # of |a - b|
    relative: float = 0.0  # |a - b| / |a|, as Euclidean norms
    cosine: float = 1.0
    rounded: bool = False  # retyped: b is a cast to b's type
    steps: Steps | None = None  # where one side is packed and the other not: the error in steps of the packing

    @property
    def item(self) -> Item:
        item = self.a or self.b
        assert item is not None
        return item


class Diff(NamedTuple):
    """The outcome of `diff`. `config` are canonical values and keys that differ, `metadata` what lies beside the weights, `classes`
    those of
    tensors that have one of their own: key -> (a's, b's). `left_out` says in words what was not compared and could make it another model,
    `notes` what was not compared since it is another model in the same file, or an optimizer's state."""

    a: Subject
    b: Subject
    changes: tuple[Change, ...]
    config: dict[str, tuple[object, object]]
    metadata: dict[str, tuple[object, object]]
    model: dict[str, tuple[object, object]]  # architecture, dialect, container
    tolerant: bool
    classes: dict[str, tuple[object, object]] = {}  # noqa: RUF012
    left_out: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return line(self, f"{len(self.different):,} of {len(self.changes):,} parameters differ", f"exit code {self.exit_code}")

    def __str__(self) -> str:
        return text_of("diff", self)

    def _repr_html_(self) -> str:
        return html_of(self)

    @property
    def different(self) -> list[Change]:
        """The changes that count: a rounded or tolerated cast counts unless a tolerance was given."""
        return [c for c in self.changes if c.kind != "same" and not (self.tolerant and c.kind == "retyped" and not c.changed)]

    @property
    def exit_code(self) -> int:
        """0 where both are the same weights of the same model and configuration, 1 where they are not, 3 where something that could make
        them another model was not compared."""
        if self.different or self.config or self.metadata or self.classes or "architecture" in self.model:
            return EXIT_FINDINGS
        return EXIT_UNDECIDED if self.left_out else EXIT_OK


def diff(
    a: Subject | str | os.PathLike[str],
    b: Subject | str | os.PathLike[str],
    *,
    atol: float = 0.0,
    rtol: float = 0.0,
    metadata: bool = False,
    jobs: int | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> Diff:
    """Compare two checkpoints, given as paths or as open subjects. An element is unchanged where |a - b| <= atol + rtol |b|.

    `progress` is called with the bytes of A that are compared and that there are, by any of the threads; what it raises ends the work.
    `metadata` compares what lies beside the weights too. Paths are closed again. Raises CheckpointError, UndecidedError where nothing
    says how to take a tensor apart.
    """
    with ExitStack() as stack:
        if isinstance(a, Subject) or isinstance(b, Subject):
            x, y = (s if isinstance(s, Subject) else stack.enter_context(examine(s)) for s in (a, b))
        else:
            x, y = (stack.enter_context(s) for s in examine_two(a, b))
        return diff_of(x, y, Tolerance(atol, rtol), metadata, jobs, Watch(progress))


class Tolerance(NamedTuple):
    """What is taken for equal: |a - b| <= absolute + relative |b|."""

    absolute: float = 0.0
    relative: float = 0.0


def diff_of(
    a: Subject, b: Subject, tolerance: Tolerance, metadata: bool, jobs: int | None, watch: Watch, known: Mapping[str, Change] = NONE
) -> Diff:
    """The outcome, with what is `known` of parameters; the others are compared here."""
    left, right, sizes, void = sides = sides_of(a, b)
    local, measured = threading.local(), _Measured()
    opened: list[Canon] = []

    def one(name: str) -> Change:
        x, y = left.get(name), right.get(name)
        if name in known:
            return known[name]
        if x is None or y is None:
            return Change(name, "same" if name in void else "added" if x is None else "removed", x, y)
        if x.spec.shape != y.spec.shape:
            return Change(name, "reshaped", x, y)
        if name in equal:
            return Change(name, "same", x, y)
        pair = getattr(local, "pair", None)
        if pair is None:
            pair = local.pair = _Pair(measured, a, b, Canon(a, sizes[0]), Canon(b, sizes[1]), tolerance, watch)
            opened.extend((pair.x, pair.y))
        return compare(pair, x, y)

    names = [*left, *(n for n in right if n not in left)]
    order = sorted(names, key=lambda n: -(left.get(n) or right[n]).spec.nbytes)
    watch.total = watch.total or sum(left[n].spec.nbytes for n in sides.both)
    equal = equal_ones(a, b, ((left[n], right[n]) for n in sides.both if n not in known), jobs, watch)
    try:
        done = dict(zip(order, on_threads(one, order, jobs), strict=True))
    finally:
        for canon in opened:
            canon.close()
    changes = (*(done[n] for n in names), *_modules(a, b, tolerance))
    beside = metadata_of(a, b) if metadata else {}
    left_out, notes = not_compared(a, b)
    notes = (*notes, *_states(a, b))
    return Diff(a, b, changes, config_of(a, b), beside, model_of(a, b), any(tolerance), classes_of(a, b, left, right), left_out, notes)


def _states(a: Subject, b: Subject) -> Iterator[str]:
    """That an optimizer's state, where both have one, is not compared."""
    x, y = (sum(r.kind == "optimizer" for r in s.graph.roles.values()) for s in (a, b))
    if x and y:
        yield f"the state of the optimizer, {x:,} tensors of A and {y:,} of B"


def _modules(a: Subject, b: Subject, tolerance: Tolerance) -> Iterator[Change]:
    """The weights of sentence-transformers' modules on both sides."""
    import numpy as np

    left, right = module_weights(a), module_weights(b)
    for name in dict.fromkeys((*left, *right)):
        x, y = left.get(name), right.get(name)
        if x is None or y is None:
            yield Change(name, "added" if x is None else "removed", x and x.item, y and y.item)
        elif x.item.spec.shape != y.item.spec.shape:
            yield Change(name, "reshaped", x.item, y.item)
        elif x.item.spec == y.item.spec and x.raw == y.raw:
            yield Change(name, "same", x.item, y.item)
        else:
            figures = _Figures(x.item.spec.dtype, y.item.spec.dtype, tolerance)
            figures.take(*(np.frombuffer(h.raw, numpy_dtype(h.item.spec.dtype)) for h in (x, y)))
            yield figures.change(x.item, y.item)


def compared(a: Subject, b: Subject, tolerance: Tolerance, names: Sequence[str]) -> list[Change]:
    """Compare some parameters that both have in one shape."""
    sides = sides_of(a, b)
    with closing(Canon(a, sides.sizes[0])) as x, closing(Canon(b, sides.sizes[1])) as y:
        pair = _Pair(_Measured(), a, b, x, y, tolerance, Watch())
        return [compare(pair, sides.left[n], sides.right[n]) for n in names]


# --- values --------------------------------------------------------------------------------------------------------


class _Measured:
    """What is known of packed weights: the parameters of each, by side, and the steps of those that hold several."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.held: dict[int, dict[str, list[str]]] = {}
        self.steps: dict[str, Steps | None] = {}


class _Pair(NamedTuple):
    """What a thread compares with."""

    measured: _Measured
    a: Subject
    b: Subject
    x: Canon
    y: Canon
    tolerance: Tolerance
    watch: Watch


def _tiles(pair: _Pair, a: Item, b: Item) -> Iterator[tuple[memoryview, memoryview]]:
    plain = a.natural and b.natural and layout_of(pair.a, a) == layout_of(pair.b, b)
    step = max(pair.x.step(a, stored_order=plain), pair.y.step(b, stored_order=plain))
    return zip(pair.x.tiles(a, step, stored_order=plain), pair.y.tiles(b, step, stored_order=plain), strict=True)


def compare(pair: _Pair, a: Item, b: Item) -> Change:
    """One parameter that both sides have in one shape."""
    import numpy as np

    seen = 0
    if a.spec.dtype == b.spec.dtype:
        for p, q in _tiles(pair, a, b):
            if _differ(p, q):
                break
            seen += p.nbytes
            pair.watch(p.nbytes)
        else:
            return Change(a.name, "same", a, b)
    figures = _Figures(a.spec.dtype, b.spec.dtype, pair.tolerance)
    done = 0
    for p, q in _tiles(pair, a, b):
        done += p.nbytes
        pair.watch(p.nbytes if done > seen else 0)
        x, y = np.frombuffer(p, numpy_dtype(a.spec.dtype)), np.frombuffer(q, numpy_dtype(b.spec.dtype))
        for at in range(0, len(x), BLOCK):
            figures.take(x[at : at + BLOCK], y[at : at + BLOCK])
    change = figures.change(a, b)
    return change if change.kind == "same" else change._replace(steps=_steps(pair, a, b))


def _steps(pair: _Pair, a: Item, b: Item) -> Steps | None:
    """The error of the side that is packed, where the other is not. A tensor of several parameters is measured once."""
    from ..comparison.packing_error import held_in, original_of, steps_of

    for s, item, other in ((pair.b, b, pair.a), (pair.a, a, pair.b)):
        weight = s.packings.weights.get(item.stored)
        if weight is None:
            continue
        with pair.measured.lock:
            held = pair.measured.held
            if id(s) not in held:
                held[id(s)] = held_in(s)
        names = held[id(s)][item.stored]
        found = original_of(other, s, item.stored, names)
        if found is None or len(names) < 2:
            return steps_of(other, s, weight, found) if found is not None else None
        with pair.measured.lock:
            done = pair.measured.steps
            if item.stored not in done:
                done[item.stored] = steps_of(other, s, weight, found)
            return done[item.stored]
    return None


def _differ(p: memoryview, q: memoryview) -> bool:
    """Whether two runs of bytes differ, eight at a time."""
    native = kernels()
    if native is not None:
        return not native.equal(p, q)
    import numpy as np

    whole = len(p) & ~7
    x, y = np.frombuffer(p[:whole], "u8"), np.frombuffer(q[:whole], "u8")
    for i in range(0, len(x), BLOCK):
        part = x[i : i + BLOCK]
        if np.not_equal(part, y[i : i + BLOCK], out=_scratch(len(part), np.float32)[4]).any():
            return True
    return bytes(p[whole:]) != bytes(q[whole:])


_local = threading.local()


def _scratch(n: int, work: Any) -> tuple[Array, Array, Array, Array, Array]:
    """Arrays of `n` elements that a thread keeps: three of type `work`, one of ones, one of truths. Temporary ones would cost a page
    fault a page."""
    import numpy as np

    kept: dict[Any, tuple[Array, Array, Array, Array, Array]] = _local.__dict__.setdefault("kept", {})
    if work not in kept:
        kept[work] = np.empty(BLOCK, work), np.empty(BLOCK, work), np.empty(BLOCK, work), np.ones(BLOCK, work), np.empty(BLOCK, np.bool_)
    u, v, d, ones, unlike = kept[work]
    return u[:n], v[:n], d[:n], ones[:n], unlike[:n]


class _Figures:
    """Sums over the blocks of one parameter."""

    def __init__(self, a: str, b: str, tolerance: Tolerance) -> None:
        self.a, self.b, (self.atol, self.rtol) = a, b, tolerance
        self.work = "F64" if "F64" in (a, b) or DTYPES[a].kind != "float" or DTYPES[b].kind != "float" else "F32"
        self.changed = self.count = 0
        self.largest = self.total = self.aa = self.bb = self.ab = self.dd = 0.0
        self.rounded = a != b and DTYPES[a].kind == DTYPES[b].kind == "float"

    def take(self, x: Array, y: Array) -> None:
        """Take in one block of both sides."""
        import numpy as np

        native = kernels() if self.a == self.b == "F32" and not (self.atol or self.rtol) else None
        found = native.differences(x, y) if native is not None else None
        if found is not None:
            changed, dd, aa, bb, ab, total, largest = found
            self.changed, self.count, self.total = self.changed + changed, self.count + len(x), self.total + total
            self.largest = max(self.largest, largest)
            self.dd, self.aa, self.bb, self.ab = self.dd + dd, self.aa + aa, self.bb + bb, self.ab + ab
            return
        n, work = len(x), np.float64 if self.work == "F64" else np.float32
        u, v, d, ones, unlike = _scratch(n, work)
        with np.errstate(all="ignore"):
            if self.rounded:
                out = np.empty(n, y.dtype)
                cast(x, out, self.a, self.b, False)
                self.rounded = out.tobytes() == y.tobytes()
            if x.dtype == work:
                u = x
            else:
                np.copyto(u, x, casting="unsafe")
            if y.dtype == work:
                v = y
            else:
                np.copyto(v, y, casting="unsafe")
            np.subtract(u, v, out=d)
            self.changed += self._changed(x, y, u, v, d, unlike)
            dd, aa, bb = float(np.dot(d, d)), float(np.dot(u, u)), float(np.dot(v, v))
            every = dd + aa + bb
            if every - every != 0:  # NaN or infinity somewhere, or squares that overflow
                self._odd(u, v)
                return
            np.abs(d, out=d)
            self.largest = max(self.largest, float(d.max()))
            self.total += float(np.dot(d, ones))
            self.count += n
            ab = (aa + bb - dd) / 2 if aa < 4 * bb < 16 * aa else float(np.dot(u, v))  # the law of cosines, where nothing is lost by it
            self.dd, self.aa, self.bb, self.ab = self.dd + dd, self.aa + aa, self.bb + bb, self.ab + ab

    def _changed(self, x: Array, y: Array, u: Array, v: Array, d: Array, unlike: Array) -> int:
        """How many elements differ: by their bits, or where the types or a tolerance say otherwise by their values."""
        import numpy as np

        if not (self.atol or self.rtol) and self.a == self.b:
            bits = f"u{x.dtype.itemsize}" if x.dtype.itemsize <= 8 else x.dtype
            return int(np.count_nonzero(np.not_equal(x.view(bits), y.view(bits), out=unlike)))
        far = u != v
        if self.atol or self.rtol:
            far &= ~(np.abs(d) <= self.atol + self.rtol * np.abs(v))
        return int(np.count_nonzero(far & ~(np.isnan(u) & np.isnan(v))))

    def _odd(self, u: Array, v: Array) -> None:
        """The figures of a block that holds NaN or infinity, of what is finite on both sides; in float64, which nothing overflows."""
        import numpy as np

        fine = np.isfinite(u) & np.isfinite(v)
        if bool((np.isfinite(u) != np.isfinite(v)).any()):
            self.largest = float("inf")
        u, v = u[fine].astype(np.float64), v[fine].astype(np.float64)
        d = np.abs(u - v)
        self.largest = max(self.largest, float(d.max()) if len(d) else 0.0)
        self.total += float(d.sum())
        self.count += len(d)
        for name, p, q in (("aa", u, u), ("bb", v, v), ("ab", u, v), ("dd", d, d)):
            setattr(self, name, getattr(self, name) + float(np.dot(p, q)))

    def change(self, a: Item, b: Item) -> Change:
        """The outcome."""
        retyped = a.spec.dtype != b.spec.dtype
        if not retyped and not self.changed:
            return Change(a.name, "same", a, b)
        norms = (self.aa * self.bb) ** 0.5
        cosine = min(1.0, max(-1.0, self.ab / norms)) if norms else (1.0 if self.aa == self.bb else 0.0)
        relative = (self.dd / self.aa) ** 0.5 if self.aa else (0.0 if not self.dd else float("inf"))
        mean = self.total / self.count if self.count else 0.0
        return Change(a.name, "retyped" if retyped else "changed", a, b, self.changed, self.largest, mean, relative, cosine, self.rounded)


def place(item: Item) -> str:
    """Where a parameter belongs, in a word: "layer 3", "embeddings", "the pooler"."""
    if item.layer >= 0:
        return f"{item.layer_kind.replace('_', ' ')} {item.layer}"
    if item.group not in ("core", ""):
        return f"the {item.group}"
    return item.name.split(".")[0].split("/")[0]


def by_place(changes: Sequence[Change]) -> dict[str, list[Change]]:
    """Changes by where they belong, in the model's order."""
    out: dict[str, list[Change]] = {}
    for c in changes:
        out.setdefault(place(c.item), []).append(c)
    return out
