"""Which architecture and dialect the stored names are, with the evidence.

Policy: names are reduced to patterns once (digits to a placeholder) and every architecture x dialect is scored by exact sets of patterns.
Tensors decide; what the configuration calls itself only decides between equals. Wrappers and scopes are set apart and named as such
(`scopes`). Where a container keeps the variables' own names besides (TensorFlow's objects, Keras' HDF5), those are tried.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence

from .._typing import TYPE_CHECKING
from ..arch import architectures, by_name, candidates
from ..configuration.read import BLOCK, first_said, look
from ..errors import UsageError
from ..schema import ConfigForm, Dialect, Match, Table
from ..schema.templates import numbers_of, patterns_of, reduce_name, reduce_names, tally
from ..support.lazy import later
from .evidence import cousins, evidence, in_doubt, is_belied, is_cousin, is_told, less_likely, signature
from .recognition import Candidate, Question, Recognition, Score
from .stored_names import StoredNames
from .twins import tell_apart

if TYPE_CHECKING:
    from . import layouts, scopes
else:
    later(globals(), layouts=".layouts", scopes=".scopes")

Reduced = Mapping[str, str]  # stored name -> pattern


def _strip(reduced: Reduced, wrapper: str) -> dict[str, str]:
    """The names that begin with `wrapper`, their patterns without it (a wrapper holds no digits)."""
    n = len(wrapper)
    return {k: p[n:] for k, p in reduced.items() if p.startswith(wrapper)}


def _candidates(every: StoredNames, asked: Question, *, thorough: bool) -> list[Candidate]:
    """The dialects that hold at least half of their own core. Unless `thorough`, one of the first rows must be there."""
    found = []
    if asked.architecture is not None:
        tried = [by_name(asked.architecture)]
    elif asked.dialect is not None or asked.part is not None:
        tried = [*architectures().values()]
    else:
        tried = candidates(every.patterns, every.stored, asked.declared)
    for arch in tried:
        for d in arch.dialects.values():
            if d.twin or asked.dialect not in (None, d.name, d.alias) or asked.part not in (None, d.part):
                continue
            names = every.of(d)
            if names is None or (d.mark and d.mark not in names.marks):
                continue
            table = arch.table(d.name)
            for prefix in d.prefixes:
                if names.stems.isdisjoint(table.stems(prefix)):
                    continue
                if thorough or any(p in names.patterns for p in table.marks(prefix)):
                    score = _score(names, table, prefix, asked)
                    found += [Candidate(score, arch, d, prefix)] if score is not None else []
    if asked.part is not None:
        return found
    first: dict[str, str] = {}  # of several parts in one checkpoint the first listed is meant, unless another is asked for
    return [c for c in found if not c.dialect.part or first.setdefault(c.architecture.name, c.dialect.part) == c.dialect.part]


def _score(names: StoredNames, table: Table, prefix: str, asked: Question) -> Score | None:
    """How well a dialect fits at a prefix; None where less than half of its core is there."""
    patterns, arch, dialect = names.patterns, table.arch, table.dialect
    core, index = table.core(prefix), table.index(prefix)
    held = sum(any(p in patterns for p in alternatives) for alternatives in core.values())
    if held * 2 < len(core):
        return None
    if asked.declared is not None:
        declared = (asked.declared in arch.names) + (asked.declared == arch.name)
    else:
        declared = int(asked.called in dialect.library.models)
    return Score(
        explained=sum(n for p, n in patterns.items() if p in index),
        declared=declared,
        missing=held - len(core),
        signature=signature(table, prefix, names),
        written=sum(p in patterns for p in table.written(prefix)),
        marked=_marked(dialect, asked),
        rank=-arch.rank,
    )


def _marked(dialect: Dialect, asked: Question) -> int:
    """How much of what tells a dialect's form from others is there."""
    form, objects = dialect.config, dialect.files.objects
    marked = sum(asked.config.get(k) == v for k, v in form.marks.items()) + _needed(form, asked.config)
    if asked.declared is None and asked.config and (form.usual or not form.marks):  # forms are told apart by their keys
        known = {alternative.partition(".")[0] for key in form.keys for alternative in key.split(" | ")}
        known |= {*form.marks, BLOCK}
        marked += all(k in known or form.usual.get(k, known) in (..., v) for k, v in asked.config.items())
    if objects is not None:
        unfolds = form.reader.unfold is not None and form.reader.unfold(asked.config) is not None
        marked += (objects.tell in asked.places) + unfolds
    return marked


def _needed(form: ConfigForm, config: Mapping[str, object]) -> int:
    """How many of the values that a form needs a configuration says, less those of which it says others."""
    if not form.needs or not config:
        return 0
    said = {c: first_said(config, key) for key, spec in form.keys.items() for c in form.needs if c == getattr(spec, "canonical", spec)}
    return sum(1 if key is not None and look(config, key) == form.needs[c] else -1 for c, key in said.items())


def recognize(
    shapes: Mapping[str, tuple[int, ...]], aliases: Callable[[], Mapping[str, str]] = dict, asked: Question | None = None
) -> Recognition | None:
    """The architecture and dialect that explain most of the names in `shapes`, or None where no one explains half of its own core.

    `aliases` gives further names of the tensors, asked for where the stored ones do not explain all. UsageError where it is a known
    model, but has no such part as is asked for.
    """
    asked = asked or Question()
    found = _recognize(shapes, asked)
    bare, wrappers = scopes.without_inner(shapes) if found is None or found.score.explained < len(shapes) else ({}, ())
    if wrappers:
        found = recognize({bare[n]: s for n, s in shapes.items()}, dict, asked)
        if found is None:
            return None
        inside = {b: n for n, b in bare.items()}
        return found._replace(
            matches={inside[n]: m for n, m in found.matches.items()}, evidence=(*found.evidence, *scopes.inner_words(shapes, wrappers))
        )
    if found is None or not found.score.whole or found.score.explained < len(shapes):
        found = _by_own_names(shapes, aliases(), asked, found)
    if found is None:
        found = _in_scope(shapes, asked) or _in_second_scope(shapes, asked)
    if found is not None and asked.architecture is None and asked.dialect is None and is_cousin(found, shapes, asked.declared):
        return None
    if found is None:
        _refuse_part(shapes, asked)
    return found


def _in_scope(shapes: Mapping[str, tuple[int, ...]], asked: Question) -> Recognition | None:
    """What the names below some scope are recognised as, where they are a whole core."""
    best: Recognition | None = None
    for scope in scopes.scopes(shapes):
        inner = {n[len(scope) :]: s for n, s in shapes.items() if n.startswith(scope)}
        found = _recognize(inner, asked)
        if found is None or not found.score.whole or (best is not None and len(found.matches) <= len(best.matches)):
            continue
        best = wrapped(found, scope, len(shapes))
    return best


def wrapped(found: Recognition, scope: str, total: int) -> Recognition:
    """What was recognised below a scope, by the names with it; `total` names there are."""
    rest = found.evidence[0].partition(" tensor names")[2]
    said = (f"{len(found.matches)} of {total} tensor names{rest}", *(e for e in found.evidence[1:] if "wrapped in" not in e))
    wrapper = scope + found.wrapper
    return found._replace(
        wrapper=wrapper,
        matches={scope + n: m for n, m in found.matches.items()},
        plain={scope + n: p for n, p in found.plain.items()},
        evidence=(*said, f"the names are wrapped in {wrapper!r}"),
        learned=found.learned._replace(wrapper=wrapper) if found.learned is not None else None,
    )


def _in_second_scope(shapes: Mapping[str, tuple[int, ...]], asked: Question) -> Recognition | None:
    """What the names are recognised as where TensorFlow numbered the scope, since a graph had another of its name before."""
    for scope, first in scopes.second_scopes(shapes):
        stored = {first + n.removeprefix(scope) if n.startswith(scope) else n: n for n in shapes}
        found = _recognize({n: shapes[s] for n, s in stored.items()}, asked) if len(stored) == len(shapes) else None
        if found is not None and found.score.whole:
            said = f"the names begin with {scope!r}, which is {first!r} a second time in one graph"
            matches, plain = ({stored[n]: v for n, v in held.items()} for held in (found.matches, found.plain))
            return found._replace(matches=matches, plain=plain, evidence=(*found.evidence, said))  # type: ignore[arg-type]
    return None


def _by_own_names(
    shapes: Mapping[str, tuple[int, ...]], own: Mapping[str, str], asked: Question, found: Recognition | None
) -> Recognition | None:
    """What the variables' own names are recognised as, where that is better than `found`."""
    asked = asked._replace(called="", places=frozenset(_place(p) for p in set(patterns_of(shapes))) if own else frozenset())
    for named in filter(None, (own, _without_scope(own))):
        renamed = {named.get(n, n): n for n in shapes}
        if len(renamed) < len(shapes):
            continue
        other = _recognize({a: shapes[n] for a, n in renamed.items()}, asked)
        if other is not None and (found is None or _is_better(other.score, found.score)):
            said = f"{other.evidence[0]}, by the variables' own names"
            found = other._replace(matches={renamed[a]: m for a, m in other.matches.items()}, evidence=(said, *other.evidence[1:]))
            if found.score.explained == len(shapes):
                break
    return found


def _is_better(other: Score, found: Score) -> bool:
    """Whether other names are to be believed: where the stored ones are whole they must explain more, and not only better."""
    return other.explained > found.explained if found.whole else other > found


def _without_scope(own: Mapping[str, str]) -> dict[str, str]:
    """The variables' own names without the name of the model, as transformers' TF classes have them in their shards: of a TensorFlow
    checkpoint or a SavedModel of such a class, where they are "tf_bert_model/bert/pooler/dense/kernel". {} of other models."""
    scopes = tally(a.partition("/")[0] for a in own.values())
    scope = max(scopes, key=lambda s: scopes[s], default="")
    if not scope.startswith("tf"):
        return {}
    return {
        n: f"{a.partition('/')[2]}:0" for n, a in own.items() if a.startswith((f"{scope}/", "shared/"))
    }  # T5 names the layer of its table apart


def _place(pattern: str) -> str:
    """The last two parts of an attribute path's pattern."""
    return "/".join(pattern.split("/")[-2:])


def _recognize(shapes: Mapping[str, tuple[int, ...]], asked: Question) -> Recognition | None:
    """What the names are, with wrappers that are known taken off. A configuration that gives an embedding another size than it has is
    another model's: it does not decide between cousins, where the sizes do."""
    found = _with_wrappers(shapes, asked)
    if found is None or asked.declared is None or asked.architecture is not None:
        return found
    if len(found.matches) < found.score.explained and asked.dialect is None:  # its patterns are met, but with numbers that it has not
        other = _with_wrappers(shapes, asked._replace(declared=None, config={}))
        if other is not None and len(other.matches) == len(shapes):
            said = f"the configuration calls it {asked.declared}, which has {len(found.matches)} of these names"
            return other._replace(evidence=(*other.evidence, said))
    if not is_belied(found, shapes, asked.config):
        return found
    other = _with_wrappers(shapes, asked._replace(declared=None, config={}))
    if other is None or len(other.matches) < len(found.matches) or not is_told(other, asked.config):
        return found
    said = f"the configuration calls it {asked.declared}, and gives it other sizes than the tensors have"
    return other._replace(evidence=(*other.evidence, said))


def _with_wrappers(shapes: Mapping[str, tuple[int, ...]], asked: Question) -> Recognition | None:
    reduced = reduce_names(shapes)
    wrapper = ""
    stripped: Reduced = reduced
    for _ in range(4):
        patterns = tally([*stripped.values(), *_broken(asked, stripped, wrapper)])
        inner = {n[len(wrapper) :]: s for n, s in shapes.items()} if wrapper else shapes
        names = StoredNames(inner, patterns, asked.config)
        found = _candidates(names, asked, thorough=False) or _candidates(names, asked, thorough=True)
        if found:
            bare = {n[len(wrapper) :]: p for n, p in stripped.items()}
            best = _by_layout(_best(found, stripped), found, inner, bare)
            matches, plain = _matches(best, names, stripped, wrapper)
            better = _better_fit(best, matches, found, (names, stripped, wrapper), shapes)
            if better:
                found = better
                best = _by_layout(better[0], better, inner, bare)
                matches, plain = _matches(best, names, stripped, wrapper)
            kin = cousins(best, found, asked)
            said = tuple(evidence(best, kin, asked, wrapper, f"{len(matches)} of {len(reduced)}"))
            arch = best.architecture
            doubt = in_doubt(best, kin)
            likely, lost = less_likely(best, found, names)
            likely = () if doubt else likely
            return Recognition(arch, best.dialect, best.prefix, wrapper, matches, best.score, said, plain, None, doubt, likely, lost)
        shared = scopes.shared_wrapper(patterns)
        if not shared:
            return None
        wrapper += shared
        stripped = _strip(stripped, shared)
    return None


def _broken(asked: Question, stored: Reduced, wrapper: str) -> Iterator[str]:
    """The patterns of the weights that are there in parts alone: the model has them, whatever is wrong with them."""
    for name in asked.broken:
        if name.startswith(wrapper) and name not in stored:
            yield reduce_name(name[len(wrapper) :])[0]


def _matches(best: Candidate, names: StoredNames, reduced: Reduced, wrapper: str) -> tuple[dict[str, Match], dict[str, str]]:
    """(stored name -> its row, stored name -> plain name) of the names that a candidate has."""
    table = best.architecture.table(best.dialect.name)
    index, prefix = table.index(best.prefix), best.prefix
    spelled = names.of(best.dialect)
    plain = {wrapper + n: p for n, p in spelled.plain.items()} if spelled is not None else {}
    every = dict(zip(plain, patterns_of(plain.values()), strict=True)) if plain else reduced
    known: dict[str, list[int]] = {}  # pattern -> the places of the names of which some row may be
    for i, pattern in enumerate(every.values()):
        if pattern in known:
            known[pattern].append(i)
        elif pattern in index:
            known[pattern] = [i]
    spoken = [plain[n] for n in every] if plain else list(every)
    found: list[Match | None] = [None] * len(spoken)
    for pattern, places in known.items():
        numbers = numbers_of([spoken[i] for i in places], pattern.count("#"))
        for i, m in zip(places, table.matches(pattern, numbers, prefix), strict=True):
            found[i] = m
    matches = {name: m for name, m in zip(every, found, strict=True) if m is not None}
    tell_apart(matches, table)
    _set_apart(matches)
    return matches, plain


def _set_apart(matches: dict[str, Match]) -> None:
    """Of layers beside the model's own (for multi-token prediction) every tensor becomes a stray."""
    beside = {place: row._replace(role="stray") for row, at in matches.values() if row[4] == "beside" for place in at}
    for name, (_, at) in matches.items() if beside else ():
        for place in at:
            if place in beside:
                matches[name] = Match(beside[place], ())
                break


def _best(found: list[Candidate], reduced: Reduced) -> Candidate:
    """The candidate of the highest score. Where objects are numbered through, patterns tell less than numbers: those must fit first."""
    most = max(c.score.explained for c in found)
    best = [c for c in found if c.score.explained == most]
    if len(best) > 1 and all(c.dialect.files.objects is not None for c in best):
        tables = [(c.architecture.table(c.dialect.name), c.prefix) for c in best]
        named = [frozenset((p, tuple(slots for _, slots in rows)) for p, rows in t.index(prefix).items()) for t, prefix in tables]
        if len(set(named)) > 1:  # else they differ in the layout alone, and the numbers fit one as well as the other
            numbers = re.compile("[0-9]+").findall
            numbered = [(pattern, numbers(name)) for name, pattern in reduced.items()]
            wrong = dict(zip(named, (layouts.misnumbered(t, prefix, numbered) for t, prefix in tables), strict=True))
            least = min(wrong.values())
            best = [c for c, n in zip(best, named, strict=True) if wrong[n] == least]
    return max(best, key=lambda c: c.score)


def _by_layout(best: Candidate, found: Sequence[Candidate], stored: Mapping[str, tuple[int, ...]], reduced: Reduced) -> Candidate:
    """Of namings of one architecture with the same names, the one in whose layouts the shapes fit together."""
    same = (best.score.explained, best.score.missing, best.prefix, best.architecture)
    alike = (c for c in found if (c.score.explained, c.score.missing, c.prefix, c.architecture) == same)
    own = [c for c in alike if c.dialect.files.spelling is None and c.dialect.files.objects is None]
    if len(own) < 2 or best not in own:
        return best
    wrong = {c.dialect.name: layouts.misfits(c.architecture, c.dialect.name, c.prefix, stored, reduced) for c in own}
    least = min(wrong.values())
    return best if wrong[best.dialect.name] == least else max((c for c in own if wrong[c.dialect.name] == least), key=lambda c: c.score)


def _better_fit(
    best: Candidate,
    matches: Mapping[str, Match],
    found: Sequence[Candidate],
    held: tuple[StoredNames, Reduced, str],
    shapes: Mapping[str, tuple[int, ...]],
) -> list[Candidate]:
    """Of architectures with the same names those that the shapes and layers speak against least, the likeliest first, where nothing says
    which it is and they speak against `best` more (a norm of each head's query, and not of all; layers of which some alone have
    attention); [] where `best` is not the worse for it. `held`: the names, their patterns, and the wrapper before them."""
    score = best.score
    alike = [c for c in found if (c.score.explained, c.score.missing) == (score.explained, score.missing)]
    rivals = [c for c in alike if c.score.signature >= 0 and c.score.marked >= score.marked]
    if score.declared or all(c.architecture is best.architecture for c in rivals) or not (least := layouts.unfit(best, matches, shapes)):
        return []
    wrong = [(layouts.unfit(c, _matches(c, *held)[0], shapes), c) for c in rivals]
    fewest = min(n for n, _ in wrong)
    fitting = [c for n, c in wrong if n == fewest]
    return sorted(fitting, key=lambda c: c.score, reverse=True) if fewest < least else []


def _refuse_part(shapes: Mapping[str, tuple[int, ...]], asked: Question) -> None:
    """Say that there is no such part, if without asking for it the checkpoint is recognised."""
    part = asked.part
    narrowed = Question(architecture=asked.architecture, dialect=asked.dialect)
    whole = recognize(shapes, asked=narrowed) if part is not None else None
    if whole is not None:
        parts = list(dict.fromkeys(d.part for d in whole.architecture.dialects.values() if d.part and d.alias == whole.dialect.alias))
        raise UsageError(
            f"--part {part}: {whole.dialect.title} has no such part, or it is not in the checkpoint",
            hint=f"parts of that naming: {', '.join(parts)}"
            if parts
            else f"a checkpoint of {whole.dialect.title} is one model: leave --part out",
        )
