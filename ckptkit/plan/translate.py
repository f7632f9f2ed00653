"""The arrangement from one dialect to another: the target's rows are walked, and each is filled from the canonical parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod

from ..errors import UnsupportedError
from ..findings import Finding
from ..graph.examine import Subject
from ..graph.survey import Survey
from ..schema import Dialect, Row, Table, count_name, expand, placeholders
from ..schema.adjust import PLAIN
from ..schema.layout import Layout, Placed, Sizes, atoms, nest, region, stored_shape
from ..schema.loops import Loop, simplify
from ..support.name_text import collapse
from ..tensors import TensorSpec
from .arrange import Builder, Weights, adjusted_finding, how_made, other_function, whole
from .carried import take_along
from .columns import straight
from .naming import Naming
from .new_parameters import AXIS, anew, computed_shape, lacking, resized, told, walk
from .target import Request
from .values import Piece
from .with_codes import packed_table


class Translate(Builder):
    """From one dialect to another, through the canonical parameters."""

    def __init__(self, subject: Subject, request: Request, survey: Survey, dialect: Dialect) -> None:
        super().__init__(subject, request, survey)
        assert subject.graph.recognition is not None
        self.recognition = subject.graph.recognition
        self.arch = self.recognition.architecture
        self.graph = subject.graph
        self.dialect = dialect
        self.table: Table = packed_table(self.arch, dialect) if request.repack else self.arch.table(dialect.name)
        self.sizes: Sizes = subject.sizes()
        self.wide, self.grown = resized(subject, request.vocab)  # the target's sizes
        for p, info in self.arch.params.items():
            if info.group in dialect.library.needs - self.graph.groups and any(
                not self.graph.counts.get(count_name(h)) for h in placeholders(p)
            ):
                raise UnsupportedError(
                    f"{dialect.title} has no {self.arch.title} without the {info.group}, and nothing says how many "
                    f"{count_name(placeholders(p)[0])} to initialise",
                    hint=self._others(),
                )
        added = request.add_groups | (dialect.library.needs - self.graph.groups - request.drop_groups)
        self.groups = (self.graph.groups | added) - request.drop_groups
        others = {g for g, base in dialect.library.stands.items() if g in self.groups and base not in self.graph.groups}
        self.groups -= others
        self.untied = False
        self.groups -= self._copies()
        self.absent = {p: k for p, k in self.recognition.dialect.lacks.items() if k.holds(self.sizes.axis)}
        self.lacked = {p: k for p, k in dialect.lacks.items() if k.holds(self.sizes.axis)}
        self.new = (
            lacking(subject, self.groups if request.init_missing else added, self.absent) if request.init_missing or added else frozenset()
        )
        self.begun: dict[str, list[str]] = {}  # how they start -> target names
        self.rows: dict[str, list[str]] = {}  # how their new rows start -> target names
        self.cut: list[str] = []  # target names that lose rows
        self.adjusted: list[str] = []  # canonical parameters whose values source and target keep otherwise
        self.again: dict[str, str] = {}  # target names that are written once more as a tensor of their own -> the first
        self.harmless: dict[str, list[str]] = {}  # why it may be left out -> stored names
        for g in sorted(others):
            stored = [b.stored for b in self.graph.params.values() if self.arch.params[b.row.parts[b.which]].group == g]
            self.went |= {n: {"dropped": f"{dialect.title} has no {g} of this kind"} for n in stored}
            message = f"{dialect.title} has no {g} without a {dialect.library.stands[g]}, so none of this kind: {collapse(stored)} dropped"
            self.findings.append(Finding("warning", "dropped", collapse(stored), message))
        self.naming = Naming(subject, dialect, self.groups)
        self.named = self.naming.named

    def _copies(self) -> set[str]:
        """The heads that the source stores though they are tied: copies, which are no heads of the model's own."""
        unties = self.graph.untied_by(self.recognition.dialect) & self.graph.params.keys()
        tied = {p for p in unties if (other := self.arch.params[p].tied) is not None and self._is_tied(p, other)}
        groups = {self.arch.params[p].group for p in tied} & self.arch.free_groups
        return {g for g in groups if not any(i.group == g and n in self.graph.params for n, i in self.arch.params.items() if n not in tied)}

    def weights(self) -> Weights:
        for row, at in walk(self.table.rows, self.graph.counts):
            if row.role == "param":
                self._row(row, at)
        missed = self.untied and not self.request.container.TIES
        for row, at in walk(self.table.rows, self.graph.counts):
            if row.role == "repeat" and (row.computes or (row.apart and missed)):
                self._apart(self.naming.name(row, at), *(expand(p, at) for p in row.parts))
            elif row.role == "repeat" and self.request.container.TIES and (not row.note or row.note in self.groups):
                self._tie(self.naming.name(row, at), *(expand(p, at) for p in row.parts))
        if self.recognition.dialect.computes != self.dialect.computes:
            self.findings.append(other_function(self.recognition.dialect, self.dialect))
        self._derived()
        self._lacking()
        self._rest()
        self._spell()
        if self.adjusted:
            self.findings.append(adjusted_finding(self.adjusted, self.recognition.dialect.title, self.dialect.title))
        self.findings += told(self.begun, self.rows, self.cut, self.request.seed, self.sizes.axis.get(AXIS, 0), self.wide.axis.get(AXIS, 0))
        return self.finish(self.groups, self.untied)._replace(hung=self.naming.hung)

    def _apart(self, target: str, *canonical: str) -> None:
        """Write `target` as a tensor of its own, with the values of the one that holds `canonical`, if that is written."""
        holder = self._holder(*canonical)
        if holder is not None:
            self.targets.append((target, *next(t for t in self.targets if t[0] == holder)[1:]))
            self.again[target] = holder
            self.came[target] = {"from": (self.came[holder] or {})["from"], "how": f"repeats {holder}"}

    def _spell(self) -> None:
        """Give the target's tensors the names that they are stored under, where those are no templates."""
        spelled = self.naming.spelled(list(self.came))
        if spelled is None:
            return
        self.targets = [(spelled[n], spec, pieces) for n, spec, pieces in self.targets]
        self.ties = {spelled[n]: spelled[t] for n, t in self.ties.items()}
        self.came = {spelled[n]: story for n, story in self.came.items()}
        for n, holder in self.ties.items():
            self.came[n] = {**(self.came[n] or {}), "how": f"tied to {holder}"}
        for n, holder in self.again.items():
            self.came[spelled[n]] = {**(self.came[spelled[n]] or {}), "how": f"repeats {spelled[holder]}"}
        for story in self.went.values():
            if story is not None and isinstance(to := story.get("to"), list):
                story["to"] = [spelled.get(str(n), n) for n in to]
        for names in (*self.begun.values(), *self.rows.values(), self.cut):
            names[:] = [spelled[n] for n in names]

    def _row(self, row: Row, at: Mapping[str, int]) -> None:
        infos = [self.arch.params[p] for p in row.parts]
        unties = row.parts[0] in self.graph.untied_by(self.dialect)
        claimed = self.arch.free_groups & self.named.groups if self.named is not None else frozenset()
        if infos[0].group not in self.groups | claimed and not unties:
            return
        target = self.naming.name(row, at)
        holder = row.layout.holder  # of a tensor that joins all the places of a placeholder
        places = [{**at, holder: n} for n in range(self.graph.counts.get(count_name(holder), 0))] if holder else [at]
        held = [(template, i, here) for here in places for i, template in enumerate(row.parts)]
        canonical = [expand(template, here) for template, _, here in held]
        if len(canonical) == 1 and infos[0].tied is not None and self._is_tied(canonical[0], expand(infos[0].tied, at)):
            if unties:
                canonical = [expand(infos[0].tied, at)]
            elif (
                self.request.container.TIES
                and self.dialect.files.ties
                and not (self.named is not None and row.parts[0] in self.named.without)
            ):
                self._tie(target, expand(infos[0].tied, at))
                return
            else:
                return
        if (
            len(canonical) == 1
            and row.parts[0] in self.lacked
            and (canonical[0] not in self.graph.params or self._leave_out(row.parts[0], canonical[0]))
        ) or self._may_stay_away(row, canonical):
            return
        self._check_limits(row, at, target)
        layout, layouts = row.layout.at(at), tuple(i.layout.at(at) for i in infos)
        pieces: list[Piece] = []
        stored: list[str] = []
        dtypes: list[str] = []
        new: dict[str, str] = {}
        whole = self._whole(row, canonical, (layout, layouts))
        if whole is not None:
            pieces.append(whole[1])
            stored.append(whole[0])
            dtypes.append(self.tensors[whole[0]].spec.dtype)
        for (template, i, here), name in zip(held, canonical, strict=True) if whole is None else ():
            there = Placed(layout, layouts, i, at=here.get(row.layout.holder, 0))
            first = len(pieces)
            if name in self.graph.params:
                bound = self.graph.params[name]
                loops, a, b = nest(self.graph.placed(name), there, self.sizes, self.grown)
                pieces.append(self._adjusted(Piece(self.source(bound.stored), loops, a, b), template, name))
                stored.append(bound.stored)
                dtypes.append(self.kept_dtype(bound.stored))
                if self.grown is not None and AXIS in infos[i].layout.axes:
                    pieces += self._resized(template, name, there, target, new)
                continue
            if name in self.new:
                pieces.append(self._new(template, name, there, new))
                self.begun.setdefault(new[name], []).append(target)
            elif template in self.absent:
                pieces += self._fill(there, infos[i].layout, self.absent[template].fill)
            else:
                if any(c in self.graph.params for c in canonical):
                    raise UnsupportedError(f"{target} joins {', '.join(canonical)}, but the weights lack {name}")
                return
            pieces[first:] = [self._adjusted(p, template) for p in pieces[first:]]
        shape = stored_shape(layout, layouts, self.wide)
        spec = TensorSpec(self.dtype(target, canonical[0], dtypes[0] if dtypes else self._main_dtype()), shape)
        pieces += self._folded(row, layouts, spec, dict(at))
        sources = list(dict.fromkeys(stored))
        for name in sources:
            self.moved(name, target)
        story: dict[str, object] = {
            "from": sources,
            "holds": canonical,
            "how": how_made(pieces, any(d != spec.dtype for d in dtypes)) if stored else "initialised",
        }
        self.came[target] = story
        if new:
            story["initialised"] = {n: f"{how}, seed {self.request.seed}" for n, how in new.items()}
        self.targets.append((target, spec, tuple(pieces)))

    def _check_limits(self, row: Row, at: Mapping[str, int], target: str) -> None:
        for axis in {*row.layout.axes, *map(count_name, at)} & self.dialect.limits.keys():
            n, why = self.dialect.limits[axis]
            have = self.graph.counts.get(axis, self.wide.axis.get(axis, n))
            if have != n:
                raise UnsupportedError(f"{self.dialect.title} has no place for {axis} {have} ({target}): {why}", hint=self._others())

    def _whole(self, row: Row, canonical: Sequence[str], there: tuple[Layout, tuple[Layout, ...]]) -> tuple[str, Piece] | None:
        """(the stored tensor, its copy) where a tensor that joins many parameters goes over as it is."""
        bound = self.graph.params.get(canonical[0]) if len(canonical) > 1 else None
        if bound is None or bound.row.parts != row.parts or bound.row.layout != row.layout or self.grown is not None:
            return None
        t, adjust = self.tensors[bound.stored], self.recognition.dialect.adjust
        alike = all(adjust.get(p) == self.dialect.adjust.get(p) for p in row.parts)
        if (
            not alike
            or t.strides is not None
            or t.spec.shape != stored_shape(*there, self.sizes)
            or self.graph.params[canonical[-1]].stored != bound.stored
        ):
            return None
        return bound.stored, Piece(self.source(bound.stored), simplify((Loop(t.spec.numel, 1, 1),)))

    def _adjusted(self, piece: Piece, template: str, name: str = "") -> Piece:
        """The piece with its values as the target keeps them, where source (a stored parameter, `name`) and target differ in that."""
        theirs = self.graph.adjust(name) if name else None
        said = self.dialect.adjust.get(template)
        ours = said.of(self.sizes) if said is not None else None
        if theirs == ours:
            return piece
        change = (theirs or PLAIN).then((ours or PLAIN).inverse())
        self.adjusted.append(name or template)
        if change.curve:
            return piece._replace(op=change.curve)
        if piece.op == "fill":
            return piece._replace(value=piece.value * change.scale + change.offset)
        return piece._replace(op="affine", scale=change.scale, value=change.offset)

    def _new(self, template: str, name: str, there: Placed, told: dict[str, str], first: int = 0) -> Piece:
        """What writes a parameter that the source lacks, or its rows from `first` on; `told` is given how they start."""
        source = f"(new) {name}"
        new = anew(self.subject, template, name, there, self.wide, self.request.seed, first)
        told[name] = str(new.how)
        if new.drawn is None:
            return new.piece
        self.made[source] = new.drawn
        return new.piece._replace(source=self.source(source))

    def _resized(self, template: str, name: str, there: Placed, target: str, told: dict[str, str]) -> list[Piece]:
        """What writes the rows of the vocabulary that the source does not have."""
        have, want = self.sizes.axis[AXIS], self.wide.axis[AXIS]
        if want < have:
            self.cut.append(target)
            return []
        piece = self._new(template, name, there, told, have)
        self.rows.setdefault(told[name], []).append(target)
        told[name] = f"rows {have}-{want - 1}: {told[name]}"
        return [piece]

    def _main_dtype(self) -> str:
        for b in self.graph.params.values():
            return self.kept_dtype(b.stored)
        return "F32"

    def _fill(self, there: Placed, part: Layout, value: float | str) -> list[Piece]:
        """The pieces that write a constant, or an identity matrix, where a part belongs."""
        runs = atoms(part, (there.layout,))
        at = region(there.layout, there.parts, there.which, runs, self.wide)
        order = sorted(runs, key=lambda r: -at.strides[r])
        loops = simplify(tuple(Loop(self.wide.product(r) or 0, 0, at.strides[r]) for r in order))
        if not isinstance(value, str):
            return [Piece(-1, loops, 0, at.offset, "fill", value)]
        (rows, columns), (a, b) = (self.wide.product(r) for r in order), (at.strides[r] for r in order)
        if value != "identity" or rows is None or rows != columns or a != rows * b:
            raise UnsupportedError(f"a {rows} x {columns} part cannot be filled as {value}")
        ones = Piece(-1, (Loop(rows, 0, a + b),), 0, at.offset, "fill", 1.0)
        zeros = Piece(-1, (Loop(rows - 1, 0, a + b), Loop(rows, 0, b)), 0, at.offset + b, "fill", 0.0)
        return [ones, zeros] if rows > 1 else [ones]

    def _may_stay_away(self, row: Row, canonical: Sequence[str]) -> bool:
        """Whether a row is of optional parameters alone that are not there: they are not made up of what their absence means."""
        return all(self.arch.params[p].optional for p in row.parts) and not any(c in self.graph.params or c in self.new for c in canonical)

    def _leave_out(self, template: str, canonical: str) -> bool:
        """Whether the target lacks a parameter and may: it is what its absence means, or its loss is harmless."""
        lack = self.lacked.get(template)
        if lack is None or lack.fold is not None or canonical not in self.graph.params:
            return False
        stored = self.graph.params[canonical].stored
        if canonical in self.survey.fills:
            self.went.setdefault(
                stored,
                {
                    "dropped": f"{'an identity' if lack.fill == 'identity' else f'all {lack.fill:g}'}, which {self.dialect.title} "
                    f"takes for granted"
                },
            )
        elif lack.harmless:
            self.went.setdefault(stored, {"dropped": lack.harmless})
            self.harmless.setdefault(lack.harmless, []).append(stored)
        else:
            raise UnsupportedError(f"{self.dialect.title} has no place for {stored}{': ' + lack.why if lack.why else ''}")
        return True

    def _folded(self, row: Row, layouts: tuple[Layout, ...], spec: TensorSpec, at: dict[str, int]) -> list[Piece]:
        """What the target has no place for and is added onto this row instead (see Lack)."""
        out = []
        for param, lack in self.lacked.items():
            if lack.fold not in row.parts or (name := expand(param, at)) not in self.graph.params:
                continue
            stored = self.graph.params[name].stored
            rows, width = self.tensors[stored].spec.shape
            if rows != 1:
                raise UnsupportedError(f"{stored} has {rows} rows; {self.dialect.title} has no place for them", hint=lack.why)
            if name in self.survey.fills:
                self.went[stored] = {"dropped": f"all {lack.fill:g}, which {self.dialect.title} takes for granted"}
                continue
            out.append(Piece(self.source(stored), (Loop(spec.shape[0], 0, width), Loop(width, 1, 1)), 0, 0, "add"))
            target = self.naming.name(row, at)
            self.went[stored] = {"to": [], "folded": f"added to every row of {target}"}
            self.findings.append(
                Finding("warning", "lossy", stored, f"{self.dialect.title} has no place for {stored}: it is added to every row of "
                        f"{target}. Outputs stay the same, the two cannot be told apart again")
            )  # fmt: skip
        return out

    def _is_tied(self, name: str, target: str) -> bool:
        if name not in self.graph.params:
            return True
        if target not in self.graph.params:
            return False
        if name in self.survey.ties:
            self.went.setdefault(self.graph.params[name].stored, {"tied": self.graph.params[target].stored})
            return True
        self.untied = True
        return False

    def _tie(self, target: str, *canonical: str) -> None:
        """Write `target` as another name of the tensor that holds `canonical`, if that tensor is written."""
        holder = self._holder(*canonical)
        if holder is not None:
            self.ties[target] = holder
            story = self.came[holder]
            assert story is not None
            self.came[target] = {"from": story["from"], "how": f"tied to {holder}"}

    def _holder(self, *canonical: str) -> str | None:
        return next((t for t, c in self.came.items() if c is not None and c.get("holds") == [*canonical]), None)

    def _others(self) -> str:
        return f"convert to another dialect: {', '.join(d for d in self.arch.dialects if d != self.dialect.name)}"

    def _derived(self) -> None:
        """What is computed but missed by the target's loader: made once, for all layers."""
        holders: dict[str, str] = {}
        for row, at in walk(self.table.rows, self.graph.counts):
            if not row.made or (row.when and self.subject.value(row.when) is not True):
                continue
            target = self.naming.name(row, at)
            shape = computed_shape(self.subject, row, self.wide)
            if shape is None:
                continue
            self.came[target] = {"from": [], "how": f"computed ({row.note})"}
            if row.note in holders and self.request.container.TIES:
                self.ties[target] = holders[row.note]
                continue
            holders.setdefault(row.note, target)
            spec = TensorSpec(self.dtype(target, target, self._main_dtype()), shape)
            self.targets.append((target, spec, (self._made_of(row.note, shape),)))

    def _made_of(self, how: str, shape: tuple[int, ...]) -> Piece:
        """What writes a computed tensor: the values that the source stores of it, which differ from ours in the last bits, else ours."""
        stored = self.tensors.get(self.survey.computed.get(how, ""))
        if stored is not None and stored.spec.shape == shape:
            return whole(self.source(stored.name), stored)
        name = f"(computed) {how}"
        if name not in self.made:
            import numpy as np

            self.made[name] = np.ascontiguousarray(self.subject.derive(how, shape), "<f4").tobytes()
        return Piece(self.source(name), straight(prod(shape)))

    def _lacking(self) -> None:
        """What the target dialect has no row for: a head it does not know is dropped, an untied parameter is refused."""
        dropped: dict[str, list[str]] = {}
        for template, info in self.arch.params.items():
            if template in self.table.by_param or info.group not in self.groups:
                continue
            stored = [b.stored for n, b in self.graph.params.items() if b.row.parts[b.which] == template]
            if not stored or (template in self.lacked and self.lacked[template].fold):
                continue
            names = [n for n, b in self.graph.params.items() if b.row.parts[b.which] == template]
            if [self._leave_out(template, n) for n in names].count(False) == 0:
                continue
            if info.tied is not None and info.group in self.table.groups | self.arch.free_groups:
                if self._is_tied(template, info.tied):
                    continue
                raise UnsupportedError(
                    f"{stored[0]} is a tensor of its own (not tied to {self.graph.params[info.tied].stored}); "
                    f"{self.dialect.title} has no place for it",
                    hint=f"{self._others()}, or leave it out: --drop {info.group}",
                )
            dropped.setdefault(info.group, []).extend(stored)
        for why, names in self.harmless.items():
            self.findings.append(
                Finding(
                    "info", "dropped", collapse(names, 2), f"{self.dialect.title} has no place for {collapse(names, 2)}: left out; {why}"
                )
            )
        for group, names in dropped.items():
            if group == "core":
                raise UnsupportedError(f"{self.dialect.title} has no place for {collapse(names)}", hint=self._others())
            for n in names:
                self.went[n] = {"dropped": f"{self.dialect.title} has no {group}"}
            message = f"{self.dialect.title} has no place for the {group}: {collapse(names)} dropped"
            self.findings.append(Finding("warning", "dropped", collapse(names), message))

    def _rest(self) -> None:
        along = take_along(self, self.dialect, self.arch.title)
        for name, role in self.graph.roles.items():
            if role.kind == "optimizer":
                self.went[name] = {"dropped": "optimizer state"}
            elif role.kind == "derived":
                again = [t for t, c in self.came.items() if c is not None and c.get("how") == f"computed ({role.what})"]
                self.went[name] = {"to": again} if again else {"dropped": f"derived ({role.what}): computed, not stored"}
            elif role.kind == "repeat":
                self.went[name] = {"repeats": role.what}
            elif role.kind in ("part", "stray"):
                self.went[name] = {"dropped": f"part of the {role.what}" if role.kind == "part" else role.what}
            elif role.kind == "unexplained" and name not in along:
                self.went[name] = {"dropped": f"no part of {self.arch.title}"}
            elif role.kind == "dropped" or (self.request.drop_groups and name not in self.went):
                self.went[name] = {"dropped": "asked to be dropped"}
        unused: dict[str, list[str]] = {}
        for name, role in self.graph.roles.items():
            if role.kind == "stray" and self.tensors[name].spec.numel > 1:
                unused.setdefault(role.what, []).append(name)
        for why, names in unused.items():
            self.findings.append(Finding("warning", "dropped", collapse(names, 4), f"{collapse(names)} dropped: {why}"))
        lost = [n for n, r in self.graph.roles.items() if r.kind == "unexplained" and n not in along]
        if lost:
            self.findings.append(
                Finding("warning", "dropped", collapse(lost, 4), f"no part of {self.arch.title}, dropped: {collapse(lost)}")
            )
