"""What the tests of TensorFlow's formats share: writing a layout the plain way, holding checks, made-up arrays."""

from __future__ import annotations

import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import numpy as np

from ckptkit.containers import Checkpoint, FileLayout, Inside, tf_bundle
from ckptkit.support import crc32c
from ckptkit.support.arrays import numpy_dtype
from ckptkit.tensors import DTYPES, TensorSpec

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures"
GOLDEN = FIXTURES / "golden"
HOSTILE = FIXTURES / "hostile" / "corpus"
NUMERIC = [d.name for d in DTYPES.values() if d.tensorflow is not None and d.kind != "string"]


def write(layout: FileLayout, arrays: dict[str, np.ndarray], directory: Path) -> None:
    """Write the files of a layout: slots, parts, and what finish() gives for the checksums."""
    directory.mkdir(parents=True, exist_ok=True)
    crcs = {}
    handles = [(directory / name).open("wb+") for name, _ in layout.files]
    for handle, (_, size) in zip(handles, layout.files, strict=True):
        handle.truncate(max(size, 0))
    for name, slot in layout.slots.items():
        raw = arrays[name].tobytes()
        assert len(raw) == slot.length
        crcs[name] = crc32c.value(raw)
        handles[slot.file].seek(slot.offset)
        handles[slot.file].write(raw)
    for part in (*layout.parts, *tf_bundle.finish(layout, crcs)):
        handles[part.file].seek(part.offset)
        handles[part.file].write(part.data)
    for handle, (_, size) in zip(handles, layout.files, strict=True):
        assert size in (-1, handle.seek(0, 2))
        handle.close()


def failed_checks(ckpt: Checkpoint) -> list[str]:
    """Where a checksum of the container does not match its bytes."""
    bad = []
    for check in ckpt.checks():
        crc = 0
        for extent in check.extents:
            crc = crc32c.value(ckpt.read_extent(extent), crc)
        if crc != check.expected:
            bad.append(check.where)
    return bad


def array(dtype: str, shape: tuple[int, ...] = (3, 5), seed: int = 0) -> np.ndarray:
    """Made-up elements of a dtype."""
    top = 2 if dtype == "BOOL" else 100
    return np.random.default_rng(seed).integers(0, top, size=shape).astype(numpy_dtype(dtype))


def specs(arrays: dict[str, np.ndarray], dtypes: dict[str, str]) -> list[tuple[str, TensorSpec]]:
    """What layout() is given for arrays."""
    return [(n, TensorSpec(dtypes[n], a.shape)) for n, a in arrays.items()]


STRINGS = {"s/three": ([b"a", b"", b"x" * 300], (3,)), "s/scalar": ([b"hi"], ()), "s/none": ([], (0,))}


def save(prefix, arrays: dict[str, np.ndarray], dtypes: dict[str, str], strings=STRINGS, slices=None) -> None:
    """TensorFlow's own SaveV2."""
    import tensorflow as tf

    tensors = [tf.constant(a, dtype=tf.dtypes.as_dtype(DTYPES[dtypes[n]].tensorflow)) for n, a in arrays.items()]
    tensors += [tf.reshape(tf.constant(s, dtype=tf.string), shape) for s, shape in strings.values()]
    names = [*arrays, *strings]
    where = [(slices or {}).get(n, "") for n in names]
    tf.raw_ops.SaveV2(prefix=str(prefix), tensor_names=names, shape_and_slices=where, tensors=tensors)


def layout_of(arrays, dtypes, strings=STRINGS, **more):
    wanted = specs(arrays, dtypes) + [(n, TensorSpec("STRING", shape)) for n, (_, shape) in strings.items()]
    return tf_bundle.layout(wanted, filename="m.ckpt", inside=Inside(strings={n: s for n, (s, _) in strings.items()}), **more)
