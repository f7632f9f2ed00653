"""The account: every stored tensor, every entry of a file beside the tensors and every key of the configuration, in exactly one place.

Policy: made once, from the graph; no verb concludes without it. What a place means:

    used         a parameter of the model; a key that is understood
    tied         a parameter that another one is
    repeated     a second name, or a second copy, of a parameter
    derived      computed by every loader (position_ids)
    optimizer    an optimizer's state
    trainer      counters, schedules and whatever plain data a trainer keeps; no loader of a model looks at it
    part         another model in the same file
    stray        without effect on outputs
    dropped      left out since the user said so (--drop)
    unexplained  nobody knows what it is: it lowers every conclusion that it could make false

A tensor of an unknown architecture is unexplained, and yet compared, digested and carried over under its own name. What can be neither,
`unread`, is what `undecided` names.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial

from .._typing import TYPE_CHECKING, NamedTuple, Protocol
from ..configuration.quantization import KEYS
from ..configuration.without_effect import WITHOUT_EFFECT, no_effect
from ..errors import UndecidedError, printable
from ..support.columns import sorts
from ..support.name_text import collapse, natural
from ..support.opaque import Opaque
from ..tensors import DTYPES

if TYPE_CHECKING:
    from ..configuration.read import RawConfig, Values
    from ..containers import Checkpoint
    from ..schema import Architecture, ConfigForm
    from .packed_weights import Packings
    from .weight_graph import WeightGraph

PLACES = ("used", "tied", "repeated", "derived", "optimizer", "trainer", "part", "stray", "dropped", "unexplained")
KINDS = ("tensor", "weight", "entry", "key")  # a weight is packed, and stored under other names than its own: its parts are the tensors
_OF_ROLE = {"param": "used", "repeat": "repeated"}
_BLOB = 1024  # bytes in an entry from which they could hold a weight


class Subject(Protocol):
    """What an account is made of: an open checkpoint, recognised, with its configuration (`examine.Subject`)."""

    @property
    def checkpoint(self) -> Checkpoint: ...

    @property
    def graph(self) -> WeightGraph: ...

    @property
    def config(self) -> RawConfig | None: ...

    @property
    def values(self) -> Values | None: ...

    @property
    def packings(self) -> Packings: ...

    @property
    def architecture(self) -> Architecture | None: ...

    @property
    def untied(self) -> bool: ...

    @property
    def account(self) -> Account: ...


class Entry(NamedTuple):
    """One thing that is there: its kind (KINDS), its place (PLACES), and what it is, in words. `unread` says that it holds numbers that
    are not read; `name` of a key is "config.json: KEY" without its file."""

    kind: str
    name: str
    place: str
    what: str = ""
    unread: bool = False
    counts: bool = False  # no parameter of the model, and yet compared, digested and locked under its stored name


class Account:
    """Everything of a checkpoint in its place, in the order of the files. Compared by its entries.

    Those of tensors are made when they are asked for one by one: there may be 90,000, and sums, and that each of them is read, are known
    from `many`: (place, kind) -> how many tensors and packed weights, where none has an entry that must be looked at by itself; None where
    one may have.
    """

    def __init__(
        self, entries: Iterable[Entry] = (), tensors: Callable[[], Iterable[Entry]] = tuple,
        many: Mapping[tuple[str, str], int] | None = None, unexplained: Callable[[], list[str]] | None = None,
    ) -> None:  # fmt: skip
        self._tensors, self._many, self._rest, self._unexplained = tensors, many, tuple(entries), unexplained
        self._places = {place for place, _ in many or ()}
        self._made: tuple[Entry, ...] | None = None

    def __repr__(self) -> str:
        return f"Account(entries={self.entries!r})"

    def __eq__(self, other: object) -> bool:
        return self.entries == other.entries if isinstance(other, Account) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.entries)

    @property
    def entries(self) -> tuple[Entry, ...]:
        """All of them, tensors first."""
        if self._made is None:
            self._made = (*self._tensors(), *self._rest)
        return self._made

    def _beside(self, *places: str) -> tuple[Entry, ...]:
        """The entries among which all of these places are: without the tensors where none of them is in one."""
        return self._rest if self._many is not None and not any(p in self._places for p in places) else self.entries

    def of(self, place: str, kind: str = "") -> list[Entry]:
        """What is in a place."""
        within = self._beside(*([place] if kind in ("", "tensor", "weight") else ()))
        return [e for e in within if e.place == place and kind in ("", e.kind)]

    @property
    def unread(self) -> list[Entry]:
        """What holds numbers and is not read, in whatever place but `dropped`."""
        return [e for e in self._beside() if e.unread and e.place != "dropped"]

    def beyond(self) -> list[str]:
        """The stored names of tensors that are no parameter and yet count: unexplained ones, and the other models of the same file."""
        if self._many is not None and "part" not in self._places and self._unexplained is not None:
            return self._unexplained()
        return [e.name for e in self._beside("unexplained", "part") if e.kind in ("tensor", "weight") and e.counts]

    @property
    def sums(self) -> dict[str, dict[str, int]]:
        """How many of each kind are in each place; places and kinds of none are left out."""
        many = Counter(self._many or {})
        many.update((e.place, e.kind) for e in self._beside(*(() if self._many is not None else PLACES)))
        out: dict[str, dict[str, int]] = {}
        for (place, kind), n in many.items():
            out.setdefault(place, {})[kind] = n
        return {place: out[place] for place in PLACES if place in out}


def make_account(subject: Subject) -> Account:
    """The account of an open checkpoint. Reads nothing."""
    rest = (*_unread(subject), *_entries(subject), *_keys(subject))
    many = _many(subject)
    if many is None:
        return Account((*_tensors(subject), *rest))
    return Account(rest, partial(_tensors, subject), many, partial(subject.graph.of_role, "unexplained"))  # which pickle


def _of_role(subject: Subject) -> dict[str, str]:
    """Which role has a place of another name. What may be tied and is not is a parameter like any."""
    return {**_OF_ROLE, "tied": "used"} if subject.untied else _OF_ROLE


def _many(subject: Subject) -> dict[tuple[str, str], int] | None:
    """How many tensors and packed weights are in each place, by roles alone; None where a tensor must be looked at to know its place or
    whether it is read."""
    roles, tensors = subject.graph.roles, subject.checkpoint.tensors
    out: Counter[tuple[str, str]] = Counter()
    of_role = _of_role(subject)
    _, kinds, counts = sorts(roles, 0)
    for (kind, _), n in zip(kinds, counts, strict=True):
        out[of_role.get(kind, kind), "tensor"] += n
    types = {spec.dtype for spec in subject.checkpoint.specs}
    if ("optimizer", "tensor") in out or roles.keys() != tensors.keys() or any(DTYPES[t].bits % 8 for t in types):
        return None
    more: dict[int, tuple[int, bool]] = {}  # id of a form -> how many parts a weight has, whether one of them has its name
    for name, weight in subject.packings.weights.items():
        if id(weight.form) not in more:
            more[id(weight.form)] = len(weight.parts), any(t.name == name for t in weight.parts.values())
        n, own = more[id(weight.form)]
        if n and name in roles:
            place = of_role.get(roles[name].kind, roles[name].kind)
            out[place, "tensor"] += n - 1
            if not own:
                out[place, "weight"] += 1
    return dict(out)


def require_read(subject: Subject, what: str) -> None:
    """Raise UndecidedError where something holds numbers that are not read, so that `what` ("a digest") would leave it out, and where
    loaders read other tensors than are read here."""
    if subject.checkpoint.disputed:
        said = f"what loaders read is another model: {subject.checkpoint.disputed}"
        raise UndecidedError(said, path=subject.checkpoint.path, hint="ckptkit fix makes the index from the shards")
    left = subject.account.unread
    if left:
        raise UndecidedError(
            f"{unread_words(left)}: {what} would leave {'them' if len(left) > 1 else 'it'} out",
            path=subject.checkpoint.path,
            hint=f"save plain tensors with the library that wrote {'them' if len(left) > 1 else 'it'}; "
            f"--drop '{left[0].name}' leaves it out",
        )


def heads_in_doubt(subject: Subject) -> tuple[list[str], list[str]]:
    """(heads that may stand behind layers which nobody knows, the weights of these layers), both empty where there are no such layers.

    A head takes what the encoder gives only if nothing lies between them: an LSTM's output may have the encoder's size.
    """
    arch = subject.architecture
    if arch is None:
        return [], []
    labels = subject.graph.solution.sizes.axis.get("labels", 0)
    heads = sorted({i.group for i in arch.params.values() if "labels" in i.layout.axes and i.group != "core"} & subject.graph.groups)
    packed = {n for p in subject.graph.packings for n in p.stored}
    between = []
    for name, (kind, what) in subject.graph.roles.items():
        low = kind == "unexplained" and bool(what)  # an adapter's: it stands beside its module
        if kind in ("unexplained", "dropped") and not low and name not in packed and name in subject.checkpoint.tensors:
            spec = subject.checkpoint.tensors[name].spec
            after = all(n in (labels, labels + 2) for n in spec.shape)  # a CRF's transitions: they stand behind the head
            if len(spec.shape) > 1 and not after and DTYPES[spec.dtype].kind == "float":
                between.append(name)
    return (heads, between) if heads and between else ([], [])


def unread_words(left: list[Entry]) -> str:
    """Entries that are not read, in a message: "12 tensors are not read: a.b (torchao...Int8Tensor F32 [16, 16]), ..."."""
    first = left[0]
    are = "s are" if len(left) != 1 else " is"
    names = collapse(sorted((e.name for e in left), key=natural), 4)
    return f"{len(left)} tensor{are} there and not read: {names} ({first.what}{', ...' if len(left) > 1 else ''})"


# --- tensors -------------------------------------------------------------------------------------------------------


def _tensors(subject: Subject) -> Iterator[Entry]:
    ck, graph = subject.checkpoint, subject.graph
    packed = {n: f"part of {p.numbers} ({p.family})" for p in graph.packings for n in p.stored}
    known, weights = graph.recognition is not None, subject.packings.weights
    new, tensors, classes = tuple.__new__, ck.tensors, ck.classes
    bits = {d.name: d.bits for d in DTYPES.values()}
    labels: dict[int, str] = {}  # by the form's id: there are few
    of_role = _of_role(subject)
    for name, (kind, what) in graph.roles.items():
        t = tensors.get(name)
        if t is None:
            continue
        place = of_role.get(kind, kind)
        if place == "optimizer" and t.spec.numel == 1 and not what:
            place = "trainer"
        if place == "unexplained" and not known:
            what = "of an unknown architecture"
        if name in packed:
            what = packed[name]
        elif name in classes:
            what = f"{what}, a {classes[name]}".removeprefix(", ")
        whole = bits[t.spec.dtype] % 8 == 0 or place in ("dropped", "optimizer", "trainer", "derived", "stray")
        counts = place == "unexplained" or (place == "part" and name in ck.parts and not ck.chosen)
        weight = weights.get(name)
        own = weight is None or any(part.name == name for part in weight.parts.values())
        yield new(Entry, ("tensor" if own else "weight", name, place, what, not whole, counts))
        if weight is not None:
            label = labels.get(id(weight.form)) or labels.setdefault(id(weight.form), weight.label)
            of = f"part of {name} ({label})"
            for part in weight.parts.values():
                if part.name != name:
                    yield new(Entry, ("tensor", part.name, place, of, False, False))


def _unread(subject: Subject) -> Iterator[Entry]:
    ck, graph = subject.checkpoint, subject.graph
    for name, u in ck.unread.items():
        place = "dropped" if name in graph.dropped else "optimizer" if name in ck.beside else "part" if name in ck.parts else "unexplained"
        holds = f", which holds {', '.join(graph.unread[name])}" if name in graph.unread else ""
        yield Entry("tensor", name, place, u.words() + holds, place != "optimizer" and not (place == "part" and ck.chosen))


def _entries(subject: Subject) -> Iterator[Entry]:
    ck = subject.checkpoint
    inside = subject.config is not None and subject.config.inside
    for key, value in ck.extras.items():
        if ck.container == "savedmodel":
            yield Entry("entry", key, "used", "of the program")
        elif inside and key in ("args", "cfg", "config", "gguf"):
            yield Entry("entry", key, "used", "the configuration")
        elif (n := _bytes_in(value, 0)) >= _BLOB:
            yield Entry("entry", key, "dropped" if key in subject.graph.dropped else "unexplained", f"{n:,} bytes of no known form", True)
        elif isinstance(value, Opaque) and not value.safe:
            yield Entry("entry", key, "trainer", f"an object of {printable(value.module, 80)}.{printable(value.name, 80)}")
        else:
            yield Entry("entry", key, "trainer", "plain data")


def _bytes_in(value: object, depth: int) -> int:
    """The bytes that a value holds as such."""
    if isinstance(value, bytes):
        return len(value)
    if depth > 16:
        return 0
    if isinstance(value, dict):
        return sum(_bytes_in(v, depth + 1) for v in value.values())
    if isinstance(value, (list, tuple)):
        return sum(_bytes_in(v, depth + 1) for v in value)
    if isinstance(value, Opaque) and not value.safe:
        return sum(_bytes_in(v, depth + 1) for v in (value.args, value.state, value.items))
    return 0


# --- the configuration ---------------------------------------------------------------------------------------------


def _keys(subject: Subject) -> Iterator[Entry]:
    if subject.config is None:
        return
    unknown = unexplained_keys(subject)
    said: Mapping[str, object] = subject.config.raw
    if subject.config.inside:
        said = _each_key(said)
    for key, value in said.items():
        if key in unknown:
            yield Entry("key", str(key), "unexplained", "no table of the architecture has it")
        elif ".derived." not in key:
            yield Entry("key", str(key), "stray" if no_effect(key, value) else "used")
    for key in [k for k in unknown if k not in said and k.partition(".")[0] in said]:
        yield Entry("key", key, "unexplained", "a word that nothing here reads")


def unexplained_keys(subject: Subject) -> dict[str, object]:
    """The keys of the configuration, with what they say, that nobody here understands and that may change what the model computes. Those
    in an object of which other keys are read are named with it ("rope_parameters.mscale"). What is said of packed weights is understood
    as far as their packing reads it."""
    raw: Mapping[str, object] = subject.config.raw if subject.config is not None else {}
    values = subject.values
    if values is None:
        flat = _each_key(raw) if subject.config is not None and subject.config.inside else raw
        return _but_of_packing(subject, {k: v for k, v in flat.items() if not no_effect(k, v) and ".derived." not in k})
    form = subject.architecture.dialects[values.form].config if subject.architecture is not None else None
    rest = values.rest.get(values.form, {})
    if form is not None:
        objects = {key.partition(".")[0] for key in (*form.keys, *form.also) if "." in key}
        rest = {k: v for key, value in rest.items() for k, v in (leaves(key, value) if key in objects else [(key, value)])}
    sizes = {**subject.graph.solution.sizes.axis, **values.values}
    again = _said_again(form, rest, sizes, values.keys) if form is not None and rest else {}
    rest = {k: v for k, v in rest.items() if v is None or not _equal(again.get(k), v)}
    return _but_of_packing(subject, {k: v for k, v in rest.items() if not (no_effect(k, v) if form is None else _is_usual(form, k, v))})


def _each_key(raw: Mapping[str, object]) -> dict[str, object]:
    """A configuration inside a file, such as a GGUF file's keys, each by its name."""
    return {k: v for key, value in raw.items() for k, v in (leaves(key, value) if key not in WITHOUT_EFFECT else [(key, value)])}


def leaves(key: str, value: object) -> Iterator[tuple[str, object]]:
    """What lies in an object, and in those in it, under names joined by dots."""
    if isinstance(value, Mapping) and value:
        for inner, v in value.items():
            yield from leaves(f"{key}.{inner}", v)
    else:
        yield key, value


def _equal(a: object, b: object) -> bool:
    """Whether two values are the same; numbers of a file that holds float32 are, where they round to the same."""
    if isinstance(a, float) and isinstance(b, float) and a != b:
        import struct

        try:
            return struct.pack("<f", a) == struct.pack("<f", b)
        except OverflowError:
            return False
    return a == b


def _but_of_packing(subject: Subject, keys: dict[str, object]) -> dict[str, object]:
    """Without what is said of weights that are packed so here, but for the words of it that no packing reads."""
    said = subject.packings.said
    if said is None or not subject.packings.weights:
        return keys
    from ..configuration.quantization_words import unknown_words

    out = {k: v for k, v in keys.items() if k not in KEYS or v != said.words}
    for key in [k for k in KEYS if k in keys and k not in out][:1]:
        out |= {f"{key}.{word}": v for word, v in unknown_words(said.words)}
    return out


def _said_again(form: ConfigForm, rest: Mapping[str, object], values: Mapping[str, object], read: Mapping[str, str]) -> dict[str, object]:
    """What keys of `rest` must say to say what was `read` once more: other names of its key, and what a form writes of a value."""
    out: dict[str, object] = {k: say(values) for k, say in form.also.items() if k in rest and callable(say)}
    for key, spec in form.keys.items():
        canonical = spec if isinstance(spec, str) else spec.canonical
        if canonical in read and (isinstance(spec, str) or not (spec.words or spec.shift or spec.plus)):
            out |= {name: values.get(canonical) for name in key.split(" | ") if name != read[canonical]}
    return out


def _is_usual(form: ConfigForm, key: str, value: object) -> bool:
    """Whether a key changes nothing: as its form has it, as any configuration has it, or since a written one has that value."""
    place, _, last = key.rpartition(".")
    if key in form.unread or (place.endswith("_config") and last in WITHOUT_EFFECT):
        return True
    if any(key.startswith(begin[:-1]) for begin in form.usual if begin.endswith(".*")):
        return True
    if key in form.usual:
        return form.usual[key] is ... or form.usual[key] == value or value is None
    if key in form.also and key not in WITHOUT_EFFECT and value is not None:
        return form.also[key] == value
    return no_effect(key, value)
