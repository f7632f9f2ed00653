"""Between bytes and numpy arrays, by the one dtype table. Imports numpy: only for what reads weights."""

from __future__ import annotations

from .._typing import TYPE_CHECKING, Any
from ..errors import CorruptError, UnsupportedError
from ..tensors import DTYPES, TensorSpec

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def numpy_dtype(name: str) -> np.dtype[np.generic]:
    """The little-endian numpy dtype of a name of DTYPES (ml_dtypes for bfloat16 and float8).

    Raises UnsupportedError for strings and for types narrower than a byte.
    """
    import numpy as np

    d = DTYPES[name]
    if d.numpy is None:
        raise UnsupportedError(f"{name} elements have no array form")
    if name == "BF16" or name.startswith("F8"):
        import ml_dtypes

        small: np.dtype[np.generic] = np.dtype(getattr(ml_dtypes, d.numpy))
        return small
    little: np.dtype[np.generic] = np.dtype(d.numpy).newbyteorder("<")
    return little


def from_bytes(raw: bytes, spec: TensorSpec) -> NDArray[np.generic]:
    """A read-only array over `raw`. Raises CorruptError if the length is not the spec's, or no array can have its shape."""
    import numpy as np

    if len(raw) != spec.nbytes:
        raise CorruptError(f"{len(raw)} bytes where {spec.dtype} {list(spec.shape)} needs {spec.nbytes}")
    try:
        return np.frombuffer(raw, numpy_dtype(spec.dtype)).reshape(spec.shape)
    except ValueError:
        raise CorruptError(f"no array can have the shape {list(spec.shape)}") from None


def distinct(x: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.intp]]:
    """The distinct elements of a flat array of integers in order, and how often each occurs.

    As numpy.unique, which imports numpy.ma (10 ms) and takes five times as long over a thousand elements.
    """
    import numpy as np

    y = np.sort(x, axis=None)
    if not len(y):
        return y, np.empty(0, np.intp)
    at = np.flatnonzero(np.concatenate(([True], y[1:] != y[:-1])))
    return y[at], np.diff(np.append(at, len(y)))


def how_many(x: NDArray[Any]) -> int:
    """How many distinct elements a flat array of integers has."""
    import numpy as np

    y = np.sort(x, axis=None)
    return int(np.count_nonzero(y[1:] != y[:-1])) + 1 if len(y) else 0
