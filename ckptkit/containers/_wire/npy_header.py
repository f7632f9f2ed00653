"""The header of a .npy file, read without evaluating anything.

Source: numpy/lib/format.py (versions 1.0 to 3.0). The header is a Python literal by definition; numpy writes three keys, and
only those are understood here, by one pattern: a deep or huge literal is no work. Object arrays would need a pickle and
structured ones are no tensors: refused by name. Sizes are held against the file.
"""

from __future__ import annotations

import re
from math import prod

from ..._typing import NamedTuple
from ...errors import CorruptError, UnsupportedError, printable
from ...limits import LIMITS
from ...tensors import DTYPES, TensorSpec

MAGIC = b"\x93NUMPY"
MAX_HEADER = 10_000  # numpy's own limit for headers it does not trust

_KINDS = {"f": "F", "i": "I", "u": "U", "c": "C"}
# blanks are all the white space there is: what else Python's grammar allows differs from what a pattern takes for white space
_PAIR = re.compile(r" *(['\"])(descr|fortran_order|shape)\1 *: *(True|False|\(([0-9L, -]*)\)|(['\"])([^'\"\\]{1,40})\5) *(,|$)", re.ASCII)


class Header(NamedTuple):
    """What a .npy file holds: dtype and shape, whether the first index runs fastest, where the data begins, and whether its numbers have
    their high byte first."""

    spec: TensorSpec
    fortran: bool
    start: int
    swapped: bool


def header(head: bytes, size: int, path: str, *, swapped: bool = False) -> Header:
    """The header at the start of `head`, the first bytes of a file of `size` (MAX_HEADER + 12 are enough); `swapped`: the caller can do
    with numbers that have their high byte first. Raises CheckpointError."""
    if not head.startswith(MAGIC) or len(head) < 10:
        raise CorruptError("is no .npy file" if size >= 10 else f"truncated: {size} bytes are too few for a .npy file", path=path)
    if head[6] not in (1, 2, 3) or head[7]:  # numpy refuses minor versions too
        raise UnsupportedError(f"has .npy format version {head[6]}.{head[7]}, which is not known", path=path)
    at = 10 if head[6] == 1 else 12
    length = int.from_bytes(head[8:at], "little")
    if length > MAX_HEADER:
        raise CorruptError(f"the .npy header's length is given as {length:,} bytes; numpy reads {MAX_HEADER:,}", path=path)
    if at + length > size or at + length > len(head):
        raise CorruptError(f"truncated: the .npy header ends at byte {at + length:,}, the file at {size:,}", path=path)
    found = _pairs(head[at : at + length].decode("latin-1"), path)
    descr = found["descr"]
    swapped = swapped and descr[:1] == ">"
    dtype = dtype_of("<" + descr[1:] if swapped else descr, path)
    shape = _shape(found["shape"], path)
    if found["fortran_order"] not in ("True", "False"):
        raise CorruptError(f"the .npy header's fortran_order is {printable(found['fortran_order'], 40)}", path=path)
    spec = TensorSpec(dtype, shape)
    need, have = prod(shape) * DTYPES[dtype].bits // 8, size - at - length
    if need != have:
        what = "truncated: " if have < need else ""
        raise CorruptError(f"{what}the .npy header promises {need:,} bytes of {dtype} {list(shape)}, the file has {have:,}", path=path)
    return Header(spec, found["fortran_order"] == "True", at + length, swapped and DTYPES[dtype].bits > 8)


def _pairs(text: str, path: str) -> dict[str, str]:
    body = text.strip(" \n")
    if body[:1] != "{" or body[-1:] != "}":
        raise CorruptError("the .npy header is no dict", path=path)
    body = body[1:-1].rstrip(" ")
    found: dict[str, str] = {}
    i = 0
    while i < len(body):
        m = _PAIR.match(body, i)
        if m is None or m[2] in found or (m[5] is None) == (m[2] == "descr"):
            if "'descr': [" in body:
                raise UnsupportedError("holds records (a structured dtype), not a tensor", path=path)
            raise CorruptError(
                f"the .npy header has {printable(body[i : i + 40])!r} where numpy writes descr, fortran_order and shape", path=path
            )
        found[m[2]] = m[3] if m[5] is None else m[6]
        i = m.end()
    lacking = {"descr", "fortran_order", "shape"} - found.keys()
    if lacking:
        raise CorruptError(f"the .npy header has no {', '.join(sorted(lacking))}", path=path)
    return found


def dtype_of(descr: str, path: str | None = None) -> str:
    """The dtype of numpy's word for it ("<f4"). Raises UnsupportedError."""
    order, kind, digits = descr[:1], descr[1:2], descr[2:]
    if kind == "O" or descr in ("object", "O"):
        raise UnsupportedError("holds Python objects, which only a pickle can carry: it is not read", path=path)
    bits = int(digits) * 8 if digits.isascii() and digits.isdigit() and len(digits) < 3 else 0
    name = "BOOL" if descr[1:] == "b1" else f"{_KINDS.get(kind, '?')}{bits}"
    if name not in DTYPES or order not in "<|>=":
        raise UnsupportedError(f"has numpy dtype {printable(descr, 40)!r}, which is not read", path=path)
    if order == ">" and bits > 8:
        raise UnsupportedError(f"is big-endian ({descr}), which is not read", path=path, hint="save it little-endian: array.astype('<f4')")
    return name


def _shape(text: str, path: str) -> tuple[int, ...]:
    words = [w.strip().removesuffix("L") for w in text.strip("()").split(",")]
    one = len(words) == 1 and words[0] != ""  # (4) is a number and no tuple
    if words and words[-1] == "":
        words.pop()
    if one or not text.startswith("(") or not all(w.isascii() and w.isdigit() and len(w) < 20 and w == str(int(w)) for w in words):
        raise CorruptError(f"the .npy header's shape is {printable(text, 60)}, which holds what is no size", path=path)
    LIMITS.check("rank", len(words), "the rank of a .npy array", path)
    return tuple(int(w) for w in words)


def write_header(spec: TensorSpec) -> bytes:
    """The bytes before a row-major array, as numpy writes them: version 1.0, a multiple of 64 long."""
    dtype = DTYPES[spec.dtype]
    code = {"float": "f", "int": "i", "uint": "u", "complex": "c", "bool": "b"}[dtype.kind]
    width = dtype.bits // 8
    if dtype.numpy is None or spec.dtype not in (f"{_KINDS.get(code, '')}{dtype.bits}", "BOOL"):
        raise UnsupportedError(f"numpy files have no dtype {spec.dtype}", hint="convert it to float32")
    text = f"{{'descr': '{'<' if width > 1 else '|'}{code}{width}', 'fortran_order': False, 'shape': {spec.shape}, }}"
    text += " " * (-(len(MAGIC) + 4 + len(text) + 1) % 64) + "\n"
    return MAGIC + b"\x01\x00" + len(text).to_bytes(2, "little") + text.encode()
