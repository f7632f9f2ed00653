"""The rows of an inspection: one for each stored tensor, and those of packed weights."""

from __future__ import annotations

from collections.abc import Iterable
from math import prod

from .._typing import TYPE_CHECKING, NamedTuple
from ..containers import Checkpoint
from ..graph.examine import Subject
from ..support.name_text import natural

if TYPE_CHECKING:
    from ..graph.packed_weights import PackedWeight
    from ..packing import Form
    from ..scan.figures import Statistics
    from ..tensors import TensorSpec


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


FIGURES = ("minimum", "maximum", "mean", "deviation", "norm", "rms", "largest", "median", "nan", "inf", "zeros")
ORDERS = ("name", "bytes", "elements", *FIGURES)


def ordered(rows: Iterable[TensorRow], order: str) -> list[TensorRow]:
    """Rows by one of ORDERS: names in natural order, of figures the largest first and what has none last."""
    by_name = sorted(rows, key=lambda row: natural(row.name))
    if order == "name":
        return by_name

    def figure(row: TensorRow) -> float | None:
        if order in ("bytes", "elements"):
            return row.nbytes if order == "bytes" else row.elements
        found: float | None = getattr(row.stats, order) if row.stats is not None else None
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


class PackedRows:
    """Makes the rows of packed weights. What all weights of one form have in common is looked up once: there are ten thousands of them."""

    def __init__(self, sizes: dict[TensorSpec, tuple[int, int]]) -> None:
        self.sizes = sizes  # (elements, bytes) of the few specs there are
        self._known: dict[int, tuple[str, str, int]] = {}  # id of a form -> (the role of its codes, its label, elements)
        self._forms: list[Form] = []  # whose ids are known

    def add(self, rows: list[TensorRow], weight: PackedWeight, head: tuple[object, ...], tail: tuple[object, ...]) -> None:
        """Add the weight, with the bytes of its codes, and a row for each other part.

        `head` are the fields of its row up to the placeholders' values, `tail` those from its role to whether it counts.
        """
        name, form, parts = weight
        known = self._known.get(id(form))
        if known is None:
            from ..packing import by_name

            known = self._known[id(form)] = by_name(form.packing).CODES, weight.label, prod(form.shape)
            self._forms.append(form)
        role, label, elements = known
        new, sizes = tuple.__new__, self.sizes
        codes = parts[role]
        file, offset, _ = codes.extents[0]
        rows.append(new(TensorRow, (*head, label, form.shape, elements, size_of(codes.spec, sizes)[1], *tail, file, offset, None)))
        for t in parts.values():
            if t is not codes:
                spec = t.spec
                place = t.extents[0][:2] if t.extents else ("", None)
                here = (*spec, *size_of(spec, sizes), "packing", name, False, *place, None)
                rows.append(new(TensorRow, (t.name, (), (), (), *here)))


def size_of(spec: TensorSpec, sizes: dict[TensorSpec, tuple[int, int]]) -> tuple[int, int]:
    """(elements, bytes), looked up in `sizes` first."""
    size = sizes.get(spec)
    if size is None:
        size = sizes[spec] = (spec.numel, spec.nbytes)
    return size


def packings_of(s: Subject) -> tuple[Packed, ...]:
    """The packed weights by kind, the most bytes first."""
    if not s.packings.weights:
        return ()
    from ..packing import by_name

    sums: dict[str, list[int]] = {}
    titles = {}
    sizes: dict[TensorSpec, tuple[int, int]] = {}
    known: dict[int, list[int]] = {}  # id of a form -> the sums of its label
    for w in s.packings.weights.values():
        form = w.form
        found = known.get(id(form))
        if found is None:
            titles[w.label] = by_name(form.packing).TITLE
            found = known[id(form)] = sums.setdefault(w.label, [0, 0, 0])
        found[0] += 1
        found[1] += form.rows * form.columns
        for t in w.parts.values():
            found[2] += size_of(t.spec, sizes)[1]
    return tuple(sorted((Packed(k, titles[k], *v) for k, v in sums.items()), key=lambda p: (-p.nbytes, p.name)))


class RankShare(NamedTuple):
    """What the files of one rank have of the tensors: the pieces, and their bytes (a piece that several ranks have counts for one)."""

    name: str
    pieces: int
    nbytes: int


def by_rank(checkpoint: Checkpoint) -> tuple[RankShare, ...]:
    """The ranks in the order of their files; none where the format keeps tensors whole."""
    if not checkpoint.ranks:
        return ()
    sums = {name: [0, 0] for name in checkpoint.ranks.values()}
    for t in checkpoint.tensors.values():
        for e in [b.extent for b in t.boxes] or t.extents:
            if (name := checkpoint.ranks.get(e.path)) is not None:
                sums[name][0] += 1
                sums[name][1] += e.length
    return tuple(RankShare(name, n, size) for name, (n, size) in sums.items())
