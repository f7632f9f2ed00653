"""Parts of packed weights that are another weight's: two weights whose scales are the same to the bit, and whose codes are not."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence

from ..._typing import TYPE_CHECKING, Any
from ...findings import Finding
from ...graph.examine import Subject
from ...graph.packed_weights import PackedWeight
from ...packing import by_name, in_file, part_fetcher
from ...tensors import DTYPES, Extent, StoredTensor
from .._base import rule

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ...scan.survey import Scan

ORDER = 96
OWN = ("scales", "nested_scales", "biases", "zeros")  # parts that follow from a weight's own values
PIECE = 1 << 20
LOOKED = 1 << 12  # bytes of codes by which those that may be alike are found
CHANCE = 20  # bits beyond those of the number of pairs that must agree before it is no accident
FRACTIONS = {"F32": 23, "F64": 52, "F16": 10, "BF16": 7, "F8_E4M3": 3, "F8_E5M2": 2}
FREE = 8  # bits of a scale that differ from one to the next, however wide it is: it follows from a bfloat16


@rule("packing-copies", "error", "No part of a packed weight is another weight's", reads="values")
def packing_copies(s: Subject, scan: Scan) -> Iterator[Finding]:
    """Scales, zero points and biases follow from the values of their own weight. Where two weights have them alike to the bit and their
    codes are others (or their codes alike and the scales others), one of the two has a part of the other's: the shapes fit, a loader says
    nothing, and the numbers are others. Parts that may agree by accident or by intent (one scale for all, zeros in the middle, a
    weight that is stored twice as a whole) are not meant. Two parts that are exchanged are not seen: only the original tells.
    """
    weights = [w for w in s.packings.weights.values() if w.form.packing != "ggml"]
    told: set[str] = set()
    for role in OWN:
        having = [(w, w.parts[role]) for w in weights if role in w.parts]
        for alike in _alike(s, having):
            codes = {w.name: _digest(s, w.parts[by_name(w.form.packing).CODES]) for w in alike}
            if len(set(codes.values())) > 1:
                yield from _said(alike, role, "codes are not", told)
    having = [(w, w.parts[by_name(w.form.packing).CODES]) for w in weights]
    for alike in _alike(s, having, sample=True):
        for role in OWN:
            both = [w for w in alike if role in w.parts and w.parts[role].spec.numel > 1]
            if len({_digest(s, w.parts[role]) for w in both}) > 1:
                yield from _said(both, by_name(both[0].form.packing).CODES, f"{role} are not", told)
                break


def _said(alike: Sequence[PackedWeight], role: str, others: str, told: set[str]) -> Iterator[Finding]:
    first, second = alike[0], alike[1]
    if {first.name, second.name} <= told:
        return
    told |= {w.name for w in alike}
    more = f" (and {len(alike) - 2} more)" if alike[2:] else ""
    what = f"{first.parts[role].name} and {second.parts[role].name}{more} are the same to the bit; the {others}"
    yield Finding("error", "packing-copies", second.parts[role].name, what, "hold it against the original: ckptkit diff ORIGINAL QUANTISED")


def _alike(s: Subject, having: Sequence[tuple[PackedWeight, StoredTensor]], *, sample: bool = False) -> Iterator[list[PackedWeight]]:
    """Groups of weights with a part that is alike to the bit, and could not be so by accident."""
    shapes: dict[object, list[tuple[PackedWeight, StoredTensor]]] = {}
    for w, t in having:
        shapes.setdefault((w.form.packing, t.spec), []).append((w, t))
    for same in shapes.values():
        if len(same) < 2:
            continue
        groups = _grouped(same, lambda t: _digest(s, t, sample=sample))
        for group in groups:
            for alike in _grouped(group, lambda t: _digest(s, t)) if sample else [group]:
                if not _by_accident(s, *alike[0]):
                    yield [w for w, _ in alike]


def _grouped(
    having: Sequence[tuple[PackedWeight, StoredTensor]], key: Callable[[StoredTensor], bytes]
) -> list[list[tuple[PackedWeight, StoredTensor]]]:
    groups: dict[bytes, list[tuple[PackedWeight, StoredTensor]]] = {}
    for w, t in having:
        groups.setdefault(key(t), []).append((w, t))
    return [g for g in groups.values() if len(g) > 1]


def _digest(s: Subject, t: StoredTensor, *, sample: bool = False) -> bytes:
    """Of the bytes of a part, or of some in its middle."""
    out = hashlib.blake2b(digest_size=16)
    for e in t.extents:
        start, end = 0, e.length
        if sample:
            start = max(0, e.length // 2 - LOOKED // 2)
            end = min(e.length, start + LOOKED)
        for at in range(start, end, PIECE):
            out.update(s.checkpoint.read_extent(Extent(e.path, e.offset + at, min(PIECE, end - at))))
    return out.digest()


def _by_accident(s: Subject, w: PackedWeight, t: StoredTensor) -> bool:
    """Whether two tensors may well be alike without one being copied: there is too little in them that differs."""
    import numpy as np

    role = next(r for r, part in w.parts.items() if part is t)
    fetch = part_fetcher({role: (t.spec.dtype, t.extents)}, s.checkpoint.read_extent)
    with in_file(s.checkpoint.path, w.name):
        some: NDArray[Any] = fetch(role, 0, min(t.spec.numel, 1 << 16))
    raw = np.ascontiguousarray(some).view(f"u{some.dtype.itemsize}")
    values, counts = np.unique(raw, return_counts=True)
    share = counts / counts.sum()
    entropy = float(-(share * np.log2(share)).sum()) * raw.size
    width = FRACTIONS.get(t.spec.dtype, 0) if DTYPES[t.spec.dtype].kind == "float" else 0
    fraction = int(np.bitwise_or.reduce(values)) & ((1 << width) - 1)
    used = width - ((fraction & -fraction).bit_length() - 1) if fraction else 0  # bits of it that some value has
    return max(entropy, len(values) * min(used, FREE)) < CHANCE + 2 * math.log2(len(s.packings.weights))
