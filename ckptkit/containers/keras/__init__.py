"""Keras 3's `.keras` archives: a zip of config.json, metadata.json and model.weights.h5, none of them compressed.

Source: keras/src/saving/saving_lib.py. The tensors are those of model.weights.h5, read where they lie in the archive (`hdf5`); the
two JSON files go into the metadata as `keras:config.json` and `keras:metadata.json`, so that the archive can be written again. The
configuration is data here: no layer is made, no class imported, no Lambda unmarshalled; what it names beyond Keras' own is a finding
(`model_config`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence

from ... import store
from ..._typing import TYPE_CHECKING, Any, cast
from ...errors import CheckpointError, CorruptError, UnsupportedError, printable
from ...findings import Finding
from ...limits import LIMITS
from ...tensors import Check, Extent, TensorSpec
from .._interface import NOTHING, Checkpoint, FileLayout, Inside, Part, Slot

if TYPE_CHECKING:
    from .._wire.zip_archive import Entry

NAME = "keras"
TITLE = "Keras 3 archive (.keras)"
SUFFIXES: tuple[str, ...] = (".keras",)
DEFAULT_FILE = "model.keras"
WRITABLE = True
TIES = True
SINGLE = True
STRINGS = False
CONFIGURED = True  # needs the model's own configuration besides its tensors
KEEPS = ("hdf5:", "keras:")  # the metadata that it has a place for, by their beginnings

CONFIG, METADATA, WEIGHTS = "config.json", "metadata.json", "model.weights.h5"
PREFIX = "keras:"
_FIRST = (CONFIG.encode(), METADATA.encode(), WEIGHTS.encode(), b"assets/")


def sniff(head: bytes, tail: bytes, path: str) -> bool:
    """A zip whose first entry is one of Keras', or that is named like one of Keras'."""
    if not head.startswith(b"PK\3\4"):
        return False
    return head[30 : 30 + int.from_bytes(head[26:28], "little")].startswith(_FIRST) or path.endswith(SUFFIXES)


def find(directory: str, names: Sequence[str]) -> list[tuple[int, str]]:
    """model.keras (25: it has its configuration, which the model.weights.h5 beside it has not), else the .keras files there are (34)."""
    if DEFAULT_FILE in names:
        return [(25, os.path.join(directory, DEFAULT_FILE))]
    return [(34, os.path.join(directory, n)) for n in names if n.endswith(SUFFIXES)][:100]


def prefix(path: str) -> str | None:
    """Archives are named in full."""
    return None


def open(path: str) -> Checkpoint:
    """The tensors of an archive, no weight read. Raises CorruptError, UnsafeError, UnsupportedError, LimitError."""
    from ...support.collector import paused

    blob = store.open_blob(path)
    try:
        with paused():
            return _open(blob, blob.size, path)
    finally:
        blob.close()


def _open(blob: store.Blob, size: int, path: str) -> Checkpoint:
    from .._wire.zip_archive import read_directory
    from ..hdf5 import read
    from .model_config import judge

    entries = read_directory(blob, size, path, writer="Keras")
    weights = entries.get(WEIGHTS)
    if weights is None:
        other = next((n for n in entries if n.startswith("model.weights")), None)
        if CONFIG in entries or other is not None:
            what = f"its weights are {printable(other)}" if other else "it has no model.weights.h5"
            raise UnsupportedError(
                f"is a Keras archive whose weights cannot be read: {what}", path=path, hint="save it again with model.save('model.keras')"
            )
        raise UnsupportedError(
            f"is a zip, but no Keras archive: it holds {printable(', '.join(list(entries)[:4]), 120) or 'nothing'}", path=path
        )
    findings: list[Finding] = []
    metadata: dict[str, str] = {}
    for name in (CONFIG, METADATA):
        e = entries.get(name)
        if e is None:
            findings.append(Finding("warning", "keras-config", name, f"the archive has no {name}: Keras would not load it"))
            continue
        LIMITS.check("json_bytes", e.size, f"the size of {name}", path)
        metadata[PREFIX + name] = _text(blob, e, path)
    if PREFIX + CONFIG in metadata:
        findings += judge(metadata[PREFIX + CONFIG], f"{os.path.basename(path)}:{CONFIG}")
    rest = [n for n in entries if n not in (CONFIG, METADATA, WEIGHTS)]
    if rest:
        said = f"the archive also holds {printable(', '.join(rest[:4]), 200)}{', ...' if len(rest) > 4 else ''}, which is not carried over"
        findings.append(Finding("info", "extras", os.path.basename(path), said))
    if not weights.size:
        raise CorruptError(f"its {WEIGHTS} is empty", path=path)
    try:
        with (
            blob.mapped() as data,
            store.view_of(data) as whole,
            whole[weights.start : weights.start + weights.size] as view,
        ):
            inner = read(view, weights.start, path, os.path.join(path, WEIGHTS), data)
    except CheckpointError as e:
        if e.path is None:
            e.path = printable(path)
        raise
    inner.metadata = {**metadata, **inner.metadata}

    def checks() -> Iterator[Check]:
        for e in entries.values():
            yield Check(e.name, "crc32", (Extent(path, e.start, e.size),), e.crc)

    checkpoint = Checkpoint(
        path, NAME, inner.tensors, files=(path,), metadata=inner.metadata, findings=findings + inner.findings, checks=checks
    )
    checkpoint.aliases, checkpoint.called = inner.aliases, inner.called
    return checkpoint


def _text(blob: store.Blob, e: Entry, path: str) -> str:
    """A small entry's text, held against its checksum."""
    from zlib import crc32

    raw = blob.pread(e.size, e.start)
    if len(raw) != e.size or crc32(raw) != e.crc:
        raise CorruptError(f"entry {printable(e.name)} is damaged: its CRC32 is not the one the file keeps", path=path)
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise CorruptError(f"entry {printable(e.name)} is not UTF-8", path=path) from None


def layout(
    tensors: Sequence[tuple[str, TensorSpec]],
    *,
    filename: str,
    ties: Mapping[str, str] = {},
    inside: Inside = NOTHING,
    max_shard_size: int | None = None,
) -> FileLayout:
    """The archive as Keras writes it: metadata.json, config.json, model.weights.h5. Raises UnsupportedError where there is no
    configuration."""
    from zlib import crc32

    from .._wire.zip_write import descriptor, directory_size, local_header, place
    from ..hdf5 import lay_out

    lacking = [n for n in (CONFIG, METADATA) if PREFIX + n not in inside.metadata]
    if lacking:
        raise UnsupportedError(
            f"a .keras archive needs the model's configuration ({lacking[0]}), and the source has none",
            hint="write the weights alone: --container hdf5 (model.weights.h5)",
        )
    built = lay_out(tensors, ties, inside.metadata, max_shard_size)
    texts = [(n, inside.metadata[PREFIX + n].encode()) for n in (METADATA, CONFIG)]
    records = place([*((n, len(raw)) for n, raw in texts), (WEIGHTS, built.size)])
    head = b"".join(local_header(r) + raw + descriptor(r, crc32(raw)) for r, (_, raw) in zip(records, texts, strict=False))
    weights = records[-1]
    parts = (Part(0, 0, head + local_header(weights) + built.head),)
    specs = dict(tensors)
    slots = {n: Slot(0, weights.start + at, specs[n].nbytes) for n, at in built.offsets.items()}
    state: dict[str, object] = {
        "records": [list(r) for r in records], "sums": [crc32(raw) for _, raw in texts], "head": [crc32(built.head), len(built.head)],
        "names": list(slots),
    }  # fmt: skip
    return FileLayout(NAME, ((filename, weights.end + directory_size(records)),), slots, parts, "crc32", state)


def finish(layout: FileLayout, crcs: Mapping[str, int]) -> tuple[Part, ...]:
    """The weights' data descriptor and the directory, now that every tensor's CRC32 is known."""
    from ...support.crc32 import combine
    from .._wire.zip_write import Record, descriptor, directory

    records = [Record(*r) for r in cast("list[list[Any]]", layout.state["records"])]
    names, sums = cast("list[str]", layout.state["names"]), cast("list[int]", layout.state["sums"])
    crc, at = cast("list[int]", layout.state["head"])
    weights = records[-1]
    for name in names:  # in the order in which they lie, a few zeros between them
        slot = layout.slots[name]
        gap = slot.offset - weights.start - at
        crc = combine(combine(crc, _zeros(gap), gap), crcs.get(name, 0), slot.length)
        at += gap + slot.length
    needs = frozenset(names)
    after = Part(0, weights.start + weights.size, descriptor(weights, crc), needs)
    return (after, Part(0, weights.end, directory(records, [*sums, crc]), needs))


def _zeros(n: int) -> int:
    """The CRC32 of `n` zeros."""
    from zlib import crc32

    return crc32(bytes(n))
