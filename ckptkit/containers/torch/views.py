"""From a view of a storage to a stored tensor: its bytes, and that it stays within them.

Source: `torch/_utils.py` (_rebuild_tensor: a view of a storage by offset, size and stride, in elements). Every view is held against its
storage here, so that nothing behind this file meets an offset or a size that it must not trust.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from operator import gt, mul

from ..._typing import TYPE_CHECKING, Any
from ...errors import CorruptError, UnsupportedError, printable
from ...findings import Finding
from ...limits import LIMITS
from ...support.columns import pluck, sorts, tuples
from ...support.lazy import later
from ...tensors import DTYPES, Extent, StoredTensor, TensorSpec
from .._pickle.globals import Storage, StorageType, Tensor, TorchName

if TYPE_CHECKING:
    from .._wire.zip_archive import Entry
    from . import wrapped
else:
    later(globals(), wrapped=".wrapped")

_EXPANDED = 16 << 20  # bytes from which a view that repeats itself is worth a warning
_LARGE = 256 << 20  # bytes of an expanded view
_DTYPES = {f"torch.{d.torch}": d.name for d in DTYPES.values() if d.torch}
SIZES = {d.name: d.bits // 8 for d in DTYPES.values()}
_new = tuple.__new__  # a named tuple without its argument handling

# (storage, its declared bytes) -> (offset in the file, bytes a tensor may use, the key that tells storages apart); CorruptError
Locate = Callable[[Storage, int], tuple[int, int, str]]


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


class Records:
    """`Locate` of the records of a zip: each storage has one, called as its key."""

    def __init__(self, entries: Mapping[str, Entry], records: str, path: str) -> None:
        self.entries, self.records, self.path = entries, records, path
        self._known: tuple[list[str], list[Entry | None]] = [], []  # who holds lengths and who makes tensors asks for all of one file

    def __call__(self, s: Storage, declared: int) -> tuple[int, int, str]:
        key = s.key if type(s.key) is str else storage_key(s.key)
        e = self.entries.get(self.records + key)
        if e is None or s.view is not None:
            raise CorruptError(
                f"the storage {shown(s.key)} of a tensor has no record {printable(self.records + key, 200)} in the file", path=self.path
            )
        if declared > e.size:
            raise CorruptError(
                f"storage {shown(key)} is said to have {shown(declared)} bytes; its record has {e.size:,}", path=self.path
            )
        return e.start, declared, key

    def of(self, keys: list[str]) -> list[Entry | None]:
        """The records of many keys."""
        if keys != self._known[0]:
            self._known = keys, list(map(self.entries.get, map(self.records.__add__, keys)))
        return self._known[1]

    def many(self, storages: list[Storage], declared: list[int]) -> tuple[list[int], list[str]] | None:
        """Where each of many begins, and its key; None where one is not to be found so, or is shorter."""
        keys: list[str] = pluck(storages, 2)
        if set(map(type, keys)) != {str} or any(s[5] is not None for s in sorts(storages, 5)[1]):
            return None
        found = self.of(keys)
        if None in found or any(map(gt, declared, pluck(found, 3))):
            return None
        return pluck(found, 2), keys


class Maker:
    """Makes StoredTensors of one file, and gathers what is to be said about all of them at once."""

    def __init__(self, locate: Locate, path: str) -> None:
        self.locate, self.path = locate, path
        self.keys: list[str] = []
        self.devices: dict[str, None] = {}
        self.classes: dict[str, str] = {}  # of tensors that have a class of their own
        self.expanded: list[tuple[str, int, int]] = []
        self.plain: dict[tuple[int, int, int], tuple[int, int, TensorSpec, object, object]] = {}
        self.name_bytes, self.rank = LIMITS.name_bytes, LIMITS.rank

    def tensor(self, name: str, t: object) -> StoredTensor:
        """One tensor, its view held against its storage."""
        if len(name) > self.name_bytes:
            LIMITS.check("name_bytes", len(name), "the length of a tensor's name", self.path)
        if type(t) is not Tensor and type(t) is not Storage:
            if type(t) is wrapped.Array:
                self.keys.append(f"pickle:{len(self.keys)}")
                return _new(StoredTensor, (name, TensorSpec(t.dtype, t.shape), (), None, None, t.read, ()))
            if type(t) is wrapped.Classed:
                self.classes[name] = t.kind
                t = t.tensor
        if type(t) is Tensor:
            s = t.storage
            if type(s) is Storage and t.offset == 0:
                # by identity, which no file can choose: most tensors of most files share few shapes and strides
                known = self.plain.get((id(s.type), id(t.size), id(t.stride)))
                if known is not None and known[0] == s.numel and s.location == "cpu" and t.dtype is None and not t.flags:
                    at, _, key = self.locate(s, known[1])
                    self.keys.append(key)
                    return _new(StoredTensor, (name, known[2], (_new(Extent, (self.path, at, known[1])),), None, None, None, ()))
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
        if len(size) > self.rank:
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
            return _new(StoredTensor, (name, spec, (Extent(self.path, at, 0),), None, None, None, ()))
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
        return _new(StoredTensor, (name, spec, (extent,), None if packed else stride, None, None, ()))

    def run(self, names: Sequence[str], found: Sequence[Tensor]) -> list[StoredTensor] | None:
        """`tensor` for each of many, by columns, where each is the whole of a storage as it lies there; None where one may be anything
        else. Of each kind (type, shape, strides) one is looked at."""
        storages, n = pluck(found, 0), len(names)
        if set(map(type, storages)) != {Storage}:
            return None
        if any(type(t[1]) is not int or t[1] or t[4] is not None or t[5] for t in sorts(found, 1, 4, 5)[1]):
            return None
        if max(map(len, names)) > self.name_bytes or any(type(s[3]) is not str or s[3] != "cpu" for s in sorts(storages, 3)[1]):
            return None
        forms = list(zip(pluck(storages, 1), pluck(found, 2), pluck(found, 3), pluck(storages, 4), strict=True))
        of_form, kinds, _ = sorts(forms, 0, 1, 2, 3)
        first_of = dict(zip(of_form[::-1], range(n - 1, -1, -1), strict=True))
        specs, sizes = [], []
        for number, (kind, size, stride, numel) in enumerate(kinds):
            key = id(kind), id(size), id(stride)
            if key not in self.plain:
                noticed, i = len(self.expanded), first_of[number]
                self.tensor(names[i], found[i])
                self.keys.pop()
                del self.expanded[noticed:]
            plain = self.plain.get(key)
            if plain is None or type(numel) is not int or plain[0] != numel:
                return None
            specs.append(plain[2])
            sizes.append(plain[1])
        lengths = list(map(sizes.__getitem__, of_form))
        located = self.locate.many(storages, lengths) if isinstance(self.locate, Records) else None
        if located is None:
            places, _, keys = map(list, zip(*map(self.locate, storages, lengths), strict=True))
        else:
            places, keys = located
        self.keys += keys
        extents = tuples(Extent, [(self.path,), places, lengths], n)
        columns = [list(names), (of_form, specs), list(zip(extents, strict=True)), (None,), (None,), (None,), ((),)]
        return tuples(StoredTensor, columns, n)

    def tie(self, tensors: dict[str, StoredTensor]) -> dict[str, StoredTensor]:
        """`tensors` with `storage` set on those that share theirs with others."""
        if len(set(self.keys)) == len(tensors):
            return tensors
        uses = Counter(self.keys)
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


def lengths(storages: Sequence[object], located: Records, again: str) -> list[Finding]:
    """A finding where records are longer than the storages that they are of. torch.load holds a record against the first storage of its
    key, and takes the first for all others of that key."""
    if _as_long(storages, located):
        return []
    entries, records = located.entries, located.records
    first: dict[str, int] = {}
    told: dict[str, int] = {}  # key -> bytes said, other than the record has
    for s in storages:
        dtype, numel, key = getattr(s.type, "dtype", ""), s.numel, s.key  # type: ignore[attr-defined]
        if type(key) is not str or type(numel) is not int or dtype not in SIZES:
            continue
        said = numel * SIZES[dtype]
        if first.setdefault(key, said) != said or key not in told:
            e = entries.get(records + key)
            if e is not None and e.size != said:
                told.setdefault(key, said)
    if not told:
        return []
    key = next(iter(told))
    more = f" (and {len(told) - 1:,} more)" if len(told) > 1 else ""
    e = entries[records + key]
    text = f"the record of storage {key} has {e.size:,} bytes, and the storage is said to have {told[key]:,}{more}: nothing reads the rest"
    refused = any(first[k] != entries[records + k].size for k in told)
    return [Finding("error", "trailing", printable(e.name), text + (", and torch.load refuses the file" if refused else ""), again)]


def _as_long(storages: Sequence[Any], located: Records) -> bool:
    """Whether each storage is as long as its record, as nearly all are: by columns. False where one is of another form."""
    if not storages:
        return True
    keys, numels = pluck(storages, 2), pluck(storages, 4)
    of_type, firsts, _ = sorts(storages, 1)
    types = [s[1] for s in firsts]
    if set(map(type, keys)) != {str} or set(map(type, numels)) != {int} or any(type(t) is not StorageType for t in types):
        return False
    widths = [SIZES.get(t.dtype, -1) for t in types]
    found = located.of(keys)
    return None not in found and pluck(found, 3) == list(map(mul, map(widths.__getitem__, of_type), numels))
