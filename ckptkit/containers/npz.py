"""numpy's `.npz` files: a zip of .npy arrays, stored (`numpy.savez`) or deflated (`numpy.savez_compressed`).

Source: numpy/lib/_npyio_impl.py and numpy/lib/format.py; the zip by `zip_archive`, the arrays' headers by `npy_header`. A tensor's name is
its entry's without `.npy`. Stored arrays are extents; a deflated one is unpacked when it is asked for, never to more than its header says.
Object arrays, which only a pickle can carry, are refused. Marian keeps its configuration in an array of characters, which is no tensor:
extras["special:model.yml"] has its text, and its words have one row more, of zeros: that of padding, which Marian makes itself, and
transformers keeps (marian-dev src/common/io.cpp; transformers models/marian convert_marian_to_pytorch.py).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence

from .. import store
from .._typing import TYPE_CHECKING, Any, cast
from ..errors import CorruptError, LimitError, UnsupportedError, UsageError, printable
from ..limits import LIMITS
from ..tensors import Check, Extent, StoredTensor, TensorSpec
from ._interface import NOTHING, Checkpoint, FileLayout, Inside, Packed, Part, Slot

if TYPE_CHECKING:
    from ._wire.zip_archive import Entry

NAME = "npz"
TITLE = "numpy archive (.npz)"
SUFFIXES: tuple[str, ...] = (".npz",)
DEFAULT_FILE = "model.npz"
WRITABLE = True
TIES = False
SINGLE = True
STRINGS = False

SMALL = 1 << 20  # bytes: what is stored may swell by the limit unpack_ratio at most, unless it stays below this
_WRITER = "numpy.savez"
SETTINGS = "special:model.yml"
PADDED = {"Wemb": 0, "encoder_Wemb": 0, "decoder_Wemb": 0, "decoder_ff_logit_out_b": 1}  # array -> the axis of Marian's words
_RUN = 1 << 20  # bytes read at once


def sniff(head: bytes, tail: bytes, path: str) -> bool:
    """A zip whose first entry is a .npy file, or that is named .npz."""
    if not head.startswith((b"PK\3\4", b"PK\5\6")):
        return False
    return path.endswith(SUFFIXES) or head[30 : 30 + int.from_bytes(head[26:28], "little")].endswith(b".npy")


def find(directory: str, names: Sequence[str]) -> list[tuple[int, str]]:
    """model.npz (29), else the .npz files there are (44)."""
    if DEFAULT_FILE in names:
        return [(29, os.path.join(directory, DEFAULT_FILE))]
    return [(44, os.path.join(directory, n)) for n in names if n.endswith(SUFFIXES)][:100]


def prefix(path: str) -> str | None:
    """npz files are named in full."""
    return None


def open(path: str) -> Checkpoint:
    """The arrays of a file, no weight read. Raises CorruptError, UnsupportedError, LimitError."""
    from ..support.collector import paused
    from ._wire.zip_archive import read_directory

    blob = store.open_blob(path)
    try:
        with paused():
            entries = read_directory(blob, blob.size, path, writer=_WRITER, deflated=True, old_names=True)
            return _open(blob, entries, path)
    finally:
        blob.close()


def _open(blob: store.Blob, entries: Mapping[str, Entry], path: str) -> Checkpoint:
    tensors: dict[str, StoredTensor] = {}
    for e in entries.values():
        if not e.name.endswith(".npy"):
            raise UnsupportedError(f"is a zip with the entry {printable(e.name, 100)}, which is no .npy array", path=path)
        name = e.name.removesuffix(".npy")
        tensors[name] = _tensor(blob, e, name, path)
    settings = tensors.get(SETTINGS)
    extras: dict[str, object] = {}
    if settings is not None and settings.spec.dtype in ("I8", "U8") and len(settings.spec.shape) == 1:
        LIMITS.check("config_text", settings.spec.nbytes, f"the number of characters of {SETTINGS}")
        extras[SETTINGS] = _text(tensors.pop(SETTINGS))
        tensors = {n: _with_row(t, PADDED[n]) if n in PADDED else t for n, t in tensors.items()}
    if not tensors:
        raise UnsupportedError("is an empty zip: it holds no arrays", path=path)

    def checks() -> Iterator[Check]:
        for e in entries.values():
            if not e.method:
                yield Check(e.name, "crc32", (Extent(path, e.start, e.size),), e.crc)

    return Checkpoint(path, NAME, tensors, files=(path,), extras=extras, checks=checks)


def _with_row(t: StoredTensor, axis: int) -> StoredTensor:
    """A tensor with one row of zeros more along an axis before which there is nothing; another as it is."""
    shape = t.spec.shape
    if len(shape) != 2 or t.strides is not None or (axis and shape[0] != 1):
        return t
    spec = TensorSpec(t.spec.dtype, tuple(n + (i == axis) for i, n in enumerate(shape)))

    def pieces() -> Iterator[bytes]:
        if isinstance(t.read, Packed):
            yield from t.read.pieces()
        for x in t.extents:
            blob = store.open_blob(x.path)
            try:
                for at in range(0, x.length, _RUN):
                    yield blob.pread(min(_RUN, x.length - at), x.offset + at)
            finally:
                blob.close()
        yield bytes(spec.nbytes - t.spec.nbytes)

    return t._replace(spec=spec, extents=(), read=Packed(pieces))


def _text(t: StoredTensor) -> str:
    """The text of an array of characters, which ends at the first zero."""
    raw = b"".join(t.read.pieces() if isinstance(t.read, Packed) else (store.read_bytes(x.path)[x.offset :][: x.length] for x in t.extents))
    return raw.partition(b"\0")[0].decode("utf-8", "replace")


def _tensor(blob: store.Blob, e: Entry, name: str, path: str) -> StoredTensor:
    from ._wire.npy_array import row_major, stored_array
    from ._wire.npy_header import MAX_HEADER, header

    label = os.path.join(path, e.name)
    want = min(e.size, MAX_HEADER + 12)
    if e.method:
        if e.size > SMALL and e.size > LIMITS.unpack_ratio * e.packed:
            hint = "where you trust its writer, save it with numpy.savez, which does not compress, or --limit unpack_ratio=N"
            what = f"{printable(e.name)} is said to have {e.size:,} bytes, of which {e.packed:,} are stored"
            raise LimitError(f"{what}, over the limit unpack_ratio={LIMITS.unpack_ratio}", path=path, hint=hint)
        head = _inflate(blob.pread(min(e.packed, want + 1024), e.start), want, label)
    else:
        head = blob.pread(want, e.start)
    h = header(head, e.size, label, swapped=True)
    if not e.method:
        return stored_array(name, h, path, e.start + h.start)
    return StoredTensor(name, h.spec, read=Packed(lambda: row_major(_unpacked(path, e, h.start), h)))


def _inflate(raw: bytes, most: int, label: str) -> bytes:
    """The first `most` bytes that `raw` unpacks to."""
    import zlib

    try:
        return zlib.decompressobj(-15).decompress(raw, most)
    except zlib.error:
        raise CorruptError(f"cannot be unpacked: its first {len(raw):,} bytes are damaged", path=label) from None


def _unpacked(path: str, e: Entry, start: int) -> Iterator[bytes]:
    """The bytes of a deflated array, its checksum held against them."""
    import zlib

    label = os.path.join(path, e.name)
    blob = store.open_blob(path)
    try:
        d = zlib.decompressobj(-15)
        crc = made = at = 0
        raw = b""
        while not d.eof:
            if not raw:
                raw = blob.pread(min(1 << 18, e.packed - at), e.start + at)
                at += len(raw)
            try:
                piece = d.decompress(raw, min(1 << 20, e.size - made + 1))
            except zlib.error:
                raise CorruptError(
                    f"cannot be unpacked: its data are damaged before byte {e.start + at:,} of the archive", path=label
                ) from None
            if not piece and not raw:  # with nothing more to unpack it may still give what it held back
                break
            raw = d.unconsumed_tail
            crc = zlib.crc32(piece, crc)
            skip = max(0, start - made)
            made += len(piece)
            if made > e.size:
                raise CorruptError(f"unpacks to more than the {e.size:,} bytes that it is said to have", path=label)
            yield piece[skip:]
    finally:
        blob.close()
    if made != e.size or crc != e.crc:
        raise CorruptError(f"is damaged: the {made:,} bytes that it unpacks to are not what its checksum is of", path=label)


def layout(
    tensors: Sequence[tuple[str, TensorSpec]],
    *,
    filename: str,
    ties: Mapping[str, str] = {},
    inside: Inside = NOTHING,
    max_shard_size: int | None = None,
) -> FileLayout:
    """One zip of .npy files, stored, each array's bytes on a multiple of 64. numpy has no ties, metadata or text: they are left out, but
    for Marian's settings."""
    from zlib import crc32

    from ._wire.npy_header import write_header
    from ._wire.zip_write import directory_size, local_header, place

    specs: dict[str, TensorSpec] = {}
    for name, spec in tensors:
        if name in ties:
            continue
        if name in specs or not _holds(name):
            raise UsageError(f"numpy archives cannot hold {'two tensors' if name in specs else 'a tensor'} named {name!r}")
        specs[name] = spec
    if max_shard_size is not None and sum(s.nbytes for s in specs.values()) > max_shard_size:
        raise UnsupportedError(f"{TITLE} is one file, never shards", hint="leave --max-shard-size out, or write safetensors")
    heads = [write_header(spec) for spec in specs.values()]
    entries = [(f"{name}.npy", len(head) + spec.nbytes) for (name, spec), head in zip(specs.items(), heads, strict=True)]
    said = inside.extras.get(SETTINGS)
    text = said.encode() + b"\0" if isinstance(said, str) else b""
    whole = write_header(TensorSpec("I8", (len(text),))) + text if text else b""
    records = place([*entries, *([(f"{SETTINGS}.npy", len(whole))] if whole else [])])
    parts = [Part(0, r.header, local_header(r) + whole) for r in records[len(entries) :]]
    slots: dict[str, Slot] = {}
    for (name, spec), head, r in zip(specs.items(), heads, records[: len(entries)], strict=True):
        parts.append(Part(0, r.header, local_header(r) + head))
        slots[name] = Slot(0, r.start + len(head), spec.nbytes)
    size = (records[-1].end if records else 0) + directory_size(records)
    state: dict[str, object] = {"records": [list(r) for r in records], "names": list(specs), "heads": [[crc32(h), len(h)] for h in heads]}
    state |= {"settings": crc32(whole)} if whole else {}
    return FileLayout(NAME, ((filename, size),), slots, tuple(parts), "crc32", state)


def _holds(name: str) -> bool:
    """Whether a name may be an entry's: one that stays inside, and that every reader takes for the same."""
    return name.isprintable() and "\\" not in name and ":" not in name[:2] and all(p not in ("", ".", "..") for p in name.split("/"))


def finish(layout: FileLayout, crcs: Mapping[str, int]) -> tuple[Part, ...]:
    """What follows each array's bytes, and the directory."""
    from ..support.crc32 import combine
    from ._wire.zip_write import Record, descriptor, directory

    records = [Record(*r) for r in cast("list[list[Any]]", layout.state["records"])]
    names, heads = cast("list[str]", layout.state["names"]), cast("list[list[int]]", layout.state["heads"])
    sums = [combine(crc, crcs.get(name, 0), layout.slots[name].length) for name, (crc, _) in zip(names, heads, strict=True)]
    sums += [cast("int", layout.state["settings"])] if "settings" in layout.state else []
    needs = [frozenset((n,)) for n in names] + [frozenset[str]()] * (len(sums) - len(names))
    parts = [Part(0, r.start + r.size, descriptor(r, crc), n) for r, crc, n in zip(records, sums, needs, strict=True)]
    return (*parts, Part(0, records[-1].end if records else 0, directory(records, sums), frozenset(names)))
