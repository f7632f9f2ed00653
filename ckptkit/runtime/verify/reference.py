"""What was written, read with the format's own library: safetensors, torch, tensorflow, h5py, numpy. `convert --check=reference`.

ckptkit reads and writes these formats itself, so reading back with ckptkit shows only that it agrees with itself. Here the library that
users will load the file with gives every tensor, and its bytes are held against those that ckptkit's reader finds. One tensor at a time.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping

from ..._typing import TYPE_CHECKING, Any, NamedTuple
from ...containers import Checkpoint, open_checkpoint
from ...errors import CheckpointError, CorruptError, UsageError, printable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Arrays = Iterator[tuple[str, Any]]


class Raw(NamedTuple):
    """A tensor of a type that numpy does not have: a name of DTYPES, its shape and its bytes."""

    dtype: str
    shape: tuple[int, ...]
    data: bytes


def hold(path: str, shown: str) -> int:
    """Hold every tensor of the checkpoint at `path` against what the format's library reads; how many there are.

    `shown` is the name for messages. Raises CorruptError for a tensor that the library does not have, has in addition or reads
    otherwise, UsageError where the format has no library or that is not installed.
    """
    with open_checkpoint(path) as mine:
        read = READERS.get(mine.container)
        if read is None:
            raise UsageError(f"there is no library to read {mine.container} with", path=shown)
        left = {n for n in mine.tensors if n not in mine.beside}
        total = len(left)
        try:
            for name, value in read(mine):
                if name not in left:
                    raise CorruptError(f"{_LIBRARY[mine.container]} finds {name!r} in it, which ckptkit does not", path=shown)
                left.remove(name)
                if not _same(mine, name, value):
                    raise CorruptError(f"{_LIBRARY[mine.container]} reads {name!r} otherwise than ckptkit", path=shown)
        except ImportError as e:
            hint = f"pip install {_LIBRARY[mine.container]}"
            raise UsageError(
                f"--check=reference reads {mine.container} with {_LIBRARY[mine.container]}, which is not installed ({e})", hint=hint
            ) from None
        except CheckpointError:
            raise
        except Exception as e:  # whatever a library throws at a file that it cannot read is the finding
            raise CorruptError(f"{_LIBRARY[mine.container]} cannot read it: {type(e).__name__}: {printable(e, 300)}", path=shown) from None
        if left:
            raise CorruptError(f"{_LIBRARY[mine.container]} does not find {min(left)!r} in it", path=shown)
    return total


def _same(mine: Checkpoint, name: str, value: NDArray[np.generic] | list[bytes] | Raw) -> bool:
    """Whether the library's value of a tensor is, bit for bit, ckptkit's."""
    if isinstance(value, list):
        return mine.strings(name) == value
    if isinstance(value, Raw):
        t = mine.tensors[name]
        return t.spec == (value.dtype, value.shape) and b"".join(mine.read_extent(e) for e in t.extents) == value.data
    array = mine.array(name)
    return array.shape == value.shape and array.dtype == value.dtype and array.tobytes() == value.tobytes()


def _numpy(t: Any) -> NDArray[np.generic]:
    """A PyTorch tensor as the array of its bits; numpy alone has no bfloat16 and float8."""
    import torch

    from ...support.arrays import numpy_dtype
    from ...tensors import DTYPES

    name = next(d.name for d in DTYPES.values() if d.torch and getattr(torch, d.torch, None) is t.dtype)
    raw = t.detach().contiguous().reshape(-1).view(torch.uint8).numpy()
    out: NDArray[np.generic] = raw.view(numpy_dtype(name)).reshape(tuple(t.shape))
    return out


def _safetensors(mine: Checkpoint) -> Arrays:
    from safetensors import deserialize, safe_open

    for file in mine.files:
        if file.endswith(".json"):
            continue
        with safe_open(file, "np") as f:
            names = list(f.keys())
            plain = [n for n in names if f.get_slice(n).get_dtype() in _NUMPY]
            for name in plain:
                yield name, f.get_tensor(name)
        if len(plain) < len(names):  # only the whole file at once gives bytes without a framework
            with open(file, "rb") as whole:
                for name, held in deserialize(whole.read()):  # type: ignore[no-untyped-call]
                    if held["dtype"] not in _NUMPY:
                        yield name, Raw(str(held["dtype"]), tuple(held["shape"]), bytes(held["data"]))


_NUMPY = ("BOOL", "U8", "I8", "I16", "U16", "F16", "I32", "U32", "F32", "F64", "I64", "U64")


def _torch(mine: Checkpoint) -> Arrays:
    import argparse

    import torch

    for file in mine.files:
        if file.endswith(".json"):
            continue
        with torch.serialization.safe_globals([argparse.Namespace]):
            value: Any = torch.load(file, map_location="cpu", weights_only=True)
        for key in filter(None, mine.wrapper.split(".")):
            value = value[key]
        yield from ((n, _numpy(t)) for n, t in _flat(value, ""))


def _flat(value: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    """The tensors of nested dicts by their joined keys."""
    import torch

    for key, child in value.items() if isinstance(value, Mapping) else ():
        name = f"{prefix}.{key}" if prefix else str(key)
        if isinstance(child, torch.Tensor):
            yield name, child
        else:
            yield from _flat(child, name)


def _tensorflow(mine: Checkpoint) -> Arrays:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import tensorflow as tf

    reader = tf.train.load_checkpoint(mine.path.removesuffix(".index"))
    for name in sorted(reader.get_variable_to_shape_map()):
        if name in mine.tensors:
            value = reader.get_tensor(name)
            strings = mine.tensors[name].spec.dtype == "STRING"
            yield name, [bytes(b) for b in (value.reshape(-1) if hasattr(value, "reshape") else [value])] if strings else value
        else:
            yield name, []


def _h5py(mine: Checkpoint) -> Arrays:
    import h5py
    import numpy as np

    held: dict[str, Any] = {}
    for file in mine.files:
        with h5py.File(file, "r") as f:
            f.visititems(lambda n, o: held.__setitem__(n, np.asarray(o)) if isinstance(o, h5py.Dataset) else None)
            for name in [n for n in held if n in mine.tensors]:
                yield name, held.pop(name)


def _numpy_archive(mine: Checkpoint) -> Arrays:
    import numpy as np

    for file in mine.files:
        with np.load(file, allow_pickle=False) as archive:
            yield from archive.items()


def _numpy_arrays(mine: Checkpoint) -> Arrays:
    import numpy as np

    for file in mine.files:
        held = [n for n, t in mine.tensors.items() if t.extents and t.extents[0].path == file]
        array = np.load(file, allow_pickle=False)
        yield (held[0] if held else os.path.relpath(file, mine.folder).removesuffix(".npy")), array


READERS: dict[str, Callable[[Checkpoint], Arrays]] = {
    "safetensors": _safetensors,
    "torch": _torch,
    "tf": _tensorflow,
    "hdf5": _h5py,
    "npz": _numpy_archive,
    "npy": _numpy_arrays,
}
_LIBRARY = {"safetensors": "safetensors", "torch": "torch", "tf": "tensorflow", "hdf5": "h5py", "npz": "numpy", "npy": "numpy"}
