"""What a value of a pickle is that may hold a weight and is no plain view of a storage: a tensor of another class, a numpy array,
a list of numbers.

Policy: it is read as the plain tensor it stands for where that is certain (a DTensor whose rank holds all of it, an array, XLA's copy);
everything else that holds numbers is named, `Unread`, and never taken apart into what it is made of.

Sources: torch/_utils.py (the `_rebuild_*` functions and their arguments), torch/_tensor.py (`_rebuild_from_type_v2`),
torch/distributed/tensor/_dtensor_spec.py; of arrays `_pickle.arrays`.
"""

from __future__ import annotations

from ..._typing import NamedTuple
from ...errors import printable
from ...support.opaque import Opaque
from ...tensors import DTYPES, Unread
from .._pickle.arrays import Described, described, swapped
from .._pickle.globals import FROM_TYPE, Storage, Tensor, TorchName

_UTILS = "torch._utils"
_DTYPES = {f"torch.{d.torch}": d.name for d in DTYPES.values() if d.torch}
_FEW = 16  # numbers in a list that may be options, epochs or losses


class Array(NamedTuple):
    """An array whose bytes the pickle itself holds, little-endian; `columns`: the first axis runs fastest."""

    dtype: str
    shape: tuple[int, ...]
    columns: bool
    raw: bytes

    def read(self) -> bytes:
        """The row-major bytes."""
        if not self.columns:
            return self.raw
        import numpy as np

        turned = np.frombuffer(self.raw, f"V{DTYPES[self.dtype].bits // 8}").reshape(self.shape[::-1]).T
        return np.ascontiguousarray(turned).tobytes()


class Classed(NamedTuple):
    """A view of a storage under a class of its own, which may mean something else by the same numbers."""

    tensor: Tensor
    kind: str


Leaf = Tensor | Storage | Array | Classed | Unread


def leaf(value: object) -> Leaf | None:
    """What holds numbers and is to be looked at as a whole; None for a container and for plain data. Raises CorruptError."""
    t = type(value)
    if t is Tensor or t is Storage:
        return value  # type: ignore[return-value]
    if t is not Opaque:
        return None
    assert isinstance(value, Opaque)
    if value.args is None:
        return None
    if value.module == _UTILS:
        return _rebuilt(value.name, value.args)
    if (value.module, value.name) == FROM_TYPE:
        return _of_class(value.args)
    array = described(value)
    return None if array is None else _array(array)


def class_name(value: object) -> str:
    """The full name of a class that a pickle names."""
    if isinstance(value, Opaque):
        return printable(f"{value.module}.{value.name}", 120)
    return printable(str(getattr(value, "name", type(value).__name__)), 120)


def _dtype(value: object) -> str:
    return _DTYPES.get(value, "") if type(value) is TorchName else ""


def _shape(value: object) -> tuple[int, ...] | None:
    if type(value) is tuple and all(type(n) is int and 0 <= n < 1 << 60 for n in value):
        return value
    return None


def _rebuilt(name: str, args: tuple[object, ...]) -> Leaf | None:
    """What one of torch's own functions makes."""
    if name == "_rebuild_sparse_tensor" and len(args) == 2 and type(args[1]) is tuple:
        parts, layout = args[1], printable(str(args[0]), 40).removeprefix("torch.sparse_").upper()
        values = next((p for p in reversed(parts) if type(p) is Tensor and _tensor_dtype(p) != "I64"), None)
        shape = next((s for p in reversed(parts) if (s := _shape(p)) is not None), None)
        dtype = (
            _tensor_dtype(values) if values is not None else _tensor_dtype(next((p for p in reversed(parts) if type(p) is Tensor), None))
        )
        return Unread(f"a sparse tensor ({layout})", dtype, shape, ".to_dense() makes a plain one of it")
    if name == "_rebuild_nested_tensor" and args:
        return Unread("a nested tensor", _tensor_dtype(args[0]), None, ".unbind() makes plain ones of it")
    if name == "_rebuild_meta_tensor_no_storage" and len(args) > 1:
        return Unread("a tensor on the meta device, without values", _dtype(args[0]), _shape(args[1]), "save it with its values")
    if name == "_rebuild_wrapper_subclass" and len(args) > 2:
        return Unread(class_name(args[0]), _dtype(args[1]), _shape(args[2]))
    if name in ("_rebuild_device_tensor_from_cpu_tensor", "_rebuild_device_tensor_from_numpy", "_rebuild_xla_tensor") and len(args) > 1:
        return _from_device(leaf(args[0]), _dtype(args[1]))
    return None


def _tensor_dtype(t: object) -> str:
    if type(t) is not Tensor:
        return ""
    return _dtype(t.dtype) if t.dtype is not None else str(getattr(getattr(t.storage, "type", None), "dtype", ""))


def _from_device(inner: Leaf | None, dtype: str) -> Leaf | None:
    """A tensor of a device that was saved as another one: it is that one, if its type is the one declared. bfloat16 goes as float32."""
    if isinstance(inner, Tensor) and _tensor_dtype(inner) == dtype:
        return inner
    if isinstance(inner, Array):
        if inner.dtype == dtype:
            return inner
        if (inner.dtype, dtype) == ("F32", "BF16") and not any(inner.raw[::4]) and not any(inner.raw[1::4]):
            half = bytearray(len(inner.raw) // 2)
            half[::2], half[1::2] = inner.raw[2::4], inner.raw[3::4]
            return inner._replace(dtype="BF16", raw=bytes(half))
        return Unread("a tensor of another device", dtype, inner.shape)
    return inner


def _of_class(args: tuple[object, ...]) -> Leaf | None:
    """(class, tensor, attributes): a tensor subclass."""
    cls, made, state = args
    name = class_name(cls)
    attributes = state[1] if type(state) is tuple and len(state) == 2 else state  # (of __dict__, of __slots__)
    if type(made) is Tensor:
        said = _said(attributes)
        if said is None:
            return Unread(name, _tensor_dtype(made), _shape(made.size), "its class keeps tensors besides: load it with its library")
        return Classed(made, name + said)
    inner = leaf(made)
    if not isinstance(inner, Unread):
        return inner
    if name.rpartition(".")[2] == "DTensor" and name.startswith("torch.distributed.") and type(attributes) is dict:
        local, spec = attributes.get("_local_tensor"), attributes.get("_spec")
        if type(local) is Tensor and local.size == inner.shape and _tensor_dtype(local) == inner.dtype and not _partial(spec):
            return local
        hint = "this rank holds a piece of it: name the folder of all ranks, or save the whole (DTensor.full_tensor())"
        return Unread(name, inner.dtype, inner.shape, hint)
    return inner._replace(
        kind=name if inner.kind == class_name(cls) else inner.kind, hint=inner.hint or "load it with its library, and save plain tensors"
    )


def _partial(spec: object) -> bool:
    """Whether the ranks' tensors of a DTensor are to be summed, or nobody says that they are not."""
    state = spec.state if isinstance(spec, Opaque) else None
    placements = state.get("placements") if type(state) is dict else None
    if type(placements) is not tuple:
        return True
    return any(not isinstance(p, Opaque) or p.name not in ("Shard", "Replicate") for p in placements)


def _said(attributes: object) -> str | None:
    """Plain attributes as text; None where something else is among them."""
    if type(attributes) is not dict:
        return None if attributes else ""
    if any(type(v) not in (type(None), bool, int, float, str, TorchName) for v in attributes.values()):
        return None
    kept = {str(k): v for k, v in attributes.items() if v is not None}
    return printable(f" {kept}", 200) if kept else ""


def _array(array: Described) -> Leaf:
    if type(array.raw) is not bytes or array.shape is None:
        kind = f" ({printable(array.code, 20) or 'of objects'})" if array.code or array.shape is not None else ""
        return Unread(f"a numpy array{kind}", array.dtype, array.shape)
    return Array(array.dtype, array.shape, array.columns, swapped(array.raw, array.dtype) if array.big else array.raw)


def numbers(value: object) -> Unread | None:
    """A list of numbers (of lists of numbers) that is long enough to be a weight."""
    if type(value) not in (list, tuple):
        return None
    shape: list[int] = []
    level: list[object] = [value]
    while level and type(level[0]) in (list, tuple):
        if len(shape) > 8 or len({len(v) if type(v) in (list, tuple) else -1 for v in level}) != 1:  # type: ignore[arg-type]
            return None
        shape.append(len(level[0]))  # type: ignore[arg-type]
        level = [inner for v in level for inner in v]  # type: ignore[attr-defined]
        if len(level) > 1 << 20:
            break
    if len(level) < _FEW or not any(type(v) is float for v in level) or not all(type(v) in (int, float) for v in level):
        return None
    return Unread("a list of numbers", "F64", tuple(shape), "torch.tensor makes a plain one of it")
