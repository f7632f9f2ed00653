"""What a saved_model.pb says of a program: signatures, functions, and the operations that touch files. Nothing in it is run.

Source: tensorflow/core/protobuf/{saved_model,meta_graph,saved_object_graph}.proto, core/framework/{graph,function,node_def,
op_def,tensor_shape}.proto. A program of 20,000 variables is 40 MB: messages that are not asked for are stepped over, and nodes
are only looked at where the bytes hold the name of an operation that matters. Which do is known from TensorFlow's own
operations (tensorflow/core/ops/{io,dataset,logging,summary,debug,lookup}_ops.cc).
"""

from __future__ import annotations

from collections.abc import Iterator

from ..._typing import Any, NamedTuple, Protocol
from ...errors import CorruptError
from ...limits import LIMITS
from ...support.protobuf import BYTES, VARINT, Readable, bad, fields, signed, varint
from .bundle_entry import KINDS, OPAQUE, QUANTISED

# operations that read, write or list files, or send to a network, whatever the program is given; the savers of every SavedModel are
# not among them
FILE_OPS = (
    "ReadFile", "WriteFile", "MatchingFiles", "PrintV2", "SaveDataset", "SaveDatasetV2", "DatasetToTFRecord",
    "ExperimentalDatasetToTFRecord",
    "DistributedSave", "SnapshotDataset", "SnapshotDatasetV2", "CacheDataset", "CacheDatasetV2", "CreateSummaryFileWriter",
    "CreateSummaryDbWriter", "DebugIdentity", "DebugIdentityV2", "DebugIdentityV3", "DebugNanCount", "DebugNumericSummary",
    "DebugNumericSummaryV2", "ImmutableConst", "WholeFileReader", "WholeFileReaderV2", "TextLineReader", "TextLineReaderV2",
    "TFRecordReader", "TFRecordReaderV2", "FixedLengthRecordReader", "FixedLengthRecordReaderV2", "LMDBReader", "LMDBDataset",
    "TextLineDataset", "TFRecordDataset", "TFRecordDatasetV2", "FixedLengthRecordDataset", "FixedLengthRecordDatasetV2", "CSVDataset",
    "CSVDatasetV2", "SqlDataset", "LoadDataset", "LoadAndRemapMatrix", "GenerateVocabRemapping", "FileSystemSetConfiguration",
    "RegisterDataset",
    "RegisterDatasetV2", "PyFunc", "PyFuncStateless", "EagerPyFunc", "RpcCall", "RpcClient", "RpcServer", "Rpc", "TryRpc",
    "DebugGradientIdentity",
)  # fmt: skip
_FILE_OPS = {name.encode(): name for name in FILE_OPS}


class Held(Readable, Protocol):
    """Bytes, or a file mapped into memory."""

    def find(self, sub: bytes, start: int, end: int, /) -> int: ...


class Program(NamedTuple):
    """A MetaGraphDef. Signatures are plain data: {"method", "inputs": {name: {"dtype", "shape", "tensor"}}, "outputs"}."""

    tags: tuple[str, ...]
    version: str  # of the TensorFlow that wrote it
    signatures: dict[str, dict[str, Any]]
    functions: tuple[str, ...]  # the whole library, in its order
    callables: dict[str, tuple[str, ...]]  # attribute of the root object -> the functions of the library that it calls
    assets: tuple[str, ...]


def programs(data: Held, size: int, path: str) -> list[Program]:
    """Every MetaGraphDef of a saved_model.pb. CorruptError for bytes that are none."""
    version, spans = 0, []
    for number, wire, start, stop in fields(data, 0, size, path):
        if number == 1 and wire == VARINT:
            version = start
        elif number == 2 and wire == BYTES:
            spans.append((start, stop))
    if version != 1:
        bad(f"is no SavedModel: its schema version is {version}, not 1", path)
    if not spans:
        bad("is a SavedModel without a program (MetaGraphDef)", path)
    return [_program(data, a, b, path) for a, b in spans]


def _text(data: Held, start: int, stop: int) -> str:
    return data[start:stop].decode("utf-8", "replace")


def _program(data: Held, start: int, stop: int, path: str) -> Program:
    tags: list[str] = []
    version = ""
    signatures: dict[str, dict[str, Any]] = {}
    functions: list[str] = []
    callables: dict[str, tuple[str, ...]] = {}
    assets: list[str] = []
    for number, wire, a, b in fields(data, start, stop, path):
        if wire != BYTES:
            continue
        if number == 1:
            for n, w, c, d in fields(data, a, b, path):
                if n == 4 and w == BYTES:
                    tags.append(_text(data, c, d))
                elif n == 5 and w == BYTES:
                    version = _text(data, c, d)
        elif number == 2:
            libraries = [(c, d) for n, c, d in _messages(data, a, b, path) if n == 2]
            functions += [_function_name(data, c, d, path) for e, f in libraries for n, c, d in _messages(data, e, f, path) if n == 1]
        elif number == 5:
            key, value = _entry(data, a, b, path)
            signatures[key] = _signature(data, *value, path)
        elif number == 6:
            assets += [_text(data, c, d) for n, w, c, d in fields(data, a, b, path) if n == 2 and w == BYTES]
        elif number == 7:
            callables = _callables(data, a, b, path)
    return Program(tuple(tags), version, signatures, tuple(functions), callables, tuple(assets))


def _messages(data: Held, p: int, end: int, path: str) -> Iterator[tuple[int, int, int]]:
    """(field, start, end) of the fields of a message that are messages or text, stepping over each: there may be 100,000."""
    while p < end:
        at = p
        tag = data[p]
        n = data[p + 1] if p + 1 < end else 128
        if tag > 127 or tag & 7 != BYTES or tag < 8:
            number, wire, start, p = next(fields(data, p, end, path))
            if wire == BYTES:
                yield number, start, p
            continue
        p += 2
        if n > 127:
            n, p = varint(data, at + 1, end, path)
        if p + n > end:
            bad("a protobuf field runs past its message", path, at)
        yield tag >> 3, p, p + n
        p += n


def _entry(data: Held, start: int, stop: int, path: str) -> tuple[str, tuple[int, int]]:
    """An entry of a map whose values are messages: its key, and where the value is."""
    key, value = "", (start, start)
    for number, wire, a, b in fields(data, start, stop, path):
        if number == 1 and wire == BYTES:
            key = _text(data, a, b)
        elif number == 2 and wire == BYTES:
            value = (a, b)
    return key, value


def _signature(data: Held, start: int, stop: int, path: str) -> dict[str, Any]:
    out: dict[str, Any] = {"method": "", "inputs": {}, "outputs": {}}
    for number, wire, a, b in fields(data, start, stop, path):
        if number in (1, 2) and wire == BYTES:
            key, value = _entry(data, a, b, path)
            out["inputs" if number == 1 else "outputs"][key] = _tensor(data, *value, path)
        elif number == 3 and wire == BYTES:
            out["method"] = _text(data, a, b)
    for side in ("inputs", "outputs"):
        out[side] = dict(sorted(out[side].items()))
    return out


def _tensor(data: Held, start: int, stop: int, path: str) -> dict[str, Any]:
    out: dict[str, Any] = {"dtype": "", "shape": [], "tensor": ""}
    for number, wire, a, b in fields(data, start, stop, path):
        if number == 1 and wire == BYTES:
            out["tensor"] = _text(data, a, b)
        elif number == 2 and wire == VARINT:
            out["dtype"] = KINDS.get(a) or QUANTISED.get(a, ("", ""))[1] or OPAQUE.get(a) or f"dtype {signed(a)}"
        elif number == 3 and wire == BYTES:
            out["shape"] = _shape(data, a, b, path)
    return out


def _shape(data: Held, start: int, stop: int, path: str) -> list[int | None] | None:
    """The sizes of a shape, None for one that is open; None for a shape of unknown rank."""
    dims: list[int | None] = []
    for number, wire, a, b in fields(data, start, stop, path):
        if number == 2 and wire == BYTES:
            size = next((signed(v) for n, w, v, _ in fields(data, a, b, path) if n == 1 and w == VARINT), 0)
            dims.append(size if size >= 0 else None)
            LIMITS.check("rank", len(dims), f"the rank of the shape at byte {start}", path)
        elif number == 3 and a:
            return None
    return dims


def _function_name(data: Held, start: int, stop: int, path: str) -> str:
    """The name of a FunctionDef: that of its signature, which is its first field as a rule."""
    for number, a, b in _messages(data, start, stop, path):
        if number == 1:
            for n, c, d in _messages(data, a, b, path):
                if n == 1:
                    return _text(data, c, d)
    return ""


def file_operations(data: Held, size: int, path: str) -> tuple[str, ...]:
    """The operations of FILE_OPS among the nodes of every graph of a saved_model.pb and of their functions."""
    wanted = {raw: name for raw, name in _FILE_OPS.items() if data.find(raw, 0, size) >= 0}
    if not wanted:
        return ()
    found: dict[str, None] = {}
    graphs = [(c, d) for n, a, b in _messages(data, 0, size, path) if n == 2 for m, c, d in _messages(data, a, b, path) if m == 2]
    nodes = [(c, d) for a, b in graphs for n, c, d in _messages(data, a, b, path) if n == 1]
    libraries = [(c, d) for a, b in graphs for n, c, d in _messages(data, a, b, path) if n == 2]
    functions = [(c, d) for a, b in libraries for n, c, d in _messages(data, a, b, path) if n == 1]
    nodes += [(c, d) for a, b in functions for n, c, d in _messages(data, a, b, path) if n == 3]
    for a, b in nodes:
        for n, c, d in _messages(data, a, b, path):
            if n == 2 and (name := wanted.get(data[c:d])):
                found[name] = None
    return tuple(found)


def hold_depth(data: bytes, path: str) -> None:
    """Raise LimitError where messages lie in one another deeper than protobuf's own readers go.

    What a field holds is taken for a message as long as it reads as one: text and tensors soon do not.
    """
    ends = [len(data)]
    p = 0
    limit = LIMITS.messages
    while ends:
        end = ends[-1]
        if p >= end:
            ends.pop()
            continue
        tag = data[p]
        if 7 < tag < 128 and tag & 7 == BYTES and p + 1 < end:
            n, at = data[p + 1], p + 2
            if n > 127:
                n, at = _length(data, p + 1, end)
            if 0 <= n <= end - at:
                p = at
                if n:
                    ends.append(at + n)
                    if len(ends) > limit:
                        LIMITS.refuse("messages", f"messages lie in one another deeper at byte {p}", path)
                continue
        elif 7 < tag < 128 and tag & 7 == VARINT:
            at = p + 1
            while at < end and data[at] > 127 and at - p < 10:
                at += 1
            if at < end and data[at] < 128:
                p = at + 1
                continue
        elif tag > 127 or tag & 7 in (1, 5):
            try:
                *_, p = next(fields(data, p, end, path))
                continue
            except CorruptError:
                pass
        p = end  # no message after all
        ends.pop()


def _length(data: bytes, p: int, end: int) -> tuple[int, int]:
    """A length of several bytes and where it ends; -1 where it is none."""
    n = shift = 0
    for at in range(p, min(p + 5, end)):
        n |= (data[at] & 127) << shift
        shift += 7
        if data[at] < 128:
            return n, at + 1
    return -1, p


def _callables(data: Held, start: int, stop: int, path: str) -> dict[str, tuple[str, ...]]:
    """The functions that hang on the root object, with those of the library that each calls."""
    nodes = ((a, b) for n, a, b in _messages(data, start, stop, path) if n == 1)
    children: dict[int, str] = {}
    for number, a, b in _messages(data, *next(nodes, (start, start)), path):
        if number != 1:
            continue
        child, local = 0, ""
        for n, w, c, d in fields(data, a, b, path):
            if n == 1 and w == VARINT:
                child = signed(c)
            elif n == 2 and w == BYTES:
                local = _text(data, c, d)
        children[child] = local
    found: dict[str, tuple[str, ...]] = {}
    last = max(children, default=0)
    for i, (a, b) in enumerate(nodes, 1):
        if i in children:
            for n, c, d in _messages(data, a, b, path):
                if n == 6:
                    found[children[i]] = tuple(_text(data, e, f) for m, e, f in _messages(data, c, d, path) if m == 1)
        if i >= last:
            break
    return dict(sorted(found.items()))
