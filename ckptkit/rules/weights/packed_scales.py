"""The scales of packed weights: numbers, and of a size that scales have."""

from __future__ import annotations

from collections.abc import Iterator

from ..._typing import TYPE_CHECKING, Any
from ...findings import Finding
from ...graph.examine import Subject
from ...graph.packed_weights import PackedWeight
from ...packing import by_name, part_fetcher
from ...tensors import DTYPES
from .._base import rule

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .scan import Scan

ORDER = 95
SCALES = ("scales", "global", "nested_scales", "biases")
ABSURD = 1e4  # trained weights stay far below it, whatever their scale is
ROWS = 64  # of a tensor of blocks, at either end


@rule("packing-scales", "error", "The scales of packed weights are numbers of a usual size", reads="values")
def packing_scales(s: Subject, scan: Scan) -> Iterator[Finding]:
    """One scale that is NaN or infinite makes a whole block of weights so: an error. A warning where scales are larger than any that
    a trained model has, as they are when their bytes are in the other order. Of ggml's blocks, whose scales lie among the codes, some
    at either end of the tensor are looked at.
    """
    import numpy as np

    for weight in s.packings.weights.values():
        for name, values in _scales(s, weight):
            bad = int(np.count_nonzero(~np.isfinite(values)))
            if bad:
                message = f"{bad:,} of the scales of {weight.name} are NaN or infinite"
                yield Finding("error", "packing-scales", name, message, "a whole block of weights is then no number")
                continue
            most = float(np.abs(values).max()) if values.size else 0.0
            if most > ABSURD:
                message = f"scales of {weight.name} reach {most:.3g}: are their bytes in the other order?"
                yield Finding("warning", "packing-scales", name, message, "hold it against the original", "inferred")


def _scales(s: Subject, weight: PackedWeight) -> Iterator[tuple[str, NDArray[Any]]]:
    """(stored name, scales) of each part that holds some; of blocks, decoded values."""
    fetch = part_fetcher({role: (t.spec.dtype, tuple(t.extents)) for role, t in weight.parts.items()}, s.checkpoint.read_extent)
    if weight.form.packing == "ggml":
        decode, rows = by_name("ggml").decode, weight.form.rows
        yield weight.name, decode(weight.form, fetch, 0, min(rows, ROWS))
        if rows > ROWS:
            yield weight.name, decode(weight.form, fetch, max(ROWS, rows - ROWS), rows)
        return
    for role in SCALES:
        t = weight.parts.get(role)
        if t is None or DTYPES[t.spec.dtype].kind != "float":
            continue
        for at in range(0, t.spec.numel, 1 << 20):
            yield t.name, fetch(role, at, min(at + (1 << 20), t.spec.numel)).astype("f4")
