"""The header of a GGUF file: typed key-value pairs and the tensors' infos, without touching a weight or making a vocabulary's strings.

Source: docs/gguf.md of ggml, gguf.cpp of llama.cpp. Versions 2 and 3; both byte orders (the version's low half is zero where the order is
the other one). An array is walked by its type: of numbers it is one step, of strings one length at a time, and what is kept is where it
lies (`Span`). Every count is held against what is left of the file before it is believed.
"""

from __future__ import annotations

import struct
from itertools import repeat
from math import prod

from ... import store
from ..._typing import Any, NamedTuple
from ...errors import CorruptError, UnsupportedError, printable
from ...limits import LIMITS
from ...support import columns
from ...tensors import DTYPES

MAGIC = b"GGUF"
ALIGNMENT = "general.alignment"
STRING, ARRAY, FLOAT32 = 8, 9, 6
NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}  # struct's letter of a value's type
KEPT = 256  # items up to which an array of numbers is kept as values
DEPTH = 4  # arrays in arrays

# the numbers of ggml's types (ggml.h); 4, 5, 31 to 33 and 36 to 38 are removed ones, 9 and 15 are only ever intermediate
TYPES = {
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 6: "Q5_0", 7: "Q5_1", 8: "Q8_0", 10: "Q2_K", 11: "Q3_K", 12: "Q4_K", 13: "Q5_K", 14: "Q6_K",
    16: "IQ2_XXS", 17: "IQ2_XS", 18: "IQ3_XXS", 19: "IQ1_S", 20: "IQ4_NL", 21: "IQ3_S", 22: "IQ2_S", 23: "IQ4_XS", 24: "I8", 25: "I16",
    26: "I32", 27: "I64", 28: "F64", 29: "IQ1_M", 30: "BF16", 34: "TQ1_0", 35: "TQ2_0", 39: "MXFP4", 40: "NVFP4", 41: "Q1_0", 42: "Q2_0",
}  # fmt: skip
_REMOVED = (4, 5, 31, 32, 33, 36, 37, 38)


# arrays of float32 that are weights: the parameters of Apertus' activation, a number for each layer. They are tensors here
WEIGHTS = ("xielu.alpha_n", "xielu.alpha_p", "xielu.beta", "xielu.eps")


class Span(NamedTuple):
    """An array that was not turned into values: `many` items of type `kind` in `length` bytes of a file."""

    kind: int
    many: int
    path: str
    offset: int
    length: int
    big: bool


class Value(NamedTuple):
    """A value of a key: its GGUF type; for an array the items' type, and the items or the Span where they lie."""

    type: int
    value: Any
    item: int = 0

    def shown(self) -> object:
        """For a table: the value, an array of many by its number."""
        if isinstance(self.value, Span):
            return f"<{self.value.many:,} {'texts' if self.item == STRING else 'numbers'}>"
        return f"<{len(self.value):,} arrays>" if self.item == ARRAY else self.value


class Info(NamedTuple):
    """One tensor: row-major shape, a name of DTYPES, and where its bytes begin in the file."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    offset: int
    nbytes: int


class Header(NamedTuple):
    """All of a file but its weights."""

    version: int
    big: bool
    alignment: int
    values: dict[str, Value]
    tensors: tuple[Info, ...]
    start: int  # of the data
    size: int  # of the file


def read_header(path: str) -> Header:
    """Parse the header of the file at `path`. Raises CorruptError, UnsupportedError, LimitError."""
    blob = store.open_blob(path)
    try:
        size = blob.size
        length = 1 << 16
        while True:
            raw = blob.pread(min(length, size), 0)
            try:
                return _Reader(raw, path, size).header()
            except OverflowError:
                raise CorruptError("a text of an array is longer than what the file has left", path=path) from None
            except (_Short, struct.error):
                if len(raw) >= size:
                    message = f"truncated: the GGUF header does not end within the file's {size:,} bytes"
                    raise CorruptError(message, path=path, hint="download it again") from None
            LIMITS.check("header_bytes", length + 1, "the header's length", path)
            length = min(length * 16, max(LIMITS.header_bytes, length + 1))
    finally:
        blob.close()


def span_items(span: Span) -> list[Any]:
    """The items of an array that was left where it lies: text or numbers."""
    blob = store.open_blob(span.path)
    try:
        raw = blob.pread(span.length, span.offset)
    finally:
        blob.close()
    order = ">" if span.big else "<"
    if span.kind == STRING:
        out, at = [], 0
        unpack = struct.Struct(order + "Q").unpack_from
        for _ in range(span.many):
            n = unpack(raw, at)[0]
            out.append(raw[at + 8 : at + 8 + n].decode("utf-8", "surrogateescape"))
            at += 8 + n
        return out
    return list(struct.unpack(f"{order}{span.many}{NUMBERS[span.kind]}", raw))


def items(value: Value) -> list[Any]:
    """The items of an array value."""
    return span_items(value.value) if isinstance(value.value, Span) else list(value.value)


class _Short(Exception):
    """The bytes that were read end before what is to be parsed does."""


class _Reader:
    """A cursor over the header's bytes."""

    def __init__(self, raw: bytes, path: str, size: int) -> None:
        self.raw, self.path, self.size = raw, path, size
        self.at = 0
        self.big = False
        self.order = "<"

    def number(self, letter: str) -> Any:
        n = struct.calcsize(letter)
        if self.at + n > len(self.raw):
            raise _Short
        value = struct.unpack_from(self.order + letter, self.raw, self.at)[0]
        self.at += n
        return value

    def text(self, what: str, most: int) -> str:
        n = self.number("Q")
        if n > self.size - self.at:
            raise CorruptError(f"{what} is said to be {n:,} bytes long, more than the file has left", path=self.path)
        if n > most:
            LIMITS.check("name_bytes" if most == LIMITS.name_bytes else "string_bytes", n, f"the length of {what}", self.path)
        if self.at + n > len(self.raw):
            raise _Short
        raw = self.raw[self.at : self.at + n]
        self.at += n
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError:
            raise CorruptError(f"{what} is no UTF-8: {printable(raw[:40])}", path=self.path) from None

    def header(self) -> Header:
        if self.raw[:4] != MAGIC:
            raise CorruptError("is no GGUF file: it does not begin with its signature", path=self.path)
        self.at = 4
        version = self.number("I")
        if version and not version & 0xFFFF:
            self.big, self.order = True, ">"
            self.at = 4
            version = self.number("I")
        if version == 1:
            raise UnsupportedError("is GGUF version 1, which llama.cpp has not read since 2023", path=self.path)
        if version not in (2, 3):
            raise UnsupportedError(f"is GGUF version {version}; 2 and 3 are known", path=self.path)
        count, keys = self.number("Q"), self.number("Q")
        left = self.size - self.at
        if count > left // 24:
            raise CorruptError(f"is said to hold {count:,} tensors, more than its {self.size:,} bytes can describe", path=self.path)
        if keys > left // 13:
            raise CorruptError(f"is said to hold {keys:,} keys, more than its {self.size:,} bytes can hold", path=self.path)
        LIMITS.check("tensors", count, "the number of tensors", self.path)
        LIMITS.check("header_keys", keys, "the number of keys", self.path)
        values: dict[str, Value] = {}
        for _ in range(keys):
            name = self.text("a key", LIMITS.name_bytes)
            if not name or "\0" in name:
                raise CorruptError(f"a key is called {name!r}", path=self.path)
            if name in values:
                raise CorruptError(f"the key {name!r} is there twice", path=self.path)
            values[name] = self.value(self.number("I"), name)
        alignment = values[ALIGNMENT].value if ALIGNMENT in values else 32
        if type(alignment) is not int or alignment < 1 or alignment & (alignment - 1) or alignment > 1 << 30:
            raise CorruptError(f"{ALIGNMENT} is {alignment!r}, not a power of two", path=self.path)
        infos = [self.info() for _ in range(count)]
        start = -(-self.at // alignment) * alignment
        return Header(version, self.big, alignment, values, self.placed(infos, start, alignment), start, self.size)

    def value(self, kind: int, name: str) -> Value:
        if kind in NUMBERS:
            return Value(kind, self.number(NUMBERS[kind]))
        if kind == STRING:
            return Value(kind, self.text(f"the value of {name!r}", LIMITS.string_bytes))
        if kind != ARRAY:
            raise CorruptError(f"the value of {name!r} has the type {kind}, which there is not", path=self.path)
        return self.array(name, 0)

    def array(self, name: str, depth: int) -> Value:
        kind, count = self.number("I"), self.number("Q")
        width = struct.calcsize(NUMBERS[kind]) if kind in NUMBERS else 8 if kind == STRING else 12
        if kind not in NUMBERS and kind not in (STRING, ARRAY):
            raise CorruptError(f"the array {name!r} has items of the type {kind}, which there is not", path=self.path)
        if count > (self.size - self.at) // width:
            raise CorruptError(f"the array {name!r} is said to have {count:,} items, more than the file has left", path=self.path)
        start = self.at
        if kind == ARRAY:
            if depth >= DEPTH:
                raise CorruptError(f"the array {name!r} is nested deeper than {DEPTH}", path=self.path)
            LIMITS.check("header_keys", count, f"the number of arrays in {name!r}", self.path)
            return Value(ARRAY, tuple(self.array(name, depth + 1) for _ in range(count)), ARRAY)
        if kind == STRING:
            self.skip_strings(count)
        else:
            self.at += count * width
            if self.at > len(self.raw):
                raise _Short
        if count <= KEPT and kind in NUMBERS and not (name in WEIGHTS and kind == FLOAT32):
            return Value(ARRAY, struct.unpack_from(f"{self.order}{count}{NUMBERS[kind]}", self.raw, start), kind)
        return Value(ARRAY, Span(kind, count, self.path, start, self.at - start, self.big), kind)

    def skip_strings(self, count: int) -> None:
        """Past so many strings. A length that leaves the file leads past its end, where the next one cannot be read."""
        unpack, raw, at = struct.Struct(self.order + "Q").unpack_from, self.raw, self.at
        native = columns.compiled()
        past = native.past(raw, at, count, self.big) if native is not None else None
        if past is not None:
            self.at = past
            return
        for _ in repeat(None, count):
            at += unpack(raw, at)[0] + 8
        if at > self.size:
            raise CorruptError("a text of an array is longer than what the file has left", path=self.path)
        if at > len(raw):
            raise _Short
        self.at = at

    def info(self) -> Info:
        name = self.text("the name of a tensor", LIMITS.name_bytes)
        if not name or "\0" in name:
            raise CorruptError(f"a tensor is called {name!r}", path=self.path)
        rank = self.number("I")
        if rank > 4:
            raise CorruptError(f"tensor {name!r} is said to have {rank} dimensions; ggml has four", path=self.path)
        dims = [self.number("Q") for _ in range(rank)]
        kind, offset = self.number("I"), self.number("Q")
        if kind in _REMOVED or kind not in TYPES:
            what = "which ggml has removed" if kind in _REMOVED else "which is not known"
            raise UnsupportedError(f"tensor {name!r} has the ggml type {kind}, {what}", path=self.path)
        dtype = DTYPES[TYPES[kind]]
        if prod(n or 1 for n in dims) >= 1 << 56:  # an empty tensor, too: no array has such a shape
            raise CorruptError(f"tensor {name!r}: {dims} elements overflow 64 bits", path=self.path)
        if dtype.block > 1 and (not dims or dims[0] % dtype.block):
            row = dims[0] if dims else 0
            message = f"tensor {name!r}: rows of {row:,} are no whole number of {dtype.name}'s blocks of {dtype.block}"
            raise CorruptError(message, path=self.path)
        n = prod(dims)
        nbytes = n // dtype.block * dtype.block_bytes if dtype.block > 1 else n * dtype.bits // 8
        return Info(name, tuple(reversed(dims)), dtype.name, offset, nbytes)

    def placed(self, infos: list[Info], start: int, alignment: int) -> tuple[Info, ...]:
        """The tensors with their places in the file: aligned, inside it, one beside another."""
        names = set()
        for i in infos:
            if i.name in names:
                raise CorruptError(f"the tensor {i.name!r} is there twice", path=self.path)
            names.add(i.name)
            if i.offset % alignment:
                raise CorruptError(f"tensor {i.name!r} begins at {i.offset:,}, no multiple of {alignment}", path=self.path)
            if start + i.offset + i.nbytes > self.size:
                message = f"truncated: {i.name!r} ends at byte {start + i.offset + i.nbytes:,}, the file at {self.size:,}"
                raise CorruptError(message, path=self.path, hint="download it again")
        end, last = 0, ""
        for i in sorted(infos, key=lambda i: (i.offset, i.nbytes)):
            if i.offset < end:
                raise CorruptError(f"tensor {i.name!r} begins at {i.offset:,} and overlaps {last!r}, which ends at {end:,}", path=self.path)
            end, last = i.offset + i.nbytes, i.name
        return tuple(i._replace(offset=start + i.offset) for i in infos)
