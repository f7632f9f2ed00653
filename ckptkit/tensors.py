"""The one dtype table, and the values that say what a stored tensor is and where its bytes lie.

These are named tuples and not dataclasses since listing 20,000 tensors makes 60,000 of them: a named tuple costs
a third of a frozen dataclass to make and nothing to import. No numpy here: `inspect` uses this module.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import repeat
from math import prod

from ._typing import NamedTuple


class DType(NamedTuple):
    """One element type. `bits` is the stored width; names are those of each world, None where it has none."""

    name: str  # ckptkit's and safetensors' name
    bits: int
    kind: str  # float | int | uint | bool | complex | string | block
    numpy: str | None  # a numpy or ml_dtypes name
    torch: str | None  # torch.<name>
    storage: str | None  # torch.<name>Storage of legacy pickles
    tensorflow: int | None  # tensorflow.DataType
    block: int = 1  # elements that are only stored together, along the last axis: a ggml block type. `bits` is then 0
    block_bytes: int = 0


# names and widths: safetensors' Dtype; torch's dtype and storage names; tensorflow/core/framework/types.proto
_TABLE = (
    DType("F64", 64, "float", "float64", "float64", "DoubleStorage", 2),
    DType("F32", 32, "float", "float32", "float32", "FloatStorage", 1),
    DType("F16", 16, "float", "float16", "float16", "HalfStorage", 19),
    DType("BF16", 16, "float", "bfloat16", "bfloat16", "BFloat16Storage", 14),
    DType("F8_E5M2", 8, "float", "float8_e5m2", "float8_e5m2", "Float8_e5m2Storage", 24),
    DType("F8_E4M3", 8, "float", "float8_e4m3fn", "float8_e4m3fn", "Float8_e4m3fnStorage", 25),
    DType("F8_E5M2FNUZ", 8, "float", "float8_e5m2fnuz", "float8_e5m2fnuz", "Float8_e5m2fnuzStorage", 28),
    DType("F8_E4M3FNUZ", 8, "float", "float8_e4m3fnuz", "float8_e4m3fnuz", "Float8_e4m3fnuzStorage", 26),
    DType("F8_E8M0", 8, "float", "float8_e8m0fnu", "float8_e8m0fnu", "Float8_e8m0fnuStorage", None),
    DType("F6_E2M3", 6, "float", None, None, None, None),
    DType("F6_E3M2", 6, "float", None, None, None, None),
    DType("F4", 4, "float", None, None, None, None),
    DType("I64", 64, "int", "int64", "int64", "LongStorage", 9),
    DType("I32", 32, "int", "int32", "int32", "IntStorage", 3),
    DType("I16", 16, "int", "int16", "int16", "ShortStorage", 5),
    DType("I8", 8, "int", "int8", "int8", "CharStorage", 6),
    DType("U64", 64, "uint", "uint64", "uint64", "UInt64Storage", 23),
    DType("U32", 32, "uint", "uint32", "uint32", "UInt32Storage", 22),
    DType("U16", 16, "uint", "uint16", "uint16", "UInt16Storage", 17),
    DType("U8", 8, "uint", "uint8", "uint8", "ByteStorage", 4),
    DType("BOOL", 8, "bool", "bool", "bool", "BoolStorage", 10),
    DType("C64", 64, "complex", "complex64", "complex64", "ComplexFloatStorage", 8),
    DType("C128", 128, "complex", "complex128", "complex128", "ComplexDoubleStorage", 18),
    DType("STRING", 0, "string", None, None, None, 7),
)
# ggml's block types (ggml-common.h of llama.cpp): name, elements and bytes of a block
_BLOCKS = (
    ("Q4_0", 32, 18), ("Q4_1", 32, 20), ("Q5_0", 32, 22), ("Q5_1", 32, 24), ("Q8_0", 32, 34), ("Q2_K", 256, 84), ("Q3_K", 256, 110),
    ("Q4_K", 256, 144), ("Q5_K", 256, 176), ("Q6_K", 256, 210), ("IQ2_XXS", 256, 66), ("IQ2_XS", 256, 74), ("IQ3_XXS", 256, 98),
    ("IQ1_S", 256, 50), ("IQ4_NL", 32, 18), ("IQ3_S", 256, 110), ("IQ2_S", 256, 82), ("IQ4_XS", 256, 136), ("IQ1_M", 256, 56),
    ("TQ1_0", 256, 54), ("TQ2_0", 256, 66), ("MXFP4", 32, 17), ("NVFP4", 64, 36), ("Q1_0", 128, 18), ("Q2_0", 64, 18),
)  # fmt: skip
DTYPES: dict[str, DType] = {d.name: d for d in _TABLE} | {
    name: DType(name, 0, "block", None, None, None, None, block, size) for name, block, size in _BLOCKS
}

# what users write on a command line, besides the names above in any case
DTYPE_ALIASES = {d.numpy: d.name for d in _TABLE if d.numpy} | {
    "fp32": "F32", "fp16": "F16", "half": "F16", "float": "F32", "double": "F64", "fp64": "F64", "float8_e4m3": "F8_E4M3",
}  # fmt: skip


class TensorSpec(NamedTuple):
    """What a tensor is, without its bytes: a name of DTYPES and a row-major shape."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def numel(self) -> int:
        """Number of elements; 1 for a scalar."""
        return prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of the packed row-major form (0 for strings, whose size is their content's)."""
        d = DTYPES[self.dtype]
        return prod(self.shape) // d.block * d.block_bytes if d.block_bytes else (prod(self.shape) * d.bits + 7) // 8


class Extent(NamedTuple):
    """A run of bytes in a file."""

    path: str
    offset: int
    length: int


class Box(NamedTuple):
    """A piece of a stored tensor: its elements from `offset` on, `shape` of them along each axis.

    They lie row-major in `extent`, unless `strides` (in elements) says how it is to be walked.
    """

    offset: tuple[int, ...]
    shape: tuple[int, ...]
    extent: Extent
    strides: tuple[int, ...] | None = None

    def shown(self) -> str:
        """As a slice: "[0:16, 0:64]"."""
        return "[" + ", ".join(f"{o}:{o + n}" for o, n in zip(self.offset, self.shape, strict=True)) + "]"


class StoredTensor(NamedTuple):
    """A tensor as its container stores it.

    The bytes of the extents, one after another, are the little-endian row-major tensor, unless `strides` (in
    elements) says how one extent is to be walked (PyTorch views). Tensors of one checkpoint with the same
    `storage`, offset, shape and strides are one tensor under several names (a tie). Where a format cannot give
    extents, `read` gives the row-major bytes; for STRING tensors it gives a list of byte strings. A tensor in pieces has `boxes`,
    which tile it; its extents are then the runs of these, in order, and may be very many: whoever can goes by the boxes.
    """

    name: str
    spec: TensorSpec
    extents: Sequence[Extent] = ()
    strides: tuple[int, ...] | None = None
    storage: str | None = None
    read: Callable[[], bytes | list[bytes]] | None = None
    boxes: tuple[Box, ...] = ()

    @property
    def identity(self) -> tuple[object, ...] | None:
        """Equal for tensors that are the same bytes by construction; None where nothing is shared."""
        if self.storage is None or not self.extents:
            return None
        return (self.storage, self.extents[0].offset, self.spec, self.strides)


class Check(NamedTuple):
    """A checksum that a container keeps: `expected` is of the bytes of `extents` taken together."""

    where: str
    kind: str  # crc32 | crc32c
    extents: tuple[Extent, ...]
    expected: int


def sums_of(
    path: str, kind: str, names: Sequence[str], starts: Sequence[int], lengths: Sequence[int], sums: Sequence[int]
) -> Iterator[Check]:
    """The checksums of runs of one file, by columns: there may be 90,000."""
    new = tuple.__new__
    extents = zip(map(partial(new, Extent), zip(repeat(path), starts, lengths)), strict=True)
    return map(partial(new, Check), zip(names, repeat(kind), extents, sums))


def row_major_strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Strides in elements of a contiguous row-major tensor."""
    out, acc = [], 1
    for n in reversed(shape):
        out.append(acc)
        acc *= max(n, 1)
    return tuple(reversed(out))


class Unread(NamedTuple):
    """What stands where a tensor is due and is not read: what it is ("torchao.quantization.Int8Tensor").

    "" and None stand for what nothing says.
    """

    kind: str
    dtype: str
    shape: tuple[int, ...] | None
    hint: str = ""

    def words(self) -> str:
        """What it is, in a message: "torchao.quantization.Int8Tensor F32 [16, 16]"."""
        shape = "" if self.shape is None else f" {list(self.shape)}"
        return f"{self.kind} {self.dtype}{shape}".replace("  ", " ").rstrip()
