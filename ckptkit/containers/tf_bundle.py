"""TensorFlow's V2 checkpoints (tensor bundles): PREFIX.index and PREFIX.data-00000-of-00001.

Source: tensorflow/core/protobuf/tensor_bundle.proto, core/util/tensor_bundle/tensor_bundle.cc. The index is a table
(`_tensorflow.table`) from names to BundleEntryProto, with a BundleHeaderProto under the empty key; the data files are the tensors'
bytes. A partitioned variable has an entry with its slices and, under encoded keys, an entry for each slice; it is
read as one tensor. String tensors hold varint lengths, a checksum of them, and the strings. In an object-based bundle
tensors go by their attribute paths (`_tensorflow.object_graph`), and the graph, a string tensor, is not one of them.
Writing gives the bytes TensorFlow 2 gives for the same tensors: names sorted, no padding, no compression. An object graph is
written too where the metadata holds one, or an empty one: then it is made from the names.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from functools import cache, partial
from itertools import islice
from math import prod
from operator import add, gt, sub

from .. import store
from .._typing import TYPE_CHECKING, Any, cast
from ..errors import CorruptError, UnsupportedError, UsageError
from ..findings import Finding
from ..support.columns import pluck, sorts, texts, tuples
from ..support.lazy import later
from ..tensors import DTYPES, Check, Extent, StoredTensor, TensorSpec, sums_of
from ._foreign import refuse_pointers
from ._interface import NOTHING, OBJECT_GRAPH, Checkpoint, FileLayout, Inside, Part, Slot
from ._tensorflow import paths as tf_paths

if TYPE_CHECKING:
    from ..support import crc32c
    from . import _pieces
    from ._tensorflow import bundle_entry, bundle_write, object_graph, partitions, table
    from ._tensorflow import strings as tf_strings
    from ._tensorflow.bundle_entry import Raw
else:
    later(
        globals(),
        _pieces="._pieces",
        bundle_entry="._tensorflow.bundle_entry",
        bundle_write="._tensorflow.bundle_write",
        crc32c="..support.crc32c",
        object_graph="._tensorflow.object_graph",
        partitions="._tensorflow.partitions",
        table="._tensorflow.table",
        tf_strings="._tensorflow.strings",
    )

_POINTER = 1 << 16  # bytes that no pointer has, and no error of a server
NAME = "tf"
TITLE = "TensorFlow V2 bundle"
SUFFIXES: tuple[str, ...] = (".index",)
MARKS = ("\ncheckpoint\n", ".index\n")
DEFAULT_FILE = "model.ckpt"
WRITABLE = True
TIES = False
SINGLE = False
STRINGS = True

_MANY = 64  # entries from which they are looked at by columns
_STRING = 7
_COUNTER = "save_counter"
_new = tuple.__new__  # a named tuple without its argument handling


def sniff(head: bytes, tail: bytes, path: str) -> bool:
    """An index, or a file that stands for one: a data shard or a .meta beside an index, a state file."""
    if tf_paths.is_table(tail):
        return not tf_paths.is_v1(path)
    prefix = tf_paths.of_data(path) or path.removesuffix(".meta")
    if prefix != path:
        return store.is_file(prefix + ".index")
    if os.path.basename(path) != tf_paths.STATE or not tf_paths.looks_like_state(head):
        return False
    named = tf_paths.target(path)
    return named is None or store.is_file(named + ".index") or not tf_paths.exists(named)


def find(directory: str, names: Sequence[str]) -> list[tuple[int, str]]:
    """What the state file names (25), any index (35), a state file that names nothing here (90)."""
    state = os.path.join(directory, tf_paths.STATE)
    named = tf_paths.target(state) if tf_paths.STATE in names and store.is_file(state) else None
    if named is not None and store.is_file(named + ".index"):
        return [(25, named + ".index")]
    if named is not None and tf_paths.exists(named):
        return []  # V1 files
    indexes = [os.path.join(directory, n) for n in names if n.endswith(".index")]
    found = [(35, p) for p in indexes if store.is_file(p) and tf_paths.is_table(tf_paths.tail(p))]
    return found or ([(90, state)] if named is not None else [])


def prefix(path: str) -> str | None:
    """PREFIX.index for PREFIX, the variables of a SavedModel for its directory."""
    variables = os.path.join(path, "variables", "variables.index")
    return path + ".index" if store.is_file(path + ".index") else variables if store.is_file(variables) else None


def _index_of(path: str) -> str:
    if path.endswith(".index"):
        return path
    data = tf_paths.of_data(path)
    if data is not None:
        return data + ".index"
    if path.endswith(".meta"):
        named = path.removesuffix(".meta")
        raise UsageError("is the graph, which holds no weights", path=path, hint=f"name the prefix: {named}")
    if os.path.basename(path) == tf_paths.STATE:
        return tf_paths.of_state(path) + ".index"
    raise CorruptError("is a TensorFlow index that is not named PREFIX.index, so its data files cannot be found", path=path)


class _Files:
    """The data files of a bundle, looked up when an entry is in them, and which of their bytes are taken."""

    def __init__(self, index: str, count: int) -> None:
        self.index = index
        self.paths = [f"{index.removesuffix('.index')}.data-{i:05d}-of-{count:05d}" for i in range(count)]
        self.sizes: dict[int, int] = {}
        self.taken: list[tuple[int, int, int, str, int, int]] = []  # data file, start, end, name, masked checksum, strings

    def extent(self, raw: Raw, name: str, strings: int = -1) -> Extent:
        """Where an entry's bytes are (`strings` of them if not -1). CorruptError if outside its data file, or that is missing."""
        _, shard, offset, size, masked, _ = raw
        held = self.sizes.get(shard)
        if held is None:
            held = self.look_up(shard, name)
        if offset + size > held:
            start, end = _signed(offset), _signed(offset) + _signed(size)
            what = f"{name!r} is said to be bytes {start} to {end} of {os.path.basename(self.paths[shard])}, which has {held}"
            raise CorruptError(what, path=self.index)
        self.taken.append((shard, offset, offset + size, name, masked, strings))
        return _new(Extent, (self.paths[shard], offset, size))

    def look_up(self, shard: int, name: str) -> int:
        """The size of a data file. CorruptError if there is none."""
        count = len(self.paths)
        if shard >= count:
            raise CorruptError(f"{name!r} is said to be in data file {_signed(shard)} of {count}", path=self.index)
        path = self.paths[shard]
        if not store.is_file(path):
            what = f"the data file {os.path.basename(path)} is missing, which holds {name!r}"
            raise CorruptError(what, path=self.index, hint="every data file must lie beside the index")
        self.sizes[shard] = size = store.file_size(path)
        if not store.is_url(path) or size < _POINTER:  # it is a request, and a longer one is no pointer
            refuse_pointers(path)
        return size

    def checks(self) -> Iterator[Check]:
        """The checksum of every entry."""
        if self.taken and len({t[0] for t in self.taken}) == 1 and max(t[5] for t in self.taken) < 0:
            shards, starts, ends, names, masks, _ = zip(*self.taken, strict=True)
            sums = list(map(crc32c.unmask, masks))
            yield from sums_of(self.paths[shards[0]], "crc32c", names, starts, list(map(sub, ends, starts)), sums)
            return
        for shard, start, end, name, masked, strings in self.taken:
            extent = Extent(self.paths[shard], start, end - start)
            if strings >= 0:
                yield tf_strings.check(extent, strings, masked, name)
            else:
                yield Check(name, "crc32c", (extent,), crc32c.unmask(masked))

    def findings(self) -> Iterator[Finding]:
        """Overlaps, bytes of no tensor, data files that nothing is in."""
        shared: list[str] = []
        unused = dict(self.sizes)
        taken = sorted(self.taken)
        if taken and taken[0][0] == taken[-1][0] and pluck(taken, 1)[1:] == pluck(taken, 2)[:-1]:  # one after another, as writers lay them
            unused[taken[0][0]] -= taken[-1][2] - taken[0][1]
            taken = []
        before, who, at = 0, "", -1
        for shard, start, end, name, _, _ in taken:
            if shard != at:
                before, at = 0, shard
            if end > before:
                if start < before:
                    shared.append(f"{who!r} and {name!r}")
                    start = before
                unused[shard] -= end - start
                before, who = end, name
            elif end > start:
                shared.append(f"{who!r} and {name!r}")
        if shared:
            more = f" (and {len(shared) - 1} more pairs)" if len(shared) > 1 else ""
            yield Finding("warning", "overlap", shared[0], f"tensors share bytes of a data file{more}")
        for shard, size in unused.items():
            if size:
                yield Finding("info", "unused-bytes", os.path.basename(self.paths[shard]), f"{size:,} bytes belong to no tensor")
        for shard, path in enumerate(self.paths):
            if shard not in self.sizes and not store.is_file(path):
                yield Finding("warning", "data-file", os.path.basename(path), "is missing, but no tensor is in it")


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


def open(path: str) -> Checkpoint:
    """Read an index and hold every entry against its data file's size; no data is read.

    Raises CorruptError, UnsupportedError, LimitError, NotFoundError.
    """
    index = _index_of(path)
    count, raws = bundle_entry.load(index)
    files = _Files(index, count)
    findings: list[Finding] = []
    tensors: dict[str, StoredTensor] = {}
    graph = _graph(raws, files)
    slices = {k: raw for k, raw in raws.items() if k[0] == 0} if any(k[0] == 0 for k in islice(raws, 1)) else {}  # keys ascend
    plain = _plain(raws, files) if graph is None and not slices else None
    if plain is not None:
        tensors = plain
    for key, raw in raws.items() if plain is None else ():
        if key[0] == 0:
            continue
        try:
            name = key.decode()
        except UnicodeDecodeError:
            raise CorruptError(f"the name {key!r} is not UTF-8", path=index) from None
        if graph is not None:
            name = name.removesuffix("/.ATTRIBUTES/VARIABLE_VALUE")
            if name in tensors:
                raise CorruptError(f"the path {name!r} is there twice", path=index)
        number, shape, spec, nbytes, _ = raw.kind
        if spec is None:
            findings.append(_left_out(raw, name, files))
        elif raw.slices:
            tensors[name] = _joined(name, key, raw, spec, slices, files)
        elif number == _STRING:
            n = spec.numel
            extent = files.extent(raw, name, n)
            if raw.size < n + 4 and (n or raw.size):
                raise CorruptError(f"{name!r} has {raw.size} bytes, too few for {n} strings", path=index)
            tensors[name] = StoredTensor(name, spec, read=partial(tf_strings.read, extent, n, raw.crc, name))
        else:
            extent = files.extent(raw, name)
            if nbytes != extent.length:
                raise CorruptError(f"{name!r} has {raw.size} bytes where {spec.dtype} {list(shape)} needs {nbytes}", path=index)
            tensors[name] = _new(StoredTensor, (name, spec, (extent,), None, None, None, ()))
            if number in bundle_entry.QUANTISED:
                findings.append(Finding("info", "dtype", name, f"{bundle_entry.QUANTISED[number][1]} is read as {spec.dtype}"))
    findings += [Finding("warning", "slice", repr(key), "the entry of a slice that belongs to no tensor") for key in slices]
    findings += files.findings()
    paths = [index, *(files.paths[i] for i in sorted(files.sizes))]
    checkpoint = Checkpoint(index, NAME, tensors, files=paths, findings=findings, checks=files.checks)
    if graph is not None:
        _by_objects(checkpoint, graph)
    return checkpoint


def _plain(raws: dict[bytes, Raw], files: _Files) -> dict[str, StoredTensor] | None:
    """The tensors where each is what its dtype and shape say and lies whole in a data file, by columns; None where one is anything else."""
    if len(raws) < _MANY:
        return None
    try:
        names = texts(raws)
    except UnicodeDecodeError:
        return None
    of_kind, firsts, _ = sorts(raws, 0)
    usual = [raw[0] for raw in firsts]
    if any(raw[5] for raw in sorts(raws, 5)[1]):
        return None
    if any(kind[2] is None or kind[0] == _STRING or kind[0] in bundle_entry.QUANTISED for kind in usual):
        return None
    shards, offsets, sizes, masked = (pluck(raws, k) for k in (1, 2, 3, 4))
    if sizes != list(map([kind[3] for kind in usual].__getitem__, of_kind)) or max(shards) >= len(files.paths):
        return None
    ends = list(map(add, offsets, sizes))
    held = {shard: files.look_up(shard, names[shards.index(shard)]) for shard in sorted(set(shards), key=shards.index)}
    if any(map(gt, ends, map(held.__getitem__, shards))):
        return None
    n = len(names)
    files.taken += tuples(tuple, [shards, offsets, ends, names, masked, (-1,)], n)
    paths = (files.paths[shards[0]],) if len(held) == 1 else [files.paths[shard] for shard in shards]
    extents = tuples(Extent, [paths, offsets, sizes], n)
    specs = [kind[2] for kind in usual]
    columns = [names, (of_kind, specs), list(zip(extents, strict=True)), (None,), (None,), (None,), ((),)]
    return dict(zip(names, tuples(StoredTensor, columns, n), strict=True))


def _graph(raws: dict[bytes, Raw], files: _Files) -> object_graph.ObjectGraph | None:
    """The object graph of an object-based bundle, whose entry is taken out of `raws`."""
    key = object_graph.KEY.encode()
    raw = raws.get(key)
    if raw is None or raw.kind.number != _STRING or raw.kind.shape or raw.slices or raw.size < 5:
        return None
    del raws[key]
    extent = files.extent(raw, object_graph.KEY, 1)
    return object_graph.ObjectGraph(lambda: tf_strings.read(extent, 1, raw.crc, object_graph.KEY)[0], files.index)


def _by_objects(checkpoint: Checkpoint, graph: object_graph.ObjectGraph) -> None:
    """Name what only the object graph tells: the weights that are keyed in the optimizer, its state, counters, the variables' own names."""
    tensors = checkpoint.tensors
    checkpoint.objects = graph
    keys: dict[str, str] = {}  # of the tensors that do not go by their key
    if any(n.endswith(object_graph.COUNTED) or object_graph.SLOT in n or object_graph.HELD in n for n in tensors):
        renamed, slots = graph.names()
        keys = {n: k for k, n in renamed.items() if object_graph.name_of(k) in tensors}
        if keys:
            moved = {object_graph.name_of(k): n for n, k in keys.items()}
            checkpoint.tensors = tensors = {(m := moved.get(n, n)): t._replace(name=m) for n, t in tensors.items()}
        checkpoint.slots |= {n: of for n, of in slots.items() if n in tensors}
    for n, t in tensors.items():
        if (not t.spec.shape and "/" not in n and DTYPES[t.spec.dtype].kind == "int") or n.startswith("keras_api/metrics/"):
            checkpoint.slots.setdefault(n, "")
    if f"{object_graph.ARCHIVED}0" in tensors:
        checkpoint.repeats = graph.archived(tensors)
    aside = checkpoint.slots.keys() | checkpoint.repeats.keys()
    checkpoint.aliases = cache(lambda: graph.aliases({n: keys.get(n) or object_graph.key_of(n) for n in tensors if n not in aside}))


def _left_out(raw: Raw, name: str, files: _Files) -> Finding:
    """The finding about a tensor of a dtype without an array form. CorruptError for one that does not exist."""
    dtype = bundle_entry.OPAQUE.get(raw.kind.number)
    if dtype is None:
        raise CorruptError(f"{name!r} has dtype {_signed(raw.kind.number)}, which TensorFlow does not have", path=files.index)
    if not raw.slices:
        files.extent(raw, name)
        if dtype == "variant":
            files.taken.pop()  # its checksum is of more than its bytes
    return Finding("warning", "dtype", name, f"a {dtype} tensor, which has no portable form, is left out")


def _joined(
    name: str,
    key: bytes,
    raw: Raw,
    spec: TensorSpec,
    slices: dict[bytes, Raw],
    files: _Files,
) -> StoredTensor:
    """A partitioned variable from its slices, whose entries are taken out of `slices`."""
    index = files.index
    if spec.dtype == "STRING":
        raise UnsupportedError(f"{name!r} is a partitioned string tensor", path=index)
    width = DTYPES[spec.dtype].bits // 8
    pieces = []
    for ranges in raw.slices:
        box = partitions.resolve(ranges, spec.shape, repr(name), index)
        shown = f"{name}[{', '.join(f'{s}:{s + n}' for s, n in box)}]"
        part = slices.pop(partitions.key(key, ranges), None)
        if part is None:
            raise CorruptError(f"the slice {shown!r} is missing", path=index)
        shape = tuple(n for _, n in box)
        if part.kind.number != raw.kind.number or part.kind.shape != shape or part.slices or part.size != prod(shape) * width:
            what = f"the slice {shown!r} is stored as {list(part.kind.shape)} in {_signed(part.size)} bytes"
            raise CorruptError(f"{what}, which is not what {name!r} says", path=index)
        extent = files.extent(part, shown)
        pieces.append(partitions.Piece(box, extent))
    partitions.cover(pieces, spec.shape, repr(name), index)
    return _pieces.joined(name, spec, partitions.boxes_of(pieces))


def layout(
    tensors: Sequence[tuple[str, TensorSpec]],
    *,
    filename: str,
    ties: Mapping[str, str] = {},
    inside: Inside = NOTHING,
    max_shard_size: int | None = None,
) -> FileLayout:
    """Lay out a bundle whose prefix is `filename`, in data files of `max_shard_size` bytes where that can be kept.

    `metadata` may hold an object graph (see `OBJECT_GRAPH`), whose paths and further ones `extras` may give ("object_paths",
    "object_aliases"); a bundle has no place for anything else. `strings` gives the content of STRING tensors. Raises UnsupportedError
    for ties, names and dtypes that a bundle cannot hold, UsageError for missing strings.
    """
    if ties:
        raise UnsupportedError(f"{next(iter(ties))!r} is tied: a TensorFlow bundle stores every tensor of its own")
    prefix = filename.removesuffix(".index")
    keys: dict[str, str] = {}
    made: dict[str, bytes] = {}
    if OBJECT_GRAPH in inside.metadata:
        from ._tensorflow import object_graph_write

        if not inside.metadata[OBJECT_GRAPH] and all(n != _COUNTER for n, _ in tensors):  # tf.train.Checkpoint.restore misses it
            made[_COUNTER] = (1).to_bytes(8, "little")
            tensors = [*tensors, (_COUNTER, TensorSpec("I64", ()))]
        names = [n for n, _ in tensors]
        paths, aliases = (cast(Mapping[str, str], inside.extras.get(k, {})) for k in ("object_paths", "object_aliases"))
        graph, keys = object_graph_write.build(names, object_graph.unpack(inside.metadata[OBJECT_GRAPH]), paths=paths, aliases=aliases)
        tensors = [*tensors, (object_graph.KEY, TensorSpec("STRING", ()))]
        inside = inside._replace(strings={**inside.strings, object_graph.KEY: [graph]})
    made_slots: dict[str, Slot] = {}
    slots: Mapping[str, Slot] = made_slots
    parts: list[Part] = []
    entries: list[list[Any]] = [[] for _ in range(8)]
    sizes = [0]
    alike = bundle_write.alike(tensors) if max_shard_size is None and not made and not keys else None
    if alike is not None:
        entries, slots, sizes = alike
    for name, spec in tensors if alike is None else ():
        bundle_write.key(keys.get(name, name))
        text: bytes | None = None
        crc: int | None = None
        size = spec.nbytes
        if spec.dtype == "STRING":
            items = inside.strings.get(name)
            if items is None or len(items) != spec.numel:
                held = "no" if items is None else len(items)
                raise UsageError(f"{name!r} needs {spec.numel} strings, and {held} were given")
            text, crc = tf_strings.encode(items)
            size = len(text)
        elif name in made:
            text, crc = made[name], crc32c.value(made[name])
        if max_shard_size is not None and sizes[-1] and sizes[-1] + size > max_shard_size:
            sizes.append(0)
        shard, offset = len(sizes) - 1, sizes[-1]
        sizes[-1] += size
        if text is None:
            made_slots[name] = Slot(shard, offset, size)
        else:
            parts.append(Part(shard, offset, text))
        row = name, bundle_write.kind(spec, name), list(spec.shape), shard, offset, size, crc, keys.get(name, name)
        for column, value in zip(entries, row, strict=True):
            column.append(value)
    if len(set(entries[7])) < len(entries[7]):
        raise UsageError("two tensors have the same name")
    state = tf_paths.state_text(prefix)
    parts.append(Part(len(sizes), 0, state))
    files = [(f"{prefix}.data-{i:05d}-of-{len(sizes):05d}", n) for i, n in enumerate(sizes)]
    files += [(tf_paths.STATE, len(state)), (f"{prefix}.index", -1)]
    return FileLayout(NAME, tuple(files), slots, tuple(parts), "crc32c", {"entries": entries, "data_files": len(sizes)})


def finish(layout: FileLayout, crcs: Mapping[str, int]) -> tuple[Part, ...]:
    """The index, given the CRC-32C (unmasked) of every slot's bytes."""
    entries: Any = layout.state["entries"]
    needs = frozenset([name for name, known in zip(entries[0], entries[6], strict=True) if known is None])
    found, values = bundle_write.items(entries, crcs)
    header = bundle_entry.encode_header(layout.state["data_files"])  # type: ignore[arg-type]
    return (Part(len(layout.files) - 1, 0, table.build_of([b"", *found], [header, *values]), needs),)
