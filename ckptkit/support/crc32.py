"""The CRC32 of bytes put together, from those of the pieces.

Source: zlib's crc32_combine: a CRC is a remainder of polynomials over GF(2), and appending n bytes multiplies what came before by x^(8 n).
"""

from __future__ import annotations

from functools import cache

_POLYNOMIAL = 0xEDB88320  # reflected, as zip has it


def combine(first: int, second: int, length: int) -> int:
    """The CRC32 of two pieces one after another; `length` is the second's in bytes."""
    return _times(_power(length), first) ^ second if length else first


def _times(a: int, b: int) -> int:
    """The product of two polynomials, reflected: the highest bit is the constant."""
    out = 0
    for bit in range(31, -1, -1):
        if a >> bit & 1:
            out ^= b
        b = b >> 1 ^ (_POLYNOMIAL if b & 1 else 0)
    return out


@cache
def _power(length: int) -> int:
    """x to the power of 8 `length`."""
    out, square, n = 1 << 31, 1 << 23, length
    while n:
        if n & 1:
            out = _times(square, out)
        square = _times(square, square)
        n >>= 1
    return out
