"""zarr arrays, versions 2 and 3, as tensorstore writes them: an array's form from its metadata, where its chunks are, and their elements.

Sources: zarr-specs (v2, v3 core, the sharding_indexed codec), tensorstore's drivers zarr and zarr3. Chunks form a grid; at the end of an
axis a whole one is stored, of which the array has a part. A chunk of a sharded array is a file of inner chunks with an index at its end
(or beginning). Chunks that nothing packs are extents; what is packed (zstd, gzip, zlib) is unpacked where it is used, a band of chunks at a
time.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import product
from math import prod

from ... import store
from ..._typing import TYPE_CHECKING, NamedTuple
from ...errors import CorruptError, UnsupportedError, printable
from ...limits import LIMITS
from ...support import crc32c, zstd
from ...tensors import DTYPES, Box, Extent, TensorSpec, row_major_strides
from .._interface import Packed
from .ocdbt import Value

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_BY_NUMPY = {d.numpy: d.name for d in DTYPES.values() if d.numpy}
_V2 = {
    "f8": "F64", "f4": "F32", "f2": "F16", "i8": "I64", "i4": "I32", "i2": "I16", "i1": "I8", "u8": "U64", "u4": "U32", "u2": "U16",
    "u1": "U8", "b1": "BOOL", "c8": "C64", "c16": "C128",
}  # fmt: skip
_PACKINGS = ("zstd", "gzip", "zlib")
_NONE = (1 << 64) - 1  # offset and length of an inner chunk that is not there
_MOST = 1 << 31  # bytes of one chunk, unpacked
_ZSTD = b"\x28\xb5\x2f\xfd"  # what a frame begins with
FILL = "fill"  # what a chunk that is not there is


class Codec(NamedTuple):
    """How the elements of a chunk become bytes: big-endian, columns first, packed by what, with a CRC-32C behind; in how many inner
    chunks."""

    packed: str = ""
    big: bool = False
    columns: bool = False
    summed: bool = False
    inner: tuple[int, ...] | None = None  # the shape of the inner chunks of a shard
    index_first: bool = False
    index_summed: bool = True


class Form(NamedTuple):
    """An array's metadata. `key` gives a chunk's key from its place in the grid; `fill` the bytes of one element where no chunk is."""

    spec: TensorSpec
    chunk: tuple[int, ...]
    codec: Codec
    key: Callable[[tuple[int, ...]], str]
    fill: bytes
    always: bool = False  # whether every chunk is stored: zarr 2 without a fill value

    def grid(self) -> tuple[int, ...]:
        """How many chunks lie along each axis."""
        return tuple(-(-n // c) for n, c in zip(self.spec.shape, self.chunk, strict=True))


def form_of(raw: object, name: str, path: str) -> Form:
    """What a .zarray or a zarr.json says. Raises CorruptError, UnsupportedError, LimitError."""

    def bad(why: str) -> CorruptError:
        return CorruptError(f"the array {printable(name, 80)!r} {why}", path=path)

    if not isinstance(raw, Mapping):
        raise bad("has metadata that are no object")
    version = raw.get("zarr_format")
    shape = _sizes(raw.get("shape"), 0)
    if version not in (2, 3) or shape is None:
        raise bad(f"has zarr_format {printable(version, 20)} and shape {printable(raw.get('shape'), 60)}")
    LIMITS.check("rank", len(shape), f"the rank of {printable(name, 80)}", path)
    chunk, dtype, codec, key = (_second if version == 2 else _third)(raw, name, path)
    if chunk is None or len(chunk) != len(shape):
        raise bad(f"of shape {list(shape)} has chunks that are none of it")
    if prod(chunk) * max(DTYPES[dtype].bits // 8, 1) > _MOST:
        raise bad(f"has chunks of shape {list(chunk)}, too large to be read")
    if codec.inner is not None and (len(codec.inner) != len(chunk) or any(c % i for c, i in zip(chunk, codec.inner, strict=True))):
        raise bad(f"has shards of {list(chunk)} that inner chunks of {list(codec.inner)} do not fill")
    fill = raw.get("fill_value")
    return Form(TensorSpec(dtype, shape), chunk, codec, key, _fill(fill, dtype), version == 2 and fill is None)


def _sizes(value: object, least: int) -> tuple[int, ...] | None:
    if isinstance(value, list) and all(type(n) is int and least <= n < 1 << 48 for n in value):
        return tuple(value)
    return None


_Parts = tuple["tuple[int, ...] | None", str, Codec, Callable[[tuple[int, ...]], str]]


def _second(raw: Mapping[str, object], name: str, path: str) -> _Parts:
    """Version 2: one compressor, no filters."""
    said = raw.get("dtype")
    code = said if isinstance(said, str) else ""
    dtype = _BY_NUMPY.get(code) or _V2.get(code[1:] if code[:1] in "<>|=" else "", "")
    if not dtype:
        raise UnsupportedError(f"the array {printable(name, 80)!r} is of type {printable(said, 40)}, which is not read", path=path)
    compressor = raw.get("compressor")
    packed = compressor.get("id") if isinstance(compressor, Mapping) else None
    if raw.get("filters") or (compressor is not None and packed not in _PACKINGS):
        what = printable(packed if packed is not None else raw.get("filters"), 60)
        raise UnsupportedError(f"the array {printable(name, 80)!r} is packed by {what}, which is not read", path=path)
    separator = raw.get("dimension_separator", ".")

    def key(at: tuple[int, ...]) -> str:
        return str(separator).join(map(str, at)) if at else "0"

    codec = Codec(str(packed) if packed else "", code.startswith(">"), raw.get("order") == "F")
    return _sizes(raw.get("chunks"), 1), dtype, codec, key


def _third(raw: Mapping[str, object], name: str, path: str) -> _Parts:
    """Version 3: a chain of codecs, which may be a shard's."""
    said = raw.get("data_type")
    dtype = _BY_NUMPY.get(said, "") if isinstance(said, str) else ""
    if not dtype:
        raise UnsupportedError(f"the array {printable(name, 80)!r} is of type {printable(said, 40)}, which is not read", path=path)
    grid, encoding = raw.get("chunk_grid"), raw.get("chunk_key_encoding")
    settings = grid.get("configuration") if isinstance(grid, Mapping) and grid.get("name") == "regular" else None
    chunk = _sizes(settings.get("chunk_shape"), 1) if isinstance(settings, Mapping) else None
    way = encoding.get("name") if isinstance(encoding, Mapping) else None
    more = encoding.get("configuration") if isinstance(encoding, Mapping) else None
    usual = "/" if way == "default" else "."
    separator = str(more.get("separator", usual)) if isinstance(more, Mapping) else usual
    if way not in ("default", "v2"):
        what = f"{printable(name, 80)!r} has chunk keys called {printable(way, 40)}"
        raise UnsupportedError(f"the array {what}, which is not read", path=path)

    def key(at: tuple[int, ...]) -> str:
        if way == "v2":
            return separator.join(map(str, at)) if at else "0"
        return separator.join(("c", *map(str, at)))

    return chunk, dtype, _codecs(raw.get("codecs"), name, path), key


def _codecs(listed: object, name: str, path: str) -> Codec:
    codec = Codec()
    for c in listed if isinstance(listed, list) else ():
        if codec.summed:
            raise UnsupportedError(f"the array {printable(name, 80)!r} has a codec behind its checksum, which is not read", path=path)
        kind = c.get("name") if isinstance(c, Mapping) else c
        settings = c.get("configuration") if isinstance(c, Mapping) else None
        settings = settings if isinstance(settings, Mapping) else {}
        if kind == "bytes":
            codec = codec._replace(big=settings.get("endian") == "big")
        elif kind in _PACKINGS and not codec.packed:
            codec = codec._replace(packed=str(kind))
        elif kind == "crc32c" and not codec.summed:
            codec = codec._replace(summed=True)
        elif kind == "sharding_indexed" and codec == Codec():
            inner = _sizes(settings.get("chunk_shape"), 1)
            index = settings.get("index_codecs")
            names = [i.get("name") if isinstance(i, Mapping) else i for i in index] if isinstance(index, list) else []
            if inner is None or any(n not in ("bytes", "crc32c") for n in names):
                raise UnsupportedError(f"the array {printable(name, 80)!r} has shards whose index is packed, which is not read", path=path)
            within = _codecs(settings.get("codecs"), name, path)
            if within.inner is not None:
                raise UnsupportedError(f"the array {printable(name, 80)!r} has shards in shards, which is not read", path=path)
            codec = within._replace(inner=inner, index_first=settings.get("index_location") == "start", index_summed="crc32c" in names)
        else:
            raise UnsupportedError(f"the array {printable(name, 80)!r} is packed by {printable(kind, 40)}, which is not read", path=path)
    return codec


def _fill(value: object, dtype: str) -> bytes:
    """One element of what is not stored; zero where nothing is said. Only numbers that are zero or all bits are told without numpy."""
    width = max(1, DTYPES[dtype].bits // 8)
    if value in (None, 0, False) or not isinstance(value, (int, float)):
        return bytes(width)
    import numpy as np

    from ...support.arrays import numpy_dtype

    return np.array(value).astype(numpy_dtype(dtype)).tobytes()


def whole_boxes(form: Form, values: Mapping[tuple[int, ...], Value], what: str, path: str) -> tuple[Box, ...] | None:
    """The chunks as boxes, where nothing packs them and each is a run of a file; None where they must be unpacked. CorruptError where one
    has other bytes than its shape takes."""
    apart = form.codec.packed or form.codec.summed or form.codec.inner is not None or form.codec.big
    if apart or not all(isinstance(v, Extent) for v in values.values()):
        return None
    width = max(1, DTYPES[form.spec.dtype].bits // 8)
    own = tuple(prod(form.chunk[:i]) for i in range(len(form.chunk))) if form.codec.columns else row_major_strides(form.chunk)
    out = []
    for at, extent in values.items():
        assert isinstance(extent, Extent)
        if extent.length != prod(form.chunk) * width:
            raise CorruptError(f"the chunk {list(at)} of {what} has {extent.length:,} bytes, not what {list(form.chunk)} takes", path=path)
        offset = tuple(a * c for a, c in zip(at, form.chunk, strict=True))
        size = tuple(min(c, n - o) for c, n, o in zip(form.chunk, form.spec.shape, offset, strict=True))
        length = (1 + sum((n - 1) * s for n, s in zip(size, own, strict=True))) * width
        plain = own == row_major_strides(size)
        out.append(Box(offset, size, extent._replace(length=length), None if plain else own))
    return tuple(out)


def unpacked(form: Form, values: Mapping[tuple[int, ...], Value], what: str, path: str) -> Packed:
    """What gives the row-major bytes of an array, a band of chunks along the first axis at a time."""

    def pieces() -> Iterator[bytes]:
        import numpy as np

        width = max(1, DTYPES[form.spec.dtype].bits // 8)
        element = np.dtype(("V", width))
        if not form.spec.shape:
            yield _elements(form, values.get(()), f"the value of {what}", path).tobytes()
            return
        first, *others = form.grid()
        for top in range(first):
            rows = min(form.chunk[0], form.spec.shape[0] - top * form.chunk[0])
            band: NDArray[np.void] = np.frombuffer(bytearray(form.fill) * (rows * prod(form.spec.shape[1:])), element).reshape(
                rows, *form.spec.shape[1:]
            )
            for rest in product(*map(range, others)):
                value = values.get((top, *rest))
                if value is None:
                    continue
                part = _elements(form, value, f"the chunk {[top, *rest]} of {what}", path)
                offset = (0, *(a * c for a, c in zip(rest, form.chunk[1:], strict=True)))
                there = tuple(slice(o, o + c) for o, c in zip(offset, (rows, *form.chunk[1:]), strict=True))
                sizes = band[there].shape
                band[there] = part[tuple(slice(0, n) for n in sizes)]
            yield band.tobytes()

    return Packed(pieces)


def _elements(form: Form, value: Value | None, what: str, path: str) -> NDArray[np.void]:
    """The elements of one chunk, in an array of its shape."""
    import numpy as np

    width = max(1, DTYPES[form.spec.dtype].bits // 8)
    element = np.dtype(("V", width))
    if value is None:
        return np.frombuffer(form.fill * prod(form.chunk), element).reshape(form.chunk)
    raw = value if isinstance(value, bytes) else _read(value)
    if form.codec.inner is None:
        return _decoded(raw, form.chunk, form.codec, width, what, path)
    inner = form.codec.inner
    grid = tuple(c // i for c, i in zip(form.chunk, inner, strict=True))
    count = prod(grid)
    length = 16 * count + 4 * form.codec.index_summed
    index = raw[:length] if form.codec.index_first else raw[-length:]
    if len(index) != length or (form.codec.index_summed and crc32c.value(index[:-4]) != int.from_bytes(index[-4:], "little")):
        raise CorruptError(f"{what} is a shard whose index is damaged", path=path)
    out: NDArray[np.void] = np.frombuffer(bytearray(form.fill) * prod(form.chunk), element).reshape(form.chunk)
    words = np.frombuffer(index[: 16 * count], "<u8").reshape(count, 2)
    for at, (offset, size) in zip(product(*map(range, grid)), words.tolist(), strict=True):
        if offset == size == _NONE:
            continue
        if offset + size > len(raw):
            raise CorruptError(f"{what} is a shard whose inner chunk {list(at)} lies outside of it", path=path)
        there = tuple(slice(a * i, (a + 1) * i) for a, i in zip(at, inner, strict=True))
        out[there] = _decoded(raw[offset : offset + size], inner, form.codec, width, f"{what}, inner chunk {list(at)}", path)
    return out


def is_checked(form: Form, values: Iterable[Value]) -> bool:
    """Whether a checksum covers every chunk: its own, its packing's, or that of the node of a store that it lies in. Reads the beginning
    of one chunk."""
    apart = next((v for v in values if isinstance(v, Extent)), None)
    if apart is None or form.codec.summed or form.codec.packed in ("gzip", "zlib"):
        return True
    head = _read(apart._replace(length=min(5, apart.length))) if form.codec.packed else b""
    return head[:4] == _ZSTD and bool(head[4:5] and head[4] & 4)  # RFC 8878: the flag of a frame with a content checksum


def _read(extent: Extent) -> bytes:
    blob = store.open_blob(extent.path)
    try:
        return blob.pread(extent.length, extent.offset)
    finally:
        blob.close()


def _decoded(raw: bytes, shape: tuple[int, ...], codec: Codec, width: int, what: str, path: str) -> NDArray[np.void]:
    """The elements of unpacked bytes, which are as many as the shape takes."""
    import numpy as np

    size = prod(shape) * width
    if codec.summed:
        if crc32c.value(raw[:-4]) != int.from_bytes(raw[-4:], "little") or len(raw) < 4:
            raise CorruptError(f"{what} is damaged: its CRC-32C is not the one it carries", path=path)
        raw = raw[:-4]
    try:
        if codec.packed == "zstd":
            raw = zstd.unpack(raw, size)
        elif codec.packed:
            unpacker = zlib.decompressobj(31 if codec.packed == "gzip" else 15)
            raw = unpacker.decompress(raw, size + 1)
            if len(raw) == size and not unpacker.eof:  # the checksum comes last
                raise CorruptError(f"{what} is damaged: it ends before its checksum", path=path)
    except (ValueError, zlib.error) as e:
        raise CorruptError(f"{what} is damaged: {e}", path=path) from None
    except UnsupportedError as e:
        raise UnsupportedError(f"{what} {e.message}", path=path, hint=e.hint) from None
    if len(raw) != size:
        more = "more than" if len(raw) > size else f"{len(raw):,} bytes, not"
        raise CorruptError(f"{what} has {more} the {size:,} that its shape {list(shape)} takes", path=path)
    numbers: NDArray[np.void] = np.frombuffer(raw, np.dtype(("V", width)))
    if codec.big and width > 1:
        numbers = np.ascontiguousarray(np.frombuffer(raw, "u1").reshape(-1, width)[:, ::-1]).view(np.dtype(("V", width))).reshape(-1)
    return numbers.reshape(shape[::-1]).T if codec.columns else numbers.reshape(shape)
