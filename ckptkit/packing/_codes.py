"""Steps that several packings share: codes out of words, small floats, scales spread over their blocks. Imports numpy where it runs."""

from __future__ import annotations

import threading
from functools import cache

from .._typing import TYPE_CHECKING, Any
from ..errors import CorruptError
from ..support.arrays import numpy_dtype
from ..support.kernels import kernels
from ._values import Fetch

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]


def codes_of(words: Array, bits: int, count: int) -> Array:
    """`count` codes of `bits` bits from the last axis of 32-bit words, the lowest bits first; a code may straddle two words. uint32."""
    import numpy as np

    u = words.view(np.uint32)
    if 32 % bits == 0:
        shifts = np.arange(0, 32, bits, dtype=np.uint32)
        out = (u[..., None] >> shifts) & np.uint32((1 << bits) - 1)
        even: Array = out.reshape(*u.shape[:-1], -1)[..., :count]
        return even
    at = np.arange(count, dtype=np.int64) * bits
    first, skip = at >> 5, (at & 31).astype(np.uint64)
    low = u[..., first].astype(np.uint64)
    high = u[..., np.minimum(first + 1, u.shape[-1] - 1)].astype(np.uint64)
    both = (low | (high << np.uint64(32))) >> skip
    straight: Array = (both & np.uint64((1 << bits) - 1)).astype(np.uint32)
    return straight


def words_of(codes: Array, bits: int) -> Array:
    """The inverse of `codes_of`: the last axis (a multiple of 32 codes, or of 32 / bits) into 32-bit words."""
    import numpy as np

    if 32 % bits == 0:
        k = 32 // bits
        parts = codes.reshape(*codes.shape[:-1], -1, k).astype(np.uint32) << np.arange(0, 32, bits, dtype=np.uint32)
        joined: Array = np.bitwise_or.reduce(parts, axis=-1)
        return joined
    each = ((codes[..., None].astype(np.uint32) >> np.arange(bits, dtype=np.uint32)) & np.uint32(1)).astype(np.uint8)
    flat = each.reshape(*codes.shape[:-1], -1)
    packed: Array = np.packbits(flat, axis=-1, bitorder="little").view("<u4")
    return packed


@cache
def fp4_values() -> Array:
    """The sixteen values of E2M1 (OCP Microscaling Formats 1.0): sign, two bits of exponent, one of mantissa."""
    import numpy as np

    half = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0]
    return np.array(half + [-x for x in half], np.float32)


def nibbles(bytes_: Array) -> Array:
    """Two codes a byte along the last axis, the low half first."""
    import numpy as np

    out = np.empty((*bytes_.shape[:-1], bytes_.shape[-1], 2), np.uint8)
    np.bitwise_and(bytes_, 15, out=out[..., 0])
    np.right_shift(bytes_, 4, out=out[..., 1])
    return out.reshape(*bytes_.shape[:-1], -1)


@cache
def fp6_values() -> Array:
    """The 64 values of E2M3 (OCP Microscaling Formats 1.0): sign, two bits of exponent, three of mantissa."""
    import numpy as np

    half = [m / 8 for m in range(8)] + [(1 + m / 8) * 2**e for e in range(3) for m in range(8)]
    return np.array(half + [-x for x in half], np.float32)


def six_bits(bytes_: Array) -> Array:
    """Four codes in three bytes along the last axis, the lowest bits first."""
    import numpy as np

    b = bytes_.reshape(*bytes_.shape[:-1], -1, 3).astype(np.uint32)
    word = b[..., 0] | b[..., 1] << np.uint32(8) | b[..., 2] << np.uint32(16)
    out: Array = (word[..., None] >> np.array((0, 6, 12, 18), np.uint32)) & np.uint32(63)
    return out.reshape(*bytes_.shape[:-1], -1)


def join_nibbles(codes: Array) -> Array:
    """The inverse of `nibbles`."""
    import numpy as np

    joined: Array = (codes[..., ::2] | (codes[..., 1::2] << 4)).astype(np.uint8)
    return joined


def power(exponents: Array) -> Array:
    """E8M0: 2 to the code less 127, as float32; 255 is NaN (OCP Microscaling Formats 1.0)."""
    import numpy as np

    out: Array = np.ldexp(np.float32(1), exponents.view(np.uint8).astype(np.int32) - 127).astype(np.float32)
    out[exponents.view(np.uint8) == 255] = np.nan
    return out


def rounded(values: Array, dtype: str) -> Array:
    """float32 values rounded to what `dtype` holds, as float32."""
    import numpy as np

    if dtype in ("F32", "F64"):
        return values
    with np.errstate(over="ignore"):
        out: Array = values.astype(numpy_dtype(dtype)).astype(np.float32)
    return out


def numbers(values: Array) -> Array:
    """Any small float or integer part as float32."""
    import numpy as np

    if values.dtype == np.uint8:  # exponents alone, in a file whose container has no type for them
        return power(values)
    out: Array = values.astype(np.float32)
    return out


def held(which: Array, groups: int, role: str) -> Array:
    """Indices of groups, each of one that there is. CorruptError for others."""
    if which.size and (int(which.min()) < 0 or int(which.max()) >= groups):
        odd = int(which.min()) if int(which.min()) < 0 else int(which.max())
        raise CorruptError(f"the part {role!r} of a packed weight names the group {odd}; there are {groups}")
    return which


def rows_of(fetch: Fetch, role: str, columns: int, start: int, stop: int) -> Array:
    """The rows [start, stop) of a part that has rows of `columns` elements."""
    got: Array = fetch(role, start * columns, stop * columns)
    return got.reshape(stop - start, columns)


def spread(scales: Array, block: int, columns: int) -> Array:
    """Each scale repeated over the `block` columns it counts for."""
    import numpy as np

    return np.repeat(scales, block, axis=-1)[..., :columns] if block > 1 else scales


def round_even(values: Array) -> Array:
    """To the nearest integer, ties to even, as float32."""
    import numpy as np

    out: Array = np.rint(values)
    return out


def to_dtype(values: Array, dtype: str) -> Array:
    """float32 values that `dtype` holds exactly, in it."""
    out: Array = values.astype(numpy_dtype(dtype))
    return out


@cache
def small_floats(dtype: str) -> Array:
    """What each of 256 bytes is as a small float, float32."""
    import numpy as np

    table: Array = np.arange(256, dtype=np.uint8).view(numpy_dtype(dtype)).astype(np.float32)
    return table


_kept = threading.local()


def scratch(elements: int, dtype: str = "<f4") -> Array:
    """An array of a type that the thread keeps, with whatever the last one who asked for this type left in it."""
    import numpy as np

    held: Array | None = getattr(_kept, dtype, None)
    if held is None or len(held) < elements:
        held = np.empty(elements, dtype)
        setattr(_kept, dtype, held)
    return held[:elements]


GATHERED = 1 << 15  # elements looked up at once: their indices stay in the cache


def look_up(tables: Array, codes: Array, wide: int, out: Array) -> None:
    """Each byte of `codes` (rows, columns) in its group's table: `tables` (groups, 256) of 16 bits, a group for every `wide` columns."""
    import numpy as np

    rows, columns = codes.shape
    native = kernels()
    if native is not None and codes.flags.c_contiguous and out.flags.c_contiguous:
        native.look_up_blocks(codes, out, np.ascontiguousarray(tables[: -(-columns // wide)]), columns, wide)
        return
    flat, step = tables.reshape(-1), max(1, GATHERED // max(1, columns))
    begin = np.repeat(np.arange(len(tables), dtype=np.intp) * 256, wide)[:columns]
    index = scratch(min(step, rows) * columns, "<i8").reshape(-1, columns)
    for i in range(0, rows, step):
        at = index[: min(step, rows - i)]
        np.copyto(at, codes[i : i + step])
        if len(tables) > 1:
            at += begin
        np.take(flat, at, out=out[i : i + step], mode="clip")


def narrowed(values: Array, dtype: str) -> Array | None:
    """float32 values rounded to a type of 16 bits; None where a finite one has no finite place in it."""
    import numpy as np

    out: Array = values.astype(numpy_dtype(dtype))
    lost = np.isfinite(values) & ~np.isfinite(out.astype(np.float32))
    return None if lost.any() else out


def widened(codes: Array, dtype: str) -> Array:
    """Codes of one byte as float32; by a table, which takes a third of the time of a conversion."""
    import numpy as np

    if not dtype.startswith("F8"):
        plain: Array = codes.astype(np.float32)
        return plain
    out: Array = np.take(small_floats(dtype), codes.view(np.uint8), mode="clip")
    return out
