"""Which architecture and dialect the stored names are, with the evidence.

Policy: names are reduced to patterns once (digits to a placeholder) and every architecture x dialect is scored by exact
sets of patterns. Tensors decide; what the configuration calls itself only decides between equals. A wrapper that all
names share ("module." of DataParallel, "_orig_mod." of torch.compile) is set apart and named as such. Where the names tell
nothing and the container keeps the variables' own names besides (TensorFlow's object graph, Keras' HDF5), those are tried.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from itertools import islice

from .._typing import TYPE_CHECKING, NamedTuple
from ..arch import architectures
from ..errors import UsageError
from ..schema import Architecture, Dialect, Match, Row, Table
from ..schema.templates import patterns_of, reduce_names, stem, tally

if TYPE_CHECKING:
    from ..schema.library_names import Spelling
    from .learned import Learned

# names explained, declared (2: by the architecture's first name), core patterns missing (negative), signature, core patterns as
# they are written, marks of the
# dialect's form that the configuration bears, rank (negative)
Score = tuple[int, int, int, int, int, int, int]
Reduced = Mapping[str, str]  # stored name -> pattern

WRAPPERS = (
    "model/",
    "module.",
    "_orig_mod.",
    "model.",
    "net.",
    "network.",
    "student.",
    "teacher.",
    "ema_model.",
    "transformer.",
    "encoder.",
)

# optimizer state beside a variable, as exact composed names: TF optimizers' slots, Adafactor in mesh
SLOTS = (
    "/adam_m", "/adam_v", "/Adam", "/Adam_1", "/AdamWeightDecayOptimizer", "/AdamWeightDecayOptimizer_1", "/LAMB", "/LAMB_1", "/lamb_m",
    "/lamb_v", "/Momentum", "/RMSProp", "/RMSProp_1", "/Adagrad", "/Ftrl", "/Ftrl_1", "_slot_v", "_slot_vr", "_slot_vc", "_slot_m",
    ".exp_avg", ".exp_avg_sq", ".max_exp_avg_sq", ".momentum_buffer",
)  # fmt: skip
COUNTERS = frozenset((
    "global_step", "beta1_power", "beta2_power", "current_loss_scale", "good_steps", "loss_scale/Variable",
))  # fmt: skip


class Recognition(NamedTuple):
    """What a checkpoint was recognised as. `wrapper` is what was set apart before every name."""

    architecture: Architecture
    dialect: Dialect
    prefix: str
    wrapper: str
    matches: dict[str, Match]  # stored name -> its row
    score: Score
    evidence: tuple[str, ...]
    plain: Mapping[str, str] = {}  # stored name -> plain name, where the dialect has a spelling
    learned: Learned | None = None  # where the architecture has no table of its own

    @property
    def table(self) -> Table:
        return self.architecture.table(self.dialect.name)

    def stored_name(self, row: Row, at: Mapping[str, int], counts: Mapping[str, int]) -> str:
        """The name that a tensor of this checkpoint has or would have; `counts` as in `schema.expand`."""
        name = self.table.stored_name(row, at, self.prefix, counts)
        spelling = self.dialect.files.spelling
        if spelling is not None:
            name = spelling.stored([*self.plain.values(), name], "").get(name, name)
        return self.wrapper + name


def _strip(reduced: Reduced, wrapper: str) -> dict[str, str]:
    """The names that begin with `wrapper`, their patterns without it (a wrapper holds no digits)."""
    n = len(wrapper)
    return {k: p[n:] for k, p in reduced.items() if p.startswith(wrapper)}


class _Names:
    """The names of a checkpoint as the dialects that are tried need them: how often each pattern is met, shapes, plain names."""

    def __init__(self, shapes: Mapping[str, tuple[int, ...]], patterns: Mapping[str, int], config: Mapping[str, object]) -> None:
        self.stored, self.patterns = shapes, patterns
        self.stems = {stem(p) for p in patterns}
        self.marks = [mark for mark in "/." if any(mark in p for p in patterns)]
        self._config = config
        self._spelled: dict[Spelling, _Names | None] = {}

    @property
    def plain(self) -> Mapping[str, str]:
        """Stored name -> plain name, where a spelling tells them apart."""
        return {}

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """The shapes by plain names."""
        return self.stored

    def of(self, dialect: Dialect) -> _Names | None:
        """The names as a dialect's rows have them; None where they are not spelled as it spells them."""
        spelling = dialect.files.spelling
        if spelling is None:
            return self
        if spelling not in self._spelled:
            self._spelled[spelling] = None
            if any(spelling.sign in name for name in islice(self.stored, 8)):
                config = dialect.config.reader.unfold(self._config) if dialect.config.reader.unfold is not None else None
                spelled = _Spelled(self.stored, spelling, self._config if config is None else config)
                if spelled.patterns:
                    self._spelled[spelling] = spelled
        return self._spelled[spelling]


class _Spelled(_Names):
    """The same names as a spelling has them. They are made when they are needed: most dialects are only tried, by the patterns."""

    def __init__(self, stored: Mapping[str, tuple[int, ...]], spelling: Spelling, config: Mapping[str, object]) -> None:
        self.stored = stored
        self._make: Callable[[], Mapping[str, str]] = lambda: spelling.plain(list(stored), config)
        super().__init__(
            stored,
            tally(patterns_of(self.plain.values())) if spelling.patterns is None else spelling.patterns(list(stored), config),
            config,
        )

    @cached_property
    def plain(self) -> Mapping[str, str]:
        return self._make()

    @cached_property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        plain = self.plain
        return {plain.get(n, n): s for n, s in self.stored.items()}


def _candidates(
    every: _Names,
    declared: str | None,
    only: str | None,
    dialect: str | None,
    part: str | None,
    config: Mapping[str, object],
    thorough: bool,
    places: Mapping[str, int],
    called: str,
) -> list[tuple[Score, Architecture, Dialect, str]]:
    found = []
    for arch in architectures().values():
        if only is not None and only not in arch.names:
            continue
        for d in arch.dialects.values():
            if (dialect is not None and dialect not in (d.name, d.alias)) or (part is not None and d.part != part):
                continue
            names = every.of(d)
            if names is None:
                continue
            patterns, stems = names.patterns, names.stems
            if d.mark and d.mark not in names.marks:
                continue
            table = arch.table(d.name)
            for prefix in d.prefixes:
                if stems.isdisjoint(table.stems(prefix)) or not (thorough or any(p in patterns for p in table.marks(prefix))):
                    continue
                index = table.index(prefix)
                core = table.core(prefix)
                held = sum(any(p in patterns for p in alternatives) for alternatives in core.values())
                if held * 2 < len(core):
                    continue
                matched = sum(n for p, n in patterns.items() if p in index)
                written = sum(p in patterns for p in table.written(prefix))
                is_declared = (declared in arch.names) + (declared == arch.name) if declared is not None else called in d.library.models
                marked = sum(config.get(k) == v for k, v in d.config.marks.items())
                if d.files.objects is not None:
                    marked += (d.files.objects.tell in places) + (
                        d.config.reader.unfold is not None and d.config.reader.unfold(config) is not None
                    )
                score = (matched, is_declared, held - len(core), _signature(table, prefix, names), written, marked, -arch.rank)
                found.append((score, arch, d, prefix))
    if part is not None:
        return found
    first: dict[str, str] = {}  # of several parts in one checkpoint the first listed is meant, unless another is asked for
    return [c for c in found if not c[2].part or first.setdefault(c[1].name, c[2].part) == c[2].part]


def recognize(
    shapes: Mapping[str, tuple[int, ...]],
    aliases: Callable[[], Mapping[str, str]] = dict,
    *,
    declared: str | None = None,
    architecture: str | None = None,
    dialect: str | None = None,
    part: str | None = None,
    config: Mapping[str, object] | None = None,
    called: str = "",
) -> Recognition | None:
    """The architecture and dialect that explain most of the names in `shapes`, or None where no one explains half of its own core.

    `aliases` gives further names of the tensors, asked for where the stored ones do not explain all; `declared` is what
    the configuration calls the model, `config` all that it says and `called` the name that the file gives the model (evidence);
    `architecture`, `dialect` and `part` narrow the choice. UsageError where it is a known model, but has no such `part`.
    """
    found = _recognize(shapes, declared, architecture, dialect, part, config or {}, called=called)
    if found is None or found.score[2] < 0 or found.score[0] < len(shapes):
        own = aliases()
        places = {_place(p): 1 for p in set(patterns_of(shapes))} if own else {}
        for named in filter(None, (own, _without_scope(own))):
            renamed = {named.get(n, n): n for n in shapes}
            if len(renamed) < len(shapes):
                continue
            other = _recognize({a: shapes[n] for a, n in renamed.items()}, declared, architecture, dialect, part, config or {}, places)
            whole = found is not None and found.score[2] >= 0  # then other names must explain more, and not only better
            if other is not None and (found is None or (other.score[0] > found.score[0] if whole else other.score > found.score)):
                said = f"{other.evidence[0]}, by the variables' own names"
                found = other._replace(matches={renamed[a]: m for a, m in other.matches.items()}, evidence=(said, *other.evidence[1:]))
                if found.score[0] == len(shapes):
                    break
    if found is None:
        _refuse_part(shapes, architecture, dialect, part)
    return found


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


def _recognize(
    shapes: Mapping[str, tuple[int, ...]],
    declared: str | None,
    architecture: str | None,
    dialect: str | None,
    part: str | None,
    config: Mapping[str, object],
    places: Mapping[str, int] = {},
    called: str = "",
) -> Recognition | None:
    reduced = reduce_names(shapes)
    wrapper = ""
    stripped: Reduced = reduced
    best = None
    for _ in range(4):
        patterns = tally(stripped.values())
        inner = {n[len(wrapper) :]: s for n, s in shapes.items()} if wrapper else shapes
        names = _Names(inner, patterns, config)
        found = _candidates(names, declared, architecture, dialect, part, config, False, places, called)
        found = found or _candidates(names, declared, architecture, dialect, part, config, True, places, called)
        if found:
            best = _best(found, stripped)
            break
        shared = _shared_wrapper(patterns)
        if not shared:
            break
        wrapper += shared
        stripped = _strip(stripped, shared)
    if best is None:
        return None
    score, arch, d, prefix = best
    table = arch.table(d.name)
    matches = {}
    index = table.index(prefix)
    spelled = names.of(d)
    plain = {wrapper + n: p for n, p in spelled.plain.items()} if spelled is not None else {}
    numbers = re.compile("[0-9]+").findall
    match = table.match
    for name, pattern in (dict(zip(plain, patterns_of(plain.values()), strict=True)) if plain else stripped).items():
        m = match(pattern, numbers(plain.get(name, name)), prefix) if pattern in index else None
        if m is not None:
            matches[name] = m
    evidence = [f"{len(matches)} of {len(reduced)} tensor names are {d.title}'s for {arch.title}"]
    if declared is not None:
        written_as = declared in (o.config.marks.get("model_type") for o in arch.dialects.values())
        remark = (
            "" if declared in arch.names else f", as which {arch.title} is written too" if written_as else (", which the tensors are not")
        )
        evidence.append(f"the configuration calls it {declared}{remark}")
    elif called in d.library.models:
        evidence.append(f"the file calls it {called}")
    if wrapper:
        evidence.append(f"the names are wrapped in {wrapper!r}")
    if score[3] > 0:
        evidence += [_signature_words(arch, table, p, dim, size) for p, dim, size in arch.signature]
    others = sorted({a.name for s, a, o, _ in found if a is not arch and (s[0], s[2]) == (score[0], score[2]) and s[3] >= 0 and _own(o, a)})
    if others and not score[1]:
        evidence.append(f"the names alone could also be {', '.join(others)}")
    return Recognition(arch, d, prefix, wrapper, matches, score, tuple(evidence), plain)


def _best(found: list[tuple[Score, Architecture, Dialect, str]], reduced: Reduced) -> tuple[Score, Architecture, Dialect, str]:
    """The candidate of the highest score. Where objects are numbered through, patterns tell less than numbers: those must fit first."""
    most = max(c[0][0] for c in found)
    best = [c for c in found if c[0][0] == most]
    if len(best) > 1 and all(c[2].files.objects is not None for c in best):
        tables = [(c[1].table(c[2].name), c[3]) for c in best]
        named = [frozenset((p, tuple(slots for _, slots in rows)) for p, rows in t.index(prefix).items()) for t, prefix in tables]
        if len(set(named)) > 1:  # else they differ in the layout alone, and the numbers fit one as well as the other
            numbers = re.compile("[0-9]+").findall
            numbered = [(pattern, numbers(name)) for name, pattern in reduced.items()]
            wrong = dict(zip(named, (_misfits(t, prefix, numbered) for t, prefix in tables), strict=True))
            least = min(wrong.values())
            best = [c for c, n in zip(best, named, strict=True) if wrong[n] == least]
    return max(best, key=lambda c: c[0])


def _misfits(table: Table, prefix: str, numbered: Sequence[tuple[str, list[str]]]) -> int:
    """Names of a known pattern with numbers that are not, or a second time, and numbers that are left out. `numbered`: the names'
    patterns and numbers."""
    wrong, seen, indices = 0, set(), dict[str, set[int]]()
    index, match = table.index(prefix), table.match
    for pattern, numbers in numbered:
        if pattern not in index:
            continue
        m = match(pattern, numbers, prefix)
        if m is None:
            wrong += 1
            continue
        place = id(m.row), m.at
        wrong += place in seen
        seen.add(place)
        for holder, i in m.at:
            if holder in indices:
                indices[holder].add(i)
            else:
                indices[holder] = {i}
    return wrong + sum(max(i) + 1 - len(i) for i in indices.values())


def _own(dialect: Dialect, arch: Architecture) -> bool:
    """Whether a dialect is the architecture's own: not one in which it is written as another architecture."""
    return dialect.config.marks.get("model_type", arch.name) in arch.names


def _signature_words(arch: Architecture, table: Table, param: str, dim: int, size: int) -> str:
    row, _ = table.by_param[param]
    return f"{row.names[0]} has {' x '.join(row.layout.dims[dim])} {size}, which tells {arch.title} from others of these names"


def _refuse_part(shapes: Mapping[str, tuple[int, ...]], architecture: str | None, dialect: str | None, part: str | None) -> None:
    """Say that there is no such part, if without asking for it the checkpoint is recognised."""
    whole = recognize(shapes, architecture=architecture, dialect=dialect) if part is not None else None
    if whole is not None:
        parts = list(dict.fromkeys(d.part for d in whole.architecture.dialects.values() if d.part and d.alias == whole.dialect.alias))
        raise UsageError(
            f"--part {part}: {whole.dialect.title} has no such part, or it is not in the checkpoint",
            hint=f"parts of that naming: {', '.join(parts)}"
            if parts
            else f"a checkpoint of {whole.dialect.title} is one model: leave --part out",
        )


def _signature(table: Table, prefix: str, names: _Names) -> int:
    """1 where the shapes bear the architecture's signature, -1 where they contradict it, 0 where it has none or they do not tell."""
    said = 0
    for param, dim, size in table.arch.signature:
        row, _ = table.by_param[param]
        for name in row.names:
            shape = names.shapes.get(prefix + name if row.prefixed else name)
            if shape is not None and len(shape) > dim:
                if shape[dim] != size:
                    return -1
                said = 1
    return said


def _shared_wrapper(patterns: Mapping[str, int]) -> str:
    """The known wrapper that at least nine tenths of the names begin with, or ""; `patterns` has how many names each is."""
    total = sum(patterns.values())
    for w in WRAPPERS:
        n = sum(k for p, k in patterns.items() if p.startswith(w))
        if n and n * 10 >= 9 * total:
            return w
    return ""


def optimizer_state(names: Iterable[str], known: Mapping[str, object] | None = None) -> dict[str, str]:
    """The names that are optimizer state or training counters, each with the variable it belongs to ("" for none).

    `known` are the names that may have slots; without it every stored name may.
    """
    every = list(names)
    have = set(every) if known is None else known
    out = {}
    for name in every:
        if name in COUNTERS:
            out[name] = ""
            continue
        if name.startswith("optimizer") and name not in have:
            out[name] = ""
            continue
        for slot in SLOTS if name.endswith(SLOTS) else ():
            base = name.removesuffix(slot)
            if len(base) < len(name) and base in have:
                out[name] = base
                break
    return out
