"""The .metadata of a distributed checkpoint, pickled as torch's classes come out of a pickle: by name, with their state.

Source: torch/distributed/checkpoint/metadata.py (the classes and what each keeps, TensorProperties.__getstate__), filesystem.py.
Protocol 2 is enough for all of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from struct import pack

from ..._typing import NamedTuple
from ...tensors import DTYPES

_META = "torch.distributed.checkpoint.metadata"


class Written(NamedTuple):
    """A chunk of a tensor, or (without a shape) a value: its place in the whole, and the item that it is."""

    offset: tuple[int, ...] | None
    shape: tuple[int, ...]
    file: str
    at: int
    length: int


class _Writer:
    def __init__(self) -> None:
        self.out: list[bytes] = [b"\x80\x02"]
        self._memo: dict[tuple[str, str], int] = {}

    def name(self, module: str, name: str) -> None:
        n = self._memo.get((module, name))
        if n is None:
            n = self._memo[module, name] = len(self._memo)
            self.out.append(f"c{module}\n{name}\n".encode() + b"r" + n.to_bytes(4, "little"))
        else:
            self.out.append(b"j" + n.to_bytes(4, "little"))

    def text(self, s: str) -> None:
        raw = s.encode("utf-8", "surrogatepass")
        self.out.append(b"X" + len(raw).to_bytes(4, "little") + raw)

    def integer(self, n: int) -> None:
        if 0 <= n < 1 << 31:
            self.out.append(b"J" + pack("<i", n))
        else:
            raw = n.to_bytes(n.bit_length() // 8 + 1, "little", signed=True)
            self.out.append(b"\x8a" + bytes((len(raw),)) + raw)

    def size(self, shape: Sequence[int]) -> None:
        """A torch.Size."""
        self.name("torch", "Size")
        self.out.append(b"((")
        for n in shape:
            self.integer(n)
        self.out.append(b"ttR")

    def new(self, module: str, name: str) -> None:
        """An object of a class, its state to follow; `b` ends it."""
        self.name(module, name)
        self.out.append(b")\x81")

    def chunk(self, w: Written) -> None:
        self.new(_META, "ChunkStorageMetadata")
        self.out.append(b"}(")
        self.text("offsets")
        self.size(w.offset or ())
        self.text("sizes")
        self.size(w.shape)
        self.out.append(b"ub")

    def tensor(self, dtype: str, shape: Sequence[int], chunks: Iterable[Written]) -> None:
        self.new(_META, "TensorStorageMetadata")
        self.out.append(b"}(")
        self.text("properties")
        self.new(_META, "TensorProperties")
        self.out.append(b"(")
        self.name("torch", str(DTYPES[dtype].torch))
        self.name("torch.serialization", "_get_layout")
        self.text("torch.strided")
        self.out.append(b"\x85R\x89")
        self.name(_META, "_MEM_FORMAT_ENCODING")
        self.out.append(b"K\0\x85R\x89tb")
        self.text("size")
        self.size(shape)
        self.text("chunks")
        self.out.append(b"](")
        for c in chunks:
            self.chunk(c)
        self.out.append(b"eub")

    def place(self, name: str, w: Written, *, numbered: bool) -> None:
        """The item of one chunk: its index, and where it lies."""
        self.new(_META, "MetadataIndex")
        self.out.append(b"}(")
        self.text("fqn")
        self.text(name)
        self.text("offset")
        if w.offset is None:
            self.out.append(b"N")
        else:
            self.size(w.offset)
        self.text("index")
        self.out.append(b"K\0" if numbered and w.offset is not None else b"N")
        self.out.append(b"ub")
        self.new("torch.distributed.checkpoint.filesystem", "_StorageInfo")
        self.out.append(b"}(")
        for key, value in (("relative_path", w.file), ("offset", w.at), ("length", w.length)):
            self.text(key)
            if isinstance(value, str):
                self.text(value)
            else:
                self.integer(value)
        self.out.append(b"ub")


def dump_metadata(
    tensors: Mapping[str, tuple[str, tuple[int, ...], Sequence[Written]]],
    values: Mapping[str, Written],
    paths: Mapping[str, tuple[str | int, ...]] | None,
) -> bytes:
    """The bytes of a .metadata. `tensors`: flat name -> (dtype, shape, chunks); `values` what is no tensor; `paths`: the keys that each
    name is made of, None where no planner says them (Megatron)."""
    w = _Writer()
    w.new(_META, "Metadata")
    w.out.append(b"}(")
    w.text("state_dict_metadata")
    w.out.append(b"}(")
    for name, (dtype, shape, chunks) in tensors.items():
        w.text(name)
        w.tensor(dtype, shape, chunks)
    for name in values:
        w.text(name)
        w.new(_META, "BytesStorageMetadata")
        w.out.append(b"}b")
    w.out.append(b"u")
    w.text("planner_data")
    if paths is None:
        w.out.append(b"N")
    else:
        w.out.append(b"}(")
        for name, keys in paths.items():
            w.text(name)
            w.out.append(b"(")
            for key in keys:
                if isinstance(key, int):
                    w.integer(key)
                else:
                    w.text(key)
            w.out.append(b"t")
        w.out.append(b"u")
    w.text("storage_data")
    w.out.append(b"}(")
    for name, (_, _, chunks) in tensors.items():
        for c in chunks:
            w.place(name, c, numbered=paths is not None)
    for name, value in values.items():
        w.place(name, value, numbered=False)
    w.out.append(b"u")
    w.text("storage_meta")
    w.out.append(b"N")
    w.text("version")
    w.text("1.0.0")
    w.out.append(b"ub.")
    return b"".join(w.out)
