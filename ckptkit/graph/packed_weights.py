"""From stored tensors to the weights that they are: the parts of a packed weight become one tensor of its own name, shape and values.

Policy: it happens right after opening, so that recognition, rules, comparison and conversion see parameters and not codes. What was
stored stays in the weight's `parts`, for whoever only moves it. The weight's values are float32, decoded tile by tile when they are read,
with a packing that is stated in full: a group of parts that does not fit together stays as it is stored, with a fault that names it,
since codes without their scales are other numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from .._typing import TYPE_CHECKING, Any, NamedTuple
from ..configuration.quantization import Quantization
from ..containers import Checkpoint, Packed
from ..tensors import DTYPES, StoredTensor, TensorSpec

if TYPE_CHECKING:
    from ..packing import Fault, Form

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


NONE = Packings({}, (), None)


def group_packed(checkpoint: Checkpoint, said: Quantization | None) -> Packings:
    """Put packed weights in the place of their parts in `checkpoint.tensors`. Reads headers, and small parts that say shapes."""
    tensors = checkpoint.tensors
    if said is None and not any(t.spec.dtype in _CODES for t in tensors.values()) and not any(n.endswith(TELLING) for n in tensors):
        return Packings({}, (), said)
    from ..packing import find_packed

    usable = {n: t for n, t in tensors.items() if t.read is None and t.strides is None and t.spec.dtype != "STRING"}

    def content(name: str) -> bytes:
        t = tensors[name]
        return b"".join(checkpoint.read_extent(e) for e in t.extents) if t.spec.nbytes <= _SMALL else b""

    def words(module: str) -> Mapping[str, Any]:
        own = said.of(module) if said is not None else {}
        flattened = checkpoint.metadata.get(f"{module}.weight")  # torchao's, in JSON
        return own if flattened is None else {**own, "flattened": flattened}

    groups = find_packed({n: t.spec for n, t in usable.items()}, words, content)
    weights = {n: PackedWeight(n, f.form, {role: tensors[s] for role, s in f.parts.items()}) for n, f in groups.found.items()}
    if weights:
        places = {w.parts[_codes(w)].name: w for w in weights.values()}
        gone = {t.name for w in weights.values() for t in w.parts.values()}
        logical: dict[str, StoredTensor] = {}
        for name, t in tensors.items():
            if name in places:
                weight = places[name]
                logical[weight.name] = _logical(checkpoint, weight)
            elif name not in gone:
                logical[name] = t
        checkpoint.tensors = logical
    return Packings(weights, groups.faults, said)


def _codes(weight: PackedWeight) -> str:
    from ..packing import by_name

    return by_name(weight.form.packing).CODES


def _logical(checkpoint: Checkpoint, weight: PackedWeight) -> StoredTensor:
    def pieces() -> Iterator[bytes]:
        from ..packing import decoded, in_file, part_fetcher

        parts = {role: (t.spec.dtype, tuple(t.extents)) for role, t in weight.parts.items()}
        with in_file(checkpoint.path):
            for tile in decoded(weight.form, part_fetcher(parts, checkpoint.read_extent)):
                yield tile.tobytes()

    return StoredTensor(weight.name, TensorSpec("F32", weight.form.shape), strides=weight.form.strides, read=Packed(pieces))
