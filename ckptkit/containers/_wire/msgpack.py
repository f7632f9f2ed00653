"""msgpack as flax writes it, read without unpacking an array: a tree of maps whose leaves say where their bytes lie.

Sources: the MessagePack specification; flax/serialization.py (extension 1: (shape, dtype name, bytes), 3: the same of a scalar, 2: a
complex number; arrays above 1 GiB as maps of flat chunks). Every length is held against the file, nesting and counts against the
limits; what flax does not write is refused.
"""

from __future__ import annotations

from struct import Struct

from ... import store
from ..._typing import NamedTuple
from ...errors import CorruptError, UnsupportedError, printable
from ...limits import LIMITS
from ...tensors import DTYPES, TensorSpec

CHUNKED = "__msgpack_chunked_array__"
_NAMES = {d.numpy: d.name for d in DTYPES.values() if d.numpy}
_WINDOW = 1 << 16


class Array(NamedTuple):
    """An array: its dtype and shape, and the offset of its bytes in the file."""

    spec: TensorSpec
    offset: int


class Reader:
    """Values of a file one after another. `repeated` holds the keys that a map had twice."""

    __slots__ = ("at", "blob", "items", "path", "repeated", "size", "start", "text", "trail", "window")

    def __init__(self, blob: store.Blob, size: int, path: str) -> None:
        self.blob, self.size, self.path = blob, size, path
        self.at = 0
        self.start, self.window = 0, b""
        self.items = 0
        self.trail: list[object] = []  # the keys on the way to what is being read
        self.text = 0
        self.repeated: list[str] = []

    def take(self, n: int) -> bytes:
        """The next `n` bytes, which have to be few."""
        at = self.at
        if at + n > self.size:
            raise CorruptError(
                f"truncated: msgpack goes on to byte {at + n:,}, the file ends at {self.size:,}", path=self.path, hint="download it again"
            )
        i = at - self.start
        if i < 0 or i + n > len(self.window):
            self.start, i = at, 0
            self.window = self.blob.pread(max(n, _WINDOW), at)
            if len(self.window) < n:
                raise CorruptError("became shorter while it was read", path=self.path)
        self.at = at + n
        return self.window[i : i + n]

    def value(self, depth: int = 0) -> object:
        """The next value: None, bool, int, float, str, dict, list, complex or Array. Bytes outside of arrays are refused."""
        b = self.take(1)[0]
        if b < 0x80:
            return b
        if b < 0x90:
            return self._map(b & 15, depth)
        if b < 0xA0:
            return self._list(b & 15, depth)
        if b < 0xC0:
            return self._str(b & 31)
        if b >= 0xE0:
            return b - 256
        if b in _NUMBERS:
            s = _NUMBERS[b]
            return s.unpack(self.take(s.size))[0]
        if b in (0xC0, 0xC2, 0xC3):
            return {0xC0: None, 0xC2: False, 0xC3: True}[b]
        if 0xD9 <= b <= 0xDB:
            return self._str(self._int(1 << b - 0xD9))
        if b in (0xDC, 0xDD):
            return self._list(self._int(2 if b == 0xDC else 4), depth)
        if b in (0xDE, 0xDF):
            return self._map(self._int(2 if b == 0xDE else 4), depth)
        if 0xC7 <= b <= 0xC9:
            return self._ext(self._int(1 << b - 0xC7))
        if 0xD4 <= b <= 0xD8:
            return self._ext(1 << b - 0xD4)
        what = "raw bytes" if 0xC4 <= b <= 0xC6 else "a byte that msgpack never uses"
        raise UnsupportedError(f"holds {what} at byte {self.at - 1:,}, where flax writes arrays", path=self.path)

    def _int(self, n: int) -> int:
        return int.from_bytes(self.take(n), "big")

    def _count(self, n: int, each: int, depth: int) -> None:
        """Refuse what cannot fit: `n` entries of at least `each` bytes, nested too deeply, too many in all."""
        if n * each > self.size - self.at:
            raise CorruptError(
                f"a msgpack map or array at byte {self.at:,} is said to have {n:,} entries; the file has no room for them", path=self.path
            )
        LIMITS.check("json_depth", depth, "the nesting of the msgpack data", self.path)
        self.items += n
        LIMITS.check("json_values", self.items, "the number of msgpack values", self.path)

    def _str(self, n: int) -> str:
        self.text += n
        LIMITS.check("header_bytes", self.text, "the text in the msgpack data", self.path)
        try:
            return self.take(n).decode()
        except UnicodeDecodeError:
            raise CorruptError(f"holds text at byte {self.at - n:,} that is not UTF-8", path=self.path) from None

    def _list(self, n: int, depth: int) -> list[object]:
        self._count(n, 1, depth)
        return [self.value(depth + 1) for _ in range(n)]

    def _map(self, n: int, depth: int) -> dict[object, object]:
        self._count(n, 2, depth)
        out: dict[object, object] = {}
        for _ in range(n):
            key = self.value(depth + 1)
            if not isinstance(key, (str, int)):
                raise CorruptError(f"a msgpack map at byte {self.at:,} has a key that is neither text nor a number", path=self.path)
            if key in out:
                self.repeated.append(str(key))
            self.trail.append(key)  # stays where an error comes through here: it says which entry
            out[key] = self.value(depth + 1)
            self.trail.pop()
        return out

    def _ext(self, n: int) -> object:
        kind = self.take(1)[0]
        end = self.at + n
        if end > self.size:
            raise CorruptError(
                f"truncated: an array ends at byte {end:,}, the file at {self.size:,}", path=self.path, hint="download it again"
            )
        if kind == 2:
            value = self.value()
            if not isinstance(value, list) or len(value) != 2 or self.at != end or not all(isinstance(v, float) for v in value):
                raise CorruptError(f"a complex number at byte {end - n:,} is none", path=self.path)
            return complex(*value)
        if kind not in (1, 3):
            raise UnsupportedError(f"has the msgpack extension type {kind} at byte {end - n:,}, which flax does not write", path=self.path)
        return self._array(end)

    def _array(self, end: int) -> Array:
        start = self.at
        try:
            b = self.take(1)[0]
            if (self._int(2 if b == 0xDC else 4) if b in (0xDC, 0xDD) else b - 0x90) != 3:
                raise ValueError
            shape = self.value()
            name = self.value()
            b = self.take(1)[0]
            if not isinstance(shape, list) or not isinstance(name, str) or not 0xC4 <= b <= 0xC6:
                raise ValueError
            n = self._int(1 << b - 0xC4)
        except ValueError:
            raise CorruptError(f"the array at byte {start:,} is not (shape, dtype, bytes), as flax writes it", path=self.path) from None
        if not all(type(d) is int and 0 <= d < 1 << 62 for d in shape):
            raise CorruptError(f"the array at byte {start:,} has the shape {printable(shape, 80)}", path=self.path)
        LIMITS.check("rank", len(shape), f"the rank of the array at byte {start:,}", self.path)
        dtype = _NAMES.get(name)
        if dtype is None:
            what = (
                "holds Python objects, which only a pickle can carry"
                if name == "object"
                else (f"has dtype {printable(name, 40)!r}, which is not read")
            )
            raise UnsupportedError(f"the array at byte {start:,} {what}", path=self.path)
        spec = TensorSpec(dtype, tuple(shape))
        if spec.nbytes != n or self.at + n != end:
            raise CorruptError(
                f"the array at byte {start:,}, {dtype} {shape}, needs {spec.nbytes:,} bytes; {n:,} are stored", path=self.path
            )
        found = Array(spec, self.at)
        self.at = end
        return found


_NUMBERS = {
    0xCA: Struct(">f"), 0xCB: Struct(">d"), 0xCC: Struct(">B"), 0xCD: Struct(">H"), 0xCE: Struct(">I"), 0xCF: Struct(">Q"),
    0xD0: Struct(">b"),
    0xD1: Struct(">h"), 0xD2: Struct(">i"), 0xD3: Struct(">q"),
}  # fmt: skip
