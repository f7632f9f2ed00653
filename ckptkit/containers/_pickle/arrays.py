"""What a pickle says of a numpy array: its type, shape and order, and its bytes or where they lie.

Source: numpy/_core/src/multiarray/methods.c (`array_reduce`: `_reconstruct` and the state that BUILD gives it) and
numpy/_core/numeric.py (`_frombuffer`, of protocol 5).
"""

from __future__ import annotations

from math import prod

from ..._typing import NamedTuple
from ...errors import CorruptError
from ...support.opaque import Opaque
from ...tensors import DTYPES
from .globals import Span

_CODES = {
    "f8": "F64", "f4": "F32", "f2": "F16", "i8": "I64", "i4": "I32", "i2": "I16", "i1": "I8", "u8": "U64", "u4": "U32", "u2": "U16",
    "u1": "U8", "b1": "BOOL", "c8": "C64", "c16": "C128",
}  # fmt: skip
MODULES = ("numpy.core.", "numpy._core.")


class Described(NamedTuple):
    """A numpy array as a pickle describes it. `dtype` is "" for a type that is not known, `code` numpy's own word for it; `raw` is None
    where something else stands for the bytes; `columns`: the first axis runs fastest; `big`: big-endian."""

    dtype: str
    code: str
    shape: tuple[int, ...] | None
    columns: bool
    big: bool
    raw: bytes | Span | None


def described(value: object, path: str | None = None) -> Described | None:
    """The numpy array that `value` describes; None of anything else. Raises CorruptError where its bytes are not as many as it says."""
    if type(value) is not Opaque or value.args is None or not value.module.startswith(MODULES):
        return None
    if value.name == "_reconstruct":
        state = value.state
        if type(state) is not tuple or len(state) != 5:
            return Described("", "", None, False, False, None)
        _, shape, kind, columns, raw = state
    elif value.name == "_frombuffer" and len(value.args) == 4:
        raw, kind, shape, order = value.args
        columns = order == "F"
    else:
        return None
    size = shape if type(shape) is tuple and all(type(n) is int and 0 <= n < 1 << 60 for n in shape) else None
    codes = kind.args if type(kind) is Opaque and kind.name == "dtype" else None
    code = codes[0] if codes and type(codes[0]) is str else ""
    dtype = _CODES.get(code.lstrip("<>|="), "")
    order = kind.state[1] if type(kind) is Opaque and type(kind.state) is tuple and len(kind.state) > 1 else "<"
    if type(raw) is str:
        raw = raw.encode("utf-8", "surrogateescape")
    if not dtype or size is None or type(raw) not in (bytes, Span):
        return Described(dtype, code, size, False, False, None)
    length = raw.length if type(raw) is Span else len(raw)
    if not (type(raw) is Span and raw.text) and prod(size) * DTYPES[dtype].bits // 8 != length:
        raise CorruptError(f"a numpy array of shape {list(size)[:8]} and type {dtype} has {length:,} bytes", path=path)
    return Described(dtype, code, size, columns is True and len(size) > 1, order == ">" or code[:1] == ">", raw)


def swapped(raw: bytes, dtype: str) -> bytes:
    """The bytes of big-endian elements, little-endian."""
    item = DTYPES[dtype].bits // 8
    width = item // 2 if dtype in ("C64", "C128") else item
    turned = bytearray(len(raw))
    for i in range(width):
        turned[i::width] = raw[width - 1 - i :: width]
    return bytes(turned)
