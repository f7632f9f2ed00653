"""From stored tensors to the weights that they are: the parts of a packed weight become one tensor of its own name, shape and values.

Policy: it happens right after opening, so that recognition, rules, comparison and conversion see parameters and not codes. What was
stored stays in the weight's `parts`, for whoever only moves it. The weight's values are float32, decoded tile by tile when they are read,
with a packing that is stated in full: a group of parts that does not fit together stays as it is stored, with a fault that names it,
since codes without their scales are other numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from .._typing import TYPE_CHECKING, Any, NamedTuple
from ..configuration.quantization import Quantization
from ..containers import Checkpoint, Packed
from ..schema.templates import may_end
from ..tensors import DTYPES, StoredTensor, TensorSpec

if TYPE_CHECKING:
    from ..packing import Fault, Form
    from .packed_kinds import Alike

_CODES = frozenset(d.name for d in DTYPES.values() if d.block > 1 or d.bits == 8 or d.name in ("I32", "U32"))
# names that only parts of packed weights have
TELLING = ("weight_scale", "weight_scale_inv", "weight_packed", "qweight", "W_q", "_blocks", ".quant_map", ".SCB", "_qdata")
_SMALL = 1 << 16  # bytes of a part that is read while grouping: a shape, a state in JSON


class PackedWeight(NamedTuple):
    """One weight stored in parts: its form, and the stored tensor of each role."""

    name: str
    form: Form
    parts: Mapping[str, StoredTensor]

    @property
    def label(self) -> str:
        """What a table of dtypes calls it."""
        kind = self.form.options.get("type")
        return kind if isinstance(kind, str) else self.form.packing

    @property
    def nbytes(self) -> int:
        """Bytes of all its parts."""
        return sum(t.spec.nbytes for t in self.parts.values())


class Packings(NamedTuple):
    """What is packed in a checkpoint, what is wrong with it, and what the configuration says."""

    weights: Mapping[str, PackedWeight]
    faults: tuple[Fault, ...]
    said: Quantization | None

    def parts(self, names: Iterable[str]) -> dict[str, StoredTensor]:
        """The stored parts of these weights but for their codes, by stored name: scales, zeros, shapes. Other names give none."""
        from ..packing import by_name

        found = [w for n in names if (w := self.weights.get(n)) is not None]
        return {t.name: t for w in found for role, t in w.parts.items() if role != by_name(w.form.packing).CODES}


NONE = Packings({}, (), None)


def group_packed(checkpoint: Checkpoint, said: Quantization | None) -> Packings:
    """Put packed weights in the place of their parts in `checkpoint.tensors`. Reads headers, and small parts that say shapes."""
    tensors = checkpoint.tensors
    if said is None and not any(spec.dtype in _CODES for spec in checkpoint.specs) and not _tells(tensors):
        return Packings({}, (), said)
    from ..packing import by_name, find_packed
    from .packed_kinds import packed_by_kind

    def content(name: str) -> bytes:
        t = tensors[name]
        return b"".join(checkpoint.read_extent(e) for e in t.extents) if t.spec.nbytes <= _SMALL else b""

    nothing: Mapping[str, Any] = {}
    general = said.of if said is not None else lambda module: nothing
    flat = any(n.endswith(".weight") for n in checkpoint.metadata)

    def words(module: str) -> Mapping[str, Any]:
        flattened = checkpoint.metadata.get(f"{module}.weight")  # torchao's, in JSON
        return general(module) if flattened is None else {**general(module), "flattened": flattened}

    usable = {n: t[1] for n, t in tensors.items() if t[3] is None is t[5]}  # strides, read
    if any(spec.dtype == "STRING" for spec in checkpoint.specs):
        usable = {n: spec for n, spec in usable.items() if spec.dtype != "STRING"}
    if len(usable) == len(tensors) and not flat and (said is None or said.uniform):
        alike = packed_by_kind(usable, general)
        if alike is not None:
            return Packings(_placed(checkpoint, alike) if alike else {}, (), said)
    groups = find_packed(usable, words if flat else general, content)
    weights: dict[str, PackedWeight] = {}
    places: dict[str, PackedWeight | None] = {}  # stored name -> the weight that stands in its place, None for a part that is gone
    new = tuple.__new__
    for name, form, parts in groups.found.values():
        held = {}
        for role, stored in parts.items():
            held[role] = tensors[stored]
            places[stored] = None
        weights[name] = places[parts[by_name(form.packing).CODES]] = new(PackedWeight, (name, form, held))
    if weights:
        checkpoint.tensors = _logical(checkpoint, [places.get(name, t) for name, t in tensors.items()])
    return Packings(weights, groups.faults, said)


def _tells(names: Iterable[str]) -> bool:
    """Whether a name ends as one of a packed weight's parts does."""
    return may_end(names, TELLING)  # which have no digits


def _placed(checkpoint: Checkpoint, alike: Iterable[Alike]) -> dict[str, PackedWeight]:
    """The weights that `alike` are, put in their places in `checkpoint.tensors`."""
    from ..packing import by_name

    stored = list(checkpoint.tensors.values())
    there: list[StoredTensor | PackedWeight | None] = [*stored]
    met: list[PackedWeight | None] = [None] * len(stored)
    new = tuple.__new__
    for form, names, parts, first in alike:
        columns = [[stored[i] for i in places] for places in parts.values()]
        if len(columns) == 2:
            one, two = parts
            held = [{one: a, two: b} for a, b in zip(*columns, strict=True)]
        else:
            held = [dict(zip(parts, row, strict=True)) for row in zip(*columns, strict=True)]
        made = [new(PackedWeight, (name, form, each)) for name, each in zip(names, held, strict=True)]
        for places in parts.values():
            for i in places:
                there[i] = None
        for i, weight in zip(parts[by_name(form.packing).CODES], made, strict=True):
            there[i] = weight
        for i, weight in zip(first, made, strict=True):
            met[i] = weight
    checkpoint.tensors = _logical(checkpoint, there)
    return {weight[0]: weight for weight in met if weight is not None}


def _logical(checkpoint: Checkpoint, there: Iterable[StoredTensor | PackedWeight | None]) -> dict[str, StoredTensor]:
    """The tensors by their names, with what reads it for each weight."""
    logical: dict[str, StoredTensor] = {}
    specs: dict[tuple[int, ...], TensorSpec] = {}  # of the few shapes there are
    new = tuple.__new__
    for t in there:
        if t is None:
            continue
        if isinstance(t, StoredTensor):
            logical[t[0]] = t
            continue
        name, form, _ = t
        spec = specs.get(form.shape) or specs.setdefault(form.shape, TensorSpec("F32", form.shape))
        logical[name] = new(StoredTensor, (name, spec, (), form.strides, None, _Decoded(checkpoint, t), ()))
    return logical


class _Decoded(Packed):
    """What reads a packed weight: its values, a tile after another."""

    __slots__ = ("checkpoint", "weight")

    def __init__(self, checkpoint: Checkpoint, weight: PackedWeight) -> None:
        self.checkpoint, self.weight = checkpoint, weight
        self.total = "order" not in weight.parts  # only an index of groups can name what is not there

    def pieces(self) -> Iterator[bytes]:
        from ..packing import decoded, in_file, part_fetcher

        parts = {role: (t.spec.dtype, tuple(t.extents)) for role, t in self.weight.parts.items()}
        with in_file(self.checkpoint.path, self.weight.name):
            for tile in decoded(self.weight.form, part_fetcher(parts, self.checkpoint.read_extent)):
                yield tile.tobytes()
