"""The values a Plan is made of: which elements go where. Pure data, JSON both ways; no files, threads or globals.

Every movement of elements between two row-major tensors that only re-lays them (copy, transposition, splitting,
joining, interleaving, walking a strided PyTorch view) is a loop nest: for each index (i0, i1, ...) below the sizes,
target[target_offset + sum(ik * target_stride_k)] = source[source_offset + sum(ik * source_stride_k)], in elements.
So one shape of step is enough; a byte copy is the nest with a single loop of strides (1, 1).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from .._typing import Any, NamedTuple
from ..containers import FileLayout, Part, Slot
from ..packing import Form
from ..schema.adjust import CURVES
from ..schema.loops import Loop, simplify
from ..schema.loops import cut as cut_loops
from ..tensors import Extent

PLAN_VERSION = 4


class Drawn(NamedTuple):
    """The elements of a new parameter, made where they are needed (see `initial.draw`)."""

    kind: str
    scale: float
    name: str  # canonical
    seed: int
    numel: int


class Encoded(NamedTuple):
    """A tensor that its file does not hold as it is (compression, varints): who reads it opens the file and unpacks it there and then."""

    container: str
    path: str  # absolute
    tensor: str
    nbytes: int  # unpacked
    limits: tuple[tuple[str, int], ...] = ()  # those that were raised for the file when the plan was made


class PackedParts(NamedTuple):
    """A weight stored in parts that is decoded where it is used: its form (`ckptkit.packing`) and the parts (role, dtype, extents)."""

    form: Form
    parts: tuple[tuple[str, str, tuple[Extent, ...]], ...]


class Source(NamedTuple):
    """A stored tensor as the engine sees it: the extents one after another are a flat array of `dtype`.

    Instead of extents, `encoded` is set where a format encodes its elements so that no extent holds them, `data` where they were
    computed, `drawn` where they are a new parameter's, float32, and `packed` where they are decoded from several parts, float32.
    """

    name: str
    dtype: str
    extents: tuple[Extent, ...]
    data: bytes | None = None
    drawn: Drawn | None = None
    encoded: Encoded | None = None
    packed: PackedParts | None = None


ADJUSTING = ("affine", *CURVES)  # the ops that change values


class Piece(NamedTuple):
    """One nest of loops. `op`: copy; affine (times `scale`, plus `value`, in double precision, rounded once) or a curve of
    `schema.adjust`; add (into what an earlier piece of the task put there); fill (with `value`, no source)."""

    source: int  # index into Plan.sources; -1 for fill
    loops: tuple[Loop, ...]  # outermost first, simplified: () is one element
    source_offset: int = 0
    target_offset: int = 0
    op: str = "copy"
    value: float = 0.0
    scale: float = 1.0


class Encode(NamedTuple):
    """The target holds one part of a packed weight: the weight that the pieces make, of `shape`, rounded to `dtype` and encoded."""

    packing: str
    role: str
    dtype: str
    shape: tuple[int, ...]
    settings: dict[str, int | str | bool]


class Task(NamedTuple):
    """One target tensor. Its pieces together write every element once (before any `add`)."""

    name: str
    slot: Slot
    dtype: str  # what the target stores; elements are cast from each source's dtype, round to nearest even
    shape: tuple[int, ...]
    pieces: tuple[Piece, ...]
    encode: Encode | None = None


class Plan(NamedTuple):
    """A whole conversion. `target` is a directory, or with `single` one file."""

    target: str
    single: bool
    sources: Sequence[Source]
    tasks: Sequence[Task]
    layout: FileLayout
    inputs: tuple[tuple[str, int, int | str], ...]  # (path, size, mtime_ns; of an object its tag) of every file read, to notice a change
    copies: tuple[tuple[str, str], ...] = ()  # (file beside the source, name in the target): vocabulary and the like
    texts: tuple[tuple[str, str], ...] = ()  # (name in the target, content): configuration, ledger
    version: int = PLAN_VERSION

    @property
    def names(self) -> tuple[str, ...]:
        """All files of the target, by their names in it."""
        return (*(n for n, _ in self.layout.files), *(n for _, n in self.copies), *(n for n, _ in self.texts))


def is_copy(piece: Piece) -> bool:
    """Whether the piece moves one contiguous run to one contiguous run."""
    return piece.op == "copy" and (not piece.loops or (len(piece.loops) == 1 and piece.loops[0].source == piece.loops[0].target == 1))


def cut(piece: Piece, start: int, stop: int) -> Iterator[Piece]:
    """The part of a piece that writes the target's elements [start, stop), as pieces of a target that begins at `start`.

    Target strides must be those of a row-major tensor's loops: positive, each at least what the loops below it reach.
    """
    loops = tuple(sorted((x for x in piece.loops if x.size != 1), key=lambda x: -x.target))
    if any(x.size == 0 for x in loops):
        return
    for part, source, target in cut_loops(loops, piece.source_offset, piece.target_offset, start, stop):
        yield piece._replace(loops=simplify(tuple(Loop(*x) for x in part)), source_offset=source, target_offset=target - start)


def to_json(plan: Plan) -> dict[str, object]:
    """A JSON-able form; `from_json` is its inverse."""
    import base64

    layout = plan.layout._asdict()
    layout["parts"] = [(p.file, p.offset, base64.b64encode(p.data).decode(), sorted(p.needs)) for p in plan.layout.parts]
    sources = [{**s._asdict(), "data": base64.b64encode(s.data).decode()}.values() if s.data is not None else s for s in plan.sources]
    layout["slots"] = dict(plan.layout.slots)
    return {**plan._asdict(), "layout": layout, "sources": [tuple(s) for s in sources], "tasks": tuple(plan.tasks)}


def _source(
    name: str,
    dtype: str,
    extents: list[Any],
    data: str | None,
    drawn: list[Any] | None,
    encoded: list[Any] | None = None,
    packed: list[Any] | None = None,
) -> Source:
    """A Source of its JSON form."""
    import base64

    held = None
    if encoded is not None:
        container, path, tensor, nbytes, limits = encoded
        held = Encoded(container, path, tensor, nbytes, tuple((k, v) for k, v in limits))
    made = None if data is None else base64.b64decode(data)
    return Source(
        name, dtype, tuple(Extent(*e) for e in extents), made, None if drawn is None else Drawn(*drawn), held, _packed(packed)
    )  # fmt: skip


def _encode(encode: list[Any] | None) -> Encode | None:
    """What is encoded, of its JSON form."""
    return None if encode is None else Encode(encode[0], encode[1], encode[2], tuple(encode[3]), encode[4])


def _packed(packed: list[Any] | None) -> PackedParts | None:
    """The parts of their JSON form."""
    if packed is None:
        return None
    form, parts = packed
    name, shape, rows, columns, dtype, granule, strides, options = form
    whole = Form(name, tuple(shape), rows, columns, dtype, granule, None if strides is None else tuple(strides), options)
    return PackedParts(whole, tuple((role, kind, tuple(Extent(*e) for e in extents)) for role, kind, extents in parts))


def from_json(data: dict[str, object]) -> Plan:
    """The Plan of `to_json`'s output (also after a trip through JSON text, where tuples have become lists)."""
    import base64

    d: dict[str, Any] = dict(data)
    lay: dict[str, Any] = dict(d["layout"])
    layout = FileLayout(
        container=lay["container"],
        files=tuple((n, s) for n, s in lay["files"]),
        slots={k: Slot(*v) for k, v in lay["slots"].items()},
        parts=tuple(Part(f, o, base64.b64decode(b), frozenset(needs)) for f, o, b, needs in lay["parts"]),
        checksum=lay["checksum"],
        state=lay["state"],
        split={k: tuple(Slot(*x) for x in v) for k, v in lay["split"].items()},
    )
    return Plan(
        target=d["target"],
        single=d["single"],
        sources=tuple(_source(*s) for s in d["sources"]),
        tasks=tuple(
            Task(n, Slot(*s), t, tuple(sh), tuple(Piece(p[0], tuple(Loop(*x) for x in p[1]), *p[2:]) for p in ps), _encode(e))
            for n, s, t, sh, ps, e in d["tasks"]
        ),
        layout=layout,
        inputs=tuple((p, s, m) for p, s, m in d["inputs"]),
        copies=tuple((a, b) for a, b in d["copies"]),
        texts=tuple((a, b) for a, b in d["texts"]),
        version=d["version"],
    )
