"""WeightGraph: the canonical parameters of a checkpoint, bound to the stored tensors that hold them. Lazy: no weight is read.

Every stored tensor ends with a role, so that nothing is left over in silence: param, tied (a parameter that repeats
another), repeat (a second stored name of one parameter), derived (computed, such as position_ids), optimizer (and other training
state, set apart first), stray (a marker without weights), part (of another model in the same checkpoint), dropped (as the user
said), or unexplained. What is
there and not read (`Checkpoint.unread`) takes part in recognition and is held in `unread`, with the parameters it stands for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property

from .._typing import TYPE_CHECKING, NamedTuple
from ..containers import Checkpoint
from ..errors import UsageError
from ..limits import LIMITS
from ..schema import Adjust, Architecture, Dialect, Param, Row, count_name, expand
from ..schema.layout import Placed, Sizes
from ..schema.templates import format_of, reduce_name
from ..support.columns import pluck, sorts
from ..support.lazy import later
from ..support.name_text import meant
from ..tensors import StoredTensor
from .layouts import held_places
from .packed import Packing, may_be_packed, packings
from .recognition import Question, Recognition
from .recognized import recognized
from .second_names import denies_ties, lie_alike, says_second_name
from .solve import Shape, Solution, System
from .training_state import training_state

if TYPE_CHECKING:
    from . import adapters
else:
    later(globals(), adapters=".adapters")


class Bound(NamedTuple):
    """Where a canonical parameter lies: the stored tensor, its row, and which of the row's parts it is."""

    stored: str
    row: Row
    which: int
    at: Mapping[str, int]


class Role(NamedTuple):
    """What a stored tensor is, and of what: the canonical parameters, the variable of an optimizer slot, a remark."""

    kind: str  # param | tied | repeat | derived | optimizer | stray | part | unexplained
    what: str


class WeightGraph:
    """The canonical view of a checkpoint. Built by `bind`; `recognition` is None for an unknown architecture."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        recognition: Recognition | None,
        state: Mapping[str, str] | None = None,
        dropped: frozenset[str] = frozenset(),
        *,
        untied: bool = False,
    ) -> None:
        self.untied = untied  # the configuration denies that one tensor may be two parameters
        self.checkpoint = checkpoint
        self.indices: dict[str, set[int]] = {}  # placeholder -> the numbers met
        self.dropped = dropped
        self.account: object = None  # made when it is first asked for, with the configuration
        self.contradicted: tuple[str, ...] | None = None  # likewise
        self.unread: dict[str, tuple[str, ...]] = {}  # what stands where a tensor is due -> the parameters it would hold
        if recognition is not None and checkpoint.unread:
            recognition = self._without_unread(recognition)
        self.recognition = recognition
        self._solved: dict[object, Solution] = {}
        self.params: dict[str, Bound] = {}
        self.roles: dict[str, Role] = {}
        self.twice: list[tuple[str, str, str]] = []  # (canonical, stored, stored again)
        self.repeats: list[tuple[str, str]] = []  # (stored, canonical) of further names of a parameter
        self.idle: list[tuple[str, str]] = []  # of such as the library does not compute with
        self.for_both: list[tuple[str, str]] = []  # (a name that is not there, the stored one that is taken for it too, which no file says)
        if recognition is not None:
            self._bind(recognition)
            self._other_parts(recognition)
        for n, first in checkpoint.repeats.items():
            canonical = next((c for c, b in self.params.items() if b.stored == first and len(b.row.parts) == 1), None)
            self.roles[n] = Role("repeat", canonical or first)
            if canonical is not None:
                self.repeats.append((n, canonical))
        if recognition is not None and recognition.learned is not None:
            for holder, numbers in recognition.learned.indices.items():
                self.indices.setdefault(holder, set()).update(numbers)
        slots = training_state(checkpoint) if state is None else state
        unexplained = Role("unexplained", "")
        special = dropped or slots or checkpoint.passing or checkpoint.parts or adapters.any_of(checkpoint.tensors)
        if not special:
            rest = [n for n in checkpoint.tensors if n not in self.roles] if self.roles else checkpoint.tensors
            self.roles.update(dict.fromkeys(rest, unexplained))
        for n in checkpoint.tensors if special else ():
            if n in self.roles:
                continue
            if n in dropped:
                self.roles[n] = Role("dropped", "left out, as asked")
            elif n in slots:
                self.roles[n] = Role("optimizer", slots[n])
            elif n in checkpoint.passing and recognition is not None:
                self.roles[n] = Role("derived", "a buffer that its module does not save")
            elif n in checkpoint.parts:
                self.roles[n] = Role("part", checkpoint.parts[n])
            else:
                self.roles[n] = Role("unexplained", said) if (said := adapters.what(n)) else unexplained

    def _without_unread(self, r: Recognition) -> Recognition:
        """The recognition of what can be read; the rest is remembered."""
        matches = {}
        for stored, m in r.matches.items():
            if stored in self.checkpoint.unread:
                self.unread[stored] = tuple(expand(p, dict(m.at)) for p in m.row.parts)
                for placeholder, value in m.at:
                    self.indices.setdefault(placeholder, set()).add(value)
            else:
                matches[stored] = m
        return r._replace(matches=matches)

    def _bind(self, r: Recognition) -> None:
        params = r.architecture.params
        repeats: list[tuple[str, Bound, str]] = []
        rows: dict[int, tuple[str, str, tuple[str, ...]]] = {}  # by the row's id: a row is large, and its hash is made anew each time
        places: dict[int, tuple[dict[str, int], tuple[str, ...], tuple[int, ...]]] = {}  # by the id of what the tensors of an expert share
        beside: dict[int, Role] = {}
        counted: set[int] = set()  # places whose numbers are in `indices`
        new, held, roles = tuple.__new__, self.params, self.roles
        for stored, (row, at_items) in r.matches.items():
            place = places.get(id(at_items))
            if place is None:
                of, numbers = zip(*at_items, strict=True) if at_items else ((), ())
                place = places[id(at_items)] = dict(at_items), of, numbers
            at, holders, values = place
            alone = rows.get(id(row))
            if alone is None:
                alone = rows[id(row)] = _alone(row, params)
            kind, text, needed = alone
            if text and needed == holders:  # nearly all: one parameter in one tensor
                if id(at_items) not in counted:
                    counted.add(id(at_items))
                    for placeholder, value in at_items:
                        self.indices.setdefault(placeholder, set()).add(value)
                name = text % values
                if name in held:
                    self.twice.append((name, held[name].stored, stored))
                else:
                    held[name] = new(Bound, (stored, row, 0, at))
                roles[stored] = new(Role, (kind, name))
                continue
            if row.role in ("derived", "stray"):
                roles[stored] = beside.get(id(row)) or beside.setdefault(id(row), Role(row.role, row.note))
                continue
            if row.layout.holder:
                self._bind_stack(stored, row, at, r)
                continue
            names = [expand(p, at) for p in row.parts]
            if row.role == "repeat":
                repeats.append((names[0], Bound(stored, row, 0, at), stored))
                continue
            if id(at_items) not in counted:
                counted.add(id(at_items))
                for placeholder, value in at_items:
                    self.indices.setdefault(placeholder, set()).add(value)
            for i, name in enumerate(names):
                if name in self.params:
                    self.twice.append((name, self.params[name].stored, stored))
                else:
                    self.params[name] = new(Bound, (stored, row, i, at))
            roles[stored] = new(Role, (kind, names[0] if len(names) == 1 else ", ".join(names)))
        for name, bound, stored in repeats:
            if name in self.params and bound.row.computes:
                idle, self.params[name] = self.params[name].stored, bound
                self.roles[stored], self.roles[idle] = Role("param", name), Role("repeat", name)
                self.idle.append((idle, name))
            elif name in self.params:
                self.roles[stored] = Role("repeat", name)
                self.repeats.append((stored, name))
            else:
                self.params[name] = bound
                self.roles[stored] = Role("param", name)
        for name, info in () if self.untied else params.items():
            holder = self.params.get(name)
            if holder is None or info.tied is None or info.tied in self.params:
                continue
            said = says_second_name(self.checkpoint.ties, r, info.tied, holder.stored)
            if info.group not in r.architecture.free_groups and not said:
                continue
            if info.tied not in r.table.by_param:
                continue
            row, _ = r.table.by_param[info.tied]
            if holder.row.parts == (name,) and row.parts == (info.tied,) and lie_alike(holder.row, row, params):
                self.params[info.tied] = Bound(holder.stored, row, 0, {})  # one tensor: which of its names it is saved under differs
                self.for_both += [] if said else [(row.names[0], holder.stored)]
                self.roles[holder.stored] = Role("param", info.tied)

    def _bind_stack(self, stored: str, row: Row, at: Mapping[str, int], r: Recognition) -> None:
        """A tensor that holds all the places of a placeholder (the experts of a layer) in one dimension."""
        holder, n = row.layout.holder, held_places(row, stored, r.matches, self.checkpoint.tensors)
        LIMITS.check("tensors", n * len(row.parts), f"the number of parameters in {stored}")
        for placeholder, value in at.items():
            self.indices.setdefault(placeholder, set()).add(value)
        self.indices.setdefault(holder, set()).update(range(n))
        for place in range(n):
            here = {**at, holder: place}
            for i, p in enumerate(row.parts):
                name = expand(p, here)
                if name in self.params:
                    self.twice.append((name, self.params[name].stored, stored))
                else:
                    self.params[name] = Bound(stored, row, i, here)
        every = [expand(p.replace(f"{{{holder}}}", "*"), at) for p in row.parts]  # one name for all: there may be hundreds
        self.roles[stored] = Role("param", ", ".join(every))

    def _other_parts(self, r: Recognition) -> None:
        """Name the tensors of the other models that lie in the same checkpoint (ELECTRA's generator beside its discriminator)."""
        if not r.dialect.part:
            return
        for d in r.architecture.dialects.values():
            if d.part and d.part != r.dialect.part and d.style is r.dialect.style:
                table = r.architecture.table(d.name)
                for name in self.checkpoint.tensors:
                    if name not in self.roles and table.match(*reduce_name(name), d.prefixes[0]) is not None:
                        self.roles[name] = Role("part", d.part)

    # --- what it is --------------------------------------------------------------------------------------------

    @property
    def architecture(self) -> Architecture | None:
        return self.recognition.architecture if self.recognition else None

    @property
    def dialect(self) -> Dialect | None:
        return self.recognition.dialect if self.recognition else None

    def tensor(self, canonical: str) -> StoredTensor:
        """The stored tensor that holds a canonical parameter."""
        return self.checkpoint.tensors[self.params[canonical].stored]

    def placed(self, canonical: str) -> Placed:
        """Where in its stored tensor a canonical parameter lies."""
        assert self.recognition is not None
        b = self.params[canonical]
        layouts = tuple(self.recognition.architecture.params[p].layout.at(b.at) for p in b.row.parts)
        layout = b.row.layout
        return Placed(layout.at(b.at), layouts, b.which, self.checkpoint.tensors[b.stored].strides, b.at.get(layout.holder, 0))

    def adjust(self, canonical: str) -> Adjust | None:
        """How the value of a canonical parameter follows from what is stored; None where it is what is stored."""
        if self.recognition is None or not self.recognition.dialect.adjust:
            return None
        b = self.params[canonical]
        adjust = self.recognition.dialect.adjust.get(b.row.parts[b.which])
        return adjust.of(self.solution.sizes) if adjust is not None else None

    @cached_property
    def layer_kinds(self) -> dict[str, dict[int, frozenset[bool]]]:
        """How each switch of single layers stands by the tensors: "moe@layer" -> layer -> on, off, or (wrongly) both."""
        r = self.recognition
        if r is None or not r.architecture.layer_kinds:
            return {}
        params = r.architecture.params
        out: dict[str, dict[int, frozenset[bool]]] = {s: {} for s in r.architecture.layer_kinds}
        words: dict[int, list[tuple[dict[int, frozenset[bool]], bool, str]]] = {}  # by the row's id, as in `_bind`
        for row, at in r.matches.values():
            said = words.get(id(row))
            if said is None:
                every = {w for p in row.parts if row.role == "param" for w in params[p].words if "@" in w}
                said = words[id(row)] = [(out[w.removeprefix("not ")], not w.startswith("not "), w.partition("@")[2]) for w in every]
            for here, on, holder in said:
                place = at[0][1] if at[0][0] == holder else dict(at)[holder]
                if on not in here.get(place, ()):
                    here[place] = here.get(place, frozenset()) | {on}
        return out

    @cached_property
    def counts(self) -> dict[str, int]:
        """How many of each placeholder there are, holes included: {"layers": 24}."""
        found = {count_name(p): max(v) + 1 for p, v in self.indices.items() if v}
        learned = self.recognition.learned if self.recognition is not None else None
        return found if learned is None else {**found, **{c: n for c, n in learned.extra.items() if c not in found}}

    @cached_property
    def templates(self) -> frozenset[str]:
        """The names with placeholders of all parameters that are there."""
        return frozenset([b.row.parts[b.which] for b in {(id(b[1]), b[2]): b for b in self.params.values()}.values()])

    @cached_property
    def groups(self) -> frozenset[str]:
        """The groups of which at least one parameter of its own is there."""
        if self.recognition is None:
            return frozenset()
        params = self.recognition.architecture.params
        return frozenset(params[p].group for p in self.templates)

    @cached_property
    def switches(self) -> dict[str, frozenset[bool]]:
        """How each switch of the architecture stands by the tensors that are there: empty or both where they do not say."""
        if self.recognition is None:
            return {}
        params = self.recognition.architecture.params
        seen = {params[p].switch for p in self.templates}
        return {
            s: frozenset(on for on in (True, False) if (s if on else f"not {s}") in seen) for s in self.recognition.architecture.switches
        }

    def untied_by(self, dialect: Dialect) -> frozenset[str]:
        """The tied parameters that a naming stores of this model all the same: an encoder alone has no head."""
        if self.recognition is None:
            return dialect.unties
        params, switch = self.recognition.architecture.params, dialect.unties_where
        on = not switch or self.switches.get(switch) == frozenset({True})
        whole = {i.group for p, i in params.items() if p not in dialect.unties and not i.optional} - self.groups - {"core"}  # and not there
        return frozenset(p for p in dialect.unties if on and (params[p].group in self.groups if switch else params[p].group not in whole))

    @cached_property
    def shapes(self) -> dict[Row, dict[str, Shape]]:
        """Row -> stored name -> stored shape, for every tensor that holds parameters."""
        rows: dict[int, tuple[Row, dict[str, Shape]]] = {}  # by id, as in `_bind`
        tensors = self.checkpoint.tensors
        if self.recognition is not None:
            for stored, (row, _) in self.recognition.matches.items():
                held = rows.get(id(row))
                if held is None:
                    held = rows[id(row)] = row, {}
                held[1][stored] = tensors[stored][1][1]
        return {row: held for row, held in rows.values() if row.role in ("param", "repeat")}

    @cached_property
    def solution(self) -> Solution:
        """The axis sizes that the tensors imply."""
        return self.solved({})

    def solved(self, given: Mapping[str, int]) -> Solution:
        """The same with the sizes that are `given` besides. Made once for each: not to be changed."""
        key = tuple(sorted(given.items()))
        found = self._solved.get(key)
        if found is None:
            found = self._solved[key] = Solution(Sizes(), {}, (), ()) if self.recognition is None else self._system.solve(given)
        return found

    @cached_property
    def _system(self) -> System:
        """The equations in the tensors' shapes."""
        assert self.recognition is not None
        return System(self.recognition.architecture, self.shapes, self._places())

    def _places(self) -> dict[str, Mapping[str, int]]:
        """Stored name -> where it stands, of the tensors with axes that have another size in each layer."""
        matches = self.recognition.matches if self.recognition is not None else {}
        sized = {i: bool(row.layout.by) for i, row in {id(m[0]): m[0] for m in matches.values()}.items()}
        return {n: dict(m.at) for n, m in matches.items() if sized[id(m[0])]} if any(sized.values()) else {}

    def variant(self, heads: int | None = None) -> str | None:
        """The best-known name of this shape ("roberta-large"), the most specific variant that agrees; None if there is none."""
        arch = self.architecture
        if arch is None:
            return None
        known = {**self.solution.sizes.axis, **self.counts}
        if heads is not None:
            known["heads"] = heads
        fits = [
            (len(v), name)
            for name, v in arch.variants.items()
            if all(known.get(k, n if k in arch.untold else None) == n for k, n in v.items())
        ]
        return max(fits, key=lambda f: f[0])[1] if fits else None

    @cached_property
    def packings(self) -> list[Packing]:
        """The weights that are stored in several tensors, quantised."""
        if not may_be_packed(self.roles):
            return []
        return packings(n for n, r in self.roles.items() if r.kind not in ("optimizer", "dropped"))

    def of_role(self, kind: str) -> list[str]:
        """The stored names that have a role, in the file's order."""
        return list(self._by_role.get(kind, ()))

    @cached_property
    def _by_role(self) -> dict[str, list[str]]:
        kinds = {r[0] for r in sorts(self.roles, 0)[1]}
        if len(kinds) == 1:
            return {kinds.pop(): list(self.roles)}
        return {kind: [n for n, r in self.roles.items() if r[0] == kind] for kind in kinds}


def _alone(row: Row, params: Mapping[str, Param]) -> tuple[str, str, tuple[str, ...]]:
    """(the role of a row's tensors, the name of its parameter as a format, what goes into it); the format is "" of a row that holds
    several, or that takes more than that."""
    if row.role in ("derived", "stray", "repeat"):
        return "", "", ()
    kind = "tied" if all(params[p].tied for p in row.parts) else "param"
    return (kind, *format_of(row.parts[0])) if len(row.parts) == 1 and not row.layout.holder else (kind, "", ())


def bind(checkpoint: Checkpoint, asked: Question = Question(), drop: Sequence[str] = ()) -> WeightGraph:  # noqa: B008 (it is immutable)
    """Recognise a checkpoint and bind its tensors. What the file itself calls the model is added to `asked`; `drop` are globs of what to
    leave out."""
    dropped = _dropped(checkpoint, drop)
    state = training_state(checkpoint)
    apart = {*state, *checkpoint.repeats, *checkpoint.parts, *dropped}
    shapes: dict[str, tuple[int, ...]] = dict(zip(checkpoint.tensors, pluck(checkpoint.tensors, 1, 1), strict=True))
    if apart:
        shapes = {n: shape for n, shape in shapes.items() if n not in apart}
    apart.update(checkpoint.beside)
    shapes |= {n: u.shape or () for n, u in checkpoint.unread.items() if n not in apart}
    asked = asked._replace(called=checkpoint.called)
    if asked.text:
        from .composites import recognize_text

        inside = recognize_text(shapes, asked)
        found = inside[0] if inside is not None else None
        if inside is not None:
            checkpoint.parts = {**checkpoint.parts, **inside[1]}
    else:
        found = None if asked.untold else recognized(shapes, checkpoint.aliases, asked)
    if checkpoint.per_rank:
        from .ranks import join_ranks

        join_ranks(checkpoint, found)
    if found is not None and found.dialect.pads:
        from .ranks import cut_padding

        cut_padding(checkpoint, found, asked.config)
    if found is None and not checkpoint.special[0]:
        checkpoint.special = adapters.alone(checkpoint)
    untied = found is not None and denies_ties(found.dialect, asked.config)
    return WeightGraph(checkpoint, found, state, dropped, untied=untied)


def _dropped(checkpoint: Checkpoint, globs: Sequence[str]) -> frozenset[str]:
    """The stored names that fit a glob. UsageError for one that nothing fits: a misspelt name must not pass for one that is left out."""
    out: set[str] = set()
    for glob in globs:
        from fnmatch import fnmatchcase

        fits = [n for n in (*checkpoint.tensors, *checkpoint.unread, *checkpoint.extras) if fnmatchcase(n, glob)]
        if not fits:
            what = f"--drop {glob}: nothing in the checkpoint has such a name"
            raise UsageError(what, path=checkpoint.path, hint=meant(glob, checkpoint.tensors))
        out.update(fits)
    return frozenset(out)
