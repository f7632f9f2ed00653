"""Datasets in chunks: where the chunks lie, held against what they claim to be, and their elements put together when they are asked for.

Source: HDF5 File Format Specification 3.0, III.A.1 (version 1 B-trees, type 1) and the filters of h5py: deflate, shuffle, fletcher32.
Chunks that nothing packs and that are whole rows are extents like those of any other tensor; the others are read one after another
through `read`. What another filter packed, or one of HDF5 1.10's chunk indexes lists, h5py reads, in a process of its own.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from math import prod

from ... import store
from ..._typing import TYPE_CHECKING, NamedTuple
from ...errors import CorruptError, UnsupportedError, printable
from ...findings import Finding
from ...tensors import Extent, StoredTensor, TensorSpec
from .._interface import Packed
from .datatypes import DEFLATE, FLETCHER, SHUFFLE
from .file import NOWHERE, File, swell, unpacker

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from .groups import Dataset

Filters = tuple[tuple[int, tuple[int, ...]], ...]


class Chunk(NamedTuple):
    """A stored chunk: its first element's indexes, where its bytes lie in the file, the filters that were left out (a mask)."""

    first: tuple[int, ...]
    offset: int
    size: int
    skipped: int


def chunked(file: File, name: str, d: Dataset, spec: TensorSpec, path: str, findings: list[Finding]) -> StoredTensor:
    """The tensor of a dataset in chunks. Raises CorruptError, LimitError, UnsupportedError."""
    _, index, root, dims = d.storage
    assert isinstance(dims, tuple) and isinstance(root, int)
    label = file.path
    if len(dims) != len(d.shape) + 1 or not all(dims):
        raise CorruptError(f"dataset {name}: its chunks have shape {list(dims[:-1])}, it has {list(d.shape)}", path=label)
    shape, width = dims[:-1], d.type.size
    known = all(kind in (DEFLATE, SHUFFLE, FLETCHER) for kind, _ in d.filters)
    if index or not known:
        swell(name, spec.nbytes, file.end, label)
        swell(f"{name} (one chunk of it)", prod(shape) * width, file.end, label)
        return StoredTensor(name, spec, read=_by_h5py(path, name, spec))
    chunks = [] if root == NOWHERE else _chunks(file, name, d, root, shape)
    stored = sum(c.size for c in chunks)
    swell(name, spec.nbytes, stored, label)
    if d.filters or prod(shape) * width > 2 * spec.nbytes + 4096:
        swell(f"{name} (one chunk of it)", prod(shape) * width, stored, label)
    whole = _rows(d, shape, chunks, spec, width, name, label)
    if whole is not None:
        return StoredTensor(name, spec, tuple(Extent(path, c.offset, n) for c, n in whole))
    lacking = prod(-(-n // c) for n, c in zip(d.shape, shape, strict=True)) - len(chunks)
    if lacking:
        findings.append(
            Finding(
                "warning",
                "hdf5",
                printable(name),
                f"{lacking:,} chunks of {printable(name)} were never written: their elements are the fill value",
            )
        )
    fill = d.fill if len(d.fill) == width else bytes(width)
    return StoredTensor(name, spec, read=_reader(path, name, d, shape, tuple(chunks), fill))


def _chunks(file: File, name: str, d: Dataset, root: int, shape: tuple[int, ...]) -> list[Chunk]:
    """Every chunk that the B-tree lists, in its order: row-major."""
    rank = len(shape)
    key = unpacker(f"<II{rank + 1}Q")
    raw = prod(shape) * d.type.size
    most = prod(-(-n // c) for n, c in zip(d.shape, shape, strict=True))
    out: list[Chunk] = []
    last: tuple[int, ...] = (-1,)
    for p, at in file.entries(root, 1, 8 + 8 * (rank + 1)):
        size, skipped, *first, _ = key(file.data, p)
        where = tuple(first)
        if len(out) >= most or where <= last or any(a % c or a >= max(n, 1) for a, c, n in zip(first, shape, d.shape, strict=True)):
            raise CorruptError(f"dataset {name}: its index has a chunk at {first}, where none belongs", path=file.path)
        last = where
        if at + size > file.end:
            raise CorruptError(
                f"dataset {name}: the chunk at {first} ends at byte {at + size:,}; the file ends at {file.end:,}", path=file.path
            )
        if not d.filters and size != raw:
            raise CorruptError(f"dataset {name}: the chunk at {first} has {size:,} bytes, its shape needs {raw:,}", path=file.path)
        out.append(Chunk(where, file.origin + at, size, skipped))
    return out


def _rows(
    d: Dataset, shape: tuple[int, ...], chunks: list[Chunk], spec: TensorSpec, width: int, name: str, label: str
) -> list[tuple[Chunk, int]] | None:
    """(chunk, bytes of it) where the chunks are not packed, all there, and each a run of whole rows; else None."""
    if d.filters or not d.shape or shape[1:] != d.shape[1:] or len(chunks) != -(-d.shape[0] // shape[0]):
        return None
    row = prod(d.shape[1:]) * width
    return [(c, min(shape[0], d.shape[0] - c.first[0]) * row) for c in chunks]


def _reader(path: str, name: str, d: Dataset, chunk: tuple[int, ...], chunks: tuple[Chunk, ...], fill: bytes) -> Packed:
    """What gives the row-major bytes of a dataset in chunks, a band of chunks at a time."""
    shape, kind, filters = d.shape, d.type, d.filters

    def pieces() -> Iterator[bytes]:
        import numpy as np

        element = np.dtype(("V", kind.size))
        blob = store.open_blob(path)
        i = 0
        try:
            for top in range(0, shape[0], chunk[0]):
                rows = min(chunk[0], shape[0] - top)
                band: NDArray[np.void] = np.frombuffer(bytearray(fill) * (rows * prod(shape[1:])), element).reshape(rows, *shape[1:])
                while i < len(chunks) and chunks[i].first[0] == top:
                    c = chunks[i]
                    i += 1
                    what = f"dataset {name}: the chunk at {list(c.first)}"
                    raw = blob.pread(c.size, c.offset)
                    if len(raw) != c.size:
                        raise CorruptError(f"{what} is cut short", path=path)
                    part = np.frombuffer(unpack(raw, filters, c.skipped, prod(chunk) * kind.size, what, path), element).reshape(chunk)
                    sizes = (rows, *(min(n, m - a) for a, n, m in zip(c.first[1:], chunk[1:], shape[1:], strict=True)))
                    there = tuple(slice(a, a + n) for a, n in zip((0, *c.first[1:]), sizes, strict=True))
                    band[there] = part[tuple(slice(0, n) for n in sizes)]
                yield band.tobytes()
        finally:
            blob.close()

    return Packed(pieces)


def unpack(raw: bytes, filters: Filters, skipped: int, size: int, what: str, path: str) -> bytes:
    """A chunk's `size` bytes from what is stored, the filters undone in the opposite order. Never makes more than `size` bytes."""
    for i in range(len(filters) - 1, -1, -1):
        kind, values = filters[i]
        if skipped >> i & 1:
            continue
        if kind == FLETCHER:
            if len(raw) < 4 or fletcher32(raw[:-4]) != int.from_bytes(raw[-4:], "little"):
                raise CorruptError(f"{what} is damaged: its checksum is not its own", path=path)
            raw = raw[:-4]
        elif kind == DEFLATE:
            d = zlib.decompressobj()
            try:
                raw = d.decompress(raw, size + 4)
                more = not d.eof and d.decompress(d.unconsumed_tail, 1)
            except zlib.error:
                raise CorruptError(f"{what} cannot be unpacked: its data are damaged", path=path) from None
            if more or len(raw) > size + 4:
                raise CorruptError(f"{what} unpacks to more than the {size:,} bytes that it should be", path=path)
        elif kind == SHUFFLE:
            import numpy as np

            width = values[0] if values else 1
            n = len(raw) // width if width else 0
            if n and width > 1:
                raw = np.frombuffer(raw, np.uint8, n * width).reshape(width, n).T.tobytes() + raw[n * width :]
    if len(raw) != size:
        raise CorruptError(f"{what} unpacks to {len(raw):,} bytes, its shape needs {size:,}", path=path)
    return raw


def fletcher32(raw: bytes) -> int:
    """HDF5's Fletcher checksum: over big-endian words of two bytes, an odd last byte being the high one."""
    import numpy as np

    words = np.frombuffer(raw + bytes(len(raw) % 2), ">u2")
    a = b = 0
    for i in range(0, len(words), 1 << 15):
        block = words[i : i + (1 << 15)].astype(np.uint64)
        sums = np.cumsum(block)
        b = (b + a * len(block) + int(sums.sum())) % 65535
        a = (a + int(sums[-1])) % 65535
    # the sums are folded, not reduced, in the library: 65535 stands for what is 0 here
    a, b = (a or (65535 if raw.strip(b"\0") else 0)), (b or (65535 if raw.strip(b"\0") else 0))
    return b << 16 | a


_PROGRAM = """
import sys, resource
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
import h5py
with h5py.File(sys.argv[1], "r") as f:
    d = f[sys.argv[2]]
    rows = max(1, (1 << 24) * len(d) // d.nbytes)
    for i in range(0, len(d), rows):
        sys.stdout.buffer.write(d[i : i + rows].tobytes())
"""


def _by_h5py(path: str, name: str, spec: TensorSpec) -> Packed:
    """What has h5py read a dataset: in a process of its own, so that only that one can be lost to a damaged file."""

    def pieces() -> Iterator[bytes]:
        import subprocess
        import sys
        import tempfile
        from importlib.util import find_spec

        if find_spec("h5py") is None:
            raise UnsupportedError(
                f"dataset {name} is packed in a way that only h5py unpacks",
                path=path,
                hint="install ckptkit with the extra hdf5: pip install '.[hdf5]'",
            )
        left = spec.nbytes
        with (
            tempfile.TemporaryFile() as said,
            subprocess.Popen([sys.executable, "-c", _PROGRAM, path, name], stdout=subprocess.PIPE, stderr=said) as child,
        ):
            assert child.stdout is not None
            while left > 0 and (piece := child.stdout.read(min(1 << 20, left))):
                left -= len(piece)
                yield piece
            more = child.stdout.read(1)
            child.stdout.close()
            status = child.wait()
            said.seek(0)
            words = said.read(1 << 16).decode(errors="replace").strip().splitlines()
        if status or left or more:
            why = words[-1] if words else f"it stopped with status {status}"
            raise CorruptError(f"dataset {name} cannot be unpacked by h5py: {why}", path=path)

    return Packed(pieces)
