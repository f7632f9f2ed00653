"""One tensor of an open checkpoint, read when its values are asked for: `ckpt["name"]`.

>>> t = ckpt["encoder.layers.0.attention.query.weight"]      # doctest: +SKIP
>>> t.shape, t.dtype
((768, 768), 'float32')
>>> t[0:2].shape          # reads two rows
(2, 768)
>>> t.torch()             # a torch.Tensor; `t.numpy()`, `numpy.asarray(t)`
"""

from __future__ import annotations

from .._typing import TYPE_CHECKING, Any, Protocol
from ..errors import UnsupportedError, printable, with_extra
from ..tensors import DTYPES, Extent, StoredTensor

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import numpy as np
    from numpy.typing import NDArray

_BITS = {1: "uint8", 2: "uint16"}  # what carries the bits of a type that numpy lacks to torch


class Source(Protocol):
    """What a tensor needs of its checkpoint."""

    path: str

    @property
    def tensors(self) -> Mapping[str, StoredTensor]: ...

    def array(self, name: str) -> NDArray[np.generic]: ...
    def read_extent(self, extent: Extent) -> bytes: ...


class Tensor:
    """A tensor's facts, and its values when they are asked for. It belongs to its checkpoint: after that is closed it has no values."""

    __slots__ = ("_checkpoint", "name")

    def __init__(self, checkpoint: Source, name: str) -> None:
        self._checkpoint, self.name = checkpoint, name

    @property
    def _stored(self) -> StoredTensor:
        return self._checkpoint.tensors[self.name]

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes, slowest first."""
        return self._stored.spec.shape

    @property
    def dtype(self) -> str:
        """numpy's word for the type ("float32", "bfloat16"), or the format's own where numpy has none."""
        d = DTYPES[self._stored.spec.dtype]
        return d.numpy or d.name

    @property
    def ndim(self) -> int:
        """How many dimensions."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """How many elements."""
        return self._stored.spec.numel

    @property
    def nbytes(self) -> int:
        """Bytes of its values."""
        return self._stored.spec.nbytes

    def numpy(self) -> NDArray[np.generic]:
        """A new numpy array (bfloat16 and float8 as ml_dtypes types). Raises CheckpointError."""
        return self._checkpoint.array(self.name)

    def torch(self) -> Any:
        """A new torch.Tensor of the same type. Raises UnsupportedError where torch is not installed or has no such type."""
        try:
            import torch
        except ImportError:
            raise UnsupportedError("torch is not installed", hint=with_extra("torch")) from None
        array = self.numpy()
        kind = getattr(torch, self.dtype, None)
        if not isinstance(kind, torch.dtype):
            raise UnsupportedError(f"torch has no type {self.dtype}", path=self._checkpoint.path)
        if array.dtype.kind == "V" or type(array.dtype).__module__ != "numpy.dtypes":  # ml_dtypes'
            return torch.from_numpy(array.view(_BITS[array.dtype.itemsize]).copy()).view(kind)
        return torch.from_numpy(array.copy() if not array.flags.writeable else array)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        array = self.numpy()
        return array if dtype is None else array.astype(dtype)

    def __getitem__(self, key: Any) -> NDArray[np.generic]:
        """A part, as numpy indexes: rows that lie together are read alone."""
        rows = self._rows(key[0] if isinstance(key, tuple) and key else key)
        if rows is None:
            whole: NDArray[np.generic] = self.numpy()[key]
            return whole
        start, stop = rows
        part: NDArray[np.generic] = self._between(start, stop)
        if isinstance(key, tuple):
            first = 0 if isinstance(key[0], int) else slice(None)
            index = (first, *key[1:])
            rest: NDArray[np.generic] = part[index]
            return rest
        one: NDArray[np.generic] = part[0] if isinstance(key, int) else part
        return one

    def _rows(self, first: object) -> tuple[int, int] | None:
        """The rows that an index of the first dimension means, if they lie in the file as they are; None where all has to be read."""
        t = self._stored
        if t.read is not None or t.boxes or t.strides is not None or len(t.extents) != 1 or not t.spec.shape:
            return None
        n = t.spec.shape[0]
        if isinstance(first, int) and not isinstance(first, bool):
            i = first + n if first < 0 else first
            if not 0 <= i < n:
                raise IndexError(f"index {first} is out of bounds for the first dimension of size {n}")
            return i, i + 1
        if isinstance(first, slice) and first.step in (None, 1):
            start, stop, _ = first.indices(n)
            return start, max(start, stop)
        return None

    def _between(self, start: int, stop: int) -> NDArray[np.generic]:
        from ..support.arrays import from_bytes

        t = self._stored
        (e,) = t.extents
        row = e.length // t.spec.shape[0] if t.spec.shape[0] else 0
        raw = self._checkpoint.read_extent(Extent(e.path, e.offset + start * row, (stop - start) * row))
        return from_bytes(raw, t.spec._replace(shape=(stop - start, *t.spec.shape[1:])))

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("a tensor without dimensions has no length")
        return self.shape[0]

    def __iter__(self) -> Iterator[NDArray[np.generic]]:
        return (self[i] for i in range(len(self)))

    def __dlpack__(self, **words: Any) -> Any:
        array: Any = self.numpy()
        return array.__dlpack__(**words)

    def __dlpack_device__(self) -> tuple[int, int]:
        return 1, 0  # the processor's memory

    def __repr__(self) -> str:
        return f"<Tensor {printable(self.name)}: {self.dtype} {list(self.shape)}>"

    def __reduce__(self) -> Any:
        """Its facts, of a checkpoint that is closed when it comes back; its values are pickled as `numpy()`."""
        return Tensor, (self._checkpoint, self.name)
