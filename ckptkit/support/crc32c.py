"""CRC-32C (Castagnoli), as TensorFlow's and leveldb's tables keep it.

The `crc32c` package does the work. Only its extension module is loaded: the package itself asks importlib.metadata
for its own version, which costs more than reading a checkpoint's whole index. Without it a table in Python serves.
Masking: leveldb/util/crc32c.h. Taking a checksum apart: the polynomial arithmetic of zlib's crc32_combine.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from .._typing import Any, cast

_POLYNOMIAL = 0x82F63B78  # reflected
_MASK_DELTA = 0xA282EAD8


@cache
def function() -> Callable[..., int]:
    """crc32c(data, crc=0) -> the checksum of what `crc` is of, followed by `data`."""
    from importlib.machinery import PathFinder
    from importlib.util import module_from_spec

    name = "crc32c._crc32c"
    package = PathFinder.find_spec("crc32c")
    if package is not None and package.submodule_search_locations:
        spec = PathFinder.find_spec(name, list(package.submodule_search_locations))
        if spec is not None and spec.loader is not None:
            try:
                module: Any = module_from_spec(spec)
                spec.loader.exec_module(module)
                return cast("Callable[..., int]", module.crc32c)
            except (ImportError, AttributeError):
                pass
    try:
        from crc32c import crc32c
    except ImportError:
        return in_python
    return cast("Callable[..., int]", crc32c)


def value(data: bytes | bytearray | memoryview, crc: int = 0) -> int:
    """The checksum of what `crc` is the checksum of, followed by `data`."""
    return function()(data, crc)


@cache
def _table() -> tuple[int, ...]:
    out = []
    for n in range(256):
        for _ in range(8):
            n = (n >> 1) ^ (_POLYNOMIAL if n & 1 else 0)
        out.append(n)
    return tuple(out)


def in_python(data: bytes | bytearray | memoryview, crc: int = 0) -> int:
    """`value` without the package: some 10 MB/s."""
    table = _table()
    crc ^= 0xFFFFFFFF
    for b in bytes(data):
        crc = table[(crc ^ b) & 255] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


def mask(crc: int) -> int:
    """The stored form: a checksum of bytes that hold checksums should not look like one."""
    return (((crc >> 15) | (crc << 17)) + _MASK_DELTA) & 0xFFFFFFFF


def unmask(stored: int) -> int:
    """The inverse of `mask`."""
    rotated = (stored - _MASK_DELTA) & 0xFFFFFFFF
    return ((rotated >> 17) | (rotated << 15)) & 0xFFFFFFFF


def _multiply(a: int, b: int) -> int:
    """a * b modulo the polynomial, bit 31 being x^0."""
    product, bit = 0, 1 << 31
    while bit:
        if a & bit:
            product ^= b
        b = (b >> 1) ^ (_POLYNOMIAL if b & 1 else 0)
        bit >>= 1
    return product


def rest(whole: int, head: int, length: int) -> int:
    """The checksum of B (`length` bytes), given those of A followed by B (`whole`) and of A (`head`)."""
    shifted, power = head, 1 << (31 - 8)
    while length:
        if length & 1:
            shifted = _multiply(power, shifted)
        power = _multiply(power, power)
        length >>= 1
    return whole ^ shifted
