"""From the object a PyTorch file describes to named tensors: which dict holds the weights (`outline`), what each tensor's bytes are
(`views`), what is there that is no plain tensor (`wrapped`), what else there is.
"""

from __future__ import annotations

from ..._typing import TYPE_CHECKING, Any, NamedTuple
from ...errors import printable
from ...findings import Finding
from ...limits import LIMITS
from ...support.lazy import later
from ...support.opaque import Opaque
from ...tensors import DTYPES, StoredTensor, Unread
from .._pickle.globals import Storage, StorageType, Tensor, TorchName
from .outline import CONTAINERS, COUNTERS, children, is_module, outline, passing
from .purpose import settings_of, special
from .views import SIZES, Locate, Maker, Records, lengths, shown, storage_key

if TYPE_CHECKING:
    from . import wrapped
    from .wrapped import Leaf
else:
    later(globals(), wrapped=".wrapped")

__all__ = ["SIZES", "Locate", "Records", "Tree", "lengths", "read_tree", "shown", "storage_key"]

_MANY = 64  # tensors of a dict from which they are looked at by columns


class Tree(NamedTuple):
    """What a file holds: `wrapper` is the key path of the state dict, whose tensors have no prefix.

    `beside` are the tensors of an optimizer's or a trainer's state; `parts` those of the other models in the file, each with the key
    path of its own; `unread` what holds numbers and is no plain tensor; `classes` the classes of tensors that have one of their own;
    `special` says what a file is that holds no model that could be loaded, and what to do; `settings` is the configuration that a pickled
    module carries.
    """

    tensors: dict[str, StoredTensor]
    extras: dict[str, object]
    wrapper: str
    findings: list[Finding]
    beside: frozenset[str]
    parts: dict[str, str]
    unread: dict[str, Unread]
    classes: dict[str, str]
    special: tuple[str, str] = ("", "")
    settings: dict[str, object] | None = None
    passing: frozenset[str] = frozenset()  # buffers that a pickled module does not save


class _Counts:
    """How many tensors lie below each container, each container looked at once; and what each value is."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.below: dict[int, int] = {}
        self.leaves: dict[int, Leaf | None] = {}  # of Opaque values, by identity

    def leaf(self, value: object) -> Leaf | None:
        """What a value is that holds numbers; None for a container and for plain data."""
        t = type(value)
        if t is Tensor or t is Storage:
            return value  # type: ignore[return-value]
        if t is not Opaque:
            return None
        if id(value) not in self.leaves:
            self.leaves[id(value)] = self._opaque(value)
        return self.leaves[id(value)]

    def _opaque(self, value: Any) -> Leaf | None:
        found = wrapped.leaf(value)
        if (
            found is None
            and value.args
            and not is_module(value)
            and not (type(value.state) is dict or value.items)
            and self._hold(value.args)
        ):
            return Unread(f"{value.module}.{value.name}", "", None, "load it with its library, and save plain tensors")
        return found

    def _hold(self, args: tuple[object, ...], depth: int = 0) -> bool:
        """Whether tensors are among the arguments of something: it made something of them that nobody here knows."""
        if depth > 8:
            return True
        for a in args[:1000]:
            if type(a) is Tensor or type(a) is Storage or (isinstance(a, (list, tuple)) and self._hold(tuple(a), depth + 1)):
                return True
        return False

    def of(self, value: object, depth: int = 0) -> int:
        t = type(value)
        if t is Tensor or t is Storage:
            return 1
        if t not in CONTAINERS:
            return 0
        if t is Opaque and self.leaf(value) is not None:
            return 1
        known = self.below.get(id(value))
        if known is not None:
            return known
        if depth > LIMITS.pickle_depth:
            LIMITS.refuse("pickle_depth", "the pickle is nested deeper", self.path)
        self.below[id(value)] = 0  # a container within itself adds nothing
        n = 0
        if type(value) is dict and set(map(type, value.values())) == {Tensor}:
            self.below[id(value)] = len(value)
            return len(value)
        for _, child in children(value):
            t = type(child)
            if t is Tensor:
                n += 1
            elif t in CONTAINERS or t is Storage:
                n += self.of(child, depth + 1)
        self.below[id(value)] = n
        return n


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
        arrays = sum(found is not None for found in counts.leaves.values())
        if reached > 1000 + LIMITS.names_each * (rebuilt + arrays):
            LIMITS.refuse("names_each", f"its {rebuilt:,} tensors have {shown(reached)} names", path)
    walk = _Walk(value, counts, Maker(locate, path), path)
    walk.all()
    found = walk.maker.findings()
    doubled = walk.doubled
    if doubled:
        more = f" and {len(doubled) - 1} more" if len(doubled) > 1 else ""
        found.append(Finding("warning", "names", doubled[0], f"two tensors have this name{more}: the second is listed with #2"))
    o = walk.outline
    return Tree(
        walk.maker.tie(walk.out), _extras(value, counts, found, walk.taken), ".".join(o.where), found, frozenset(walk.beside),
        walk.parts, walk.unread,
        walk.maker.classes,
        special(value, path, bool(walk.out) and walk.beside >= walk.out.keys() and not walk.unread),
        settings_of(value), frozenset(walk.passing),
    )  # fmt: skip


class _Walk:
    """Gives every tensor of a file its name and its place."""

    def __init__(self, value: Any, counts: _Counts, maker: Maker, path: str) -> None:
        self.value, self.counts, self.maker, self.path = value, counts, maker, path
        self.outline = outline(value, counts.of, counts.leaf, _key)
        self.part_of = {at: ".".join(at) for at in self.outline.parts}
        self.out: dict[str, StoredTensor] = {}
        self.unread: dict[str, Unread] = {}
        self.beside: set[str] = set()
        self.parts: dict[str, str] = {}
        self.doubled: list[str] = []
        self.passing: set[str] = set()
        self.taken: set[int] = set()  # the identities of Opaque values that became tensors, or stand for some
        self.most = LIMITS.tensors
        self.looked = 0  # how many values were looked at, one as often as it is reached

    def all(self) -> None:
        """Take everything in."""
        whole = self.counts.leaf(self.value)
        if whole is not None:
            self.add("tensor", whole, "")
        elif type(self.value) in CONTAINERS:
            self.walk(self.value, "", (), (id(self.value),), "outside")

    def add(self, name: str, t: Leaf, place: str) -> None:
        """One tensor; `place` is "" for the main model, "state", "outside" or a part's key path."""
        if name in self.out or name in self.unread:
            n = 2
            while f"{name}#{n}" in self.out or f"{name}#{n}" in self.unread:
                n += 1
            self.doubled.append(name)
            name = f"{name}#{n}"
        if len(self.out) >= self.most:
            LIMITS.refuse("tensors", "it has more tensors", self.path)
        if type(t) is Unread:
            self.unread[name] = t
        else:
            self.out[name] = self.maker.tensor(name, t)
        if place == "state":
            self.beside.add(name)
        elif place == "outside":
            if name in self.out and self.out[name].spec.numel == 1 and counter(name):
                self.beside.add(name)
            else:
                self.parts[name] = name
        elif place:
            self.parts[name] = place

    def add_all(self, held: dict[object, object], prefix: str) -> bool:
        """`add` for all of a dict of the main model, where they are plain tensors under names that nothing else has; False where not."""
        if set(map(type, held)) != {str} or set(map(type, held.values())) != {Tensor} or len(self.out) + len(held) > self.most:
            return False
        names: list[Any] = [f"{prefix}.{key}" for key in held] if prefix else [*held]
        if any(there and not there.keys().isdisjoint(names) for there in (self.out, self.unread)):
            return False
        made = self.maker.run(names, list(held.values()))  # type: ignore[arg-type]
        if made is not None:
            self.out.update(zip(names, made, strict=True))
        return made is not None

    def walk(self, node: object, prefix: str, at: tuple[str, ...], open_: tuple[int, ...], place: str) -> None:
        path = self.path
        if len(at) > LIMITS.pickle_depth:
            LIMITS.refuse("pickle_depth", "the pickle is nested deeper", path)
        self.looked += len(node) if isinstance(node, (dict, list, tuple)) else 1
        if self.looked > LIMITS.pickle_values:
            LIMITS.check("pickle_values", self.looked, "the number of values, shared ones counted as often as they are reached,", path)
        if at in self.outline.state:
            place = "state"
        elif at == self.outline.where and place != "state":
            place = prefix = ""
        elif at in self.part_of and place != "state":
            place = self.part_of[at]
        if len(prefix) > LIMITS.name_bytes:
            LIMITS.check("name_bytes", len(prefix), "the length of a tensor's name", path)
        below, leaf_of = self.counts.below, self.counts.leaf
        if type(node) is dict and not place and len(node) > _MANY and self.add_all(node, prefix):
            return
        unsaved = passing(node) if type(node) is Opaque else ()
        for key, child in children(node):
            t = type(child)
            if t is not Tensor and t not in CONTAINERS and t is not Storage:
                continue
            last = key if type(key) is str else _key(key)
            name = f"{prefix}.{last}" if prefix else last
            if t is Tensor or t is Storage:
                self.add(name, child, place)  # type: ignore[arg-type]
                if unsaved and key in unsaved:
                    self.passing.add(name)
            elif t is Opaque and (found := leaf_of(child)) is not None:
                if place in ("state", "outside") and _no_weight(found):
                    continue  # random states
                self.taken.add(id(child))
                self.add(name, found, place)
            elif below.get(id(child)) and id(child) not in open_:
                self.walk(child, name, (*at, last), (*open_, id(child)), place)
            elif not place and t is list and (found := wrapped.numbers(child)) is not None:
                self.add(name, found, place)


def _no_weight(found: Leaf) -> bool:
    """Whether this is an array of whole numbers, which outside a state dict no weight is."""
    return type(found) is wrapped.Array and DTYPES[found.dtype].kind != "float"


def counter(name: str) -> bool:
    """Whether a trainer calls a single number so: the epoch, the best loss."""
    return name.rpartition(".")[2].lower().startswith(COUNTERS)


_NOTHING = object()


class _TooMany(Exception):
    """More values than extras may hold."""


def _extras(value: Any, counts: _Counts, found: list[Finding], taken: set[int]) -> dict[str, object]:
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
        if t is Tensor or t is Storage or id(v) in taken:
            return _NOTHING
        if t is TorchName:
            return str(v)
        if t is StorageType:
            return Opaque("torch", v.name, safe=True)
        if t not in CONTAINERS:
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
