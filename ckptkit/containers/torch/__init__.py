"""PyTorch checkpoints: the zip form of `torch.save` (1.6 and later), the legacy form before it, and shards with an index.

Sources: `torch/serialization.py` (both forms), `caffe2/serialize/inline_container.h` (records and version), transformers'
`pytorch_model.bin.index.json`. The zip's directory is read by `zip_archive`, the pickle by `_pickle`, which executes nothing; what the
pickle describes becomes tensors in `state_dict`, of a TorchScript archive in `script`. The tar form of PyTorch 0.1 and pickles without
tensors are refused by name.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from operator import itemgetter
from zlib import crc32

from ... import store
from ..._typing import TYPE_CHECKING, Any, NamedTuple
from ...errors import CheckpointError, CorruptError, UnsupportedError, printable
from ...findings import Finding
from ...limits import LIMITS
from ...support.collector import paused
from ...support.columns import sorts
from ...support.lazy import later
from ...tensors import Check, TensorSpec, sums_of
from .._interface import NOTHING, Checkpoint, FileLayout, Inside, Part
from .._shard_names import BESIDE, is_index

if TYPE_CHECKING:
    from ...support.rows import Rows
    from .._pickle import interpreter
    from .._wire import zip_archive
    from .._wire.zip_archive import Entry
    from . import legacy, purpose, state_dict
    from .state_dict import Locate, Tree
else:
    later(
        globals(),
        interpreter=".._pickle.interpreter",
        legacy=".legacy",
        purpose=".purpose",
        state_dict=".state_dict",
        zip_archive=".._wire.zip_archive",
    )

NAME = "torch"
TITLE = "PyTorch (zip, legacy, shards)"
SUFFIXES = (".bin", ".pt", ".pth", ".ckpt")
MARKS = (".bin.index.", *(f"{s}\n" for s in SUFFIXES))
DEFAULT_FILE = "pytorch_model.bin"
WRITABLE = True
TIES = True
SINGLE = True
STRINGS = False

_INDEX = ".bin.index.json"
_RECORDS = ("data.pkl", "version", "byteorder", ".format_version", ".storage_alignment")
_VERSION = 10  # kMaxSupportedFileFormatVersion
_TAR = (b"sys_info", b"pickle", b"tensors", b"storages", b"attributes")
_AGAIN = "write it again: ckptkit convert --force FILE NEW.pt, or torch.save of what an older version loads"


def _is_tar(head: bytes) -> bool:
    return head[257:262] == b"ustar" and head.split(b"\0", 1)[0].rstrip(b"/") in _TAR


def _is_text_pickle(head: bytes, tail: bytes) -> bool:
    """Whether it looks like a pickle of protocol 0: a global or a container first, STOP last."""
    if not tail.rstrip(b"\n").endswith(b"."):
        return False
    if head[:1] == b"c":
        lines = head[1:].split(b"\n", 2)
        return len(lines) == 3 and all(n.replace(b".", b"").replace(b"_", b"").isalnum() for n in lines[:2])
    return head[:3] in (b"(dp", b"(lp", b"(tp", b"(i\n", b"}q\0", b"]q\0") or head[:2] in (b"(c", b"(i", b"(S", b"(V")


def sniff(head: bytes, tail: bytes, path: str) -> bool:
    """A zip with a data.pkl, PyTorch's magic number, the tar form, an index of .bin shards; any other pickle too, to be refused by name."""
    if head.startswith(b"PK\3\4"):
        n = int.from_bytes(head[26:28], "little")
        return head[30 : 30 + n].endswith(b"data.pkl") or _lists_data_pkl(path)
    if head.startswith((b"PK\7\x08PK\3\4", b"PK00PK\3\4")):
        return _lists_data_pkl(path)
    if len(head) > 1 and head[0] == 0x80 and 1 < head[1] < 6:
        return not path.endswith((".pdparams", ".pdopt"))  # Paddle's
    if head[:1] == b"{" and _is_index(path):
        return True
    return _is_tar(head) or _is_text_pickle(head, tail)


def _lists_data_pkl(path: str) -> bool:
    """Whether a zip's directory, at the end of the file, names a data.pkl."""
    try:
        blob = store.open_blob(path)
    except CheckpointError:
        return False
    try:
        return b"/data.pkl" in _tail(blob, blob.size)
    finally:
        blob.close()


def _tail(blob: store.Blob, size: int) -> bytes:
    """The last MiB, where a zip's directory is."""
    want = min(size, 1 << 20)
    return blob.pread(want, size - want)


def find(directory: str, names: Sequence[str]) -> list[tuple[int, str]]:
    """What a directory listing holds: a whole file before an index, as transformers' loader; the usual names before a sole other file."""
    indexes = [n for n in names if _is_index(n)]
    out = [(13, os.path.join(directory, n)) for n in indexes if n.endswith(_INDEX)]
    for rank, known in ((12, "pytorch_model.bin"), (24, "model.pt"), (24, "model.pth")):
        if known in names:
            out.append((rank, os.path.join(directory, known)))
    if not out and "adapter_config.json" in names and "adapter_model.bin" in names:  # PEFT's
        return [(16, os.path.join(directory, "adapter_model.bin"))]
    if not out:
        out = [(22, os.path.join(directory, n)) for n in indexes]
    if not out:
        others = [os.path.join(directory, n) for n in names if n.endswith(SUFFIXES) and not n.startswith(BESIDE)]
        found = [p for p in others[:100] if _sniff_file(p)]
        out += [(32 if len(found) == 1 else 36, p) for p in found]
    return out


def _is_index(path: str) -> bool:
    return ".bin.index." in path and is_index(path)


def _sniff_file(path: str) -> bool:
    if not store.is_file(path):
        return False
    try:
        blob = store.open_blob(path)
    except CheckpointError:
        return False
    try:
        return sniff(blob.pread(512, 0), blob.pread(64, max(0, blob.size - 64)), path)
    finally:
        blob.close()


def prefix(path: str) -> str | None:
    """PyTorch has no prefixes."""
    return None


def open(path: str) -> Checkpoint:
    """Read a file, or with the path of an index its shards. Raises CheckpointError (see `errors`)."""
    if _is_index(path):
        from .._sharding import open_sharded

        return open_sharded(path, NAME, _open_file)
    return _open_file(path)


def _open_file(path: str) -> Checkpoint:
    """One file, never an index."""
    blob = store.open_blob(path)
    try:
        size = blob.size
        head = blob.pread(512, 0)
        if head.startswith(b"PK"):
            with paused():
                return _open_zip(blob, size, path)
        if _is_tar(head):
            raise UnsupportedError(
                "is PyTorch's tar form of 2016, which is not read",
                path=path,
                hint="load it with PyTorch 0.1 to 2.x (weights_only=False, if you trust it) and save it again",
            )
        with paused():
            return _open_pickles(blob, size, path)
    finally:
        blob.close()


def _open_pickles(blob: store.Blob, size: int, path: str) -> Checkpoint:
    """The legacy form; any other pickle is refused with the globals that it names."""
    stream = legacy.Stream(blob, size, path)
    first = stream.next()
    if type(first) is int and first == legacy.MAGIC:
        value, tree, found, locate = legacy.read_legacy(stream)
        if not tree.tensors and not tree.unread and value != {}:
            raise _refusal(value, tuple(stream.opaque), path, "a torch.save")
        ckpt = _checkpoint(path, tree, found)
        _audit(ckpt, stream.data, value, locate)
        return ckpt
    raise _refusal(first, tuple(stream.opaque), path, "a plain pickle")


def _refusal(value: object, opaque: tuple[str, ...], path: str, what: str) -> UnsupportedError:
    """The error for a pickle that holds no checkpoint: what it is, and what it names."""
    kind = f"{printable(value.module)}.{printable(value.name)}" if isinstance(value, interpreter.Opaque) else f"a {type(value).__name__}"
    names = (
        f"; it names {', '.join(printable(n, 80) for n in opaque[:8])}{', ...' if len(opaque) > 8 else ''}, never called here"
        if opaque
        else ""
    )
    return UnsupportedError(
        f"is {what} of {kind}, not a PyTorch checkpoint: it holds no tensors that torch.save wrote{names}",
        path=path,
        hint="training arguments, tokenizers and optimizers lie beside the weights; name the file with the weights",
    )


def _open_zip(blob: store.Blob, size: int, path: str) -> Checkpoint:
    """The zip form. Raises CorruptError, UnsupportedError (big-endian, compressed)."""
    archive = _archive(blob, size, path)
    if archive.program:
        from .script import read_script

        small = _small_records(blob, archive.entries, archive.root, archive.summed, path)
        read, found = read_script(archive.entries, archive.root, lambda e: _record(blob, e, archive.summed, path), path)
        ckpt = _checkpoint(path, read, [f for f in small if f.rule != "records"] + found)  # its code lies there too
        ckpt._checks = archive.checks
        return ckpt
    held = _read_archive(blob, archive, ())
    tree = state_dict.read_tree(held.value, held.locate, path, held.rebuilt)
    if not tree.tensors and not tree.unread and held.value != {}:
        raise _refusal(held.value, held.opaque, path, "a torch.save")
    ckpt = _checkpoint(path, tree, held.findings)
    ckpt._checks = held.checks
    _audit(ckpt, held.raw, held.value, held.locate)
    if store.is_url(path):
        _hold_later(ckpt)
    return ckpt


def _hold_later(ckpt: Checkpoint) -> None:
    """Have the archive's second set of headers, a request each, held against its directory where all bytes are read."""
    before, path = ckpt.audit, ckpt.path
    said = "the local headers in the archive are not looked at from afar; validate --integrity does"
    ckpt.findings.append(Finding("info", "records", os.path.basename(path), said))

    def audit() -> list[Finding]:
        blob = ckpt.blob(path)
        zip_archive.hold_headers(blob, blob.size, path)
        return [*before()]

    ckpt.audit = audit


class Archive(NamedTuple):
    """The zip of a torch.save file, or of a TorchScript `program`: its entries, the folder that all lie in, whether it keeps checksums."""

    path: str
    entries: dict[str, Entry]
    root: str
    summed: bool
    program: bool

    def checks(self) -> Iterator[Check]:
        """The checksums of what is stored as it is."""
        held = list(self.entries.values()) if self.summed else []
        if any(map(itemgetter(6), held)):
            held = [e for e in held if not e.method]
        return sums_of(self.path, "crc32", [e[0] for e in held], [e[2] for e in held], [e[3] for e in held], [e[4] for e in held])


def _archive(blob: store.Blob, size: int, path: str) -> Archive:
    """A zip's directory. Raises CorruptError, UnsupportedError (compressed)."""
    deflated = store.is_url(path) or b"/constants.pkl" in _tail(blob, size)  # a program's code is compressed
    entries = zip_archive.read_directory(blob, size, path, deflated=deflated)
    text = "\n".join(["", *entries, ""])
    pickles, at = [], text.find("data.pkl\n")
    while at >= 0:  # in the text of all names
        if text[at - 1] in "\n/":
            pickles.append(text[text.rindex("\n", 0, at) + 1 : at + len("data.pkl")])
        at = text.find("data.pkl\n", at + 1)
    if len(pickles) != 1:
        raise CorruptError(f"a PyTorch zip has one data.pkl; this has {printable(', '.join(pickles[:4]), 200) or 'none'}", path=path)
    root = pickles[0][: -len("data.pkl")]
    program = root + "constants.pkl" in entries or f"\n{root}code/" in text
    packed = next((e.name for e in sorts(entries, 6)[1] if e.method), None)
    if packed is not None and not program:
        raise UnsupportedError(f"entry {printable(packed)} is compressed; PyTorch stores its records", path=path)
    return Archive(path, entries, root, any(e.crc for e in entries.values()), program)


class Held(NamedTuple):
    """What a torch.save file holds: the value that its pickle describes, what finds the bytes of a storage, how many tensors were rebuilt,
    the checksums, the findings, the names in the pickle that are not on the allow-list, its bytes, and the name that the file was saved
    under, without its suffix ("archive" where it was saved under none)."""

    value: Any
    locate: Locate
    rebuilt: int
    checks: Callable[[], Iterator[Check]]
    findings: list[Finding]
    opaque: tuple[str, ...]
    raw: bytes
    called: str


def read_zip(blob: store.Blob, size: int, path: str, known: Container[str] = ()) -> Held:
    """Read the zip form. `known` are names that the pickle may hold as data, of which nothing is said. Raises CheckpointError."""
    archive = _archive(blob, size, path)
    if archive.program:
        raise UnsupportedError("is a TorchScript archive (torch.jit.save), a program", path=path)
    return _read_archive(blob, archive, known)


def _read_archive(blob: store.Blob, archive: Archive, known: Container[str]) -> Held:
    path, entries, root, summed, _ = archive
    found = _small_records(blob, entries, root, summed, path)
    data = entries[root + "data.pkl"]
    LIMITS.check("pickle_bytes", data.size, f"the size of {data.name}", path)
    raw = _record(blob, data, summed, path)
    got = interpreter.load(raw, path=f"{path}/{data.name}")
    opaque = tuple(n for n in got.opaque if n not in known)
    whole = purpose.module_finding(got.value, opaque, os.path.basename(path))
    pickled = interpreter.findings(opaque, os.path.basename(path), got.calls, got.refused)
    found += pickled if whole is None else [whole, *(f for f in pickled if f.severity == "error")]
    if got.end != data.size:
        found.append(
            Finding("warning", "trailing", data.name, f"{data.size - got.end:,} bytes follow the end of the pickle; nothing reads them")
        )
    locate = state_dict.Records(entries, root + "data/", path)
    found += state_dict.lengths(got.storages, locate, _AGAIN)
    return Held(got.value, locate, len(got.storages), archive.checks, found, opaque, raw, root.rstrip("/"))


def _audit(ckpt: Checkpoint, raw: bytes, value: object, locate: Locate) -> None:
    """Have the sparse tensors of a pickle looked at when the weights are."""
    if b"_rebuild_sparse_tensor" in raw:
        from .sparse import audit, sparse_tensors

        if found := sparse_tensors(value):
            ckpt.audit = audit(found, locate, ckpt.path)


def _checkpoint(path: str, tree: Tree, found: list[Finding]) -> Checkpoint:
    made = Checkpoint(
        path, NAME, tree.tensors, files=[path], extras=tree.extras, wrapper=tree.wrapper, beside=tree.beside, findings=found + tree.findings
    )
    made.passing = tree.passing
    made.parts, made.unread, made.classes, made.special, made.settings = tree.parts, tree.unread, tree.classes, tree.special, tree.settings
    return made


def _record(blob: store.Blob, e: Entry, summed: bool, path: str) -> bytes:
    """A small record's bytes, held against their checksum."""
    raw = blob.pread(e.size, e.start)
    if len(raw) != e.size or (summed and crc32(raw) != e.crc):
        raise CorruptError(f"entry {printable(e.name)} is damaged: its CRC32 is not the one the file keeps", path=path)
    return raw


def _small_records(blob: store.Blob, entries: dict[str, Entry], root: str, summed: bool, path: str) -> list[Finding]:
    """Findings about byteorder, version and missing checksums. Raises UnsupportedError for big-endian files."""
    found = []
    where = os.path.basename(path)
    order = entries.get(root + "byteorder")
    if order is not None:
        raw = _record(blob, order._replace(size=min(order.size, 64)), False, path)
        if raw == b"big":
            raise UnsupportedError(
                "was written on a big-endian machine", path=path, hint="load and save it again with PyTorch on a usual machine"
            )
        if raw != b"little":
            raise CorruptError(f"its byteorder is {printable(raw)}, neither little nor big", path=path)
    version = entries.get(root + "version") or entries.get(root + ".data/version")
    if version is None:
        found.append(Finding("error", "version", where, "it has no record called version: torch.load refuses the file", _AGAIN))
    else:
        raw = _record(blob, version._replace(size=min(version.size, 64)), False, path).strip()
        if not raw.isdigit() or len(raw) > 9 or not 0 < int(raw) <= _VERSION:
            text = f"its format version is {printable(raw)}; those known are 1 to {_VERSION}, and torch.load refuses others"
            found.append(Finding("error", "version", where, text))
    alignment = entries.get(root + ".storage_alignment")
    if alignment is not None:
        raw = _record(blob, alignment._replace(size=min(alignment.size, 64)), False, path)
        if alignment.size > 64 or not raw.strip().isdigit():
            text = f"its .storage_alignment is {printable(raw, 40)}, no number: torch.load refuses the file"
            found.append(Finding("error", "version", where, text, _AGAIN))
    own, records = len(root), root + "data/"
    others = [
        n
        for n in [n for n in entries if not n.startswith(records)]
        if not n.startswith(root) or (n[own : own + 5] not in ("data/", ".data") and n[own:] not in _RECORDS and n[-1] != "/")
    ]
    if others:
        more = f" (and {len(others) - 1:,} more)" if len(others) > 1 else ""
        found.append(Finding("warning", "records", printable(others[0]), f"is no part of what torch.save writes{more}; nothing reads it"))
    if not summed:
        found.append(Finding("info", "checksum", where, "was saved without checksums: damage to it cannot be noticed"))
    return found


def layout(
    tensors: Sequence[tuple[str, TensorSpec]],
    *,
    filename: str,
    ties: Mapping[str, str] = {},
    inside: Inside = NOTHING,
    max_shard_size: int | None = None,
) -> FileLayout:
    """The files of a checkpoint as torch.save makes them (see `write`). `metadata` has no place in them and is left out."""
    from .write import make_layout

    if inside.strings:
        raise UnsupportedError(f"PyTorch has no string tensors: {printable(next(iter(inside.strings)))}")
    return make_layout(NAME, tensors, filename, ties, inside.extras, inside.wrapper, max_shard_size)


def finish(layout: FileLayout, crcs: Mapping[str, int]) -> Iterator[Part]:
    """Data descriptors, directories and end records, now that every slot's CRC32 is known."""
    from .write import make_finish

    return make_finish(layout, crcs)


def finish_rows(layout: FileLayout, crcs: Mapping[str, int]) -> Iterator[Part | Rows]:
    """`finish`, with what follows the tensors of a file in rows."""
    from .write import make_rows

    return make_rows(layout, crcs)


def behind(layout: FileLayout) -> Callable[[int, int, Sequence[int]], list[bytes]]:
    """What follows neighbouring tensors of a file (see `write.make_behind`), for whoever has their checksums while writing them."""
    from .write import make_behind

    return make_behind(layout)


def finish_rest(layout: FileLayout, crcs: Mapping[str, int]) -> Iterator[Part]:
    """`finish` without that."""
    from .write import make_rest

    return make_rest(layout, crcs)
