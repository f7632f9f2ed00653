"""ONNX graphs: their initialisers and the arrays of their constants, under ONNX' own names. The graph is not read as a program.

Source: onnx/onnx.proto3 (ModelProto, GraphProto, NodeProto, AttributeProto, TensorProto) and docs/ExternalData.md. A tensor's values lie in
raw_data, in a typed field (float16 and bfloat16 as numbers in int32_data), or in another file beside (location, offset, length). What
exporters call a weight is theirs: torch.onnx keeps a parameter's name, unless it has transposed or folded it (onnx::MatMul_123).
Initialisers of subgraphs are named by the node and its attribute ("if_1.then_branch/w"), arrays in constants by their node.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack

from .. import store
from .._typing import TYPE_CHECKING, NamedTuple, NoReturn
from ..errors import CorruptError, NotFoundError, UnsafeError, UnsupportedError, printable
from ..findings import Finding
from ..limits import LIMITS
from ..support.lazy import later
from ..tensors import DTYPES, Extent, StoredTensor, TensorSpec
from ._interface import Checkpoint

if TYPE_CHECKING:
    from ..support import protobuf
    from ..support.protobuf import Readable
else:
    later(globals(), protobuf="..support.protobuf")

NAME = "onnx"
TITLE = "ONNX (initialisers, inline and external)"
SUFFIXES = (".onnx",)
DEFAULT_FILE = "model.onnx"
WRITABLE = False
TIES = False
SINGLE = True
STRINGS = False

_TYPES = {  # TensorProto.DataType
    1: "F32", 2: "U8", 3: "I8", 4: "U16", 5: "I16", 6: "I32", 7: "I64", 8: "STRING", 9: "BOOL", 10: "F16", 11: "F64", 12: "U32", 13: "U64",
    14: "C64", 15: "C128", 16: "BF16", 17: "F8_E4M3", 18: "F8_E4M3FNUZ", 19: "F8_E5M2", 20: "F8_E5M2FNUZ", 24: "F8_E8M0",
}  # fmt: skip
_NARROW = {21: "UINT4", 22: "INT4", 23: "FLOAT4E2M1", 25: "UINT2", 26: "INT2"}  # elements of less than a byte
_MODEL_GRAPH, _MODEL_FUNCTIONS = 7, 25
_GRAPH_NODE, _GRAPH_NAME, _GRAPH_INITIALIZER, _GRAPH_SPARSE = 1, 2, 5, 15
_NODE_OUTPUT, _NODE_NAME, _NODE_ATTRIBUTE, _FUNCTION_NODE = 2, 3, 5, 7
_ATTRIBUTE_TENSOR, _ATTRIBUTE_GRAPH, _ATTRIBUTE_TENSORS, _ATTRIBUTE_GRAPHS = 5, 6, 10, 11
_FLOATS, _INT32S, _INT64S, _RAW, _DOUBLES, _UINT64S = 4, 5, 7, 9, 10, 11  # where the values of a TensorProto are
_FEW = 16  # elements of a constant below which it is part of the program: an axis, a shape, an epsilon
_EXPORTERS = (b"pytorch", b"tf2onnx", b"onnx", b"skl2onnx", b"keras")  # producer_name
_HINT = "export the model again, or get all its files"


def sniff(head: bytes, tail: bytes, path: str) -> bool:
    """A protocol buffer that begins with ir_version and is called .onnx, or names a known exporter next."""
    if head[:1] != b"\x08" or not 0 < (head[1] if len(head) > 1 else 0) < 32:
        return False
    return path.endswith(SUFFIXES) or (head[2:3] == b"\x12" and head[4:].startswith(_EXPORTERS))


def find(directory: str, names: Sequence[str]) -> list[tuple[int, str]]:
    """model.onnx (46), else the .onnx files there are (47): whatever is meant to be a checkpoint comes before."""
    if DEFAULT_FILE in names:
        return [(46, os.path.join(directory, DEFAULT_FILE))]
    return [(47, os.path.join(directory, n)) for n in names if n.endswith(SUFFIXES)][:100]


def prefix(path: str) -> str | None:
    """ONNX files are named in full."""
    return None


class _Values(NamedTuple):
    """A TensorProto: its type and sizes, and where its values are."""

    name: str
    kind: int
    shape: tuple[int, ...]
    spans: tuple[tuple[int, int, int], ...]  # (field, start, end) of values, the content of packed ones and of raw_data
    loose: tuple[tuple[int, int], ...]  # (field, value) of values that are not packed
    external: dict[str, str]
    outside: bool  # data_location says that they are in another file


def open(path: str) -> Checkpoint:
    """The initialisers of a graph; no weight is read. Raises CorruptError, UnsupportedError, UnsafeError, NotFoundError, LimitError."""
    with ExitStack() as stack:
        blob = store.open_blob(path)
        stack.callback(blob.close)
        size = blob.size
        if not size:
            raise CorruptError("is empty", path=path)
        data = stack.enter_context(blob.mapped())
        reader = _Reader(data, path)
        reader.model(size)
    if not reader.tensors:
        raise UnsupportedError("is an ONNX graph without initialisers, a program alone", path=path)
    made = Checkpoint(path, NAME, reader.tensors, files=(path, *reader.files), metadata=reader.metadata, findings=reader.findings)
    made.audit = reader.audit
    return made


class _Reader:
    """Reads one model: its tensors, the other files that they are in, and what is to be said."""

    def __init__(self, data: Readable, path: str) -> None:
        self.data, self.path = data, path
        self.tensors: dict[str, StoredTensor] = {}
        self.files: dict[str, int] = {}  # other files -> their sizes
        self.sums: dict[str, tuple[str, str]] = {}  # other files -> the SHA-1 that is said of each, and of which tensor
        self.metadata: dict[str, str] = {}
        self.findings: list[Finding] = []
        self.folder = os.path.dirname(path)

    def refuse(self, why: str) -> NoReturn:
        raise CorruptError(why, path=self.path)

    def text(self, start: int, end: int) -> str:
        LIMITS.check("name_bytes", end - start, "the length of a name", self.path)
        try:
            return self.data[start:end].decode()
        except UnicodeDecodeError:
            return self.data[start:end].decode("utf-8", "backslashreplace")

    def model(self, end: int) -> None:
        graphs = 0
        for number, wire, at, stop in protobuf.fields(self.data, 0, end, self.path):
            if wire != protobuf.BYTES:
                continue
            if number == _MODEL_GRAPH:
                graphs += 1
                self.graph(at, stop, "", 0)
            elif number == _MODEL_FUNCTIONS:
                self.nodes(at, stop, _FUNCTION_NODE, "", 0)
            elif number == 14:  # metadata_props
                key, value = self.pair(at, stop)
                self.metadata[key] = value
            elif number == 2:
                self.metadata["producer_name"] = self.text(at, stop)
        if graphs != 1:
            self.refuse(f"an ONNX model has one graph; this has {graphs}")

    def pair(self, at: int, end: int) -> tuple[str, str]:
        key = value = ""
        for number, wire, start, stop in protobuf.fields(self.data, at, end, self.path):
            if wire == protobuf.BYTES and number in (1, 2):
                if number == 1:
                    key = self.text(start, stop)
                else:
                    LIMITS.check("json_bytes", stop - start, "the length of a value of the metadata", self.path)
                    value = self.data[start:stop].decode("utf-8", "replace")
        return key, value

    def graph(self, at: int, end: int, prefix: str, depth: int) -> None:
        if depth > 60:
            self.refuse(f"its graphs are nested more than 60 deep at byte {at}")
        for number, wire, start, stop in protobuf.fields(self.data, at, end, self.path):
            if wire != protobuf.BYTES:
                continue
            if number == _GRAPH_INITIALIZER:
                self.add(self.values(start, stop), prefix)
            elif number == _GRAPH_SPARSE:
                self.sparse(start, stop, prefix)
        self.nodes(at, end, _GRAPH_NODE, prefix, depth)

    def nodes(self, at: int, end: int, field: int, prefix: str, depth: int) -> None:
        for number, wire, start, stop in protobuf.fields(self.data, at, end, self.path):
            if wire == protobuf.BYTES and number == field:
                self.node(start, stop, prefix, depth)

    def node(self, at: int, end: int, prefix: str, depth: int) -> None:
        """What a node's attributes hold: tensors of more than a few elements, and graphs."""
        name, attributes = "", []
        for number, wire, start, stop in protobuf.fields(self.data, at, end, self.path):
            if wire != protobuf.BYTES:
                continue
            if number == _NODE_NAME or (number == _NODE_OUTPUT and not name):
                name = self.text(start, stop) or name
            elif number == _NODE_ATTRIBUTE:
                attributes.append((start, stop))
        for a_start, a_end in attributes:
            called, graphs = "", 0
            for number, wire, start, stop in protobuf.fields(self.data, a_start, a_end, self.path):
                if wire != protobuf.BYTES:
                    continue
                if number == 1:
                    called = self.text(start, stop)
                elif number in (_ATTRIBUTE_TENSOR, _ATTRIBUTE_TENSORS):
                    values = self.values(start, stop)
                    if TensorSpec("U8", values.shape).numel > _FEW and values.kind != 8:
                        own = f"{name}.{values.name}" if values.name and values.name != name else name
                        self.add(values._replace(name=own or f"constant_{len(self.tensors)}"), prefix)
                elif number in (_ATTRIBUTE_GRAPH, _ATTRIBUTE_GRAPHS):
                    self.graph(start, stop, f"{prefix}{name}.{called}{graphs or ''}/", depth + 1)
                    graphs += 1

    def values(self, at: int, end: int) -> _Values:
        """A TensorProto's fields; nothing of its values is read."""
        name, kind, outside = "", 0, False
        dims: list[int] = []
        spans: list[tuple[int, int, int]] = []
        loose: list[tuple[int, int]] = []
        external: dict[str, str] = {}
        for number, wire, value, stop in protobuf.fields(self.data, at, end, self.path):
            if number == 1:
                if wire == protobuf.VARINT:
                    dims.append(protobuf.signed(value))
                else:
                    dims += self.numbers(value, stop)
                LIMITS.check("rank", len(dims), f"the rank of the tensor at byte {at}", self.path)
            elif number == 2 and wire == protobuf.VARINT:
                kind = value
            elif number == 3:
                self.refuse(f"the tensor at byte {at} is a segment of one, which nothing writes")
            elif number == 8 and wire == protobuf.BYTES:
                name = self.text(value, stop)
            elif number == 13 and wire == protobuf.BYTES:
                key, said = self.pair(value, stop)
                external[key] = said
            elif number == 14 and wire == protobuf.VARINT:
                outside = value == 1
            elif number in (_FLOATS, _INT32S, _INT64S, _RAW, _DOUBLES, _UINT64S):
                if wire == protobuf.BYTES:
                    spans.append((number, value, stop))
                else:
                    loose.append((number, value))
                    LIMITS.check("names_each", len(loose) // 1000, f"the thousands of loose values of the tensor at byte {at}", self.path)
        if any(n < 0 or n >= 1 << 48 for n in dims):
            self.refuse(f"the tensor {printable(name, 80)!r} has the shape {dims[:8]}")
        return _Values(name, kind, tuple(dims), tuple(spans), tuple(loose), external, outside)

    def numbers(self, at: int, end: int) -> list[int]:
        out = []
        while at < end:
            value, at = protobuf.varint(self.data, at, end, self.path)
            out.append(protobuf.signed(value))
            LIMITS.check("rank", len(out), f"the rank of the tensor at byte {at}", self.path)
        return out

    def sparse(self, at: int, end: int, prefix: str) -> None:
        """A SparseTensorProto: its values and indices, named; what they stand for is said not to be read."""
        name = ""
        for number, wire, start, stop in protobuf.fields(self.data, at, end, self.path):
            if number == 1 and wire == protobuf.BYTES:
                name = self.values(start, stop).name
        raise UnsupportedError(f"the initialiser {printable(prefix + name, 100)!r} is sparse, which is not read", path=self.path)

    def add(self, v: _Values, prefix: str) -> None:
        """One tensor. Raises CorruptError, UnsupportedError."""
        name = prefix + v.name
        shown = repr(printable(name, 100))
        if not name:
            self.refuse("an initialiser has no name")
        if name in self.tensors:
            self.refuse(f"two initialisers are named {shown}")
        LIMITS.check("tensors", len(self.tensors) + 1, "the number of tensors", self.path)
        if v.kind == 8:
            self.findings.append(Finding("info", "extras", printable(name, 100), "is text, which no other form has a place for: left out"))
            return
        dtype = _TYPES.get(v.kind)
        if dtype is None:
            what = _NARROW.get(v.kind, f"number {v.kind}")
            raise UnsupportedError(f"the tensor {shown} is of ONNX' type {what}, which is not read", path=self.path)
        spec = TensorSpec(dtype, v.shape)
        if v.outside:
            extent = self.external(v, spec, shown)
            self.tensors[name] = StoredTensor(name, spec, (extent,), storage=f"{extent.path}#{extent.offset}")
            return
        raw = [s for s in v.spans if s[0] == _RAW]
        if raw and (len(raw) > 1 or len(v.spans) > 1 or v.loose):
            self.refuse(f"the tensor {shown} has its values in two fields")
        direct = {_RAW, {"F32": _FLOATS, "F64": _DOUBLES, "C64": _FLOATS, "C128": _DOUBLES}.get(dtype, _RAW)}
        if v.spans and not v.loose and all(s[0] in direct for s in v.spans):
            length = sum(end - start for _, start, end in v.spans)
            if length != spec.nbytes:
                self.refuse(f"the tensor {shown} of {dtype} {list(v.shape)[:8]} has {length:,} bytes of values, not {spec.nbytes:,}")
            self.tensors[name] = StoredTensor(name, spec, tuple(Extent(self.path, start, end - start) for _, start, end in v.spans))
        elif v.spans or v.loose:
            self.tensors[name] = StoredTensor(name, spec, read=_reader(v, spec, self.path))
        elif spec.nbytes:
            self.refuse(f"the tensor {shown} of {dtype} {list(v.shape)[:8]} has no values")
        else:
            self.tensors[name] = StoredTensor(name, spec, (Extent(self.path, 0, 0),))

    def external(self, v: _Values, spec: TensorSpec, shown: str) -> Extent:
        """Where the values of a tensor lie in another file, which stays within the model's folder."""
        where = v.external.get("location", "")
        offset, length = (self.count(v.external.get(k), k, shown) for k in ("offset", "length"))
        parts = where.replace("\\", "/").split("/")
        if not where or where.startswith(("/", "\\")) or ":" in where or "\0" in where or ".." in parts:
            raise UnsafeError(f"the values of {shown} are said to lie in {printable(where, 100)!r}, outside of its folder", path=self.path)
        path = os.path.join(self.folder, where)
        if path not in self.files:
            out = store.leads_out(path, self.folder or ".")
            if out is not None:
                raise UnsafeError(f"the values of {shown} are in {printable(where, 100)}, a link out of the folder", path=self.path)
            if not store.is_file(path):
                raise NotFoundError(f"the values of {shown} are in {printable(where, 100)}, which is not there", path=self.path, hint=_HINT)
            self.files[path] = store.file_size(path)
        if (said := v.external.get("checksum")) is not None:
            self.sums.setdefault(path, (said.lower(), v.name))
        at = offset or 0
        if length is not None and length != spec.nbytes:
            what = f"{shown} of {spec.dtype} {list(spec.shape)[:8]}"
            self.refuse(f"the tensor {what} takes {spec.nbytes:,} bytes, not the {length:,} it is given")
        if at + spec.nbytes > self.files[path]:
            end = f"ends at byte {at + spec.nbytes:,} of {printable(where, 100)}, which has {self.files[path]:,}"
            raise CorruptError(f"the tensor {shown} {end}", path=self.path, hint=_HINT)
        return Extent(path, at, spec.nbytes)

    def audit(self) -> Iterator[Finding]:
        """An error for every other file that has not the SHA-1 that is said of it (onnx.proto, `checksum`)."""
        import hashlib

        for path, (said, name) in self.sums.items():
            got = hashlib.sha1(usedforsecurity=False)
            blob = store.open_blob(path)
            try:
                for at in range(0, blob.size, 1 << 20):
                    got.update(blob.pread(min(1 << 20, blob.size - at), at))
            finally:
                blob.close()
            if got.hexdigest() != said:
                text = f"damaged: the SHA-1 of {os.path.basename(path)}, in which {printable(name, 100)!r} lies, is {got.hexdigest()}, "
                yield Finding("error", "checksum", printable(name, 100), f"{text}the model says {printable(said, 60)}", _HINT)

    def count(self, text: str | None, key: str, shown: str) -> int | None:
        if text is None:
            return None
        if not text.isascii() or not text.isdigit() or len(text) > 18:
            self.refuse(f"the {key} of {shown} is {printable(text, 40)!r}, no number of bytes")
        return int(text)


def _reader(v: _Values, spec: TensorSpec, path: str) -> Callable[[], bytes]:
    """What gives the row-major bytes of values that are kept as varints, or one by one."""

    def numbers(raw: bytes, at: int, end: int) -> Iterator[int]:
        while at < end:
            value, at = protobuf.varint(raw, at, end, path)
            yield value

    def read() -> bytes:
        d = DTYPES[spec.dtype]
        width, out = d.bits // 8, bytearray()
        element = {"C64": 4, "C128": 8}.get(spec.dtype, width)
        blob = store.open_blob(path)
        try:
            for field, start, end in v.spans:
                raw = blob.pread(end - start, start)
                if len(raw) != end - start:
                    raise CorruptError(f"ends within the values of {printable(v.name, 80)}", path=path)
                if field in (_FLOATS, _DOUBLES):
                    out += raw
                else:
                    mask = (1 << 8 * width) - 1
                    for value in numbers(raw, 0, len(raw)):
                        out += (value & mask).to_bytes(width, "little")
                        if len(out) > spec.nbytes:
                            break
        finally:
            blob.close()
        for field, value in v.loose:
            out += (value & ((1 << 8 * element) - 1)).to_bytes(element if field in (_FLOATS, _DOUBLES) else width, "little")
        if len(out) != spec.nbytes:
            what = f"{printable(v.name, 80)!r} of {spec.dtype} {list(spec.shape)[:8]}"
            raise CorruptError(f"the tensor {what} has other values than its shape takes", path=path)
        return bytes(out)

    return read
