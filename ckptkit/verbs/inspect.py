"""`inspect`: what is in a checkpoint, as one value. Headers only, unless statistics are asked for.

Policy: what was recognised is said with its evidence, and what was not is said too. Every stored tensor is in one row with
its role, so that the rows add up to the file. Unknown architectures are inspected name for name. What the structure
rules of `validate` find (layers against the configuration, holes, shapes) is part of the data.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence

from .. import store
from .._typing import TYPE_CHECKING, Any, NamedTuple
from ..containers import by_name as container_by_name
from ..errors import printable
from ..findings import Finding
from ..graph.account import Account
from ..graph.examine import Subject, examine
from ..graph.reading import AS_FOUND, Reading
from ..graph.second_names import shared_storages
from ..schema import count_name
from ..schema.templates import patterns_of
from ..support.columns import pluck, sorts
from ..support.name_text import natural
from ..support.shown import html_of, line, text_of
from .inspected_rows import Packed, RankShare, Sizes, TensorRow, by_rank, ordered, packings_of, unknown_rows

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from ..graph.reading import Words
    from ..graph.sentence import Sentence
    from ..scan.survey import Asked
    from .memory import Memory


class Sum(NamedTuple):
    """Tensors taken together: a module, a dtype, the optimizer's."""

    name: str
    tensors: int
    parameters: int
    nbytes: int


class Inspection(NamedTuple):
    """What a checkpoint is. `counts` are its layers, `sizes` its axes; `evidence` says what each answer rests on."""

    path: str
    files: tuple[tuple[str, int], ...]  # (path, bytes)
    container: str
    container_title: str
    wrapper: str  # the key path that a nested PyTorch file holds the tensors under
    prefix: str  # what was set apart before every name
    architecture: str | None
    architecture_title: str | None
    cousins: tuple[str, ...]  # architectures that it could be as well: nothing says which
    dialect: str | None
    dialect_title: str | None
    variant: str | None
    variants: tuple[str, ...]  # all that agree, the best first
    evidence: dict[str, tuple[str, ...]]  # container, architecture, variant, config -> sentences
    config: str | None
    declared: str | None  # what the configuration calls the model
    counts: dict[str, int]
    sizes: dict[str, int]
    undecided: dict[str, int]  # products of axes that nothing tells apart: "heads head_dim"
    groups: tuple[str, ...]  # core, and the heads that are there
    parameters: int  # tied ones counted once
    modules: tuple[Sum, ...]
    dtypes: tuple[Sum, ...]  # `parameters` are all elements; one tensor under several names counts once
    nbytes: int  # of the tensors, likewise
    optimizer: Sum
    ties: tuple[tuple[str, ...], ...]  # stored names of one tensor, or of parameters that are one
    metadata: dict[str, str]
    extras: dict[str, object]  # summarised
    findings: tuple[Finding, ...]
    total: int  # tensors in the checkpoint
    tensors: tuple[TensorRow, ...]  # in the file's order; those selected by include and exclude
    packings: tuple[Packed, ...] = ()
    account: Account = Account(())  # everything that is there, each in one place
    ranks: tuple[RankShare, ...] = ()  # of a format that keeps tensors in pieces
    mesh: str = ""  # what such a format says of the mesh
    program: dict[str, Any] = {}  # noqa: RUF012  of a SavedModel: signatures, functions, callables, assets, ... in full
    order: str = ""  # what `tensors` are sorted by (`sorted_by`); "": as in the file
    share: float = 1.0  # of each large tensor that the statistics are of
    memory: Memory | None = None
    sentence: Sentence | None = None  # the modules of a sentence-transformers folder

    def __repr__(self) -> str:
        what = (self.architecture or "unknown architecture", self.dialect or "", self.container)
        return line(self, self.path, *what, f"{self.total:,} tensors", f"{self.parameters:,} parameters")

    def __str__(self) -> str:
        return text_of("inspection", self)

    def _repr_html_(self) -> str:
        return html_of(self)

    def sorted(self) -> list[TensorRow]:
        """`tensors` in natural order: h.2 before h.10; or as they were sorted."""
        return list(self.tensors) if self.order else sorted(self.tensors, key=lambda row: natural(row.name))

    def sorted_by(self, order: str, top: int | None = None) -> Inspection:
        """The same with `tensors` by a figure (one of ORDERS), the largest first and what has none last, or by name; the first `top`."""
        rows = ordered(self.tensors, order)
        return self._replace(tensors=tuple(rows[:top]), order=order)

    @property
    def optimizer_share(self) -> float:
        """The part of the bytes that dropping the optimizer state saves."""
        return self.optimizer.nbytes / self.nbytes if self.nbytes else 0.0


def inspect(
    path: str | os.PathLike[str],
    *,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    stats: bool | Asked = False,
    memory: bool = False,
    on: str | None = None,
    reading: Reading = AS_FOUND,
    **words: Unpack[Words],
) -> Inspection:
    """What is in the checkpoint at `path`. Raises CheckpointError where it cannot be read.

    `include` and `exclude` are globs on stored or canonical names and select the rows of `tensors`, nothing else;
    `stats` reads the weights of the selected tensors (an `Asked` says how: sampled, with progress); `memory` estimates what using the
    model takes; `on`: whose workers read the weights ("local:4", "ray", ...). `reading`, or its fields as keywords (config, container,
    architecture, dialect, part, given), overrule what would be found.
    """
    from ..support.collector import paused

    reading = reading.but(**words)
    with paused(), examine(path, reading) as s:
        rows = rows_of(s)
        selected, share = _select(rows, include, exclude), 1.0
        if stats:
            from ..scan.survey import NOTHING_MORE, survey

            asked = NOTHING_MORE if isinstance(stats, bool) else stats
            if on is not None:
                from .spread import elsewhere, same_as

                asked = asked._replace(elsewhere=elsewhere(on, same_as(s, os.fspath(path), reading), s))
            parts = s.packings.parts(r.note for r in selected if r.role == "packing")
            share, names = asked.share, tuple(r.name for r in selected if r.name in s.checkpoint.tensors or r.name in parts)
            found = survey(s.checkpoint, (), asked._replace(statistics=names, parts=parts), checks=False)
            selected = [r._replace(stats=found.statistics.get(r.name)) for r in selected]
        said = _inspection(s, os.fspath(path), rows, tuple(selected), named=reading.container is not None)
        return (with_memory(s, said) if memory else said)._replace(share=share)


def with_memory(s: Subject, said: Inspection) -> Inspection:
    """The same with the memory that using the model takes."""
    from .memory import memory_of

    return said._replace(memory=memory_of(s))


def inspect_subject(s: Subject, path: str, *, named: bool = False) -> Inspection:
    """`inspect` of an open checkpoint, by headers. `named`: its container was said, not found."""
    rows = rows_of(s)
    return _inspection(s, path, rows, tuple(rows), named=named)


def _inspection(s: Subject, path: str, rows: Sequence[TensorRow], selected: tuple[TensorRow, ...], *, named: bool) -> Inspection:
    from ..rules.expectations import variants
    from ..rules.run import run_rules

    ck, r = s.checkpoint, s.graph.recognition
    title = container_by_name(ck.container).TITLE
    evidence: dict[str, tuple[str, ...]] = {"container": (_container_evidence(path, ck.path, title, named),)}
    evidence["architecture"] = r.evidence if r is not None else (ck.special[0] or "no architecture known here explains the tensor names",)
    if s.config is not None:
        evidence["config"] = (_config_evidence(s),)
    sizes: dict[str, int] = {}
    undecided: dict[str, int] = {}
    counts: dict[str, int] = {}
    variant, agreeing = None, []
    if r is not None:
        found = s.sizes()
        seen = {r.architecture.params[b.row.parts[b.which]].module for b in s.graph.params.values()}
        there = (p for p in r.architecture.params.values() if p.group in s.graph.groups and (not p.optional or p.module in seen))
        order = dict.fromkeys(a for p in there for a in p.layout.axes)
        counts = {c: s.graph.counts[c] for c in map(count_name, r.architecture.counted) if c in s.graph.counts}
        if r.learned is not None:
            counts = {**counts, **s.graph.counts}
            order = {a: v for a, v in order.items() if not a.startswith("_")}
        sizes = {**counts, **{a: found.axis[a] for a in (*r.architecture.config_counts, *order) if a in found.axis}}
        undecided = {
            " ".join(a for a in order if a in axes): n
            for axes, n in found.products.items()
            if not axes & sizes.keys() and axes & order.keys()
        }
        heads = s.value("heads")
        heads = heads if isinstance(heads, int) else None
        variant = s.graph.variant(heads)
        if variant is not None:
            agreeing = [variant, *(v for v in variants(s, heads) if v != variant)]
            evidence["variant"] = (", ".join(f"{k} {v}" for k, v in r.architecture.variants[variant].items()),)
    storages = shared_storages(ck.tensors)
    shared = {name: t.identity for name, t in ck.tensors.items() if t.storage in storages} if storages else {}
    dtypes = _dtypes(rows, shared)
    program = ck.container == "savedmodel"
    kinds = list(zip(*sorts(rows, 6, 7, 8, 10)[1:], strict=True))  # (a row, how many are like it)
    return Inspection(
        path=path,
        files=tuple((f, store.file_size(f)) for f in ck.files),
        ranks=by_rank(ck),
        mesh=ck.mesh,
        container=ck.container,
        container_title=title,
        wrapper=ck.wrapper,
        prefix=r.wrapper + r.prefix if r is not None else "",
        architecture=r.architecture.name if r is not None else None,
        architecture_title=r.architecture.title if r is not None else None,
        cousins=r.cousins if r is not None else (),
        dialect=r.dialect.name if r is not None else None,
        dialect_title=r.dialect.title if r is not None else None,
        variant=variant,
        variants=tuple(agreeing),
        evidence=evidence,
        config=s.config.source if s.config is not None else None,
        declared=s.config.declared if s.config is not None else None,
        counts=counts,
        sizes=sizes,
        undecided=undecided,
        groups=tuple(sorted(s.graph.groups, key=lambda g: (g != "core", g))),
        parameters=sum(n * row.elements for row, n in kinds if row.counted),
        modules=_modules(rows, known=r is not None),
        dtypes=dtypes,
        nbytes=sum(d.nbytes for d in dtypes),
        optimizer=_sum("optimizer", [(row, n) for row, n in kinds if row.role == "optimizer"]),
        ties=_ties(s, shared),
        metadata=dict(ck.metadata),
        extras={printable(k, 80): summarise(v, 2) for k, v in ck.extras.items() if not program},
        findings=tuple(f for f in run_rules(s, integrity=False) if f.rule != "unknown"),  # which the architecture's evidence says
        total=len(rows),
        tensors=selected,
        packings=packings_of(s),
        account=s.account,
        program=dict(ck.extras) if program else {},
        sentence=_sentence(s),
    )


def _container_evidence(path: str, opened: str, title: str, named: bool) -> str:
    if named:
        return "named by the caller"
    by_bytes = f"{title}, by its bytes"
    if store.is_folder(path):
        return f"{by_bytes}: {os.path.basename(opened)} in the directory"
    return by_bytes if store.exists(path) else f"{by_bytes}: {os.path.basename(opened)}"


def _config_evidence(s: Subject) -> str:
    said = s.config.declared if s.config is not None else None
    keys = f"; its keys are {s.values.form}'s" if s.values is not None else ""
    return (f"calls the model {said}" if said else "does not name the model") + keys


# --- rows ----------------------------------------------------------------------------------------------------------


def rows_of(s: Subject) -> list[TensorRow]:
    """A row for each stored tensor of an open checkpoint, in the file's order."""
    r, roles = s.graph.recognition, s.graph.roles
    counted = set(s.counted())
    if r is None and not s.packings.weights and s.checkpoint.tensors:
        return unknown_rows(list(s.checkpoint.tensors), list(s.checkpoint.tensors.values()), roles, counted)
    untied = s.untied
    rows: list[TensorRow] = []
    new, add = tuple.__new__, rows.append  # __new__: a third of the time that the constructor takes
    packed, sizes = s.packings.weights, Sizes()
    forms: dict[int, Any] = {}  # by id
    matches = r.matches if r is not None else {}
    for name, t in s.checkpoint.tensors.items():
        kind, what = roles[name]
        canonical: tuple[str, ...] = ()
        templates: tuple[str, ...] = ()
        at: tuple[tuple[str, int], ...] = ()
        match = matches.get(name)
        if match is not None and kind in ("param", "tied", "repeat"):
            row, at = match
            templates = row[2]
            canonical, what = ((what,) if len(templates) == 1 else tuple(what.split(", "))), ""
            kind = "param" if kind == "tied" and untied else kind
        elif r is None and kind == "unexplained":
            kind = "tensor"
        weight = packed.get(name)
        if weight is None:
            file, offset = t[2][0][:2] if t[2] else ("", None)
            add(new(TensorRow, (name, canonical, templates, at, *t[1], *sizes.of(t[1]), kind, what, name in counted, file, offset, None)))
            continue
        _, form, parts = weight
        of_form = forms.get(id(form))
        if of_form is None:
            of_form = forms[id(form)] = sizes.of_form(weight)
        codes, (dtype, shape, elements, nbytes), of_part = of_form
        file, offset, _ = parts[codes][2][0]
        counts = name in counted
        add(new(TensorRow, (name, canonical, templates, at, dtype, shape, elements, nbytes, kind, what, counts, file, offset, None)))
        for role, (dtype, shape, elements, nbytes) in of_part.items():
            part = parts[role]
            file, offset = part[2][0][:2] if part[2] else ("", None)
            add(new(TensorRow, (part[0], (), (), (), dtype, shape, elements, nbytes, "packing", name, False, file, offset, None)))
    return rows


def _select(rows: Iterable[TensorRow], include: Sequence[str], exclude: Sequence[str]) -> list[TensorRow]:
    """The rows of which one name fits a glob of `include` (or there is none) and no name fits one of `exclude`."""
    if not include and not exclude:
        return list(rows)
    from fnmatch import fnmatchcase

    def fits(row: TensorRow, globs: Sequence[str]) -> bool:
        return any(fnmatchcase(n, g) for g in globs for n in (row.name, *row.canonical))

    return [row for row in rows if (not include or fits(row, include)) and not fits(row, exclude)]


# --- sums ----------------------------------------------------------------------------------------------------------


def _sum(name: str, kinds: Iterable[tuple[TensorRow, int]]) -> Sum:
    """Of (a row, how many are like it)."""
    return Sum(name, *map(sum, zip((0, 0, 0), *[(n, n * row.elements, n * row.nbytes) for row, n in kinds], strict=True)))


class _Sums:
    """Sums by name, in the order the names came."""

    def __init__(self) -> None:
        self.of: dict[str, list[int]] = {}

    def add(self, name: str, parameters: int, nbytes: int, times: int) -> None:
        found = self.of.setdefault(name, [0, 0, 0])
        found[0] += times
        found[1] += times * parameters
        found[2] += times * nbytes

    def result(self) -> list[Sum]:
        return [Sum(k, *v) for k, v in self.of.items()]


def _modules(rows: Sequence[TensorRow], *, known: bool) -> tuple[Sum, ...]:
    """Parameters by module: embeddings, encoder.layers, pooler, a head; by first component of the names if nothing is known."""
    sums = _Sums()
    if not all(row.counted for row in sorts(rows, 10)[1]):
        rows = [row for row in rows if row[10]]
    if not known:
        patterns = patterns_of(pluck(rows, 0))
        labels = _components(set(patterns))
        _, kinds, counts = sorts(list(zip(patterns, pluck(rows, 6), pluck(rows, 7), strict=True)), 0, 1, 2)
        for (pattern, elements, nbytes), n in zip(kinds, counts, strict=True):
            sums.add(labels[pattern], elements, nbytes, n)
        return tuple(sorted(sums.result(), key=lambda m: natural(m.name)))
    for row, n in zip(*sorts(rows, 2, 6, 7)[1:], strict=True):
        templates = row.templates
        template = templates[0] if templates else ""
        head, brace, _ = template.partition("{")
        label = (head.rstrip(".") if brace else template.partition(".")[0]) if template else "(unexplained)"
        sums.add(label, row.elements, row.nbytes, n)
    return tuple(sums.result())


def _components(patterns: set[str]) -> dict[str, str]:
    """Pattern -> the first component in which the names differ: that of the first number, if not one before it."""
    common = _common(min(patterns), max(patterns)).partition("#")[0] if patterns else ""
    start = max(common.rfind("."), common.rfind("/")) + 1
    component = re.compile("[^./]*").match
    return {p: common[:start] + component(p, start)[0] for p in patterns}  # type: ignore[index]


def _common(a: str, b: str) -> str:
    return a[: next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))]


def _dtypes(rows: Sequence[TensorRow], shared: Mapping[str, object]) -> tuple[Sum, ...]:
    """By dtype, the most bytes first. A tensor that has several names counts once."""
    sums = _Sums()
    once = []
    seen: set[object] = set()
    for row in rows if shared else ():
        identity = shared.get(row.name)
        if identity is None or identity not in seen:
            once.append(row)
            seen.add(identity)
    for row, n in zip(*sorts(once if shared else rows, 4, 6, 7)[1:], strict=True):
        sums.add(row.dtype, row.elements, row.nbytes, n)
    return tuple(sorted(sums.result(), key=lambda d: (-d.nbytes, d.name)))


def _ties(s: Subject, shared: Mapping[str, object]) -> tuple[tuple[str, ...], ...]:
    """Groups of stored names that are one tensor by storage, or one parameter by the architecture."""
    groups: list[list[str]] = []
    by_identity: dict[object, list[str]] = {}
    for name, identity in shared.items():
        if identity is not None and s.checkpoint.tensors[name].spec.numel:
            by_identity.setdefault(identity, []).append(name)
    groups += [g for g in by_identity.values() if len(g) > 1]
    known = {frozenset(g) for g in groups}
    r = s.graph.recognition
    pairs = [(s.graph.params[c].stored, stored) for stored, c in s.graph.repeats]
    pairs += [(stored, name) for name, stored in s.checkpoint.ties.items() if not s.untied]
    for stored in () if s.untied else s.graph.of_role("tied"):
        tied = r.architecture.params[r.matches[stored].row.parts[0]].tied if r is not None else None
        if tied in s.graph.params:
            pairs.append((s.graph.params[tied].stored, stored))
    groups += [list(p) for p in pairs if not any(set(p) <= g for g in known)]
    return tuple(tuple(sorted(g, key=natural)) for g in groups)


def summarise(value: object, depth: int) -> object:
    """Plain data for showing: text cut, bytes and long lists counted, mappings `depth` levels deep, 40 entries of each."""
    shown = getattr(value, "shown", None)
    if shown is not None:
        value = shown()
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, str):
        return printable(value, 200)
    if isinstance(value, bytes):
        return f"<{len(value):,} bytes>"
    if isinstance(value, Mapping):
        if not depth:
            return f"<{len(value):,} entries>"
        kept = {printable(k, 80): summarise(v, depth - 1) for k, v in list(value.items())[:40]}
        return kept if len(kept) == len(value) else {**kept, "...": f"{len(value) - len(kept):,} more"}
    if isinstance(value, (list, tuple)):
        plain = all(v is None or isinstance(v, (bool, int, float, str)) for v in value)
        return [summarise(v, 0) for v in value] if plain and len(value) <= 16 else f"<{len(value):,} values>"
    state: Any = getattr(value, "state", None)
    name = f"{getattr(value, 'module', '')}.{getattr(value, 'name', type(value).__name__)}"
    return {printable(name, 80): summarise(state, depth - 1)} if depth and isinstance(state, Mapping) else f"<{printable(name, 80)}>"


def _sentence(s: Subject) -> Sentence | None:
    """The modules of a sentence-transformers folder, whose reader is imported where there are some."""
    if not s.has_modules:
        return None
    from ..graph.sentence import sentence_of

    return sentence_of(s)
