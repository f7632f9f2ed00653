"""PaddlePaddle's `.pdparams` and `.pdopt` (paddle.save): a pickle of numpy arrays, read without running it.

Source: python/paddle/framework/{io,io_utils}.py. A state_dict is a dict of name -> array, with a table of Paddle's own names besides
("StructuredToParameterName@@", given as aliases); in what is nested a tensor is a tuple (own name, array). Protocols 2 and 3 cannot hold
large arrays: those are cut into slices, which "UnpackBigParamInfor@@" joins. numpy has no bfloat16: Paddle keeps it as uint16, a type that
its tensors do not have, so that uint16 is read as BF16. Weights of linear layers lie (in, out). The arrays' bytes stay in the file.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from math import prod

from .. import store
from .._typing import TYPE_CHECKING, NamedTuple
from ..errors import CorruptError, UnsupportedError, printable
from ..findings import Finding
from ..limits import LIMITS
from ..support.lazy import later
from ..tensors import DTYPES, Extent, StoredTensor, TensorSpec
from ._interface import Checkpoint

if TYPE_CHECKING:
    from ._pickle import arrays, interpreter
    from ._pickle.arrays import Described
else:
    later(globals(), arrays="._pickle.arrays", interpreter="._pickle.interpreter")

NAME = "paddle"
TITLE = "PaddlePaddle (.pdparams, a pickle of numpy arrays)"
SUFFIXES = (".pdparams", ".pdopt")
DEFAULT_FILE = "model_state.pdparams"
WRITABLE = False
TIES = False
SINGLE = True
STRINGS = False

_NAMES, _SLICED = "StructuredToParameterName@@", "UnpackBigParamInfor@@"
_LONG = 32  # bytes from which an array's stay in the file
_TORCH = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # the magic number with which torch.save's pickles begin
_STATE = (  # the ends of what optimizers keep
    "_moment1_0", "_moment2_0", "_moment_0", "_velocity_0", "_pow_acc_0", "_mean_square_0", "_mean_grad_0", "_momentum_0", "_inf_norm_0",
)  # fmt: skip


def sniff(head: bytes, tail: bytes, path: str) -> bool:
    """A pickle that is called so, or that ends with the table of names and names numpy's arrays first."""
    if not (len(head) > 1 and head[0] == 0x80 and 1 < head[1] < 6) or head[2:].startswith(_TORCH):
        return False
    return path.endswith(SUFFIXES) or (b"numpy" in head and b"multiarray" in head and b"joblib" not in head)


def find(directory: str, names: Sequence[str]) -> list[tuple[int, str]]:
    """model_state.pdparams (28), else the .pdparams files there are (43)."""
    if DEFAULT_FILE in names:
        return [(28, os.path.join(directory, DEFAULT_FILE))]
    return [(43, os.path.join(directory, n)) for n in names if n.endswith(".pdparams")][:100]


def prefix(path: str) -> str | None:
    """Paddle's files are named in full."""
    return None


class _Found(NamedTuple):
    """What a pickle holds: arrays by name, Paddle's own names of them, what else there is."""

    arrays: dict[str, Described]
    own: dict[str, str]
    extras: dict[str, object]


class _Walked(NamedTuple):
    """A container all of whose values were looked at, and how many arrays there were before."""

    container: int
    arrays: int


def open(path: str) -> Checkpoint:
    """The arrays of a file; no weight is read. Raises CorruptError, UnsupportedError, LimitError."""
    blob = store.open_blob(path)
    try:
        size = blob.size
        if size < 2:
            raise CorruptError(f"truncated: {size} bytes are too few for a pickle", path=path)
        with blob.mapped(flat=True) as data:
            pickle = interpreter.load(data, path=path, shortcut=False, spans=_LONG)
    finally:
        blob.close()
    if pickle.end != size:
        raise CorruptError(f"{size - pickle.end:,} bytes follow the end of the pickle", path=path)
    found = _arrays(pickle.value, path)
    if not found.arrays:
        what = f"a {type(pickle.value).__name__}" if type(pickle.value) is not interpreter.Opaque else repr(pickle.value)
        named = f"; it names {', '.join(printable(n, 80) for n in pickle.opaque[:8])}, never called here" if pickle.opaque else ""
        raise UnsupportedError(f"is a pickle of {printable(what, 100)} that holds no numpy arrays: not a checkpoint{named}", path=path)
    tensors = _joined({n: _tensor(n, a, path) for n, a in found.arrays.items()}, found.extras.pop(_SLICED, None), path)
    findings = interpreter.findings([n for n in pickle.opaque if not n.startswith(arrays.MODULES)], os.path.basename(path), pickle.calls)
    halves = [n for n, t in tensors.items() if t.spec.dtype == "BF16"]
    if halves:
        more = f" and {len(halves) - 1:,} more" if len(halves) > 1 else ""
        text = f"uint16{more}, read as bfloat16, for which Paddle keeps it"
        findings.append(Finding("info", "extras", printable(halves[0], 100), text))
    made = Checkpoint(path, NAME, tensors, files=(path,), extras=found.extras, findings=findings)
    made.aliases = lambda: {n: own for n, own in found.own.items() if n in tensors}
    state = frozenset(n for n in tensors if n.endswith(_STATE))
    if state and len(state) == len(tensors):
        made.special = "is Paddle's optimizer state alone: it holds no weights", "name the .pdparams file, which lies beside"
    made.beside = state
    return made


def _arrays(value: object, path: str) -> _Found:
    """The arrays by name: the keys of dicts, the places of lists, joined by dots. A container without arrays is walked once, however often
    it is shared: a few shared ones could otherwise be any number of values."""
    found = _Found({}, {}, {})
    todo: list[tuple[str, object, int]] = [("", value, 0)]
    bare: set[int] = set()  # containers that were walked and hold no array
    while todo:
        name, v, depth = todo.pop()
        if type(v) is _Walked:
            bare |= {v.container} if v.arrays == len(found.arrays) else set()
            continue
        if id(v) in bare:
            continue
        array = arrays.described(v, path)
        if array is None and type(v) is tuple and len(v) == 2 and type(v[0]) is str and (array := arrays.described(v[1], path)) is not None:
            found.own[name] = v[0]  # a tensor of something nested
        if array is not None:
            if name in found.arrays:
                raise CorruptError(f"two arrays are named {printable(name, 80)}", path=path)
            if len(found.arrays) >= LIMITS.tensors:
                LIMITS.refuse("tensors", "it has more tensors", path)
            LIMITS.check("name_bytes", len(name.encode(errors="replace")), f"the length of the name {name[:40]!r}...", path)
            found.arrays[name] = array
            continue
        if name == _NAMES and type(v) is dict:
            found.own.update({k: n for k, n in v.items() if type(k) is str and type(n) is str})
        elif type(v) in (dict, list, tuple) and name != _SLICED:
            if depth >= LIMITS.pickle_depth:
                LIMITS.refuse("pickle_depth", "the pickle is nested deeper", path)
            items = v.items() if type(v) is dict else enumerate(v)  # type: ignore[arg-type]
            todo.append(("", _Walked(id(v), len(found.arrays)), depth))
            todo += reversed([(f"{name}.{k}" if name else str(k), x, depth + 1) for k, x in items])
        elif name:
            found.extras[name] = v if type(v) in (bool, int, float, str, bytes, dict, type(None)) else repr(v)
    return found


def _tensor(name: str, a: Described, path: str) -> StoredTensor:
    """An array as its bytes lie in the file. Raises UnsupportedError for one of objects or of a type that is not known."""
    if a.raw is None or a.shape is None:
        what = printable(a.code, 20) or "objects"
        raise UnsupportedError(f"{printable(name, 100)!r} is a numpy array of {what}, which is not read", path=path)
    LIMITS.check("rank", len(a.shape), f"the rank of {printable(name, 80)}", path)
    spec = TensorSpec("BF16" if a.dtype == "U16" else a.dtype, a.shape)
    strides = tuple(prod(a.shape[:i]) for i in range(len(a.shape))) if a.columns else None
    if isinstance(a.raw, bytes) or a.big or a.raw.text or (strides is not None and not prod(a.shape)):
        return StoredTensor(name, spec, read=_reader(a, path, spec.nbytes))
    return StoredTensor(name, spec, (Extent(path, a.raw.start, a.raw.length),), strides)


def _reader(a: Described, path: str, nbytes: int) -> Callable[[], bytes]:
    """What gives the row-major little-endian bytes of an array that does not lie so in the file."""

    def read() -> bytes:
        if isinstance(a.raw, bytes):
            raw = a.raw
        else:
            assert a.raw is not None
            blob = store.open_blob(path)
            try:
                raw = blob.pread(a.raw.length, a.raw.start)
            finally:
                blob.close()
            if a.raw.text:
                try:
                    raw = raw.decode().encode("latin-1")
                except UnicodeError:
                    raise CorruptError("an array's bytes are no text of protocol 2", path=path) from None
        if len(raw) != nbytes:
            raise CorruptError(f"an array of shape {list(a.shape or ())[:8]} and type {a.dtype} has {len(raw):,} bytes", path=path)
        raw = arrays.swapped(raw, a.dtype) if a.big else raw
        if not a.columns or not raw or a.shape is None:
            return raw
        import numpy as np

        turned = np.frombuffer(raw, f"V{DTYPES[a.dtype].bits // 8}").reshape(a.shape[::-1]).T
        return np.ascontiguousarray(turned).tobytes()

    return read


def _joined(tensors: dict[str, StoredTensor], sliced: object, path: str) -> dict[str, StoredTensor]:
    """`tensors` with the slices of each large array joined, which follow one another in its row-major bytes."""
    if not isinstance(sliced, Mapping):
        return tensors
    out = dict(tensors)
    for name, told in sliced.items():
        shape = told.get("OriginShape") if isinstance(told, Mapping) else None
        parts = told.get("slices") if isinstance(told, Mapping) else None
        if not isinstance(name, str) or not isinstance(shape, (tuple, list)) or not isinstance(parts, (tuple, list)) or not parts:
            raise CorruptError(f"the slices of {printable(name, 80)} are not described as Paddle does", path=path)
        if not all(type(n) is int and 0 <= n < 1 << 60 for n in shape) or name in out:
            raise CorruptError(f"{printable(name, 80)} is said to be of shape {printable(shape, 60)}, or is there besides", path=path)
        pieces = [out.pop(p, None) if isinstance(p, str) else None for p in parts]
        there = [p for p in pieces if p is not None]
        if len(there) != len(pieces) or len({p.spec.dtype for p in there}) != 1:
            raise CorruptError(f"a slice of {printable(name, 80)} is not there, or of another type", path=path)
        spec = TensorSpec(there[0].spec.dtype, tuple(shape))
        if sum(p.spec.nbytes for p in there) != spec.nbytes:
            raise CorruptError(f"the slices of {printable(name, 80)} are not as many bytes as its shape {list(shape)[:8]} takes", path=path)
        if all(p.extents for p in there):
            out[name] = StoredTensor(name, spec, tuple(e for p in there for e in p.extents))
        else:
            out[name] = StoredTensor(name, spec, read=_all(there))
    return out


def _all(parts: Sequence[StoredTensor]) -> Callable[[], bytes]:
    """What gives the bytes of slices one after another, of which some have to be unpacked."""

    def one(t: StoredTensor) -> bytes:
        if t.read is not None:
            raw = t.read()
            assert isinstance(raw, bytes)
            return raw
        blob = store.open_blob(t.extents[0].path)
        try:
            return blob.pread(t.extents[0].length, t.extents[0].offset)
        finally:
            blob.close()

    return lambda: b"".join(map(one, parts))
