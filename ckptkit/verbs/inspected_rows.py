"""The rows of an inspection: one for each stored tensor, and those of packed weights."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from math import prod

from .._typing import TYPE_CHECKING, Any, NamedTuple
from ..containers import Checkpoint
from ..graph.examine import Subject
from ..support.columns import pluck, sorts, tuples
from ..support.name_text import natural
from ..tensors import DTYPES

if TYPE_CHECKING:
    from ..graph.packed_weights import PackedWeight
    from ..graph.weight_graph import Role
    from ..scan.figures import Statistics
    from ..tensors import StoredTensor, TensorSpec


class TensorRow(NamedTuple):
    """One stored tensor. `file` and `offset` say where its first byte is; they are "" and None where the format cannot."""

    name: str
    canonical: tuple[str, ...]  # the parameters it holds
    templates: tuple[str, ...]  # the same with placeholders: "encoder.layers.{layer}.ffn.output.weight"
    at: tuple[tuple[str, int], ...]  # the placeholders' values
    dtype: str
    shape: tuple[int, ...]
    elements: int
    nbytes: int
    role: str  # as graph.Role (param, tied, repeat, derived, optimizer, ...); "tensor" where nothing is known
    note: str  # what it is of: an optimizer's variable, the model of several that it belongs to, how it is computed
    counted: bool  # whether its elements are in the number of parameters
    file: str
    offset: int | None
    stats: Statistics | None = None

    @property
    def packed(self) -> bool:
        """Whether it is a packed weight: its figures are of the values that its codes stand for."""
        return self.dtype not in DTYPES or DTYPES[self.dtype].block > 1


def unknown_rows(
    names: Sequence[str], stored: Sequence[StoredTensor], roles: Mapping[str, Role], counted: Collection[str]
) -> list[TensorRow]:
    """The rows of tensors that no table knows, by columns: there may be 90,000."""
    sizes, nothing = Sizes(), ((),)
    of_spec, alike, _ = sorts(stored, 1)
    of_role, own, _ = sorts(list(map(roles.__getitem__, names)))
    dtypes, shapes, elements, nbytes = map(list, zip(*[(*t[1], *sizes.of(t[1])) for t in alike], strict=True))
    kinds = ["tensor" if role[0] == "unexplained" else role[0] for role in own]
    columns = [
        names, nothing, nothing, nothing, (of_spec, dtypes), (of_spec, shapes), (of_spec, elements), (of_spec, nbytes), (of_role, kinds),
        (of_role, [role[1] for role in own]), (True,) if len(counted) == len(names) else list(map(counted.__contains__, names)),
        pluck(stored, 2, 0, 0, otherwise=""), pluck(stored, 2, 0, 1), (None,),
    ]  # fmt: skip
    return tuples(TensorRow, columns, len(names))


FIGURES = ("minimum", "maximum", "mean", "deviation", "norm", "rms", "largest", "median", "nan", "inf", "zeros")
ORDERS = ("name", "bytes", "elements", *FIGURES)


def ordered(rows: Iterable[TensorRow], order: str) -> list[TensorRow]:
    """Rows by one of ORDERS: names in natural order, of figures the largest first and last what has none, or is a part of a packed weight:
    scales, and words of zeros, are numbers of another kind."""
    by_name = sorted(rows, key=lambda row: natural(row.name))
    if order == "name":
        return by_name

    def figure(row: TensorRow) -> float | None:
        if order in ("bytes", "elements"):
            return row.nbytes if order == "bytes" else row.elements
        found: float | None = getattr(row.stats, order) if row.stats is not None and row.role != "packing" else None
        return found

    return sorted(by_name, key=lambda row: float("inf") if (value := figure(row)) is None else -value)


class Packed(NamedTuple):
    """The weights of one packing (or block type): how many, their parameters, the bytes of all their parts."""

    name: str
    title: str
    weights: int
    parameters: int
    nbytes: int

    @property
    def bits(self) -> float:
        """Bits that a parameter takes, scales and all."""
        return 8 * self.nbytes / self.parameters if self.parameters else 0.0


class Sizes:
    """Elements and bytes of specs, and what the rows of all weights of one form have in common: looked up once, there are few of them."""

    def __init__(self) -> None:
        self._of: dict[int, tuple[int, int]] = {}  # by the id of a spec, since the hash of one takes as long as making a row
        self._forms: dict[int, _OfForm] = {}
        self._kept: list[object] = []  # whose ids are known

    def of(self, spec: TensorSpec) -> tuple[int, int]:
        """(elements, bytes)"""
        size = self._of.get(id(spec))
        if size is None:
            self._kept.append(spec)
            size = self._of[id(spec)] = (spec.numel, spec.nbytes)
        return size

    def of_form(self, weight: PackedWeight) -> _OfForm:
        """What its row says, and those of its other parts by role, from dtype to bytes; and the role of its codes."""
        form = weight.form
        known = self._forms.get(id(form))
        if known is None:
            from ..packing import by_name

            role = by_name(form.packing).CODES
            sizes = {r: (*t.spec, *self.of(t.spec)) for r, t in weight.parts.items()}
            nbytes = sizes.pop(role)[3]
            known = self._forms[id(form)] = role, (weight.label, form.shape, prod(form.shape), nbytes), sizes
            self._kept.append(form)
        return known


_OfForm = tuple[str, tuple[str, tuple[int, ...], int, int], dict[str, tuple[str, tuple[int, ...], int, int]]]


def packings_of(s: Subject) -> tuple[Packed, ...]:
    """The packed weights by kind, the most bytes first."""
    if not s.packings.weights:
        return ()
    from ..packing import by_name

    sums: dict[str, list[int]] = {}
    titles = {}
    known: dict[int, list[Any]] = {}  # id of a form -> a weight, how many there are
    for w in s.packings.weights.values():
        found = known.get(id(w[1]))
        if found is None:
            known[id(w[1])] = [w, 1]
        else:
            found[1] += 1
    for w, n in known.values():
        titles[w.label] = by_name(w.form.packing).TITLE
        total = sums.setdefault(w.label, [0, 0, 0])
        total[0] += n
        total[1] += n * w.form.rows * w.form.columns
        total[2] += n * w.nbytes
    return tuple(sorted((Packed(k, titles[k], *v) for k, v in sums.items()), key=lambda p: (-p.nbytes, p.name)))


class RankShare(NamedTuple):
    """What the files of one rank have of the tensors: the pieces, and their bytes (a piece that several ranks have counts for one)."""

    name: str
    pieces: int
    nbytes: int


def by_rank(checkpoint: Checkpoint) -> tuple[RankShare, ...]:
    """The ranks in their order; none where the format keeps tensors whole."""
    if not checkpoint.ranks:
        return ()
    sums = {name: [0, 0] for name in checkpoint.ranks.values()}
    for t in checkpoint.tensors.values():
        for e in [b.extent for b in t.boxes] or t.extents:
            if (name := checkpoint.ranks.get(e.path)) is not None:
                sums[name][0] += 1
                sums[name][1] += e.length
    return tuple(RankShare(name, *sums[name]) for name in sorted(sums, key=natural))
