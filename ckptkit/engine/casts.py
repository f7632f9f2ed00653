"""Casts between float types, correctly rounded once (to nearest even), with the overflows counted.

Policy: the compiled loops do the work where they are there, else numpy and ml_dtypes do, where they round right. Both of
these go from float64 to bfloat16 and float8 through float32 and round twice, so there float32 is rounded to odd first (Boldo
and Melquiond, "When double rounding is odd", 2005), which makes the second rounding the right one. Integers and booleans are
never cast.
"""

from __future__ import annotations

import threading
from functools import cache

from .._typing import TYPE_CHECKING, Any
from ..errors import UnsupportedError
from ..support.arrays import numpy_dtype
from ..support.kernels import kernels
from ..tensors import DTYPES

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

LAST_BFLOAT = 0x7F7F8000  # float32's bits from which bfloat16 has no finite value
EIGHTHS = {"F8_E4M3": 3, "F8_E5M2": 2}  # the types of 8 bits that float32 becomes by a compiled loop: bits of the mantissa
BLOCK = 1 << 16  # elements cast at once: source, target and scratch stay in the second-level cache


def check_cast(source: str, target: str, name: str) -> None:
    """Refuse a cast that would change what the numbers mean or has no array form."""
    if source == target:
        return
    a, b = DTYPES[source], DTYPES[target]
    if a.kind != "float" or b.kind != "float":
        raise UnsupportedError(f"{name!r}: {source} is not cast to {target}", hint="integers, booleans and complex numbers are only copied")
    for d in (a, b):
        if d.numpy is None:
            raise UnsupportedError(f"{name!r}: {source} is not cast to {target}: {d.name} elements are only copied")
    if target == "F8_E8M0":
        raise UnsupportedError(f"{name!r}: {source} is not cast to F8_E8M0", hint="it holds powers of two only")


def work_dtype(sources: set[str], target: str, mixed: bool) -> str:
    """The type in which a tensor is put together before its one cast to `target`.

    That of its only source, unless (`mixed`) values are added or filled in: then one that holds all of them.
    """
    if not sources:
        return target
    if len(sources) == 1 and (not mixed or (sources == {target} and DTYPES[target].kind != "float")):
        return next(iter(sources))
    return "F64" if "F64" in sources or target == "F64" else "F32"


@cache
def _largest(name: str) -> float:
    import ml_dtypes

    finfo: Any = ml_dtypes.finfo
    return float(finfo(numpy_dtype(name)).max)


@cache
def _check_bits(name: str) -> tuple[str, int, int] | None:
    """For types with infinities: an unsigned type, the mask without sign, the bits of infinity. None: ask isfinite."""
    return {
        "F32": ("<u4", 0x7FFFFFFF, 0x7F800000), "F16": ("<u2", 0x7FFF, 0x7C00), "BF16": ("<u2", 0x7FFF, 0x7F80),
        "F8_E5M2": ("u1", 0x7F, 0x7C), "F8_E4M3": ("u1", 0x7F, 0x7F),
    }.get(name)  # fmt: skip


def _round_to_odd(x: Array) -> Array:
    """float64 -> float32, inexact results to the neighbour with an odd last bit."""
    import numpy as np

    f = x.astype(np.float32)
    back = f.astype(np.float64)
    bits = f.view(np.uint32)
    bits -= np.abs(back) > np.abs(x)  # to zero where it was rounded away
    bits |= back != x
    return f


_local = threading.local()


def _scratch(n: int) -> tuple[Array, Array, Array, Array]:
    """Arrays of `n` elements that a thread keeps: two of 32 bits, one of indices, one of truths.

    Temporary ones of this size would be given back to the system each time: casting then takes three times as long.
    """
    import numpy as np

    kept: tuple[Array, Array, Array, Array] | None = getattr(_local, "kept", None)
    if kept is None:
        kept = _local.kept = np.empty(BLOCK, np.uint32), np.empty(BLOCK, np.uint32), np.empty(BLOCK, np.intp), np.empty(BLOCK, np.bool_)
    return kept[0][:n], kept[1][:n], kept[2][:n], kept[3][:n]


def _to_half(x: Array, y: Array) -> bool:
    """float32 -> float16 by integers, nearly twice as quick as numpy: what becomes subnormal or infinite, or is NaN, is left to numpy.
    Whether anything is infinite or NaN then.

    The exponent is rebiased and half of the last kept bit (less one if that bit is even) added in one go, so that carries round to even.
    """
    import numpy as np

    a, c, _, rest = _scratch(len(x))
    u = x.view(np.uint32)
    np.bitwise_and(u, np.uint32(0x7FFFFFFF), out=a)
    np.subtract(a, np.uint32(0x38800000), out=c)  # what is below the least normal wraps round
    np.greater_equal(c, np.uint32(0x477FF000 - 0x38800000), out=rest)  # that, and what rounds to infinity
    np.right_shift(a, np.uint32(13), out=c)
    np.bitwise_and(c, np.uint32(1), out=c)
    np.add(c, np.uint32((0xFFF - (112 << 23)) & 0xFFFFFFFF), out=c)
    np.add(a, c, out=a)
    np.right_shift(a, np.uint32(13), out=a)
    np.right_shift(u, np.uint32(16), out=c)
    np.bitwise_and(c, np.uint32(0x8000), out=c)
    np.bitwise_or(a, c, out=a)
    np.copyto(y.view(np.uint16), a, casting="unsafe")
    where = np.flatnonzero(rest)
    if not len(where):
        return False
    few = y[where] = x[where].astype(np.float16)
    return not bool(np.isfinite(few).all())


def _to_bfloat(x: Array, y: Array) -> None:
    """float32 -> bfloat16 by integers, in half of ml_dtypes' time; NaN is left to it.

    Half of the last kept bit (less one if that bit is even) is added, so that carries round to even, and the upper half kept.
    """
    import numpy as np

    a, c, _, _ = _scratch(len(x))
    u = x.view(np.uint32)
    np.bitwise_and(u, np.uint32(0x7FFFFFFF), out=a)
    if len(x) and int(a.max()) > 0x7F800000:
        y[:] = x.astype(y.dtype)
        return
    np.right_shift(u, np.uint32(16), out=c)
    np.bitwise_and(c, np.uint32(1), out=c)
    np.add(c, np.uint32(0x7FFF), out=c)
    np.add(u, c, out=a)
    np.right_shift(a, np.uint32(16), out=a)
    np.copyto(y.view(np.uint16), a, casting="unsafe")


@cache
def _table(source: str, target: str) -> Array:
    """What each bit pattern of a type of at most 16 bits becomes, as bit patterns."""
    import numpy as np

    bits = DTYPES[source].bits
    x: Array = np.arange(1 << bits, dtype=f"u{bits // 8}").view(numpy_dtype(source))
    with np.errstate(all="ignore"):
        y = x.astype(np.float32).astype(numpy_dtype(target))
    return y.view(f"u{y.itemsize}")


def _by_table(x: Array, y: Array, source: str, target: str) -> None:
    """Casts from 16 bits and less, and from float32 to float8.

    For the latter float32 is cut to bfloat16 first, with its last bit set where that loses anything (rounded to odd).
    """
    import numpy as np

    into = y.view(f"u{y.itemsize}")
    a, _, index, inexact = _scratch(len(x))
    if source == "F32":
        u = x.view(np.uint32)
        np.right_shift(u, np.uint32(16), out=a)
        np.not_equal(x.view(np.uint16)[::2], 0, out=inexact)
        np.bitwise_or(a, inexact, out=index, casting="unsafe")
        source = "BF16"
    else:
        np.copyto(index, x.view(f"u{x.itemsize}"))
    np.take(_table(source, target), index, out=into, mode="clip")


def cast(src: Array, out: Array, source: str, target: str, clip: bool) -> int:
    """Cast 1-D `src` of dtype `source` into `out` of dtype `target`; how many finite values had no finite place there.

    With `clip` those become the largest finite value of their sign; otherwise infinity, or NaN where there is none.
    """
    import numpy as np

    lost = 0
    narrow = _largest(source) > _largest(target)
    bits, to = DTYPES[source].bits, DTYPES[target].bits
    tabled = (source == "F32" and to == 8) or (bits <= 16 and to <= 32 and (source, target) != ("BF16", "F32") and len(src) > BLOCK // 8)
    with np.errstate(all="ignore"):
        for i in range(0, len(src), BLOCK):
            x, y = src[i : i + BLOCK], out[i : i + BLOCK]
            odd = narrow
            done = _compiled(x, y, source, target, tabled)
            if done is not None:
                odd = narrow and done
            elif source == "F32" and target == "F16":
                odd = _to_half(x, y)
            elif source == "F32" and target == "BF16":
                _to_bfloat(x, y)
            elif tabled:
                _by_table(x, y, source, target)
            elif source == "F64" and target not in ("F32", "F16"):
                np.copyto(y, _round_to_odd(x), casting="unsafe")
            elif source != "F32" and target not in ("F32", "F64") and source != "F64":
                np.copyto(y, x.astype(np.float32), casting="unsafe")
            else:
                np.copyto(y, x, casting="unsafe")
            if odd and _has_nonfinite(y, target):
                bad = np.isfinite(x.astype(np.float64)) & ~np.isfinite(y.astype(np.float32))
                n = int(np.count_nonzero(bad))
                lost += n
                if n and clip:
                    top = _largest(target)
                    y[bad] = np.where(np.signbit(x[bad].astype(np.float64)), -top, top).astype(np.float32).astype(y.dtype)
    return lost


def cast_bytes(data: memoryview, out: memoryview, source: str, target: str, clip: bool) -> int:
    """As `cast`, from the bytes of elements to bytes. Where a compiled loop does all of it numpy is not imported."""
    if _all_compiled(data, out, source, target):
        return 0
    import numpy as np

    return cast(np.frombuffer(data, numpy_dtype(source)), np.frombuffer(out, numpy_dtype(target)), source, target, clip)


def _all_compiled(data: memoryview, out: memoryview, source: str, target: str) -> bool:
    """Cast by a compiled loop; whether nothing is left to do. It is not where there may be infinities or NaN to look at."""
    native = kernels()
    if native is None:
        return False
    if source == "F32" and target == "F16":
        return not native.to_half(data, out)
    if source == "F32" and target == "BF16":
        largest: int = native.to_bfloat(data, out)
        return largest < LAST_BFLOAT
    if source == "F32" and target in EIGHTHS:
        return not native.to_eighth(data, out, EIGHTHS[target])
    if target == "F32" and source in ("F16", "BF16"):
        native.widen(data, out, source == "BF16")
        return True
    return False


def _compiled(x: Array, y: Array, source: str, target: str, tabled: bool) -> bool | None:
    """Cast a block by a compiled loop; whether there may be infinities or NaN in it then. None where there is no such loop for it."""
    native = kernels()
    if native is None or not (x.flags.c_contiguous and y.flags.c_contiguous):
        return None
    into = y.view(f"u{y.itemsize}")
    if source == "F32" and target == "F16":
        odd: bool = native.to_half(x, into)
        return odd
    if source == "F32" and target == "BF16":
        top = native.to_bfloat(x, into)
        return None if top > 0x7F800000 else bool(top >= LAST_BFLOAT)  # NaN is left to ml_dtypes
    if target == "F32" and source in ("F16", "BF16"):
        native.widen(x.view("u2"), into, source == "BF16")
        return True
    if not tabled:
        return None
    if source == "F32" and target in EIGHTHS and not native.to_eighth(x, into, EIGHTHS[target]):
        return False
    if source == "F32":
        native.look_up_float(x, into, _table("BF16", target))
    else:
        native.look_up(x.view(f"u{x.itemsize}"), into, _table(source, target), x.itemsize)
    return True


def _has_nonfinite(y: Array, target: str) -> bool:
    import numpy as np

    how = _check_bits(target)
    if how is None:
        return bool((~np.isfinite(y.astype(np.float32))).any())
    unsigned, mask, infinity = how
    u = y.view(unsigned)
    magnitude = _scratch(len(u))[0].view(u.dtype)[: len(u)] if u.itemsize <= 4 else None
    return bool(np.bitwise_and(u, u.dtype.type(mask), out=magnitude).max() >= infinity)


def fill_value(value: float, target: str, work: str) -> Any:
    """A constant, rounded as `target` holds it, as an element of `work`."""
    import numpy as np

    if DTYPES[target].kind != "float":
        exact = np.array([value]).astype(numpy_dtype(target))
        if float(exact[0]) != float(value):
            raise UnsupportedError(f"{value} is no value of {target}")
        return exact[0]
    out: Array = np.empty(1, numpy_dtype(target))
    cast(np.array([value], np.float64), out, "F64", target, False) if target != "F64" else out.fill(value)
    return out.astype(numpy_dtype(work))[0] if work != target else out[0]
