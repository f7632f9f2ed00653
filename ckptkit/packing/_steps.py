"""How far a packing's next values lie from one of its own: what an error is measured in, as ulps are for plain floats.

Every packing here is linear in what its codes stand for, so its scale at each element follows from decoding other codes under the same
scales: all bits set less none for integers, the code of 1 for small floats. No packing has to say its scales twice.
"""

from __future__ import annotations

from collections.abc import Callable

from .._typing import TYPE_CHECKING, Any, NamedTuple
from ..support.kernels import kernels
from ._codes import fp4_values, fp6_values, small_floats
from ._registry import by_name
from ._values import Fetch, Form

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

INTEGERS = ("gptq", "awq", "awq-gemv", "ct-int", "hqq", "mlx-affine")  # whose codes count from zero
SIGNED = ("int8-scaled", "bnb-8bit")
LARGEST = 1e9  # what stands for an error under a scale of zero, or of what is no number


class Ruler(NamedTuple):
    """What a packing's errors are measured with. `unit(start, stop)` is the scale of each element of some rows, and by how much, relative,
    the scale itself is rounded; `grid` the values that codes stand for under a scale of 1, in order, None for integers; `span` the steps
    by which a zero point may move a value. `allowed` is what rounding to the nearest value may be off, in steps."""

    unit: Callable[[int, int], tuple[Array, Array | float]]
    grid: Array | None
    allowed: float
    span: int = 0


def ruler(form: Form, fetch: Fetch) -> Ruler | None:
    """The ruler of a packed weight; None of a packing that has none."""
    import numpy as np

    kind, codes = form.packing, form.options.get("codes", "")
    if kind == "ggml":
        return _of_blocks(form, fetch)
    decode = by_name(kind).decode

    def under(pattern: bytes) -> Callable[[int, int], Array]:
        """Decoded rows whose codes are all of these bytes."""
        role = by_name(kind).CODES

        def other(part: str, start: int, stop: int) -> Array:
            got = fetch(part, start, stop)
            if part != role:
                return got
            size = got.dtype.itemsize
            at = np.arange(start * size, stop * size) % len(pattern) if len(pattern) > 1 else np.zeros(got.size * size, np.intp)
            return np.frombuffer(pattern, np.uint8)[at].view(got.dtype)

        return lambda start, stop: decode(form, other, start, stop)

    def exact(pattern: bytes) -> Callable[[int, int], tuple[Array, float]]:
        one = under(pattern)
        return lambda start, stop: (one(start, stop), 0.0)

    if kind in (*INTEGERS, *SIGNED) or (kind == "torchao" and codes == "I8"):
        top, low = under(b"\xff"), under(b"\0")
        counted = (1 << form.options.get("bits", 4)) - 1  # AWQ has four
        span = np.float32(counted if kind in INTEGERS else -1)
        moved = counted if kind in INTEGERS else 255 if "zeros" in form.options else 0
        return Ruler(lambda a, b: ((top(a, b) - low(a, b)) / span, 0.0), None, 1.0 if kind == "mlx-affine" else 0.5, moved)
    if codes.startswith("F8_") or form.options.get("mode") == "mxfp8":
        values = small_floats(codes or "F8_E4M3")
        return Ruler(exact(bytes([int(np.flatnonzero(values == 1)[0])])), _in_order(values), 0.5)
    if kind == "bnb-4bit":
        values = fetch("map", 0, 16)
        code = int(np.flatnonzero(values == 1)[0]) if (values == 1).any() else 15
        return Ruler(exact(bytes([code * 17])), _in_order(values), 0.5)
    if form.options.get("six"):
        return Ruler(exact(bytes((0x08, 0x82, 0x20))), _in_order(fp6_values()), 0.5)
    if kind in ("ct-fp4", "modelopt-nvfp4", "mxfp4-experts", "mlx-float"):
        return Ruler(exact(b"\x22"), _in_order(fp4_values()), 0.5)
    return None


def _of_blocks(form: Form, fetch: Fetch) -> Ruler | None:
    """The ruler of a block type of ggml."""
    from .ggml import scales_of

    found = scales_of(form, fetch)
    return Ruler(*found) if found is not None else None


def _in_order(values: Array) -> Array:
    import numpy as np

    out: Array = np.unique(values[np.isfinite(values)]).astype(np.float32)
    return out


def in_steps(rule: Ruler, original: Array, packed: Array, unit: Array, lost: Array | float) -> tuple[Array, Array]:
    """(|original - packed| in steps, what rounding may be off), float32: a step is the distance, towards the original, from the
    packed value to the packing's next one. `lost` is what a product loses in the type in which it is computed, and a scale that is
    rounded itself, relative; beyond its last value a packing is off by as much as its scales are coarse, which is let pass up to a
    step."""
    import numpy as np

    native = kernels()
    unit, lost = (np.broadcast_to(x, (len(packed), np.shape(x)[-1])) if np.ndim(x) else np.asarray(x) for x in (unit, lost))
    if native is not None and hasattr(native, "steps"):  # one compiled of an older source has none
        plain = [np.ascontiguousarray(x, np.float32) for x in (original, packed, unit, lost, () if rule.grid is None else rule.grid)]
        far, limit = np.empty_like(plain[1]), np.empty_like(plain[1])
        native.steps(*plain, rule.allowed, rule.span, far, limit)
        return far, limit
    unit, lost = (np.repeat(x, packed.shape[-1] // x.shape[-1], axis=-1) if np.ndim(x) else x for x in (unit, lost))
    with np.errstate(all="ignore"):
        at = packed / unit
        off = (original - packed) / unit
        gap: Any = np.float32(1)
        beyond = np.zeros(off.shape, np.bool_)
        if rule.grid is not None:
            grid = rule.grid
            i = np.clip(np.searchsorted(grid, at), 1, len(grid) - 1)
            i -= np.abs(grid[i - 1] - at) < np.abs(grid[i] - at)
            gaps = np.diff(grid)
            gap = gaps[np.clip(np.where(off > 0, i, i - 1), 0, len(gaps) - 1)]
            beyond = ((i == len(grid) - 1) & (off > 0)) | ((i == 0) & (off < 0))
            off /= gap
        allowed: Array = np.where(beyond, np.float32(max(1, rule.allowed)), np.float32(rule.allowed * 1.002))
        allowed += (np.maximum(np.abs(at), np.abs(original / unit)) / gap + rule.span) * np.asarray(lost, np.float32)
        out: Array = np.abs(off)
    out[original == packed] = 0
    bounded: Array = np.where(np.isfinite(out), np.minimum(out, np.float32(LARGEST)), np.float32(LARGEST))
    return bounded, np.where(np.isfinite(allowed), allowed, np.float32(rule.allowed))
