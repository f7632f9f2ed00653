"""WeightGraph: the canonical parameters of a checkpoint, bound to the stored tensors that hold them. Lazy: no weight is read.

Every stored tensor ends with a role, so that nothing is left over in silence: param, tied (a parameter that repeats
another), repeat (a second stored name of one parameter), derived (computed, such as position_ids), optimizer, stray (a
marker without weights), part (of another model in the same checkpoint), or unexplained.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

from .._typing import NamedTuple
from ..arch import architectures, is_learned
from ..containers import Checkpoint
from ..schema import Architecture, Dialect, Row, count_name, expand
from ..schema.layout import Placed, Sizes
from ..schema.templates import reduce_name
from ..tensors import StoredTensor
from .recognize import Recognition, optimizer_state, recognize
from .solve import Shape, Solution, solve


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

    def __init__(self, checkpoint: Checkpoint, recognition: Recognition | None) -> None:
        self.checkpoint = checkpoint
        self.recognition = recognition
        self._solved: dict[object, Solution] = {}
        self.params: dict[str, Bound] = {}
        self.roles: dict[str, Role] = {}
        self.indices: dict[str, set[int]] = {}  # placeholder -> the numbers met
        self.twice: list[tuple[str, str, str]] = []  # (canonical, stored, stored again)
        self.repeats: list[tuple[str, str]] = []  # (stored, canonical) of further names of a parameter
        self.idle: list[tuple[str, str]] = []  # of such as the library does not compute with
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
        rest = [n for n in checkpoint.tensors if n not in self.roles]
        slots = optimizer_state(rest, self.roles if recognition is not None else checkpoint.tensors) | checkpoint.slots
        unexplained = Role("unexplained", "")
        for n in rest:
            if n in slots or n in checkpoint.beside:
                self.roles[n] = Role("optimizer", slots.get(n, ""))
            else:
                self.roles[n] = unexplained

    def _bind(self, r: Recognition) -> None:
        params = r.architecture.params
        repeats: list[tuple[str, Bound, str]] = []
        tied: dict[int, bool] = {}  # by the row's id: a row is large, and its hash is made anew each time
        new = tuple.__new__
        for stored, (row, at_items) in r.matches.items():
            if row.role in ("derived", "stray"):
                self.roles[stored] = Role(row.role, row.note)
                continue
            at = dict(at_items)
            names = [expand(p, at) for p in row.parts]
            if row.role == "repeat":
                repeats.append((names[0], Bound(stored, row, 0, at), stored))
                continue
            for placeholder, value in at_items:
                if placeholder in self.indices:
                    self.indices[placeholder].add(value)
                else:
                    self.indices[placeholder] = {value}
            for i, name in enumerate(names):
                if name in self.params:
                    self.twice.append((name, self.params[name].stored, stored))
                else:
                    self.params[name] = new(Bound, (stored, row, i, at))
            kind = tied.get(id(row))
            if kind is None:
                kind = tied[id(row)] = all(params[p].tied for p in row.parts)
            self.roles[stored] = new(Role, ("tied" if kind else "param", names[0] if len(names) == 1 else ", ".join(names)))
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
        for name, info in params.items():
            holder = self.params.get(name)
            if holder is None or info.tied is None or info.group not in r.architecture.free_groups or info.tied in self.params:
                continue
            if (
                holder.row.parts == (name,) and info.layout == params[info.tied].layout
            ):  # one tensor: which of its names it is saved under differs
                self.params[info.tied] = holder
                self.roles[holder.stored] = Role("param", info.tied)

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
        layouts = tuple(self.recognition.architecture.params[p].layout for p in b.row.parts)
        return Placed(b.row.layout, layouts, b.which, self.checkpoint.tensors[b.stored].strides)

    @cached_property
    def counts(self) -> dict[str, int]:
        """How many of each placeholder there are, holes included: {"layers": 24}."""
        found = {count_name(p): max(v) + 1 for p, v in self.indices.items()}
        learned = self.recognition.learned if self.recognition is not None else None
        return found if learned is None else {**found, **{c: n for c, n in learned.extra.items() if c not in found}}

    @cached_property
    def groups(self) -> frozenset[str]:
        """The groups of which at least one parameter of its own is there."""
        if self.recognition is None:
            return frozenset()
        params = self.recognition.architecture.params
        return frozenset(params[p].group for b in self.params.values() for p in b.row.parts[b.which : b.which + 1])

    @cached_property
    def switches(self) -> dict[str, frozenset[bool]]:
        """How each switch of the architecture stands by the tensors that are there: empty or both where they do not say."""
        if self.recognition is None:
            return {}
        params = self.recognition.architecture.params
        seen = {params[b.row.parts[b.which]].switch for b in self.params.values()}
        return {
            s: frozenset(on for on in (True, False) if (s if on else f"not {s}") in seen) for s in self.recognition.architecture.switches
        }

    @cached_property
    def shapes(self) -> dict[Row, dict[str, Shape]]:
        """Row -> stored name -> stored shape, for every tensor that holds parameters."""
        rows: dict[int, tuple[Row, dict[str, Shape]]] = {}  # by id, as in `_bind`
        tensors = self.checkpoint.tensors
        if self.recognition is not None:
            for stored, (row, _) in self.recognition.matches.items():
                if row.role in ("param", "repeat"):
                    held = rows.get(id(row))
                    if held is None:
                        held = rows[id(row)] = row, {}
                    held[1][stored] = tensors[stored].spec.shape
        return dict(rows.values())

    @cached_property
    def solution(self) -> Solution:
        """The axis sizes that the tensors imply."""
        return self.solved({})

    def solved(self, given: Mapping[str, int]) -> Solution:
        """The same with the sizes that are `given` besides. Made once for each: not to be changed."""
        key = tuple(sorted(given.items()))
        found = self._solved.get(key)
        if found is None:
            r = self.recognition
            found = self._solved[key] = Solution(Sizes(), {}, (), ()) if r is None else solve(r.architecture, self.shapes, given)
        return found

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

    def of_role(self, kind: str) -> list[str]:
        """The stored names that have a role, in the file's order."""
        return [n for n, r in self.roles.items() if r.kind == kind]


def bind(
    checkpoint: Checkpoint,
    *,
    declared: str | None = None,
    architecture: str | None = None,
    dialect: str | None = None,
    part: str | None = None,
    config: Mapping[str, object] | None = None,
) -> WeightGraph:
    """Recognise a checkpoint and bind its tensors. Arguments as in `recognize.recognize`."""
    shapes = {n: t.spec.shape for n, t in checkpoint.tensors.items() if n not in checkpoint.slots and n not in checkpoint.repeats}
    if architecture is not None and not any(architecture in a.names for a in architectures().values()):
        return WeightGraph(checkpoint, _learned(shapes, architecture, config))
    if (
        declared is not None
        and architecture is None
        and dialect in (None, "hf")
        and not any(declared in a.names for a in architectures().values())
    ):
        found = _learned(shapes, declared, config)
        if found is not None:
            return WeightGraph(checkpoint, found)
    found = recognize(
        shapes,
        checkpoint.aliases,
        declared=declared,
        architecture=architecture,
        dialect=dialect,
        part=part,
        config=config,
        called=checkpoint.called,
    )
    if found is None and declared is None and architecture is None and dialect is None and part is None:
        from .recognize_learned import recognize_by_names

        found = recognize_by_names(shapes, config)
    return WeightGraph(checkpoint, found)


def _learned(shapes: Mapping[str, Shape], model_type: str, config: Mapping[str, object] | None) -> Recognition | None:
    """The recognition by a learned schema; None where there is none, or the names are not its."""
    if not is_learned(model_type):
        return None
    from .recognize_learned import recognize_learned

    return recognize_learned(shapes, model_type, config)
