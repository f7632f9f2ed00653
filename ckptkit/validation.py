"""The rules: what a checkpoint must be, as findings. No rule prints, guesses, or decides from a name's looks.

Each rule is a function of a Subject and yields Findings; `validate` runs them all. What a finding rests on is in its
`basis`: confirmed (read off bytes or headers), inferred, or undecided.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from itertools import product as combinations

from ._typing import NamedTuple
from .arch import architectures
from .config import form_keys, optional_axes
from .containers import containers
from .errors import EXIT_FINDINGS, EXIT_OK, EXIT_UNDECIDED, UsageError
from .findings import Finding
from .integrity import verify_checksums
from .layout import Axes
from .names import collapse, counted, natural, ranges
from .schema import Param, Row, count_name, expand, placeholders
from .subject import Subject, examine
from .tensors import DTYPES
from .values import compare_ties, compare_values

Rule = Callable[[Subject], Iterator[Finding]]


class Report(NamedTuple):
    """The outcome of `validate`."""

    subject: Subject
    findings: tuple[Finding, ...]

    @property
    def exit_code(self) -> int:
        """0 fine, 1 with an error finding, 3 where something that was asked could not be decided."""
        if any(f.severity == "error" for f in self.findings):
            return EXIT_FINDINGS
        return EXIT_UNDECIDED if any(f.basis == "undecided" and f.severity == "warning" for f in self.findings) else EXIT_OK


def validate(
    path: str | os.PathLike[str],
    *,
    config: str | None = None,
    container: str | None = None,
    architecture: str | None = None,
    dialect: str | None = None,
    part: str | None = None,
    expect: Mapping[str, str] | None = None,
    integrity: bool = True,
) -> Report:
    """Check the checkpoint at `path` by every rule. Raises CheckpointError where it cannot be read at all.

    `expect` holds what the caller wants to be true ({"layers": "24"}); `integrity` reads the weights to hold checksums
    and ties against the bytes. The report's checkpoint is closed.
    """
    wanted = parse_expectations(expect or {})
    with examine(path, config=config, container=container, architecture=architecture, dialect=dialect, part=part) as subject:
        return Report(subject, tuple(run_rules(subject, wanted, integrity=integrity)))


def run_rules(subject: Subject, expect: Mapping[str, object] | None = None, *, integrity: bool = True) -> list[Finding]:
    """All findings of an open subject, in the order of the rules."""
    findings = [*subject.checkpoint.findings, *subject.findings]
    for rule in STRUCTURE_RULES:
        findings += rule(subject)
    findings += _expectations(subject, expect or {})
    if integrity:
        damaged = verify_checksums(subject.checkpoint)
        findings += damaged
        if not damaged and subject.graph.recognition is not None:
            for content_rule in (_ties, _repeats, _derived):
                findings += content_rule(subject)
    return findings


# --- what it is ----------------------------------------------------------------------------------------------------


def _empty(s: Subject) -> Iterator[Finding]:
    if not s.checkpoint.tensors:
        yield Finding("error", "empty", s.checkpoint.path, "holds no tensor")


def _architecture(s: Subject) -> Iterator[Finding]:
    declared = s.config.declared if s.config else None
    known = next((a for a in architectures().values() if declared in a.names), None)
    arch = s.architecture
    if arch is None:
        if known is not None:
            names = sorted(s.checkpoint.tensors, key=natural)
            yield Finding(
                "error", "architecture", collapse(names, 3), f"{s.config_name} says {declared}, but no naming of {known.title} matches the tensors"
            )
        elif declared is not None:
            yield Finding("info", "architecture", declared, f"{declared} is not an architecture known here: only the container was checked", basis="undecided")
        return
    if known is not None and declared not in arch.names and declared not in (d.config.marks.get("model_type") for d in arch.dialects.values()):
        names = sorted(s.graph.recognition.matches if s.graph.recognition else (), key=natural)
        yield Finding(
            "error", "architecture", collapse(names, 3), f"{s.config_name} says {declared}, but the tensors are those of {arch.title}: they do not match",
            f"use the configuration that belongs to the weights ({arch.name})",
        )  # fmt: skip
    elif declared is None and s.config is not None and s.values is not None and s.values.form == "hf":
        yield Finding(
            "warning", "config", "model_type", f"{s.config_name} has no model_type; the tensors are those of {arch.title}", f'add "model_type": "{arch.name}"'
        )
    elif declared is None and s.config is not None and s.values is not None:
        for key, mark in arch.dialects[s.values.form].config.marks.items():
            if s.config.raw.get(key) != mark:
                said = f"says {key} {json.dumps(s.config.raw[key])}" if key in s.config.raw else f"does not say {key} {json.dumps(mark)}"
                yield Finding(
                    "error", "architecture", key, f"the tensors are those of {arch.title}, but {s.config_name} {said}, as every configuration of it does: "
                    "it belongs to another model, or the weights are one that lost what tells it from this", f"get the model whole, or set {key} to {json.dumps(mark)}",
                )  # fmt: skip
    elif declared is not None and known is None:
        yield Finding("warning", "architecture", declared, f"{s.config_name} says {declared}, which is unknown here; the tensors are those of {arch.title}")


# --- layers --------------------------------------------------------------------------------------------------------


def _stored_of(s: Subject, placeholder: str, wanted: set[int]) -> list[str]:
    assert s.graph.recognition is not None
    return [n for n, m in s.graph.recognition.matches.items() if dict(m.at).get(placeholder) in wanted]


def _layers(s: Subject) -> Iterator[Finding]:
    if s.architecture is None:
        return
    for placeholder in s.architecture.counted:
        count = count_name(placeholder)
        have = s.graph.indices.get(placeholder, set())
        n = max(have) + 1 if have else 0
        holes = set(range(n)) - have
        word = placeholder.replace("_", " ")
        if holes:
            stored = sorted(_stored_of(s, placeholder, have), key=natural)
            yield Finding(
                "error", "layers", f"{word} {ranges(holes)}", f"{word}{'s' * (len(holes) > 1)} {ranges(holes)} missing in the middle: the weights hold "
                f"{word}s {ranges(have)} ({collapse(stored, 2)})", "the checkpoint was cut or merged wrongly; get it whole",
            )  # fmt: skip
        said = s.value(count)
        if not isinstance(said, int) or isinstance(said, bool) or said == n:
            continue
        key = s.values.keys.get(count, count) if s.values else count
        if not have and _leaves_out(s, placeholder):
            if not s.config or "architectures" not in s.config.raw:
                yield Finding("info", "head", word, f"the weights hold no {word}; {s.config_name} says {said} of them ({key}), which this part of the model does not use")
            continue
        contiguous = f"{ranges(have)}, contiguous" if not holes else ranges(have)
        variant = _variant_words(s)
        if said < n:
            over = sorted(_stored_of(s, placeholder, set(range(said, n))), key=natural)
            extra = f"{word}s {ranges(range(said, n))}" if n - said > 1 else f"{word} {said}"
            yield Finding(
                "error", "layers", collapse(over, 4),
                f"{s.config_name} says {counted(said, count)}; the weights hold {n} ({contiguous}). {len(over)} tensors of {extra} would be dropped "
                f"by a loader that trusts the configuration.{variant}", f"set {key} to {n}",
            )  # fmt: skip
        else:
            lacking = ranges(range(n, said))
            per = len(_stored_of(s, placeholder, {n - 1})) if n else 0
            stored = sorted(_stored_of(s, placeholder, {n - 1}), key=natural) if n else []
            yield Finding(
                "error", "layers", collapse(stored, 2) or word,
                f"{s.config_name} says {counted(said, count)}; the weights hold {n}{f' ({contiguous})' if n else ''}. A loader that trusts the configuration "
                f"would make {(said - n) * per} tensors of {word}{'s' * (said - n > 1)} {lacking} at random.{variant}", f"set {key} to {n}, or get the whole checkpoint",
            )  # fmt: skip


def _shared_layers(s: Subject) -> Iterator[Finding]:
    """Counts that no tensor holds, since layers share their weights: what bounds them, and what the known models of the shape have."""
    arch = s.architecture
    if arch is None:
        return
    for small, large in arch.at_most:
        n, said = s.graph.counts.get(small, 0), s.value(large)
        if isinstance(said, int) and not isinstance(said, bool) and said < n:
            yield Finding(
                "error", "layers", s.values.keys.get(large, large) if s.values else large,
                f"{s.says(large)} {counted(said, large)}; the weights hold {counted(n, small)}, each for at least one of them: "
                f"a loader that trusts the configuration would leave {n - said} unused", f"find out how many {large} it was trained with",
            )  # fmt: skip
    heads = s.value("heads")
    for count in arch.config_counts:
        said = s.value(count)
        known = {arch.variants[v][count]: v for v in reversed(variants(s, heads if isinstance(heads, int) else None)) if count in arch.variants[v]}
        if isinstance(said, int) and known and said not in known:
            usual = " or ".join(f"{n} ({v})" for n, v in known.items())
            yield Finding(
                "warning", "layers", s.values.keys.get(count, count) if s.values else count,
                f"{s.says(count)} {counted(said, count)}; no tensor holds the count, as layers share their weights, but the known models of this shape have {usual}",
                f"make sure of {s.values.keys.get(count, count) if s.values else count}", "inferred",
            )  # fmt: skip


def _leaves_out(s: Subject, placeholder: str) -> bool:
    """Whether a checkpoint may lack every layer of a kind: their group is a whole that it does not hold, nor claims to."""
    assert s.architecture is not None
    groups = {i.group for p, i in s.architecture.params.items() if placeholder in placeholders(p)}
    if "core" in groups or groups & s.graph.groups:
        return False
    named = s.config.raw.get("architectures") if s.config is not None else None
    known = {c.name: c.groups for d in s.architecture.dialects.values() for c in d.classes}
    claims = known.get(str(named[0]), frozenset()) if isinstance(named, list) and named else frozenset()
    return not groups & claims


def _variant_words(s: Subject) -> str:
    variant = s.graph.variant()
    if variant is None or s.architecture is None:
        return ""
    return f" This is {variant}'s shape ({' x '.join(str(v) for v in s.architecture.variants[variant].values())})."


# --- tensors -------------------------------------------------------------------------------------------------------


def _missing(s: Subject) -> Iterator[Finding]:
    graph, r = s.graph, s.graph.recognition
    if r is None:
        return
    arch = r.architecture
    groups: dict[str, list[str]] = {}
    whole = {p: {i for i in range(max(v) + 1) if i in v} for p, v in graph.indices.items()}
    sizes = s.sizes().axis
    lacked = {p for p, lack in r.dialect.lacks.items() if lack.holds(sizes)}
    optional_seen = {arch.params[p].module for b in graph.params.values() for p in (b.row.parts[b.which],) if arch.params[p].optional}
    stand = {name: next(iter(on)) if len(on) == 1 else s.value(name) is True for name, on in graph.switches.items()}

    def wanted(info: Param) -> bool:
        if info.switch:
            return stand[info.switch.removeprefix("not ")] is not info.switch.startswith("not ")
        return not info.optional or info.module in optional_seen

    for row in r.table.rows:
        if row.role != "param":
            continue
        infos = [arch.params[p] for p in row.parts]
        info = infos[0]
        if all(i.tied for i in infos) or info.group not in graph.groups or not wanted(info):
            continue
        holders = placeholders(row.names[0])
        for at_values in combinations(*(sorted(whole.get(h, ())) for h in holders)):
            at = dict(zip(holders, at_values, strict=True))
            absent = [expand(p, at) for p in row.parts if expand(p, at) not in graph.params and p not in lacked]
            if absent:
                groups.setdefault(info.group, []).append(r.wrapper + r.table.stored_name(row, at, r.prefix))
    for group, names in groups.items():
        if group == "core":
            for chunk in _by_place(names):
                yield Finding("error", "missing", chunk, f"{_count(names, 'tensor')} that {arch.title} needs {_are(names)} not there: {collapse(names)}")
        else:
            held = [n for n, m in r.matches.items() if any(arch.params[p].group == group for p in m.row.parts)]
            yield Finding(
                "error", "missing", collapse(names, 4), f"part of the {group} is missing: {collapse(names)} ({collapse(held, 3)} {_are(held)} there)"
            )


def _switches(s: Subject) -> Iterator[Finding]:
    """A switch stands one way in all layers, and as the configuration says."""
    r = s.graph.recognition
    for name, states in s.graph.switches.items():
        assert r is not None
        held = {on: [] for on in (True, False)}  # type: dict[bool, list[str]]
        for stored, m in r.matches.items():
            for word in {r.architecture.params[p].switch for p in m.row.parts}:
                if word.removeprefix("not ") == name:
                    held[not word.startswith("not ")].append(stored)
        if len(states) == 2:
            few = min(held.values(), key=len)
            yield Finding(
                "error", "switch", collapse(sorted(few, key=natural), 4), f"some layers are {name} ({collapse(sorted(held[True], key=natural), 2)}) and some "
                f"are not ({collapse(sorted(held[False], key=natural), 2)}); in {r.architecture.title} all are or none is",
            )  # fmt: skip
            continue
        said = s.value(name)
        if states and isinstance(said, bool) and said not in states and not (s.values is not None and name in s.values.assumed):
            key = s.values.keys.get(name, name) if s.values is not None else name
            value = s.config.raw.get(key, said) if s.config is not None else said
            yield Finding(
                "error", "switch", collapse(sorted(held[not said], key=natural), 4), f"{s.config_name} says {key} {value!r}, which is {'' if said else 'not '}{name}; "
                f"the weights are {'not ' if said else ''}{name} ({collapse(sorted(held[not said], key=natural), 2)})", f"correct {key}",
            )  # fmt: skip


def _by_place(names: list[str]) -> list[str]:
    return [collapse(names, 6)]


def _count(names: list[str], word: str) -> str:
    return f"{len(names)} {word}{'s' * (len(names) != 1)}"


def _are(names: list[str]) -> str:
    return "is" if len(names) == 1 else "are"


def _shapes(s: Subject) -> Iterator[Finding]:
    if s.architecture is None:
        return
    solution = s.graph.solution
    tensors = s.checkpoint.tensors
    merged: dict[tuple[object, ...], list[str]] = {}
    for m in solution.mismatches:
        merged.setdefault((m.row, m.dim, m.have, m.want, m.axes), []).append(m.name)
    for (_, dim, have, want, axes), names in merged.items():
        shape = list(tensors[names[0]].spec.shape)
        assert isinstance(axes, tuple)
        if dim == -1:
            text = f"shape {shape}: {have} dimensions where {want} are due"
        else:
            text = f"shape {shape}: dimension {dim} is {have}, the other tensors make it {want} ({_axis_words(s, axes)})"
        yield Finding("error", "shape", collapse(names, 4), text)
    for m in set(s.completed().mismatches) - set(solution.mismatches):
        said = " and ".join(f"{a} {s.value(a)}" for a in m.axes if a not in solution.sizes.axis)
        yield Finding("error", "size", m.name, f"shape {list(tensors[m.name].spec.shape)}: dimension {m.dim} is {m.have}; {said}, as {s.config_name} says, make {m.want}")
    r = s.graph.recognition
    for axis, (n, why) in (r.dialect.limits if r is not None else {}).items():
        have = solution.sizes.axis.get(axis, n)
        if have != n:
            yield Finding("error", "shape", _origin(s, (axis,)), f"{axis} is {have}; in this naming ({s.graph.dialect.title if s.graph.dialect else ''}) it is {n}: {why}")
    for left, a, right, b in solution.broken:
        yield Finding("error", "shape", _origin(s, left + right), f"{' x '.join(left)} is {a}, but {' x '.join(right)} is {b}: in {s.architecture.title} they are equal")


def _axis_words(s: Subject, axes: Axes) -> str:
    origin = s.graph.solution.origin
    return ", ".join(f"{a} from {origin[a][0]}" if a in origin else a for a in axes)


def _origin(s: Subject, axes: Axes) -> str:
    origin = s.graph.solution.origin
    return ", ".join(dict.fromkeys(origin[a][0] for a in axes if a in origin)) or " x ".join(axes)


def _sizes(s: Subject) -> Iterator[Finding]:
    """Sizes of the configuration against those of the tensors."""
    if s.architecture is None or s.values is None:
        return
    sizes = s.graph.solution.sizes
    counts = {count_name(p) for p in s.architecture.counted}
    origin = s.graph.solution.origin
    may_lack = optional_axes(s.architecture)
    for canonical, said in s.values.values.items():
        have = sizes.axis.get(canonical, 0 if canonical in may_lack else None)
        if have is None or said == have or canonical in counts or canonical in s.architecture.fixed or not isinstance(said, int):
            continue
        if canonical in s.values.assumed:
            continue
        key = s.values.keys.get(canonical, canonical)
        where = origin[canonical][0] if canonical in origin else key
        shown = s.config.raw.get(key, said) if s.config is not None else said
        overruled = s.architecture.dialects[s.values.form].config.overruled.get(canonical)
        yield Finding(
            "warning" if overruled else "error", "size", where, f"{s.config_name} says {key} {json.dumps(shown)}; the weights hold {f'{canonical} {have}' if have else f'no {canonical}'}"
            f"{f' ({where})' if canonical in origin else ''}{f': {overruled}' if overruled else ''}", f"set {key} to {json.dumps(_unshift(s, canonical, have))}",
        )  # fmt: skip
    for axis in s.architecture.heads:
        n = s.value(axis)
        joint = next((v for axes, v in sizes.products.items() if axis in axes), None)
        if isinstance(n, int) and n > 0 and joint is not None and joint % n and not any(f.rule == "heads" for f in s.findings):
            key = s.values.keys.get(axis, axis)
            yield Finding("error", "heads", key, f"{key} is {n}, which does not divide the {joint} rows of the query")


def _unshift(s: Subject, canonical: str, value: int) -> object:
    """A canonical size as the configuration's form says it."""
    if s.values is None or s.architecture is None:
        return value
    form = s.architecture.dialects[s.values.form].config
    spec = form.keys.get(form_keys(form, canonical))
    if spec is None or isinstance(spec, str):
        return value
    return next((w for w, m in (spec.words or {}).items() if m == value), value - spec.shift)


def _twice(s: Subject) -> Iterator[Finding]:
    for canonical, first, second in s.graph.twice:
        yield Finding("error", "duplicate", second, f"{first} and {second} both hold {canonical}")


def _unexpected(s: Subject) -> Iterator[Finding]:
    if s.graph.recognition is None:
        return
    rest = s.graph.of_role("unexplained")
    if rest:
        rest = sorted(rest, key=natural)
        yield Finding("warning", "unexpected", collapse(rest, 4), f"{_count(rest, 'tensor')} {_are(rest)} unexpected in {s.graph.recognition.architecture.title}: {collapse(rest)}")


def _optimizer(s: Subject) -> Iterator[Finding]:
    rest = s.graph.of_role("optimizer")
    if rest:
        size = sum(s.checkpoint.tensors[n].spec.nbytes for n in rest)
        yield Finding("info", "optimizer", collapse(sorted(rest, key=natural), 2), f"{_count(rest, 'tensor')} of optimizer state ({size:,} bytes) beside the weights")


def _dtypes(s: Subject) -> Iterator[Finding]:
    """Parameters should have one dtype; the odd ones are named."""
    by: dict[str, list[str]] = {}
    roles = s.graph.roles
    if s.graph.recognition is None:
        return
    for name, t in s.checkpoint.tensors.items():
        if DTYPES[t.spec.dtype].kind == "float" and roles[name].kind in ("param", "tied", "repeat"):
            by.setdefault(t.spec.dtype, []).append(name)
    if len(by) > 1:
        main = max(by, key=lambda d: len(by[d]))
        for dtype, names in by.items():
            if dtype != main:
                yield Finding("warning", "dtype", collapse(sorted(names, key=natural), 4), f"{_count(names, 'tensor')} {_are(names)} {dtype} among {len(by[main])} of dtype {main}")


# --- content -------------------------------------------------------------------------------------------------------


def _ties(s: Subject) -> Iterator[Finding]:
    assert s.architecture is not None
    flag = s.value("tied")
    for name, info in s.architecture.params.items():
        if info.tied is None or name not in s.graph.params or info.tied not in s.graph.params:
            continue
        same = compare_ties(s.graph, name, info.tied, s.sizes())
        if same is False and flag is True:
            assumed = s.values is not None and "tied" in s.values.assumed
            stored, other = s.graph.params[name].stored, s.graph.params[info.tied].stored
            said = f"{s.config_name} does not say otherwise" if assumed else f"{s.config_name} says that they are tied"
            yield Finding(
                "warning", "tie", stored, f"{stored} differs from {other}, though {said}: a loader that ties them drops one",
                "set tie_word_embeddings to false",
            )  # fmt: skip


def _repeats(s: Subject) -> Iterator[Finding]:
    for stored, canonical in s.graph.repeats:
        first = s.graph.params[canonical].stored
        if compare_values(s.checkpoint, stored, first) is False:
            yield Finding("error", "tie", stored, f"{stored} and {first} are two names of {canonical}, but their values differ")


def _derived(s: Subject) -> Iterator[Finding]:
    r = s.graph.recognition
    assert r is not None
    made: dict[object, object] = {}  # layers share what is computed
    for stored in s.graph.of_role("derived"):
        row = r.matches[stored].row
        if not derived_is_right(s, stored, row, made):
            yield Finding("warning", "derived", stored, f"{stored} is not the {row.note.partition(' ')[0]} that {r.architecture.title} computes")


def derived_is_right(s: Subject, stored: str, row: Row, made: dict[object, object]) -> bool:
    """Whether a derived tensor holds what the architecture computes (to within the rounding of its dtype)."""
    how, have = row.note, s.checkpoint.array(stored)
    if s.architecture is not None and how.partition(" ")[0] in s.architecture.derivations:
        import numpy as np

        if have.ndim != len(row.layout.dims):
            return False
        key = (how, have.shape)
        if key not in made:
            made[key] = s.derive(how, have.shape)
        want = np.asarray(made[key])
        if want.shape != have.shape:
            return False
        atol = 1e-5 if have.itemsize > 2 else 1e-2
        rows = zip(have, want, strict=True) if have.ndim else ((have, want),)
        return all(np.allclose(a.astype(np.float64), b.astype(np.float64), rtol=0, atol=atol) for a, b in rows)
    flat = have.reshape(-1)
    if how == "arange":
        return bool((flat == range(len(flat))).all()) if len(flat) else True
    if how == "zeros":
        return not flat.any()
    return True


# --- what the caller expects ---------------------------------------------------------------------------------------

_WORDS = ("architecture", "dialect", "container", "variant", "dtype")


def parse_expectations(expect: Mapping[str, str]) -> dict[str, object]:
    """{"layers": "24"} with numbers as numbers; UsageError for what nobody can expect."""
    known = set(_WORDS) | {"parameters", "tensors"}
    for arch in architectures().values():
        known |= {a for p in arch.params.values() for a in p.layout.axes} | {count_name(p) for p in arch.counted} | set(arch.config_counts)
    out: dict[str, object] = {}
    for key, value in expect.items():
        if key not in known:
            raise UsageError(f"--expect {key}: there is no such thing to expect", hint=f"one of {', '.join(sorted(known))}")
        if key in _WORDS:
            out[key] = value
        elif not (value.isascii() and value.isdigit()):
            raise UsageError(f"--expect {key}={value}: a whole number is due")
        else:
            out[key] = int(value)
    if "container" in out and out["container"] not in containers():
        raise UsageError(f"no container is called {out['container']!r}", hint=f"one of {', '.join(containers())}")
    return out


def _expectations(s: Subject, expect: Mapping[str, object]) -> Iterator[Finding]:
    for key, want in expect.items():
        have = _observed(s, key)
        if have is None:
            said = s.value(key)
            if said is not None and said != want:
                yield Finding("error", "expect", key, f"expected {key} {want}; {s.says(key)} {said}, the tensors do not tell")
            elif said is None:
                yield Finding("warning", "expect", key, f"expected {key} {want}; neither the tensors nor a configuration say it", basis="undecided")
            else:
                yield Finding("info", "expect", key, f"{key} {want} rests on what {s.says(key)}: the tensors do not tell", basis="inferred")
        elif have != want and not (isinstance(have, tuple) and want in have):
            shown = " or ".join(map(str, have)) if isinstance(have, tuple) else have
            yield Finding("error", "expect", key, f"expected {key} {want}; the checkpoint has {shown}")


def _observed(s: Subject, key: str) -> object:
    g = s.graph
    if key == "container":
        return s.checkpoint.container
    if key == "tensors":
        return len(s.checkpoint.tensors)
    if key == "dtype":
        kinds = dict.fromkeys(t.spec.dtype for t in s.checkpoint.tensors.values() if DTYPES[t.spec.dtype].kind == "float")
        names = [DTYPES[d].numpy or d for d in kinds]
        return names[0] if len(names) == 1 else "mixed (" + ", ".join(names) + ")"
    if key == "parameters":
        return parameters(s)
    if g.recognition is None:
        return "unknown" if key in ("architecture", "dialect") else None
    if key == "architecture":
        return g.recognition.architecture.name
    if key == "dialect":
        return g.recognition.dialect.name
    if key == "variant":
        heads = s.value("heads")
        every, open_counts = g.recognition.architecture.variants, g.recognition.architecture.config_counts
        fits = [v for v in variants(s, heads if isinstance(heads, int) else None) if all(s.value(c) in (None, every[v].get(c, s.value(c))) for c in open_counts)]
        return tuple(fits) or "no known variant"
    if key in {count_name(p) for p in g.recognition.architecture.counted}:
        return g.counts.get(key, 0)
    return g.solution.sizes.axis.get(key)


def variants(s: Subject, heads: int | None) -> list[str]:
    """Every variant's name that agrees with the shape."""
    arch = s.architecture
    if arch is None:
        return []
    known = {**s.graph.solution.sizes.axis, **s.graph.counts}
    if heads is not None:
        known["heads"] = heads
    return [name for name, v in arch.variants.items() if all(known.get(k, n if k in arch.untold else None) == n for k, n in v.items())]


def parameters(s: Subject) -> int:
    """Elements of all parameters, tied ones once; of all tensors but optimizer state where the architecture is unknown."""
    return sum(s.checkpoint.tensors[n].spec.numel for n in s.counted())


STRUCTURE_RULES: tuple[Rule, ...] = (_empty, _architecture, _layers, _shared_layers, _switches, _missing, _shapes, _sizes, _twice, _unexpected, _optimizer, _dtypes)
