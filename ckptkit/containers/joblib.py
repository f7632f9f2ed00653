"""joblib files that hold a list or a dict of numpy arrays, as GPT's fine-tuning code saves its parameters.

Source: joblib/numpy_pickle.py (0.10 and later). Such a file is a pickle in which a NumpyArrayWrapper stands for each array, and
right after it come the array's bytes, aligned by a counted padding. The pickle is read as data (`_pickle`): nothing is called, no
array is loaded, and what is no plain array is refused. A list has no names: where it is as long as GPT's parameters
and begins like them it has theirs (`openai_npy.order`), else its places.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from math import prod

from .. import store
from .._typing import TYPE_CHECKING, NamedTuple, NoReturn
from ..errors import CorruptError, UnsupportedError, printable
from ..limits import LIMITS
from ..support.lazy import later
from ..tensors import Extent, StoredTensor, TensorSpec
from ._interface import Checkpoint

if TYPE_CHECKING:
    from ._pickle import interpreter
    from ._pickle.opcodes import Machine
    from .openai_npy import order as openai_order
else:
    later(globals(), openai_order=".openai_npy.order", interpreter="._pickle.interpreter")

NAME = "joblib"
TITLE = "joblib (a list or dict of numpy arrays)"
SUFFIXES = (".jl", ".joblib")
DEFAULT_FILE = "params.jl"
WRITABLE = False
TIES = False
SINGLE = True
STRINGS = False

_WRAPPER = "joblib.numpy_pickle.NumpyArrayWrapper"
_PACKED = (
    b"\x1f\x8b",
    b"BZh",
    b"\xfd7zXZ",
    b"\x5d\x00\x00",
    b"\x04\x22\x4d\x18",
    b"ZF",
    b"\x78\x01",
    b"\x78\x5e",
    b"\x78\x9c",
    b"\x78\xda",
)


class _Array(NamedTuple):
    """An array's description, where its wrapper stood."""

    spec: TensorSpec
    offset: int
    fortran: bool


def sniff(head: bytes, tail: bytes, path: str) -> bool:
    """A pickle that names joblib's wrapper first; by its suffix, a compressed one, to be refused by name."""
    if len(head) > 1 and head[0] == 0x80 and 1 < head[1] < 6:
        return b"joblib.numpy_pickle" in head
    return path.endswith(SUFFIXES) and head.startswith(_PACKED)


def find(directory: str, names: Sequence[str]) -> list[tuple[int, str]]:
    """A .jl or .joblib file (70), if it is the only one."""
    found = [n for n in names if n.endswith(SUFFIXES)]
    return [(70, os.path.join(directory, found[0]))] if len(found) == 1 else []


def prefix(path: str) -> str | None:
    """joblib files are named in full."""
    return None


def open(path: str) -> Checkpoint:
    """The arrays of a file; no weight is read. Raises CorruptError, UnsupportedError."""
    blob = store.open_blob(path)
    try:
        size = blob.size
        if blob.pread(8, 0).startswith(_PACKED):
            hint = "where you trust its writer: joblib.dump(joblib.load(FILE), NEW, compress=0)"
            raise UnsupportedError("is a compressed joblib file, which is not read", path=path, hint=hint)
        if size < 2:
            raise CorruptError(f"truncated: {size} bytes are too few for a pickle", path=path)
        with blob.mapped(flat=True) as data:
            pickle = interpreter.load(data, path=path, shortcut=False, inline=_inline)
    finally:
        blob.close()
    if pickle.end != size:
        raise CorruptError(f"{size - pickle.end:,} bytes follow the end of the pickle", path=path)
    tensors: dict[str, StoredTensor] = {}
    for name, array in _named(pickle.value, path):
        LIMITS.check("name_bytes", len(name.encode(errors="replace")), f"the length of the name {name[:40]!r}...", path)
        if name in tensors:
            raise CorruptError(f"two arrays are named {name!r}", path=path)
        shape = array.spec.shape
        strides = tuple(prod(shape[:i]) for i in range(len(shape))) if array.fortran and len(shape) > 1 else None
        tensors[name] = StoredTensor(name, array.spec, (Extent(path, array.offset, array.spec.nbytes),), strides)
    LIMITS.check("tensors", len(tensors), "the number of tensors", path)
    findings = interpreter.findings(tuple(n for n in pickle.opaque if n != _WRAPPER), path, pickle.calls)
    return Checkpoint(path, NAME, tensors, files=(path,), findings=findings)


def _inline(m: Machine, made: interpreter.Opaque) -> object:
    """What BUILD leaves: for a wrapper the description of its array, whose bytes are passed over."""
    if f"{made.module}.{made.name}".removesuffix("()") != _WRAPPER:
        return made
    state = made.state
    if not isinstance(state, dict):
        raise CorruptError("joblib's array wrapper has no attributes")
    shape, order, dtype = state.get("shape"), state.get("order"), state.get("dtype")
    if not isinstance(shape, tuple) or not all(type(n) is int and 0 <= n < 1 << 48 for n in shape) or order not in ("C", "F"):
        raise CorruptError(f"joblib's array wrapper has shape {printable(shape, 60)} and order {printable(order, 20)}")
    LIMITS.check("rank", len(shape), "the rank of an array")
    spec = TensorSpec(_dtype(dtype), shape)
    if state.get("numpy_array_alignment_bytes") is not None:
        m.take(m.take(1)[0])
    at, end = m.i, m.i + spec.nbytes
    if end > m.total:
        raise CorruptError(f"truncated: an array of {spec.dtype} {list(shape)} ends at byte {end:,}, the file at {m.total:,}")
    m.i = end
    return _Array(spec, at, order == "F")


def _dtype(made: object) -> str:
    """The dtype that a pickled numpy.dtype describes: ("f4", ...) with the state (3, "<", ...)."""
    from ._wire.npy_header import dtype_of

    if not isinstance(made, interpreter.Opaque) or not made.args or not isinstance(made.args[0], str):
        raise CorruptError("joblib's array wrapper has no dtype")
    state = made.state if isinstance(made.state, tuple) and len(made.state) > 1 else (3, "|")
    return dtype_of(f"{state[1]}{made.args[0]}")


def _named(value: object, path: str) -> list[tuple[str, _Array]]:
    """The arrays with names: GPT's, the places of a list, the keys of dicts joined by dots."""
    if isinstance(value, (list, tuple)) and all(isinstance(v, _Array) for v in value):
        names = openai_order.finetuned([v.spec.shape for v in value])
        return list(zip(names or [str(i) for i in range(len(value))], value, strict=True))
    out: list[tuple[str, _Array]] = []
    todo: list[tuple[str, object, int]] = [("", value, 0)]
    while todo:
        name, v, depth = todo.pop()
        if isinstance(v, _Array):
            out.append((name or "0", v))
        elif isinstance(v, (dict, list, tuple)) and depth < LIMITS.pickle_depth:
            items = v.items() if isinstance(v, dict) else enumerate(v)
            todo += reversed([(f"{name}.{k}" if name else str(k), x, depth + 1) for k, x in items])
        else:
            _refuse(v, path)
    return out


def _refuse(value: object, path: str) -> NoReturn:
    what = repr(value) if isinstance(value, interpreter.Opaque) else f"a {type(value).__name__}"
    hint = "ckptkit calls nothing that a pickle names; save the arrays alone: joblib.dump(list_of_arrays, FILE)"
    raise UnsupportedError(f"holds {printable(what, 100)} where arrays are expected: not a checkpoint", path=path, hint=hint)
