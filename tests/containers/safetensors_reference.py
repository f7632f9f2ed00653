"""What the safetensors tests share: files made by hand, the reference library as raw bytes, and random tensors."""

from __future__ import annotations

import ctypes
import json
import struct
from pathlib import Path

import safetensors
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from ckptkit.containers import FileLayout, open_checkpoint
from ckptkit.containers import safetensors as container
from ckptkit.tensors import TensorSpec

# what the library calls the dtypes it takes as raw bytes
REFERENCE = {
    "BOOL": "bool", "U8": "uint8", "I8": "int8", "I16": "int16", "U16": "uint16", "I32": "int32", "U32": "uint32", "I64": "int64",
    "U64": "uint64", "F16": "float16", "F32": "float32", "F64": "float64", "BF16": "bfloat16", "C64": "complex64",
    "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2", "F8_E8M0": "float8_e8m0fnu", "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2FNUZ": "float8_e5m2fnuz",
}  # fmt: skip
SUB_BYTE = ("F4", "F6_E2M3", "F6_E3M2")
Raw = dict[str, tuple[TensorSpec, bytes]]


def framed(header: object, data: bytes = b"") -> bytes:
    """A file of this header, given as JSON text, bytes or a value."""
    raw = header if isinstance(header, bytes) else (header if isinstance(header, str) else json.dumps(header)).encode()
    return struct.pack("<Q", len(raw)) + raw + data


def entry(dtype: object = "U8", shape: object = (2,), offsets: object = (0, 2)) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def read(path: Path | str) -> Raw:
    with open_checkpoint(path, "safetensors") as cp:
        return {n: (t.spec, b"".join(cp.read_extent(e) for e in t.extents)) for n, t in cp.tensors.items()}


def write(folder: Path, layout: FileLayout, raw: Raw) -> None:
    """What the engine does, in a few lines."""
    folder.mkdir(parents=True, exist_ok=True)
    for i, (name, size) in enumerate(layout.files):
        data = bytearray(b"\xaa" * size)
        for part in (*layout.parts, *container.finish(layout, {})):
            if part.file == i:
                data[part.offset : part.offset + len(part.data)] = part.data
        for tensor, slot in layout.slots.items():
            if slot.file == i:
                assert slot.length == len(raw[tensor][1])
                data[slot.offset : slot.offset + slot.length] = raw[tensor][1]
        assert len(data) == size
        (folder / name).write_bytes(data)


def specs(raw: Raw) -> list[tuple[str, TensorSpec]]:
    return [(n, spec) for n, (spec, _) in raw.items()]


def reference_bytes(raw: Raw, metadata: dict[str, str] | None = None) -> bytes:
    kept = {n: ctypes.create_string_buffer(data, max(1, len(data))) for n, (_, data) in raw.items()}
    given = {
        n: safetensors.TensorSpec(dtype=REFERENCE[s.dtype], shape=list(s.shape), data_ptr=ctypes.addressof(kept[n]), data_len=len(data))
        for n, (s, data) in raw.items()
    }
    return bytes(safetensors.serialize(given, metadata=metadata))


def reference_reads(data: bytes) -> dict[str, tuple[str, tuple[int, ...], bytes]] | None:
    """What the library makes of the bytes; None if it refuses them."""
    try:
        return {n: (t["dtype"], tuple(t["shape"]), bytes(t["data"])) for n, t in safetensors.deserialize(data)}
    except safetensors.SafetensorError:
        return None


def filled(spec: TensorSpec, seed: int = 0) -> bytes:
    return bytes((seed + 7 * i) % 2 if spec.dtype == "BOOL" else (seed + 7 * i) % 251 for i in range(spec.nbytes))


SMALL = framed(
    '{"__metadata__":{"format":"pt"},"d":{"dtype":"I64","shape":[],"data_offsets":[0,8]},'
    '"b":{"dtype":"BF16","shape":[2,1],"data_offsets":[8,12]},"a":{"dtype":"U8","shape":[3],"data_offsets":[12,15]},'
    '"z":{"dtype":"U8","shape":[0,4],"data_offsets":[15,15]}}     ',
    b"\x2a\0\0\0\0\0\0\0" + b"\x80\x3f\0\xc0" + b"\1\2\3",
)

NAMES = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from('"\\\n\x7f/.é\U0001f600'), min_size=1, max_size=8)
SPECS = st.builds(TensorSpec, st.sampled_from(list(REFERENCE)), st.lists(st.integers(0, 4), max_size=4).map(tuple))
TENSORS = st.dictionaries(NAMES.filter(lambda n: n != "__metadata__"), SPECS, max_size=6)
QUICK = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
