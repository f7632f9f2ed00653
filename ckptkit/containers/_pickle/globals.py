"""What stands for the globals that a pickle names: an exact allow-list, and descriptions instead of the things themselves.

Source: what `torch.save` emits, from `torch/_utils.py`, `torch/serialization.py` and the allow-list of `torch/_weights_only_unpickler.py`.
A storage type is its dtype, a rebuilt tensor is a `Tensor` (storage, offset, size, stride), an OrderedDict is a dict. Any other global is
an `Opaque`, which keeps the name, the arguments and the state as data. Nothing is ever imported or called.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct

from ..._typing import NamedTuple
from ...errors import CorruptError, printable
from ...limits import LIMITS
from ...support.opaque import Opaque
from ...tensors import DTYPES


class Span(NamedTuple):
    """Where long bytes of a pickle lie that were passed over; `text`: as UTF-8, whose code points are the bytes (protocol 2)."""

    start: int
    length: int
    text: bool = False


class Storage(NamedTuple):
    """A persistent id of `torch.save`: ("storage", type, key, location, numel) and, in old files, (view key, offset, numel)."""

    kind: object
    type: object
    key: object
    location: object
    numel: object
    view: object


class Tensor(NamedTuple):
    """The arguments of a rebuild function, unchecked. `dtype` is None where the storage says it; `flags` are conj and neg bits."""

    storage: object
    offset: object
    size: object
    stride: object
    dtype: object
    flags: object


class StorageType(NamedTuple):
    """torch.<X>Storage: a name of DTYPES; U8 for untyped storages; "" for types that are known and not supported."""

    dtype: str
    name: str


class TorchName(str):
    """A torch dtype or layout, by name: `torch.float32`."""

    __slots__ = ()


LONG = 1000  # characters that no name of a global or device has
_MODULES = {"__builtin__": "builtins", "copy_reg": "copyreg"}  # Python 2's names


class Copied:
    """The bytes that opcodes have copied from what the pickle holds already: few opcodes could make many gigabytes of a long list."""

    __slots__ = ("bytes", "calls")

    def __init__(self) -> None:
        self.bytes = 0
        self.calls: set[str] = set()  # what is called and not on the allow-list

    def add(self, n: int) -> None:
        """Count `n` bytes. Raises LimitError."""
        self.bytes += n
        if self.bytes > LIMITS.pickle_bytes:
            LIMITS.check("pickle_bytes", self.bytes, "the number of bytes that a pickle copies")


# What a call of an allowed global is described as: a function of the call's name, its arguments and what was copied before. _NOT_TAKEN says
# that nobody calls it with such arguments.
_NOT_TAKEN, _DATA = object(), object()


class _Callable:
    """An allow-listed global: how to describe what it would have made."""

    __slots__ = ("describe", "module", "name")

    def __init__(self, describe: Callable[[_Callable, tuple[object, ...], Copied], object], module: str, name: str) -> None:
        self.describe, self.module, self.name = describe, module, name


def _dict(f: _Callable, args: tuple[object, ...], copied: Copied) -> object:
    out: dict[object, object] = {}
    given = args[0] if args else None
    if type(given) is dict:
        copied.add(100 * len(given))
        out.update(given)
    elif type(given) is list or type(given) is tuple:
        copied.add(100 * len(given))
        for pair in given:
            if type(pair) not in (list, tuple) or len(pair) != 2:
                raise CorruptError("a pickle makes a dict of something else than pairs")
            out[plain_key(pair[0])] = pair[1]
    return out


def _defaultdict(f: _Callable, args: tuple[object, ...], copied: Copied) -> object:
    return _dict(f, args[1:], copied)  # the first is what makes a missing value


def _tensor(f: _Callable, args: tuple[object, ...], copied: Copied) -> object:
    if 4 <= len(args) <= 7:
        return Tensor(args[0], args[1], args[2], args[3], None, args[6] if len(args) > 6 else None)
    return _NOT_TAKEN


def _tensor_v3(f: _Callable, args: tuple[object, ...], copied: Copied) -> object:
    if 7 <= len(args) <= 8:
        return Tensor(args[0], args[1], args[2], args[3], args[6], args[7] if len(args) > 7 else None)
    return _NOT_TAKEN


def _first(f: _Callable, args: tuple[object, ...], copied: Copied) -> object:
    return args[0] if args else _NOT_TAKEN


FROM_TYPE = ("torch._tensor", "_rebuild_from_type_v2")
_PLAIN_TYPES = (("torch", "Tensor"), ("torch.nn.parameter", "Parameter"), ("torch.nn.parameter", "Buffer"))


def _from_type(f: _Callable, args: tuple[object, ...], copied: Copied) -> object:
    """A tensor with its class and attributes: the tensor itself where the class adds nothing, else Opaque(FROM_TYPE, (class, tensor,
    attributes))."""
    if len(args) != 4 or (type(args[0]) is _Callable and args[0].describe is _from_type):
        return _NOT_TAKEN
    made, cls = call(args[0], args[2], copied), args[1]
    if (getattr(cls, "module", ""), getattr(cls, "name", "")) in _PLAIN_TYPES and type(made) is Tensor:
        return made
    return Opaque(*FROM_TYPE, (cls, made, args[3]))


def _sequence(args: tuple[object, ...], copied: Copied) -> tuple[object, ...] | list[object] | None:
    inner = args[0] if args else ()
    if type(inner) is tuple or type(inner) is list:
        copied.add(8 * len(inner))
        return inner
    return None


def _tuple(f: _Callable, args: tuple[object, ...], copied: Copied) -> object:
    inner = _sequence(args, copied)
    return _NOT_TAKEN if inner is None else tuple(inner)


def _list(f: _Callable, args: tuple[object, ...], copied: Copied) -> object:
    inner = _sequence(args, copied)
    return _NOT_TAKEN if inner is None else list(inner)


def _name(f: _Callable, args: tuple[object, ...], copied: Copied) -> object:
    return TorchName(args[0]) if args and type(args[0]) is str and len(args[0]) < LONG else _NOT_TAKEN


def _device(f: _Callable, args: tuple[object, ...], copied: Copied) -> object:
    if 0 < len(args) < 3 and all((type(a) is str and len(a) < LONG) or (type(a) is int and abs(a) < 1 << 64) for a in args):
        return TorchName(":".join(map(str, args)))
    return _NOT_TAKEN


def _bytes(f: _Callable, args: tuple[object, ...], copied: Copied) -> object:
    if not args:
        return b""
    if type(args[0]) is bytes:
        return args[0]
    if type(args[0]) is str and len(args) == 2:
        copied.add(len(args[0]))
        return args[0].encode("latin-1", "replace")
    return _NOT_TAKEN


def _encode(f: _Callable, args: tuple[object, ...], copied: Copied) -> object:
    if args and type(args[0]) is Span and args[0].text and len(args) > 1 and args[1] in ("latin1", "latin-1"):
        return args[0]
    if not args or type(args[0]) is not str:
        return _NOT_TAKEN
    copied.add(4 * len(args[0]))
    return args[0].encode("latin-1" if len(args) > 1 and args[1] in ("latin1", "latin-1") else "utf-8", "replace")


def _reconstructed(f: _Callable, args: tuple[object, ...], copied: Copied) -> object:
    if args and type(args[0]) is Opaque:
        return Opaque(args[0].module, args[0].name, (), safe=args[0].safe, new=True)
    return _NOT_TAKEN


_SCALARS = {
    "f8": "d", "f4": "f", "f2": "e", "i8": "q", "i4": "i", "i2": "h", "i1": "b", "u8": "Q", "u4": "I", "u2": "H", "u1": "B", "b1": "?",
}  # fmt: skip


def _number(args: tuple[object, ...]) -> object:
    """numpy's scalar(dtype, bytes) as a Python number where it is one, else None."""
    if len(args) == 2 and type(args[0]) is Opaque and args[0].args and type(args[1]) is bytes:
        code = _SCALARS.get(args[0].args[0]) if type(args[0].args[0]) is str else None
        state = args[0].state
        order = state[1] if type(state) is tuple and len(state) > 1 else "<"
        if code is not None:
            s = Struct((">" if order == ">" else "<") + code)
            if s.size == len(args[1]):
                return s.unpack(args[1])[0]
    return None


def _scalar(f: _Callable, args: tuple[object, ...], copied: Copied) -> object:
    number = _number(args)
    return Opaque(f.module, f.name, args, safe=True) if number is None else number


def _allowed() -> dict[tuple[str, str], object]:
    """(module, name) -> what stands for it, or the function that describes what calling it makes; each line has its reason."""
    table: dict[tuple[str, str], object] = {
        ("collections", "OrderedDict"): _dict,  # every state dict, and every tensor's empty backward hooks
        ("collections", "Counter"): _dict,  # schedulers of optimizers
        ("collections", "defaultdict"): _defaultdict,  # optimizer.state of older releases
        ("torch._utils", "_rebuild_tensor"): _tensor,  # before 0.4
        ("torch._utils", "_rebuild_tensor_v2"): _tensor,
        ("torch._utils", "_rebuild_tensor_v3"): _tensor_v3,  # dtypes without a storage class of their own
        ("torch._utils", "_rebuild_parameter"): _first,  # nn.Parameter around a tensor
        ("torch._utils", "_rebuild_parameter_with_state"): _first,
        ("torch.nn.parameter", "Parameter"): _first,
        ("torch._tensor", "_rebuild_from_type_v2"): _from_type,  # a tensor with attributes
        ("torch", "Size"): _tuple,
        ("torch.serialization", "_get_layout"): _name,  # torch.strided, in optimizer options
        ("torch", "device"): _device,
        ("_codecs", "encode"): _encode,  # bytes in protocol 2
        ("builtins", "bytearray"): _bytes,
        ("builtins", "bytes"): _bytes,  # empty bytes in protocol 2
        ("builtins", "set"): _list,  # kept as a list: plain data
        ("builtins", "frozenset"): _tuple,
        ("builtins", "list"): _list,
        ("builtins", "tuple"): _tuple,
        ("builtins", "dict"): _dict,
        ("copyreg", "_reconstructor"): _reconstructed,  # objects in protocols 0 and 1
        ("numpy.core.multiarray", "scalar"): _scalar,  # losses and steps kept as numpy numbers
        ("numpy._core.multiarray", "scalar"): _scalar,
        # plain data without a form of its own here; kept by name, never called
        ("builtins", "object"): _DATA,  # the base that protocols 0 and 1 name
        ("builtins", "complex"): _DATA,
        ("builtins", "slice"): _DATA,
        ("builtins", "range"): _DATA,
        ("builtins", "int"): _DATA,
        ("builtins", "float"): _DATA,
        ("builtins", "str"): _DATA,
        ("builtins", "bool"): _DATA,
        # tensors that are more than a view of a storage: on torch's own allow-list; what they are is said in torch/wrapped.py
        ("torch._utils", "_rebuild_wrapper_subclass"): _DATA,
        ("torch._utils", "_rebuild_sparse_tensor"): _DATA,
        ("torch._utils", "_rebuild_nested_tensor"): _DATA,
        ("torch._utils", "_rebuild_meta_tensor_no_storage"): _DATA,
        ("torch._utils", "_rebuild_device_tensor_from_numpy"): _DATA,
        ("torch._utils", "_rebuild_device_tensor_from_cpu_tensor"): _DATA,
        ("torch", "Tensor"): _DATA,
        ("numpy", "dtype"): _DATA,
        ("numpy", "ndarray"): _DATA,
        ("numpy.core.multiarray", "_reconstruct"): _DATA,  # random states
        ("numpy._core.multiarray", "_reconstruct"): _DATA,
    }
    for d in DTYPES.values():
        if d.storage:
            table["torch", d.storage] = table["torch.cuda", d.storage] = StorageType(d.name, d.storage)
        if d.torch:
            table["torch", d.torch] = TorchName(f"torch.{d.torch}")
    for q in ("QUInt8Storage", "QInt8Storage", "QInt32Storage", "QUInt4x2Storage", "QUInt2x4Storage"):
        table["torch", q] = StorageType("", q)
    for u in ("UntypedStorage", "_UntypedStorage", "TypedStorage", "_TypedStorage"):
        table["torch.storage", u] = table["torch", u] = StorageType("U8", u)
    for n in ("per_tensor_affine", "per_channel_affine", "strided", "contiguous_format", "preserve_format", "channels_last"):
        table["torch", n] = TorchName(f"torch.{n}")
    return table


# data on the list above that torch.load, which is weights_only since 2.6, refuses all the same: what it allows has no numpy and few
# builtins (`_get_allowed_globals` of torch/_weights_only_unpickler.py, 2.13)
REFUSED = frozenset((
    ("collections", "defaultdict"), ("copyreg", "_reconstructor"), ("numpy", "dtype"), ("numpy", "ndarray"),
    *((f"numpy.{core}.multiarray", n) for core in ("core", "_core") for n in ("scalar", "_reconstruct")),
    *(("builtins", n) for n in (
        "bytes", "frozenset", "list", "tuple", "dict", "object", "slice", "range", "int", "float", "str", "bool",
    )),
))  # fmt: skip
_ALLOWED: dict[tuple[str, str], object] = {}


def find(module: str, name: str, named: dict[str, bool]) -> object:
    """What stands for a global; one that is not allowed is added to `named`, and so (with True) is one that only torch.load refuses."""
    if not _ALLOWED:
        for key, what in _allowed().items():
            _ALLOWED[key] = _Callable(what, *key) if callable(what) else what
    module = _MODULES.get(module, module)
    found = _ALLOWED.get((module, name))
    if (module, name) in REFUSED:
        named[f"{module}.{name}"] = True
    if found is None:
        if len(module) + len(name) > LONG:
            raise CorruptError(f"a pickle names a global with {len(module) + len(name):,} characters")
        named[f"{module}.{name}"] = False
        LIMITS.check("pickle_globals", len(named), "the number of names in a pickle that are not on the allow-list")
        return Opaque(module, name)
    if found is _DATA:
        return Opaque(module, name, safe=True)
    return found


def is_data(module: str, name: str) -> bool:
    """Whether a global is on the allow-list as plain data, which whoever loads it may safely make."""
    found = find(module, name, {})
    return type(found) is Opaque and found.safe


def call(f: object, args: object, copied: Copied) -> object:
    """What REDUCE of `f` over `args` is described as. Raises CorruptError for arguments that cannot be meant, LimitError for what copies
    too much."""
    if type(args) is not tuple:
        raise CorruptError("a pickle calls something with arguments that are no tuple")
    if type(f) is Opaque:
        if (
            f.name == "getattr"
            and f.module == "builtins"
            and f.args is None
            and f.state is None
            and (function := _fetched(args)) is not None
        ):
            return function
        if not f.safe:
            copied.calls.add(f"{f.module}.{f.name}")
        if f.args is None and f.state is None:
            return Opaque(f.module, f.name, args, safe=f.safe)
        return Opaque(f.module, f.name if f.name.endswith("()()") else f.name + "()", args)
    if type(f) is not _Callable:
        raise CorruptError(f"a pickle calls a {type(f).__name__}")
    made = f.describe(f, args, copied)
    if made is _NOT_TAKEN:
        raise CorruptError(f"{f.module}.{f.name} is called with arguments that it does not take")
    return made


def _fetched(args: tuple[object, ...]) -> Opaque | None:
    """The function of torch that `getattr` fetches by these arguments (see `attributes`)."""
    from .attributes import owner_of

    if len(args) != 2 or type(args[0]) is not Opaque or args[0].args is not None or args[0].state is not None or type(args[1]) is not str:
        return None
    owner = owner_of(f"{args[0].module}.{args[0].name}", args[1])
    return Opaque(owner, str(args[1])) if owner is not None else None


def plain_key(key: object, depth: int = 0) -> object:
    """`key` if it is one that can be hashed in bounded time. Raises CorruptError otherwise."""
    t = type(key)
    if t is str or t is bytes:
        LIMITS.check("name_bytes", len(key), "the length of a key in a pickle")  # type: ignore[arg-type]
        return key
    if key is None or t is bool or t is float or t is TorchName:
        return key
    if t is int and -(1 << 60) < key < 1 << 60:  # type: ignore[operator]
        return key
    if t is tuple and depth < 3 and len(key) <= 16:  # type: ignore[arg-type]
        for k in key:  # type: ignore[attr-defined]
            plain_key(k, depth + 1)
        return key
    if t is Opaque or t is StorageType:
        return key
    raise CorruptError(f"a pickle uses a {t.__name__} as a key that no checkpoint uses")


def set_items(target: object, items: list[object]) -> None:
    """SETITEM and SETITEMS: key, value, key, value into a dict (or what an Opaque remembers)."""
    if len(items) % 2:
        raise CorruptError("a pickle sets a key without a value")
    keys = items[::2]
    tuples = 0
    for k in keys:
        if type(k) is not str or len(k) > LONG:
            plain_key(k)
            tuples += type(k) is tuple
    held = target.items if type(target) is Opaque else target
    if tuples:
        LIMITS.check(
            "pickle_tuples", tuples + (len(held) if type(held) is dict else 0), "the number of keys of a dict with tuples among them"
        )
    if type(target) is dict:
        target.update(zip(keys, items[1::2]))  # noqa: B905
    elif type(target) is Opaque:
        if type(target.items) is not dict:
            target.items = {}
        target.items.update(zip(keys, items[1::2]))  # noqa: B905
    else:
        raise CorruptError(f"a pickle sets keys of a {type(target).__name__}")


def extend(target: object, items: list[object]) -> None:
    """APPEND, APPENDS, ADDITEMS: values into a list (or what an Opaque remembers)."""
    if type(target) is list:
        target.extend(items)
    elif type(target) is Opaque:
        if type(target.items) is not list:
            target.items = []
        target.items.extend(items)
    else:
        raise CorruptError(f"a pickle appends to a {type(target).__name__}")


def text(raw: bytes, copied: Copied | None = None) -> str:
    """UTF-8 text; what is not UTF-8 (lone surrogates too) stays visible as escapes. It may take four times its bytes: `copied` counts
    that."""
    if copied is not None:
        copied.add(3 * len(raw))
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("utf-8", "backslashreplace")


def py2_text(raw: bytes) -> str | bytes:
    """A Python 2 `str`: text if it is UTF-8, else the bytes it is."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw


def persistent(pid: object, storages: list[object]) -> object:
    """What a persistent id describes: a Storage (added to `storages`), or the class of a ("module", class, file, source) of old files."""
    if type(pid) is tuple and pid:
        long = [i for i, p in enumerate(pid) if (type(p) is str or type(p) is bytes) and len(p) > LONG]
        if long and (long != [3] or pid[0] not in ("module", b"module")):  # of a module its source lies beside
            raise CorruptError("a pickle names a storage by more than a name")
        kind = pid[0].decode("latin-1") if type(pid[0]) is bytes else pid[0]
        if kind == "storage" and 5 <= len(pid) <= 6:
            storages.append(Storage(kind, pid[1], pid[2], pid[3], pid[4], pid[5] if len(pid) > 5 else None))
            return storages[-1]
        if kind == "module" and len(pid) > 1:
            return pid[1]
    return Opaque("persistent_id", printable(type(pid).__name__), (pid,), safe=True)
