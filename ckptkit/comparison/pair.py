"""Two checkpoints, parameter by parameter: what both have, whether the bytes are the same, whether the numbers are.

A single narrower tensor among wider ones is a difference: only a copy whose main dtype is narrower is rounded to it. What a naming has no
place for is left out and noted; a table that one side folds into another is folded on the other too. Imports numpy when it compares.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from .._typing import TYPE_CHECKING, NamedTuple
from ..errors import UndecidedError
from ..graph.examine import Subject
from ..schema import placeholders
from ..support.progress import Watch
from ..tensors import DTYPES

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ..graph.canonical_arrays import Weights

    Array = NDArray[np.generic]

ATOL, RTOL = 1e-5, 1e-6  # two engines, or weights that are equal but for rounding: absolute, and of the largest output
DIGITS = {"F64": 53, "F32": 24, "F16": 11, "BF16": 8, "F8_E4M3": 4, "F8_E5M2": 3}  # bits of significand: which dtype is narrower


class Difference(NamedTuple):
    """One parameter that is not the same. `worst` is the largest absolute difference, None where it cannot be had."""

    name: str
    worst: float | None
    what: str


class Step(NamedTuple):
    """One place on the way through both models: the largest absolute difference there and what was allowed."""

    name: str
    worst: float
    allowed: float


class Level(NamedTuple):
    """The outcome of one level. `basis` says what it rests on."""

    name: str
    verdict: str  # same | different | undecided
    basis: str
    differences: tuple[Difference, ...] = ()
    steps: tuple[Step, ...] = ()


class Pair:
    """Two open checkpoints, parameter by parameter."""

    def __init__(
        self, one: Subject, two: Subject, atol: float | None, rtol: float | None, casts: bool, without: frozenset[str] = frozenset()
    ) -> None:
        from ..graph.canonical_arrays import Weights

        self.one, self.two, self.atol, self.rtol, self.casts, self.without = one, two, atol, rtol, casts, without
        self.notes: list[str] = []
        same = one.architecture is two.architecture or (
            one.architecture is not None
            and two.architecture is not None
            and one.architecture.learned
            and two.architecture.learned
            and one.architecture.name == two.architecture.name
        )
        self.known = one.architecture is not None and same
        if not same:
            titles = [s.architecture.title if s.architecture else "an unknown architecture" for s in (one, two)]
            raise UndecidedError(
                f"the one is {titles[0]}, the other {titles[1]}",
                path=two.checkpoint.path,
                hint="--architecture NAME, if recognition is wrong",
            )
        self.mains = main_dtype(one), main_dtype(two)
        self.weights: tuple[Weights, Weights] | None = (Weights(one), Weights(two)) if self.known else None
        self.folded: dict[tuple[int, str], Callable[[], Array]] = {}
        if self.weights:
            self._fold(0, 1)
            self._fold(1, 0)

    # --- what there is to compare ----------------------------------------------------------------------------------

    def names(self) -> tuple[list[str], list[Difference]]:
        """(parameters that both have, differences in what is there). A head that one naming has no place for is noted."""
        if self.weights is None:
            sets = [{n for n in s.account.beyond() if s.checkpoint.tensors[n].spec.dtype != "STRING"} for s in (self.one, self.two)]
        else:
            sets = [self._params(i) for i in (0, 1)]
            sets = [s - self._harmless(s, 0) - self._harmless(s, 1) for s in sets]
        out = []
        for mine, theirs, where, i in ((sets[0], sets[1], "the second", 1), (sets[1], sets[0], "the first", 0)):
            for name in sorted(mine - theirs):
                if not self._excused(name, i):
                    out.append(Difference(name, None, f"not in {where}"))
        return sorted(sets[0] & sets[1]), out

    def _params(self, i: int) -> set[str]:
        """The parameters of one side, those that a tie gives included."""
        subject = (self.one, self.two)[i]
        graph, arch = subject.graph, subject.architecture
        assert arch is not None and self.weights is not None
        names = set(graph.params)
        for p, info in arch.params.items():
            if info.tied and info.group in graph.groups | subject.tied_groups and p not in names and info.tied in names:
                names.add(p)
        for other in set((self.two, self.one)[i].graph.params) - names:
            if other in self.weights[i]:
                names.add(other)
        return {n for n in names if self._group(n) not in self.without} if self.without else names

    def _group(self, name: str) -> str:
        from ..graph.canonical_arrays import template_of

        assert self.one.architecture is not None
        return self.one.architecture.params[template_of(self.one.architecture, name)].group

    def _harmless(self, names: set[str], i: int) -> set[str]:
        """Those of `names` that side `i` has no place for and whose loss does no harm."""
        from ..graph.canonical_arrays import template_of

        subject = (self.one, self.two)[i]
        assert subject.architecture is not None and subject.graph.dialect is not None
        out = set()
        for name in names - subject.graph.params.keys():
            lack = subject.graph.dialect.lacks.get(template_of(subject.architecture, name))
            if lack is not None and lack.harmless:
                out.add(name)
                note = f"{subject.graph.dialect.title} has no place for {name}, and needs none: {lack.harmless}"
                if note not in self.notes:
                    self.notes.append(note)
        return out

    def _excused(self, name: str, i: int) -> bool:
        """Whether side `i` has no place for a head that the other has."""
        from ..graph.canonical_arrays import template_of

        subject = (self.one, self.two)[i]
        arch, r = subject.architecture, subject.graph.recognition
        if arch is None or r is None:
            return False
        template = template_of(arch, name)
        group = arch.params[template].group
        if group == "core" or group in r.table.groups:
            return False
        note = f"{r.dialect.title} has no place for the {group}: not compared"
        if note not in self.notes:
            self.notes.append(note)
        return True

    def get(self, i: int, name: str) -> Array:
        """A parameter of one side as an array (the tensor it is tied to where it is not stored)."""
        subject = (self.one, self.two)[i]
        if self.weights is None:
            return subject.checkpoint.array(name)
        if (i, name) in self.folded:
            return self.folded[i, name]()
        arch = subject.architecture
        assert arch is not None
        if name not in subject.graph.params and name in arch.params and arch.params[name].tied:
            return self.get(i, str(arch.params[name].tied))
        return self.weights[i].get(name)

    def _fold(self, i: int, other: int) -> None:
        """Where the other side had to fold a table into another (RoBERTa's one segment into the positions), do the same here."""
        subject, theirs = (self.one, self.two)[i], (self.one, self.two)[other]
        assert self.weights is not None and theirs.graph.dialect is not None
        mine = self.weights[i]
        for p, lack in theirs.graph.dialect.lacks.items():
            if lack.fold and p in subject.graph.params and p not in theirs.graph.params and not placeholders(p):
                target = lack.fold

                def added(p: str = p, target: str = target) -> Array:
                    total: Array = mine.get(target) + mine.get(p)[0]
                    return total

                assert theirs.architecture is not None
                row, _ = theirs.architecture.table(theirs.graph.dialect.name).by_param[target]
                for part in row.parts:  # what is stored in one table with it gets it too
                    if part in mine:
                        self.folded[i, part] = lambda p=p, part=part: added(p, part)  # type: ignore[misc]
                self.folded[i, p] = lambda p=p, other=other: self.weights[other].get(p)  # type: ignore[misc]
                self.notes.append(f"{p} is folded into {target} on one side: compared as their sum")

    # --- comparing -------------------------------------------------------------------------------------------------

    def rounding(self, x: Array, y: Array) -> str | None:
        """The dtype that both are rounded to before they are compared: the narrower one, if a whole side has it."""
        from ..support.arrays import numpy_dtype

        if x.dtype == y.dtype:
            return None
        by = {numpy_dtype(d): d for d in DIGITS}
        names = [by.get(x.dtype), by.get(y.dtype)]
        if None in names:
            return None
        narrow = min((n for n in names if n), key=lambda n: DIGITS[n])
        return narrow if self.casts or narrow in self.mains else None

    def compare(self, progress: Callable[[int, int], object] | None = None) -> tuple[Level, Level]:
        """Both levels in one pass over the weights; `progress` is called with the bytes of the first that are done and that there are."""
        names, lacking = self.names()
        watch = Watch(progress, total=sum(t.spec.nbytes for t in self.one.checkpoint.tensors.values()) if progress is not None else 0)
        bits: list[Difference] = list(lacking)
        values: list[Difference] = list(lacking)
        rounded: Counter[str] = Counter()
        for name in names:
            x, y = self.get(0, name), self.get(1, name)
            watch(x.nbytes)
            if x.shape != y.shape:
                d = Difference(name, None, f"shape {list(x.shape)} and {list(y.shape)}")
                bits.append(d)
                values.append(d)
                continue
            if x.dtype == y.dtype and x.tobytes() == y.tobytes():
                continue
            dtype = self.rounding(x, y)
            worst, allowed = self._worst(x, y, dtype)
            what = f"{x.dtype} and {y.dtype}" if x.dtype != y.dtype else "bytes differ"
            bits.append(Difference(name, worst, what) if worst or dtype is None else Difference(name, None, f"{what}, equal once rounded"))
            if dtype is not None:
                rounded[dtype] += 1
            if not allowed:
                values.append(Difference(name, worst, self._kin(name, x, y, names)))
        basis = f"{len(names)} parameters compared, stored form left out of account"
        said = "compared number for number" if values else "equal numbers"
        if self.atol is not None or self.rtol is not None:
            said = f"within {self.atol or 0:g} absolute + {self.rtol or 0:g} relative, as asked"
        elif rounded:
            said = " and ".join(
                f"{n} rounded to {DTYPES[d].numpy} (unit roundoff 2^-{DIGITS[d]}) before comparing, then equal" for d, n in rounded.items()
            )
        return (
            Level("bits", "different" if bits else "same", basis, tuple(bits)),
            Level("values", "different" if values else "same", f"{len(names)} parameters: {said}", tuple(values)),
        )

    def _worst(self, x: Array, y: Array, dtype: str | None) -> tuple[float, bool]:
        """(largest absolute difference, whether it is allowed)."""
        import numpy as np

        wide_x, wide_y = (as_float(rounded_to(v, dtype)) for v in (x, y))
        with np.errstate(all="ignore"):  # differences that overflow are infinite ones
            gap = np.abs(wide_x - wide_y)
        gap = np.where(np.isnan(wide_x) & np.isnan(wide_y), 0.0, np.where(wide_x == wide_y, 0.0, gap))
        worst = float(gap.max()) if gap.size else 0.0
        if self.atol is None and self.rtol is None:
            return worst, bool((gap == 0).all())
        with np.errstate(all="ignore"):
            return worst, bool((gap <= (self.atol or 0.0) + (self.rtol or 0.0) * np.abs(wide_x)).all())

    def _kin(self, name: str, x: Array, y: Array, names: list[str]) -> str:
        """In what way a parameter differs, where that is simple: transposed, reversed rows, another's values."""
        import numpy as np

        if x.ndim == 2 and x.shape[0] == x.shape[1] and np.array_equal(x.T, y):
            return "the second is the first transposed"
        if x.ndim == 2 and x.shape[0] > 1 and np.array_equal(np.sort(as_float(x), 0), np.sort(as_float(y), 0)):
            return "the same rows in another order"
        raw = y.tobytes()
        shape = x.shape
        if x.size > 1 and np.count_nonzero(x) and len(set(x.reshape(-1)[:100].tolist())) > 1:
            for other in names:
                if other != name and self._shape(other) == shape and self.get(0, other).tobytes() == raw:
                    return f"the second holds the first's {other}"
        return "values differ"

    def _shape(self, name: str) -> tuple[int, ...] | None:
        from ..graph.canonical_arrays import layout_of
        from ..schema.layout import stored_shape

        if self.weights is None:
            return self.one.checkpoint.tensors[name].spec.shape
        arch = self.one.architecture
        assert arch is not None
        layout = layout_of(arch, name)
        return stored_shape(layout, (layout,), self.weights[0].sizes)


def main_dtype(subject: Subject) -> str | None:
    """The float dtype that most elements of a checkpoint have."""
    total: Counter[str] = Counter()
    for name, t in subject.checkpoint.tensors.items():
        if DTYPES[t.spec.dtype].kind == "float" and subject.graph.roles[name].kind != "optimizer":
            total[t.spec.dtype] += t.spec.numel
    return total.most_common(1)[0][0] if total else None


def rounded_to(x: Array, dtype: str | None) -> Array:
    """`x` rounded to a dtype of the table (to nearest, ties to even), or as it is."""
    import numpy as np

    from ..support.arrays import numpy_dtype

    if dtype is None:
        return x
    with np.errstate(all="ignore"):  # what is too large for it becomes infinite
        return x.astype(numpy_dtype(dtype))


def as_float(x: Array) -> NDArray[np.float64]:
    """`x` in float64, which holds every other dtype's values."""
    import numpy as np

    with np.errstate(invalid="ignore"):  # of NaNs that are not quiet
        wide: NDArray[np.float64] = x.astype(np.float64)
    return wide
