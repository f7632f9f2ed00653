"""Sparse tensors in a PyTorch file, held against their own shape: an index beyond it reads and writes foreign memory where it is used.

Sources: torch/_utils.py (`_rebuild_sparse_tensor`: COO has (indices, values, size), the compressed layouts have (compressed indices, plain
indices, values, size)), torch/_utils.py `_validate_loaded_sparse_tensors`, aten/src/ATen/native/sparse/ValidateCompressedIndicesCommon.h.
The indices are weights, so this is for the pass that reads them (`Checkpoint.audit`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import prod

from ... import store
from ..._typing import TYPE_CHECKING, NamedTuple
from ...errors import CheckpointError
from ...findings import Finding
from ...support.opaque import Opaque
from .._pickle.globals import StorageType, Tensor

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from .state_dict import Locate

_MOST = 20
_INTEGERS = {"I64": 8, "I32": 4}


class Sparse(NamedTuple):
    """A sparse tensor as the pickle describes it: its layout's name, and what it is made of."""

    name: str
    layout: str
    parts: tuple[object, ...]


def sparse_tensors(root: object) -> list[Sparse]:
    """Those that a described value holds, with the keys that lead to them."""
    out: list[Sparse] = []
    seen: set[int] = set()
    todo: list[tuple[str, object]] = [("", root)]
    while todo:
        name, v = todo.pop()
        t = type(v)
        if t not in (dict, list, tuple, Opaque) or id(v) in seen:
            continue
        seen.add(id(v))
        inner: list[tuple[object, object]] = []
        if isinstance(v, Opaque):
            args = v.args or ()
            if v.name == "_rebuild_sparse_tensor" and len(args) == 2 and isinstance(args[1], tuple):
                out.append(Sparse(name, str(args[0]).rpartition(".")[2], args[1]))
            inner = [*enumerate(args), ("state", v.state), ("items", v.items)]
            todo += [(name, x) for _, x in inner]
            continue
        inner = list(v.items()) if isinstance(v, dict) else list(enumerate(v)) if isinstance(v, (list, tuple)) else []
        todo += [(f"{name}.{k}" if name else str(k), x) for k, x in inner if type(k) in (str, int)]
    return out


def audit(found: list[Sparse], locate: Locate, path: str) -> Callable[[], Iterator[Finding]]:
    """What looks at the indices of sparse tensors; a finding for each that has one beyond its shape."""

    def look() -> Iterator[Finding]:
        told = 0
        for s in found:
            try:
                why = _wrong(s, locate, path)
            except CheckpointError as e:
                why = e.message
            if why and told < _MOST:
                told += 1
                said = f"the sparse tensor {s.name} ({s.layout}) {why}: what uses it would read beyond its memory"
                yield Finding("error", "sparse", s.name, said, "make it again from its dense form; nothing here is to be trusted")

    return look


def _wrong(s: Sparse, locate: Locate, path: str) -> str:
    """What is wrong with the indices of one sparse tensor; "" for nothing that can be told."""
    tensors = [p for p in s.parts if isinstance(p, Tensor)]
    size = next(
        (p for p in reversed(s.parts) if isinstance(p, tuple) and not isinstance(p, Tensor) and all(type(n) is int for n in p)), None
    )
    if size is None or len(tensors) < 2 or any(n < 0 for n in size):
        return ""
    if "coo" in s.layout:
        return _coo(_read(tensors[0], locate, path), size)
    compressed, plain = _read(tensors[0], locate, path), _read(tensors[1], locate, path)
    if compressed is None or plain is None or compressed.ndim != 1 or plain.ndim != 1 or len(size) != 2:
        return ""
    by_column = "csc" in s.layout or "bsc" in s.layout
    values = tensors[2].size if len(tensors) > 2 and isinstance(tensors[2].size, tuple) else ()
    block = tuple(n for n in values[1:] if isinstance(n, int)) if s.layout.endswith(("bsr", "bsc")) else ()
    rows, columns = (n // (block[k] or 1) if len(block) == 2 else n for k, n in enumerate(size))
    along, across = (columns, rows) if by_column else (rows, columns)
    if len(compressed) != along + 1 or (len(compressed) and (compressed[0] != 0 or compressed[-1] != len(plain))):
        return f"has compressed indices that do not go from 0 to its {len(plain):,} elements in {along:,} steps"
    if (compressed[1:] < compressed[:-1]).any():
        return "has compressed indices that fall"
    return _beyond(plain, across, 1 - int(by_column))


def _coo(indices: NDArray[np.int64] | None, size: tuple[int, ...]) -> str:
    if indices is None or indices.ndim != 2 or indices.shape[0] > len(size):
        return ""
    return next((why for k, row in enumerate(indices) if (why := _beyond(row, size[k], k))), "")


def _beyond(indices: NDArray[np.int64], size: int, axis: int) -> str:
    if not len(indices):
        return ""
    low, high = int(indices.min()), int(indices.max())
    if low >= 0 and high < size:
        return ""
    return f"has the index {low if low < 0 else high:,} along axis {axis}, which has {size:,}"


def _read(t: Tensor, locate: Locate, path: str) -> NDArray[np.int64] | None:
    """A row-major tensor of whole numbers; None for any other."""
    import numpy as np

    kind = getattr(t.storage, "type", None)
    if not isinstance(kind, StorageType) or kind.dtype not in _INTEGERS or not isinstance(t.size, tuple) or not isinstance(t.stride, tuple):
        return None
    numel = getattr(t.storage, "numel", None)
    sizes = [n for n in t.size if type(n) is int and n >= 0]
    if type(numel) is not int or numel < 0 or type(t.offset) is not int or t.offset < 0 or len(sizes) != len(t.size):
        return None
    usual = tuple(prod(sizes[k + 1 :]) for k in range(len(sizes)))
    if any(n > 1 and a != b for n, a, b in zip(sizes, t.stride, usual, strict=False)):
        return None
    item = _INTEGERS[kind.dtype]
    at, there, _ = locate(t.storage, numel * item)  # type: ignore[arg-type]
    count = prod(sizes)
    if (t.offset + count) * item > there:
        return None  # the reader of views refuses it
    blob = store.open_blob(path)
    try:
        raw = blob.pread(count * item, at + t.offset * item)
    finally:
        blob.close()
    return np.frombuffer(raw, f"<i{item}").astype(np.int64).reshape(sizes) if len(raw) == count * item else None
