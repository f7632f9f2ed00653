"""Tensor-parallel ranks put together: what each file holds is joined along the axes that the naming says, once the naming is known.

Policy: what no axis cuts is kept by every rank and must be equal; the first is read. A cut need not be even. Where nobody knows the naming,
nobody knows how it is cut: the tensors are then there and not read, and no conclusion rests on them. The rows that a vocabulary was padded
with are left out where the configuration says how many are true.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial

from ..containers import Checkpoint, Packed
from ..errors import printable
from ..findings import Finding
from ..schema.split import Cut, Split, cut_of, regions
from ..support.name_text import collapse
from ..tensors import Box, Extent, StoredTensor, TensorSpec, Unread
from .recognition import Recognition

RULE = "pieces"
PADDING = 8192  # rows that a vocabulary is padded with at most: up to a multiple of 128 for each of 64 ranks


def join_ranks(checkpoint: Checkpoint, found: Recognition | None) -> None:
    """Put the tensors of `checkpoint.per_rank` together. What cannot be is a finding, and goes to `unread`."""
    ranks, split = checkpoint.per_rank, found.dialect.split if found is not None else None
    names = list(dict.fromkeys(n for held in ranks for n in held))
    checkpoint.tensors = {}
    if found is None or split is None:
        first = {n: next(held[n] for held in ranks if n in held) for n in names}
        what = f"a piece of each of {len(ranks)} ranks, cut along an axis that nothing says"
        checkpoint.unread = {**checkpoint.unread, **{n: Unread(what, t.spec.dtype, t.spec.shape) for n, t in first.items()}}
        return
    cuts = {n: _cut(found, split, n, [held[n] for held in ranks if n in held]) for n in names}
    _choose(found, split, cuts, ranks)
    for name in names:
        _join(checkpoint, name, cuts[name])
    before = checkpoint.audit
    checkpoint.audit = lambda: [*before(), *checkpoint.compare_replicas(), *checkpoint.untold()]


def _cut(found: Recognition, split: Split, name: str, held: Sequence[StoredTensor]) -> Cut | None:
    """How a tensor is cut; None for one that every rank has whole."""
    m = found.matches.get(name)
    if m is None:
        return _by_shapes(held)
    params = found.architecture.params
    return cut_of(m.row.layout, [params[p].layout for p in m.row.parts], split.axes)


def _by_shapes(held: Sequence[StoredTensor]) -> Cut | None:
    """Of a tensor that no table has: whole where all ranks have the same shape; where one dimension differs, along that."""
    shapes = {t.spec.shape for t in held}
    apart = [d for d in range(len(held[0].spec.shape)) if len({s[d:] and s[d] for s in shapes}) > 1]
    return Cut(apart[0]) if len(apart) == 1 and len({len(s) for s in shapes}) == 1 else None


def _choose(found: Recognition, split: Split, cuts: dict[str, Cut | None], ranks: Sequence[Mapping[str, StoredTensor]]) -> None:
    """Settle the tensors that may be cut in two ways by the sizes of those that are not cut."""
    sizes: dict[str, int] = {}
    for name, cut in cuts.items():
        m = found.matches.get(name)
        if m is not None and cut is None and len(m.row.layout.dims) == 1 and len(m.row.layout.dims[0]) == 1:
            sizes.setdefault(m.row.layout.dims[0][0], next(held[name].spec.shape[0] for held in ranks if name in held))
    for name in cuts:
        m = found.matches.get(name)
        axis = split.instead.get(m.row.names[0].rpartition(".")[0]) or split.instead.get(m.row.names[0]) if m is not None else None
        if m is None or axis is None:
            continue
        other = cut_of(m.row.layout, [found.architecture.params[p].layout for p in m.row.parts], (axis,))
        if other is not None and axis in sizes and sum(held[name].spec.shape[other.dim] for held in ranks if name in held) == sizes[axis]:
            cuts[name] = other


def _join(checkpoint: Checkpoint, name: str, cut: Cut | None) -> None:
    ranks = checkpoint.per_rank
    shown, labels = repr(printable(name)), list(dict.fromkeys(checkpoint.ranks.values()))
    have = [r for r, held in enumerate(ranks) if name in held]
    first = ranks[have[0]][name]

    def wrong(text: str) -> None:
        checkpoint.findings.append(
            Finding("error", RULE, printable(name), text, "the files are of different steps, or of different models")
        )
        checkpoint.unread = {**checkpoint.unread, name: Unread("pieces that do not fit together", first.spec.dtype, first.spec.shape)}

    def who(rank: int) -> str:
        path = next(iter(t.extents[0].path for t in ranks[rank].values() if t.extents), "")
        return checkpoint.ranks.get(path, labels[rank] if rank < len(labels) else f"rank {rank}")

    if len(have) < len(ranks) and cut is not None:
        gone = next(r for r in range(len(ranks)) if r not in have)
        return wrong(f"{who(gone)} has no piece of {shown}")
    shapes = [list(ranks[r][name].spec.shape) for r in have]
    for r, shape in zip(have, shapes, strict=True):
        rest = [n for d, n in enumerate(shape) if cut is None or d != cut.dim]
        usual = [n for d, n in enumerate(shapes[0]) if cut is None or d != cut.dim]
        dtype = ranks[r][name].spec.dtype
        if len(shape) != len(shapes[0]) or rest != usual or dtype != first.spec.dtype:
            return wrong(f"{who(r)} has {shown} as {dtype} {shape}, {who(have[0])} as {first.spec.dtype} {shapes[0]}")
        if cut is not None and shape[cut.dim] % cut.parts:
            return wrong(f"{who(r)} has {shown} as {shape}, which is not {cut.parts} parts of one size")
    shares = [s[cut.dim] for s in shapes] if cut is not None else []
    whole = tuple(sum(shares) if cut is not None and d == cut.dim else n for d, n in enumerate(shapes[0]))
    held = [(ranks[r][name], here, there) for k, r in enumerate(have) for there, here in regions(whole, cut, k, shares)]
    if checkpoint.join(name, TensorSpec(first.spec.dtype, whole), held):
        wrong(f"the pieces of {shown} leave out some of its elements")
    return None


def cut_padding(checkpoint: Checkpoint, found: Recognition, config: Mapping[str, object]) -> None:
    """Leave out the rows that the vocabulary was padded with, of a naming that pads, where the configuration says how many are true."""
    true = config.get("vocab_size")
    if type(true) is not int or not found.dialect.pads:
        return
    cut: list[str] = []
    padding: dict[str, int] = {}
    for name, m in found.matches.items():
        t = checkpoint.tensors.get(name)
        if t is None or m.row.role != "param" or m.row.layout.dims[0] != (found.dialect.pads,) or not t.spec.shape:
            continue
        if t.read is not None and not isinstance(t.read, Packed):
            continue
        if 0 < true < t.spec.shape[0] <= true + PADDING:
            cut.append(f"{name} ({t.spec.shape[0] - true:,} rows)")
            checkpoint.tensors[name] = _rows(t, true)
            padding[name] = t.spec.shape[0] - true
    if cut:
        text = f"the vocabulary is padded beyond the {true:,} rows of the configuration; the rest is left out: {collapse(cut, 3)}"
        checkpoint.findings.append(Finding("info", "padding", printable(cut[0]), printable(text, 1000)))
        if checkpoint.per_rank and checkpoint.untold is not tuple:
            checkpoint.untold = partial(_told_by_padding, checkpoint, padding, checkpoint.untold)


def _told_by_padding(checkpoint: Checkpoint, padding: Mapping[str, int], untold: Callable[[], Iterable[Finding]]) -> Iterator[Finding]:
    """Hold the places of ranks against the rows that a vocabulary was padded with, where these are alike: they are the last of the last
    rank. An error where another has them; what is `untold` where that does not tell the place of every file."""
    left = set(checkpoint.ranks)
    for name, rows in padding.items():
        held = {r: t[name] for r, t in enumerate(checkpoint.per_rank) if name in t}
        ends = [r for r, t in held.items() if _ends_alike(checkpoint, t, rows)]
        if len(ends) != 1:
            continue
        left -= {e.path for t in held.values() for e in t.extents}
        if ends[0] != max(held):
            whose = checkpoint.ranks.get(held[ends[0]].extents[0].path, f"rank {ends[0]}")
            text = f"{whose} has the rows that {printable(name)!r} was padded with, which are the last of the last rank"
            hint = "the files of two ranks were exchanged, or one was copied"
            yield Finding("error", RULE, printable(name), f"{text}: its part belongs elsewhere", hint)
    if left:
        yield from untold()


def _ends_alike(checkpoint: Checkpoint, t: StoredTensor, rows: int) -> bool:
    """Whether the last rows of a rank's part are one row again and again, and the one before them is another."""
    own = t.spec.shape[0] if t.spec.shape else 0
    if not 2 < rows < own or len(t.extents) != 1 or t.strides is not None or t.read is not None:
        return False
    e = t.extents[0]
    width = e.length // own
    before, first, second, last = (
        checkpoint.read_extent(Extent(e.path, e.offset + at * width, width)) for at in (own - rows - 1, own - rows, own - rows + 1, own - 1)
    )
    return first == second == last != before


def _rows(t: StoredTensor, rows: int) -> StoredTensor:
    """The first rows of a tensor."""
    spec = TensorSpec(t.spec.dtype, (rows, *t.spec.shape[1:]))
    if isinstance(t.read, Packed):
        return t._replace(spec=spec, read=t.read.up_to(spec.nbytes))
    if t.strides is not None:
        return t._replace(spec=spec)
    boxes = []
    for b in t.boxes:
        n = min(b.shape[0], rows - b.offset[0])
        if n > 0:
            kept = b.extent if b.strides is not None else b.extent._replace(length=b.extent.length // b.shape[0] * n)
            boxes.append(Box(b.offset, (n, *b.shape[1:]), kept, b.strides))
    left, extents = spec.nbytes, []
    for e in t.extents:
        if left <= 0:
            break
        extents.append(Extent(e.path, e.offset, min(e.length, left)))
        left -= e.length
    return t._replace(spec=spec, extents=tuple(extents), boxes=tuple(boxes))
