"""A target for several ranks: each tensor cut along the axis that the naming says, and the layers dealt out to the stages of a pipeline.

Policy: every rank's tensor is a target of its own, whose pieces are those of the whole that fall into its share; nothing is put together
first. An axis that does not divide is refused by its name, but for the words of a vocabulary: these are padded with zeros where the naming
pads, and cut unevenly where it does not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import prod

from .._typing import NamedTuple
from ..containers import Ranked
from ..errors import UnsupportedError, UsageError
from ..findings import Finding
from ..graph.examine import Subject
from ..schema import Dialect, Row
from ..schema.layout import Sizes
from ..schema.loops import Loop, simplify
from ..schema.split import Cut, cut_of, regions
from ..schema.templates import reduce_name
from ..tensors import Box, Extent, TensorSpec, row_major_strides
from .arrange import Weights
from .contents import Contents
from .pieces import by_boxes
from .target import Request
from .values import Piece

WORDS = "embedding.word_embeddings.weight"
PAD = 128  # rows that a padded vocabulary is a multiple of, for each rank
Target = tuple[str, TensorSpec, tuple[Piece, ...]]


class Dealt(NamedTuple):
    """The targets of all ranks: `places` says whose each is and what it is called there."""

    weights: Weights
    places: dict[str, Ranked]


def deal(weights: Weights, subject: Subject, request: Request) -> Dealt:
    """Cut every target. Raises UnsupportedError where an axis does not divide, UsageError where the naming has no ranks."""
    dialect, tp, pp = request.dialect, request.tp, request.pp
    split = dialect.split if dialect is not None else None
    if dialect is None or split is None:
        raise UsageError("--tp, --pp: the target's naming says nothing of ranks", hint="--to megatron, or --to meta")
    if weights.encodes:
        raise UnsupportedError("packed weights are not cut into the pieces of ranks")
    cutter = _Cutter(weights, subject, dialect, tp, pp, PAD * tp)
    targets: list[Target] = []
    places: dict[str, Ranked] = {}
    came: dict[str, dict[str, object] | None] = {}
    for name, spec, pieces in weights.targets:
        for stage, called in cutter.stages(name):
            for rank in range(tp):
                key = f"{name} of rank {rank}" + (f", stage {stage}" if pp > 1 else "")
                local, mine = cutter.share(name, spec, pieces, rank)
                targets.append((key, local, mine))
                places[key] = Ranked(rank, stage, called)
                came[key] = {**(weights.came.get(name) or {"from": [name]}), "of": name}
    findings = (*weights.findings, *cutter.findings)
    return Dealt(weights._replace(targets=tuple(targets), came=came, ties={}, findings=findings), places)


def pad(weights: Weights, subject: Subject, request: Request) -> Weights:
    """The targets of a container that keeps every tensor whole, for any number of ranks: a padded vocabulary is what `request.tp` ranks
    can share."""
    dialect = request.dialect
    if (request.tp, request.pp) == (1, 1) or dialect is None or not dialect.pads:
        return weights
    cutter = _Cutter(weights, subject, dialect, 1, 1, PAD * request.tp)
    targets = [(name, *cutter.share(name, spec, pieces, 0)) for name, spec, pieces in weights.targets]
    return weights._replace(targets=tuple(targets), findings=(*weights.findings, *cutter.findings))


def sized(contents: Contents, request: Request, weights: Weights) -> Contents:
    """What lies beside tensors that are kept whole, with the numbers of ranks among the settings of the run."""
    args = contents.extras.get("args")
    if not isinstance(args, Mapping) or (request.tp, request.pp) == (1, 1):
        return contents
    words = next((s.shape[0] for n, s, _ in weights.targets if n == WORDS), None)
    said = {"tensor_model_parallel_size": request.tp, "pipeline_model_parallel_size": request.pp, "padded_vocab_size": words}
    return contents._replace(extras={**contents.extras, "args": {**args, **said}})


def stage_layers(layers: int, stages: int) -> list[int]:
    """How many layers each stage of a pipeline has: alike, or alike but for the first and the last, which is what Megatron can be told."""
    if layers % stages == 0 or stages == 1:
        return [layers // stages] * stages
    inner = -(-layers // stages)
    if layers - (stages - 2) * inner < 2:
        inner -= 1
    ends = layers - (stages - 2) * inner
    return [ends - ends // 2, *[inner] * (stages - 2), ends // 2]


class _Cutter:
    """Cuts tensors into the shares of `tp` ranks; a padded vocabulary is a multiple of `multiple`."""

    def __init__(self, weights: Weights, subject: Subject, dialect: Dialect, tp: int, pp: int, multiple: int) -> None:
        assert subject.architecture is not None and dialect.split is not None
        self.arch, self.dialect, self.split, self.tp, self.pp = subject.architecture, dialect, dialect.split, tp, pp
        self.multiple, split = multiple, dialect.split
        self.table = self.arch.table(dialect.name)
        self.sizes: Sizes = subject.sizes()
        self.names = [n for n, _, _ in weights.targets]
        self.findings: list[Finding] = []
        newer = split.later
        said = subject.value(newer[0]) if newer is not None else None
        self.later = newer is not None and isinstance(said, (int, float)) and said >= newer[1]
        self.layers = subject.graph.counts.get("layers", 0)
        if pp > max(1, self.layers):
            raise UnsupportedError(f"{self.layers} layers do not fill {pp} stages", hint="a smaller --pp")
        if pp > 1 and not dialect.pads:
            raise UsageError(f"{dialect.title} has no stages of a pipeline", hint="--tp alone")
        self.tied_head = pp > 1 and "output_layer.weight" not in self.names and WORDS in self.names

    def _row(self, name: str) -> Row:
        pattern, numbers = reduce_name(name)
        found = self.table.match(pattern, [str(n) for n in numbers], self.dialect.prefixes[0])
        if found is None:
            raise UnsupportedError(f"{name!r} is no tensor of {self.dialect.title}, so that nothing says how ranks share it")
        return found.row

    def stages(self, name: str) -> Iterator[tuple[int, str]]:
        """(the stage that has a tensor, what it is called there)."""
        if self.pp == 1:
            yield 0, name
            return
        before, _, rest = name.partition("decoder.layers.")
        if rest:
            number, _, inner = rest.partition(".")
            first = 0
            for stage, n in enumerate(stage_layers(self.layers, self.pp)):
                if first <= int(number) < first + n:
                    yield stage, f"{before}decoder.layers.{int(number) - first}.{inner}"
                first += n
        elif name.startswith("embedding."):
            yield 0, name
            if self.tied_head and name == WORDS:
                yield self.pp - 1, "output_layer.weight"
        else:
            yield self.pp - 1, name

    def share(self, name: str, spec: TensorSpec, pieces: Sequence[Piece], rank: int) -> tuple[TensorSpec, tuple[Piece, ...]]:
        """What a rank has of a tensor: its own shape, and the pieces that fall into it."""
        row = self._row(name)
        parts = [self.arch.params[p].layout for p in row.parts]
        axes = self.split.axes
        base = row.names[0].rpartition(".")[0]
        if base in self.split.instead and not self.later:
            axes = (self.split.instead[base],)
        cut = cut_of(row.layout, parts, axes)
        if cut is None:
            return spec, tuple(pieces)
        axis = row.layout.dims[cut.dim][0]
        have = spec.shape[cut.dim]
        units = self.sizes.axis.get(axis) or have // cut.parts
        whole = have
        if axis == self.dialect.pads:
            whole = -(-have // self.multiple) * self.multiple
            self._padded(name, have, whole)
            units = whole
        elif units % self.tp and axis != "vocab":
            raise UnsupportedError(f"{axis} is {units}, which {self.tp} ranks cannot share ({name})", hint="a --tp that divides it")
        own, more = divmod(units, self.tp)
        unit = whole // units
        shares = [(own + (r < more)) * unit for r in range(self.tp)]
        shape = (*spec.shape[: cut.dim], shares[rank], *spec.shape[cut.dim + 1 :])
        padded = (*spec.shape[: cut.dim], whole, *spec.shape[cut.dim + 1 :])
        out = self._cut(name, spec.shape, pieces, cut, rank, shares, padded, shape)
        return TensorSpec(spec.dtype, shape), tuple(out)

    def _padded(self, name: str, have: int, whole: int) -> None:
        if whole > have and not any(f.where == name for f in self.findings):
            ranks = self.multiple // PAD
            text = f"{name} is padded with {whole - have:,} rows of zeros, to {whole:,}: {ranks} ranks share multiples of {PAD}"
            self.findings.append(Finding("info", "padding", name, text))

    def _cut(
        self, name: str, true: tuple[int, ...], pieces: Sequence[Piece], cut: Cut, rank: int, *shapes: Sequence[int]
    ) -> Iterator[Piece]:
        """The pieces of the whole (of shape `true`) that fall into a rank's share; zeros where it is padded. `shapes`: the shares, and the
        shapes of the padded whole and of the share."""
        shares, padded, local = (tuple(s) for s in shapes)
        strides = row_major_strides(local)
        boxes, bases = [], []
        for there, here in regions(padded, cut, rank, shares):
            rows = tuple(max(0, min(n, t - o)) for (o, n), t in zip(there, true, strict=True))
            base = sum(o * s for (o, _), s in zip(here, strides, strict=True))
            if rows[cut.dim] < there[cut.dim][1]:
                yield _zeros(here, rows[cut.dim], cut.dim, strides)
            if prod(rows):
                boxes.append(Box(tuple(o for o, _ in there), rows, Extent("", 0, 0), strides))
                bases.append(base)
        for p in pieces:
            swapped = [(n, t, s) for n, s, t in p.loops]
            parts = by_boxes(swapped, p.target_offset, p.source_offset, true, boxes)
            if parts is None:
                raise UnsupportedError(f"{name!r} cannot be cut into the pieces of ranks")
            for which, loops, to, source in parts:
                back = simplify(tuple(sorted((Loop(n, s, t) for n, t, s in loops), key=lambda x: -x.target)))
                yield p._replace(loops=back, source_offset=source, target_offset=to + bases[which])


def _zeros(here: Sequence[tuple[int, int]], have: int, dim: int, strides: Sequence[int]) -> Piece:
    """Zeros where a share lies beyond the true rows."""
    region = [(o + have, n - have) if d == dim else (o, n) for d, (o, n) in enumerate(here)]
    loops = simplify(tuple(Loop(n, 0, s) for (_, n), s in zip(region, strides, strict=True)))
    loops = tuple(Loop(x.size, 0, x.target) for x in loops)
    return Piece(-1, loops, 0, sum(o * s for (o, _), s in zip(region, strides, strict=True)), op="fill", value=0.0)
