"""The scales of packed weights: numbers, and of a size that scales have."""

from __future__ import annotations

from collections.abc import Iterator

from ..._typing import TYPE_CHECKING, Any
from ...findings import Finding
from ...graph.examine import Subject
from ...graph.packed_weights import PackedWeight
from ...packing import by_name, decoded, in_file, part_fetcher
from ...tensors import DTYPES
from .._base import rule

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ...scan.survey import Scan

ORDER = 95
FLOWS = ("input", "input_scale", "output", "activation")  # static scales of what flows through
SCALES = ("scales", "global", "nested_scales", "biases", "zeros", "map", "nested_map", *FLOWS)
LARGEST, SMALLEST = 1e4, 1e-20  # trained weights stay between them, whatever their scale is
TINY = 1e-12  # which some scale of a weight reaches, if it is no padding
ROWS = 64  # of a tensor of blocks, at either end
# bitsandbytes functional.py: create_normal_map, get_4bit_type
MAPS = {
    "nf4": (-1.0, -0.6962, -0.5251, -0.3949, -0.2844, -0.1848, -0.0911, 0.0, 0.0796, 0.1609, 0.2461, 0.3379, 0.4407, 0.5626, 0.7230, 1.0),
    "fp4": (0.0, 0.0052, 0.6667, 1.0, 0.3333, 0.5, 0.1667, 0.25, 0.0, -0.0052, -0.6667, -1.0, -0.3333, -0.5, -0.1667, -0.25),
}
HINT = "hold it against the original: ckptkit diff ORIGINAL QUANTISED"


@rule("packing-scales", "error", "The scales of packed weights are numbers of a usual size", reads="values")
def packing_scales(s: Subject, scan: Scan) -> Iterator[Finding]:
    """One scale that is NaN, infinite or zero makes a whole block of weights so: an error, but for a zero whose codes stand for zeros
    themselves. So is a negative one where the packing has none, a bitsandbytes map of other values than the library's, and scales that no
    trained model has: beyond 10,000, one below 1e-20 or all below 1e-12, as they are when their bytes are in the other order
    or of the other 16-bit type. Of ggml's blocks, whose scales lie
    among the codes, some at either end of the tensor are looked at.
    """
    for weight in s.packings.weights.values():
        for role, name, values in _scales(s, weight):
            wrong = _wrong(weight, role, values)
            if wrong:
                yield Finding("error", "packing-scales", name, wrong, HINT)
                break
            if role in ("scales", "global", "nested_scales") and (values == 0).any() and _zero_matters(s, weight, role):
                many = int((values == 0).sum())
                message = f"{many:,} of the {values.size:,} scales of {weight.name} are zero, and their codes are not"
                yield Finding("error", "packing-scales", name, message, HINT)
                break


def _wrong(weight: PackedWeight, role: str, values: NDArray[Any]) -> str:
    """What no sound part has, in words; ""."""
    import numpy as np

    bad = int(np.count_nonzero(~np.isfinite(values)))
    if bad:
        return f"{bad:,} of the scales of {weight.name} are NaN or infinite"
    if role in FLOWS:
        return "" if (values > 0).all() else f"the static scale beside {weight.name} is not above zero"
    if role in ("map", "nested_map"):
        known = MAPS.get("fp4" if "fp4" in weight.parts else "nf4" if "nf4" in weight.parts and role == "map" else "")
        off = known is not None and role == "map" and np.abs(values - np.array(known, values.dtype)).max() > 1e-3
        if off or np.abs(values).max() != 1 or len(np.unique(values)) < len(values) - 1:
            return f"the {'scales' if role == 'nested_map' else 'codes'} of {weight.name} stand for other values than bitsandbytes' own"
        return ""
    size = np.abs(values[values != 0])
    most, least = (float(size.max()), float(size.min())) if size.size else (0.0, 1.0)
    if role in ("biases", "zeros"):
        return f"{'zero points' if role == 'zeros' else role} of {weight.name} reach {most:.3g}" if most > 1e6 else ""
    kind = weight.form.packing
    bound = 1e12 if (kind, role) == ("ct-fp4", "global") else LARGEST  # which divides
    if most > bound or (kind != "ggml" and (least < SMALLEST or 0 < most < TINY)):
        return f"scales of {weight.name} go from {least:.3g} to {most:.3g}: are their bytes in the other order?"
    signed = kind == "ggml" or getattr(by_name(kind), "SIGNED", False)
    negative = 0 if signed else int(np.count_nonzero(values < 0))
    return f"{negative:,} of the {values.size:,} scales of {weight.name} are negative; {kind} has none" if negative else ""


def _zero_matters(s: Subject, weight: PackedWeight, role: str) -> bool:
    """Whether codes under scales of zero stand for anything else than zero: whether the weight is another one with ones in their place."""
    import numpy as np

    stored = part_fetcher({r: (t.spec.dtype, t.extents) for r, t in weight.parts.items()}, s.checkpoint.read_extent)

    def ones(part: str, start: int, stop: int) -> NDArray[Any]:
        got = stored(part, start, stop)
        return np.where(got.astype("f4") == 0, np.ones((), got.dtype), got).astype(got.dtype) if part == role else got

    with np.errstate(all="ignore"), in_file(s.checkpoint.path, weight.name):
        return any(np.any(a != b) for a, b in zip(decoded(weight.form, stored), decoded(weight.form, ones), strict=True))


def _scales(s: Subject, weight: PackedWeight) -> Iterator[tuple[str, str, NDArray[Any]]]:
    """(role, stored name, values) of each part that holds some; of blocks, decoded values."""
    fetch = part_fetcher({role: (t.spec.dtype, t.extents) for role, t in weight.parts.items()}, s.checkpoint.read_extent)
    if weight.form.packing == "ggml":
        decode, rows = by_name("ggml").decode, weight.form.rows
        with in_file(s.checkpoint.path, weight.name):
            ends = [decode(weight.form, fetch, 0, min(rows, ROWS))]
            ends += [decode(weight.form, fetch, max(ROWS, rows - ROWS), rows)] if rows > ROWS else []
        yield from (("", weight.name, v) for v in ends)
        return
    for role in SCALES:
        t = weight.parts.get(role)
        if t is None or DTYPES[t.spec.dtype].kind != "float" or t.spec.dtype == "F8_E8M0":
            continue
        for at in range(0, t.spec.numel, 1 << 20):
            with in_file(s.checkpoint.path, weight.name):
                values = fetch(role, at, min(at + (1 << 20), t.spec.numel)).astype("f4")
            yield role, t.name, values
