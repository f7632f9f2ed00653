"""From the object a PyTorch file describes to named tensors: which dict holds the weights, what each tensor's bytes are, what else
there is.

Source: `torch/_utils.py` (_rebuild_tensor: a view of a storage by offset, size and stride, in elements). Every view is held against its
storage here, so that nothing behind this file meets an offset or a size that it must not trust.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

from ..._typing import Any, NamedTuple
from ...errors import CorruptError, UnsupportedError, printable
from ...findings import Finding
from ...limits import LIMITS
from ...support.opaque import Opaque
from ...tensors import DTYPES, Extent, StoredTensor, TensorSpec
from .._pickle.globals import Storage, StorageType, Tensor, TorchName

# the keys under which training scripts put the weights, the most telling first
KNOWN = ("state_dict", "model_state_dict", "model_state", "model", "module", "net", "network", "params", "weights")
_OPTIMIZER = ("optim", "adam", "ema", "scheduler", "scaler")  # beginnings of keys that hold no weights
_EXPANDED = 16 << 20  # bytes from which a view that repeats itself is worth a warning
_LARGE = 256 << 20  # bytes of an expanded view
_DTYPES = {f"torch.{d.torch}": d.name for d in DTYPES.values() if d.torch}
SIZES = {d.name: d.bits // 8 for d in DTYPES.values()}
_new = tuple.__new__  # a named tuple without its argument handling

# (storage, its declared bytes) -> (offset in the file, bytes a tensor may use, the key that tells storages apart); CorruptError
Locate = Callable[[Storage, int], tuple[int, int, str]]


class Tree(NamedTuple):
    """What a file holds: `wrapper` is the key path of the state dict, whose tensors have no prefix."""

    tensors: dict[str, StoredTensor]
    extras: dict[str, object]
    wrapper: str
    findings: list[Finding]
    beside: frozenset[str]  # the tensors that lie outside the state dict (optimizer state)


def shown(value: object) -> str:
    """A value from a pickle in a message: short, and never by a conversion that its size could make slow."""
    if type(value) is int:
        return str(value) if -(1 << 80) < value < 1 << 80 else f"a number of {value.bit_length()} bits"
    if type(value) is str:
        return repr(printable(value, 60))
    return f"a {type(value).__name__}"


def storage_key(key: object) -> str:
    """A storage's key as text; "" for what no storage has."""
    return key if type(key) is str else str(key) if type(key) is int and abs(key) < 1 << 64 else ""


def _is_module(value: object) -> bool:
    """Whether this is a pickled nn.Module."""
    state = value.state if type(value) is Opaque else None
    return type(state) is dict and type(state.get("_parameters")) is dict and type(state.get("_modules")) is dict


def _children(value: object) -> Iterator[tuple[object, object]]:
    """(key, value) of a container; of a pickled nn.Module what its state_dict() would give; of another Opaque all it carries."""
    if type(value) is dict:
        yield from value.items()
    elif type(value) is list or type(value) is tuple:
        yield from enumerate(value)
    elif type(value) is Opaque:
        state = value.state
        if _is_module(value):
            for part in ("_parameters", "_buffers", "_modules"):
                yield from _children(state.get(part) if type(state) is dict else None)
            return
        for inner in (state, value.items):
            if type(inner) is dict:
                yield from inner.items()
            elif inner is not None:
                yield "state", inner
        if value.args:
            yield "args", value.args


_CONTAINERS = (dict, list, tuple, Opaque)


class _Counts:
    """How many tensors lie below each container, each container looked at once."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.below: dict[int, int] = {}

    def of(self, value: object, depth: int = 0) -> int:
        t = type(value)
        if t is Tensor or t is Storage:
            return 1
        if t not in _CONTAINERS:
            return 0
        known = self.below.get(id(value))
        if known is not None:
            return known
        if depth > LIMITS.pickle_depth:
            LIMITS.refuse("pickle_depth", "the pickle is nested deeper", self.path)
        self.below[id(value)] = 0  # a container within itself adds nothing
        n = 0
        for _, child in _children(value):
            t = type(child)
            if t is Tensor:
                n += 1
            elif t in _CONTAINERS or t is Storage:
                n += self.of(child, depth + 1)
        self.below[id(value)] = n
        return n


def _choose(root: object, counts: _Counts) -> tuple[object, tuple[str, ...]]:
    """The container of the weights and its key path: known keys first, else the dict that has the most tensors of its own."""
    value, path = root, ()  # type: tuple[object, tuple[str, ...]]
    found = True
    while found:
        found = False
        if type(value) is dict:
            for known in KNOWN:
                child = value.get(known)
                if type(child) in (dict, Opaque) and child is not value and counts.of(child) and len(path) < LIMITS.pickle_depth:
                    value, path, found = child, (*path, known), True
                    break
    if path or counts.of(root) == 0:
        return value, path
    best: tuple[int, object, tuple[str, ...]] = (0, root, ())
    spare = best
    queue: list[tuple[object, tuple[str, ...], bool]] = [(root, (), False)]
    seen = {id(root)}
    for node, at, optimizer in queue:
        module = _is_module(node)
        own = counts.of(node) if module else sum(type(c) is Tensor for _, c in _children(node))
        if optimizer:
            spare = (own, node, at) if own > spare[0] else spare
        elif own > best[0]:
            best = (own, node, at)
        for key, child in () if module else _children(node):
            if type(child) in _CONTAINERS and id(child) not in seen and counts.of(child):
                seen.add(id(child))
                name = _key(key)
                queue.append((child, (*at, name), optimizer or name.lower().startswith(_OPTIMIZER)))
    chosen = best if best[0] else spare
    if type(chosen[1]) is not dict and type(chosen[1]) is not Opaque:
        return root, ()
    return chosen[1], chosen[2]


def _key(key: object) -> str:
    """A dict key as part of a name."""
    if type(key) is str:
        return key
    if type(key) is int or type(key) is float or type(key) is bool or key is None:
        return str(key)
    if type(key) is bytes:
        return printable(key.decode("latin-1"))
    if type(key) is tuple:
        return "(" + ",".join(_key(k)[:100] for k in key) + ")"
    return repr(key) if type(key) is Opaque else printable(str(key)) if type(key) is TorchName else type(key).__name__


def read_tree(value: Any, locate: Locate, path: str, rebuilt: int) -> Tree:
    """The named tensors of what a pickle described, in which `rebuilt` tensors were made.

    Raises CorruptError for a view that leaves its storage, LimitError for counts: also where sharing gives each tensor many names.
    """
    counts = _Counts(path)
    reached = counts.of(value)
    if reached > 1000 + LIMITS.names_each * rebuilt:
        LIMITS.refuse("names_each", f"its {rebuilt:,} tensors have {shown(reached)} names", path)
    main, where = _choose(value, counts)
    maker = _Maker(locate, path)
    out: dict[str, StoredTensor] = {}
    doubled: list[str] = []

    beside: set[str] = set()
    looked = 0  # how many values were looked at, one as often as it is reached
    most = LIMITS.tensors

    def add(name: str, t: object, inside: bool) -> None:
        if name in out:
            n = 2
            while f"{name}#{n}" in out:
                n += 1
            doubled.append(name)
            name = f"{name}#{n}"
        if len(out) >= most:
            LIMITS.refuse("tensors", "it has more tensors", path)
        out[name] = maker.tensor(name, t)
        if not inside:
            beside.add(name)

    def walk(node: object, prefix: str, depth: int, open_: tuple[int, ...], inside: bool) -> None:
        if depth > LIMITS.pickle_depth:
            LIMITS.refuse("pickle_depth", "the pickle is nested deeper", path)
        nonlocal looked
        looked += len(node) if isinstance(node, (dict, list, tuple)) else 1
        if looked > LIMITS.pickle_values:
            LIMITS.check("pickle_values", looked, "the number of values, shared ones counted as often as they are reached,", path)
        if node is main:
            inside = True
            prefix = "" if prefix == ".".join(where) else prefix
        if len(prefix) > LIMITS.name_bytes:
            LIMITS.check("name_bytes", len(prefix), "the length of a tensor's name", path)
        for key, child in _children(node):
            t = type(child)
            if t is not Tensor and t not in _CONTAINERS and t is not Storage:
                continue
            name = key if type(key) is str else _key(key)
            if prefix:
                name = f"{prefix}.{name}"
            if t is Tensor or t is Storage:
                add(name, child, inside)
            elif counts.below.get(id(child)) and id(child) not in open_:
                walk(child, name, depth + 1, (*open_, id(child)), inside)

    if type(value) is Tensor or type(value) is Storage:
        add("tensor", value, True)
    elif type(value) in _CONTAINERS:
        walk(value, "", 0, (id(value),), False)
    found = maker.findings()
    if doubled:
        more = f" and {len(doubled) - 1} more" if len(doubled) > 1 else ""
        found.append(Finding("warning", "names", doubled[0], f"two tensors have this name{more}: the second is listed with #2"))
    return Tree(maker.tie(out), _extras(value, counts, found), ".".join(where), found, frozenset(beside))


class _Maker:
    """Makes StoredTensors of one file, and gathers what is to be said about all of them at once."""

    def __init__(self, locate: Locate, path: str) -> None:
        self.locate, self.path = locate, path
        self.keys: list[str] = []
        self.devices: dict[str, None] = {}
        self.expanded: list[tuple[str, int, int]] = []
        self.plain: dict[tuple[int, int, int], tuple[int, int, TensorSpec, object, object]] = {}
        self.name_bytes = LIMITS.name_bytes

    def tensor(self, name: str, t: object) -> StoredTensor:
        """One tensor, its view held against its storage."""
        if len(name) > self.name_bytes:
            LIMITS.check("name_bytes", len(name), "the length of a tensor's name", self.path)
        if type(t) is Tensor:
            s = t.storage
            if type(s) is Storage and t.offset == 0:
                # by identity, which no file can choose: most tensors of most files share few shapes and strides
                known = self.plain.get((id(s.type), id(t.size), id(t.stride)))
                if known is not None and known[0] == s.numel and s.location == "cpu" and t.dtype is None and not t.flags:
                    at, _, key = self.locate(s, known[1])
                    self.keys.append(key)
                    return _new(StoredTensor, (name, known[2], (_new(Extent, (self.path, at, known[1])),), None, None, None))
        if type(t) is Storage:
            t = Tensor(t, 0, (t.numel,), (1,), None, None)
        assert type(t) is Tensor
        s = t.storage
        if type(s) is not Storage or type(s.type) is not StorageType:
            raise CorruptError(f"tensor {name!r} has no storage of a known type", path=self.path)
        dtype, numel = s.type.dtype, s.numel
        if not dtype:
            raise UnsupportedError(f"tensor {name!r} is quantised (torch.{s.type.name}), which ckptkit does not read", path=self.path)
        if type(numel) is not int or numel < 0:
            raise CorruptError(f"the storage of tensor {name!r} has {shown(numel)} elements", path=self.path)
        if s.location != "cpu":
            place = s.location[:60].decode("latin-1") if type(s.location) is bytes else s.location
            if place != "cpu" and type(place) is str:
                self.devices[printable(place, 40)] = None
        at, there, key = self.locate(s, numel * SIZES[dtype])
        if t.dtype is not None:
            dtype = _DTYPES.get(t.dtype, "") if type(t.dtype) is TorchName else ""
            if not dtype:
                raise UnsupportedError(f"tensor {name!r} has a dtype that ckptkit does not know: {shown(t.dtype)}", path=self.path)
        if t.flags:
            raise UnsupportedError(f"tensor {name!r} is a lazy conjugate or negative of what is stored", path=self.path)
        size, stride, first = t.size, t.stride, t.offset
        if type(size) is not tuple or type(stride) is not tuple or len(size) != len(stride) or type(first) is not int:
            raise CorruptError(f"tensor {name!r} has no proper size, stride and offset", path=self.path)
        if len(size) > LIMITS.rank:
            LIMITS.check("rank", len(size), f"the rank of tensor {name!r}", self.path)
        item = SIZES[dtype]
        numel, last, packed = 1, 0, True
        for n, step in zip(size[::-1], stride[::-1]):  # noqa: B905
            if type(n) is not int or type(step) is not int or n < 0 or step < 0:
                raise CorruptError(f"tensor {name!r} has a size of {shown(n)} with a stride of {shown(step)}", path=self.path)
            if n != 1:
                if step != numel:
                    packed = False
                last += (n - 1) * step
                numel *= n
        self.keys.append(key)
        spec = _new(TensorSpec, (dtype, size))
        if not numel:
            return _new(StoredTensor, (name, spec, (Extent(self.path, at, 0),), None, None, None))
        if first < 0 or (first + last + 1) * item > there or numel >> 62:
            raise CorruptError(
                f"tensor {name!r} reaches element {shown(first + last)} of a storage that has {there // item:,}, or is too large",
                path=self.path,
            )
        length = (last + 1) * item
        if not packed and numel * item > max(_EXPANDED, 8 * length):
            self.expanded.append((name, numel * item, length))
            if numel * item > _LARGE:
                LIMITS.check(
                    "unpack_ratio",
                    numel * item // length,
                    f"tensor {name!r} is {numel * item:,} bytes made of {length:,} stored ones: the ratio",
                    self.path,
                )
        if packed and s.numel == numel and t.dtype is None and first == 0:  # the whole of its storage, as it lies there
            self.plain[id(s.type), id(size), id(stride)] = numel, length, spec, s.type, stride  # which keeps all three of them
        extent = _new(Extent, (self.path, at + first * item, length))
        return _new(StoredTensor, (name, spec, (extent,), None if packed else stride, None, None))

    def tie(self, tensors: dict[str, StoredTensor]) -> dict[str, StoredTensor]:
        """`tensors` with `storage` set on those that share theirs with others."""
        uses = Counter(self.keys)
        if len(uses) == len(tensors):
            return tensors
        return {
            n: t if uses[key] == 1 else t._replace(storage=f"{self.path}#{key}")
            for (n, t), key in zip(tensors.items(), self.keys)  # noqa: B905
        }

    def findings(self) -> list[Finding]:
        """What was noticed about all tensors together."""
        out = []
        if self.devices:
            out.append(Finding("info", "device", "", f"saved from {', '.join(list(self.devices)[:8])}; the bytes are read as they are"))
        for name, whole, stored in self.expanded[:20]:
            text = f"{whole:,} bytes are made of {stored:,} stored ones by strides that repeat them"
            out.append(Finding("warning", "expand", name, text, "is this tensor meant? Written elsewhere it takes its full size"))
        return out


_NOTHING = object()


class _TooMany(Exception):
    """More values than extras may hold."""


def _extras(value: Any, counts: _Counts, found: list[Finding]) -> dict[str, object]:
    """Everything but the tensors, as plain data by top-level key: dicts, lists, tuples, scalars, text, bytes and Opaque.

    What holds more values than the limit `extras` together (or seems to, by sharing) is left out with a finding.
    """
    most = LIMITS.extras
    budget = 2 * most
    left_out: list[str] = []

    def plain(v: Any, depth: int, open_: frozenset[int]) -> Any:
        nonlocal budget
        budget -= 1
        if budget < 0:
            raise _TooMany
        t = type(v)
        if v is None or t in (bool, int, float, str, bytes):
            return v
        if t is Tensor or t is Storage:
            return _NOTHING
        if t is TorchName:
            return str(v)
        if t is StorageType:
            return Opaque("torch", v.name, safe=True)
        if t not in _CONTAINERS:
            return Opaque(getattr(v, "module", "builtins"), getattr(v, "name", t.__name__), safe=True)
        if id(v) in open_:
            return "<itself>"
        if depth > LIMITS.pickle_depth:
            LIMITS.refuse("pickle_depth", "the pickle is nested deeper", counts.path)
        inside, deep = open_ | {id(v)}, depth + 1
        if t is dict:
            out = {
                k if type(k) in (str, int, bool, float) else _key(k): plain(c, deep, inside) for k, c in v.items() if type(c) is not Tensor
            }
            kept = {k: c for k, c in out.items() if c is not _NOTHING}
            return _NOTHING if counts.below.get(id(v)) and not kept else kept
        if t is Opaque:
            made = Opaque(v.module, v.name, None, None, safe=v.safe, new=v.new)
            made.args, made.state, made.items = (
                None if c is None or c is _NOTHING else c for c in (plain(part, deep, inside) for part in (v.args, v.state, v.items))
            )
            return made
        items = [plain(c, deep, inside) for c in v]
        if items and all(c is _NOTHING for c in items):
            return _NOTHING
        return t(None if c is _NOTHING else c for c in items)

    out: dict[str, object] = {}
    if type(value) is Opaque and counts.of(value):
        return out
    for key, child in value.items() if type(value) is dict else [("value", value)]:
        if type(child) is Tensor:
            continue
        rest = max(budget - most, 0)  # one key takes half of what is left of the whole at most
        budget -= rest
        try:
            kept = plain(child, 1, frozenset((id(value),)) if child is not value else frozenset())
        except _TooMany:
            left_out.append(printable(_key(key)))
            continue
        finally:
            budget = max(budget, 0) + rest
        if kept is not _NOTHING and not (type(value) in (list, tuple) and not any(c is not None for c in kept)):
            out[_key(key)] = kept
    if left_out:
        more = f" and {len(left_out) - 1:,} more keys" if len(left_out) > 1 else ""
        found.append(
            Finding(
                "warning",
                "extras",
                left_out[0],
                f"holds more values beside the tensors{more} than the limit extras={most:,}; they are left out",
            )
        )
    return out
