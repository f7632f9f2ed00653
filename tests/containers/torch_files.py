"""Help for the tests of the PyTorch container: run a FileLayout the way the engine does, and read tensors for comparison."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ckptkit.containers import FileLayout
from ckptkit.containers.torch import finish


def write(layout: FileLayout, folder: Path, data: Mapping[str, bytes]) -> list[Path]:
    """The files of a layout, with `data` in its slots."""
    blobs = [bytearray(size) for _, size in layout.files]
    covered = [np.zeros(size, np.uint8) for _, size in layout.files]
    crcs = {}

    def put(file: int, offset: int, raw: bytes) -> None:
        assert offset + len(raw) <= len(blobs[file])
        assert not covered[file][offset : offset + len(raw)].any(), "two parts of a layout overlap"
        blobs[file][offset : offset + len(raw)] = raw
        covered[file][offset : offset + len(raw)] = 1

    for name, slot in layout.slots.items():
        assert len(data[name]) == slot.length
        assert slot.offset % 64 == 0
        put(slot.file, slot.offset, data[name])
        crcs[name] = zlib.crc32(data[name])
    for part in (*layout.parts, *finish(layout, crcs)):
        put(part.file, part.offset, part.data)
    paths = []
    for (name, _), blob, mask in zip(layout.files, blobs, covered, strict=True):
        assert mask.all(), "a layout leaves bytes of its file unsaid"
        paths.append(folder / name)
        paths[-1].write_bytes(blob)
    return paths


def bits(a: np.ndarray) -> bytes:
    """The row-major bytes of an array."""
    return np.ascontiguousarray(a).tobytes()
