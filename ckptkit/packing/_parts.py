"""Runs of a part's elements out of the files that hold it, for `decode`. Imports numpy where it runs."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import accumulate

from .._typing import TYPE_CHECKING, Any
from ..errors import CheckpointError, CorruptError
from ..support.arrays import numpy_dtype
from ..tensors import DTYPES, Extent
from ._registry import by_name
from ._values import Fetch, Form

if TYPE_CHECKING:
    from numpy.typing import NDArray

TILE = 1 << 18  # elements decoded at once


@contextmanager
def in_file(path: str | None, name: str = "") -> Iterator[None]:
    """Errors raised in here that name no file name `path` and the weight `name`: what decodes numbers does not know where they lie."""
    try:
        yield
    except CheckpointError as e:
        if e.path is not None or path is None:
            raise
        raise type(e)(f"{name}: {e.message}" if name else e.message, path=path, hint=e.hint) from None


def part_fetcher(parts: Mapping[str, tuple[str, Sequence[Extent]]], read: Callable[[Extent], bytes | memoryview]) -> Fetch:
    """`fetch(role, start, stop)` over parts (dtype, extents); `read` gives the bytes of an extent. Blocks are counted in bytes."""
    import numpy as np

    dtypes = {role: np.dtype(np.uint8) if DTYPES[name].block > 1 else numpy_dtype(name) for role, (name, _) in parts.items()}
    begins = {role: [0, *accumulate(e.length for e in extents)] for role, (_, extents) in parts.items()}

    def fetch(role: str, start: int, stop: int) -> NDArray[Any]:
        extents, dtype, begin = parts[role][1], dtypes[role], begins[role]
        low, high = start * dtype.itemsize, stop * dtype.itemsize
        raw = []
        for i in range(max(0, bisect_right(begin, low) - 1), len(extents)):
            a, b = max(low, begin[i]), min(high, begin[i + 1])
            if a >= high:
                break
            if a < b:
                raw.append(read(Extent(extents[i].path, extents[i].offset + a - begin[i], b - a)))
        data = raw[0] if len(raw) == 1 else b"".join(raw)
        if len(data) != high - low:
            raise CorruptError(f"the part {role!r} of a packed weight has {begin[-1]:,} bytes; those from {low:,} to {high:,} are due")
        return np.frombuffer(data, dtype)

    return fetch


def tile_rows(form: Form) -> int:
    """How many rows to decode at once: about `TILE` elements, a multiple of the form's granule."""
    return max(1, TILE // max(1, form.columns) // form.granule) * form.granule


def decoded(form: Form, fetch: Fetch) -> Iterator[NDArray[Any]]:
    """The rows of the decoded matrix in order, some at a time."""
    import numpy as np

    decode, step = by_name(form.packing).decode, tile_rows(form)
    for start in range(0, form.rows, step):
        with np.errstate(all="ignore"):
            tile = decode(form, fetch, start, min(start + step, form.rows))
        yield tile
