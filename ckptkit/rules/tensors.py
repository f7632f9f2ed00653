"""Which tensors are there, and of which type: missing, doubled, left over."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import product as combinations
from math import prod as product

from ..findings import Finding
from ..graph.examine import Subject
from ..graph.recognition import Recognition
from ..schema import Architecture, Param, count_name, expand, placeholders
from ..schema.templates import reduce_name
from ..support.name_text import collapse, natural
from ..tensors import DTYPES
from ._base import also, are, claimed_groups, count, rule

ORDER = 30
WIDTHS = ((("embedding",), ("hidden",)), (("hidden",), ("embedding",)))


@rule("missing", "error", "Every tensor that the architecture needs is there")
def missing(s: Subject) -> Iterator[Finding]:
    """The core of a model must be whole. Every head (pooler, language model head, classifier, ...) is whole or absent; half of one is
    an error too. A tied tensor may be absent, and so may what the naming has no place for.
    """
    graph, r = s.graph, s.graph.recognition
    if r is None or r.learned is not None:  # of learned schemas see rules/learned.py
        return
    arch = r.architecture
    held = graph.groups | (claimed_groups(s) & arch.free_groups)  # a head may be the embeddings and a bias that is missing
    unread = {p for params in graph.unread.values() for p in params}  # there, and not read: another rule's
    groups: dict[str, list[str]] = {}
    sizes = s.sizes().axis
    lacked = {p for p, lack in r.dialect.lacks.items() if lack.holds(sizes)}
    optional_seen = {arch.params[p].module for p in graph.templates if arch.params[p].optional}
    if any(_of_experts(arch, m) for m in optional_seen):  # there are experts: then also what chooses them, and all of their parts
        optional_seen |= {i.module for i in arch.params.values() if i.optional and _of_experts(arch, i.module)}
    stand = {name: next(iter(on)) if len(on) == 1 else _stands(s, name) for name, on in graph.switches.items()}

    def wanted(info: Param) -> bool:
        for switch in info.words:
            if "@" not in switch and stand[switch.removeprefix("not ")] is switch.startswith("not "):
                return False
        if info.optional and info.layout.dims in WIDTHS:  # it leads from one width to the other, where they are two
            return sizes.get("embedding", 0) != sizes.get("hidden", 0)
        return info.module in optional_seen or (not info.computed and (bool(info.switch) or not info.optional))

    for row in r.table.rows:
        if row.role != "param":
            continue
        infos = [arch.params[p] for p in row.parts]
        info = infos[0]
        if all(i.tied for i in infos) or info.group not in held or not wanted(info):
            continue
        holders = placeholders(row.names[0])
        met = [s.layers_with(info, h, sorted(graph.indices.get(h) or range(sizes.get(count_name(h), 0)))) for h in holders]
        if len(graph.shapes.get(row, ())) == product(map(len, met)) and not graph.twice and not unread:
            continue  # one tensor for each place: none is missing
        for at_values in combinations(*met):
            at = dict(zip(holders, at_values, strict=True))
            if row.layout.holder:
                at[row.layout.holder] = 0
            if any((name := expand(p, at)) not in graph.params and name not in unread and p not in lacked for p in row.parts):
                groups.setdefault(info.group, []).append(r.stored_name(row, at, graph.counts))
    for group, names in groups.items():
        if group == "core":
            yield Finding(
                "error",
                "missing",
                collapse(names, 6),
                f"{count(names, 'tensor')} that {arch.title} needs {are(names)} not there: {collapse(names)}",
            )
        else:
            there = [n for n, m in r.matches.items() if any(arch.params[p].group == group for p in m.row.parts)]
            beside = f" ({collapse(there, 3)} {are(there)} there)" if there else ""
            yield Finding("error", "missing", collapse(names, 4), f"part of the {group} is missing: {collapse(names)}{beside}")


def _stands(s: Subject, switch: str) -> bool:
    """How a switch stands that no tensor shows: as the configuration says, else the way that has no tensors, else off."""
    said = s.stands(switch)
    assert s.architecture is not None
    return s.architecture.one_sided.get(switch) is False if said is None else said


def _of_experts(arch: Architecture, module: str) -> bool:
    """Whether a module is one of the experts', or has a place for each of them."""
    return "{expert}" in module or any("experts" in i.layout.axes for i in arch.params.values() if i.module == module)


@also("missing")
def only_second_name(s: Subject) -> Iterator[Finding]:
    """An untied parameter that only its second name holds: a loader that looks for the first finds what else may be tied to it."""
    graph, r = s.graph, s.graph.recognition
    if r is None or s.value("tied") is not False:
        return
    for name, info in r.architecture.params.items():
        held, other = graph.params.get(info.tied or ""), graph.params.get(name)
        if info.tied is None or held is None or other is None or held.row.role != "repeat" or held.stored == other.stored:
            continue
        row, _ = r.table.by_param[info.tied]
        own = r.stored_name(row, held.at, graph.counts)
        what = f"{own} is not there, only {held.stored}, which is another name of it: transformers 5 takes {other.stored} for it"
        yield Finding("warning", "missing", own, what, f"store {held.stored} as {own} too")


@rule("switch", "error", "A choice of the architecture stands one way, and as configured")
def switch(s: Subject) -> Iterator[Finding]:
    """Some parts of an architecture are there or not, as the configuration says (gated feed-forward, a factored embedding). They
    must be there in all layers or in none, and the configuration must say the same. A part that is nowhere, and that the model may have
    by its configuration, is undecided without one.
    """
    r = s.graph.recognition
    for name, states in s.graph.switches.items():
        assert r is not None
        if len(states) == 2:
            held = {on: _held_by(r, name, on) for on in (True, False)}
            few = min(held.values(), key=len)
            yield Finding(
                "error", "switch", collapse(sorted(few, key=natural), 4),
                f"some layers are {name} ({collapse(sorted(held[True], key=natural), 2)}) and some "
                f"are not ({collapse(sorted(held[False], key=natural), 2)}); in {r.architecture.title} all are or none is",
            )  # fmt: skip
            continue
        said = s.stands(name)
        if states and isinstance(said, bool) and said not in states and not (s.values is not None and name in s.values.assumed):
            key = s.values.keys.get(name, name) if s.values is not None else name
            value = s.values.raw.get(key, said) if s.values is not None else said
            others = sorted(_held_by(r, name, not said), key=natural)
            yield Finding(
                "error", "switch", collapse(others, 4),
                f"{s.config_name} says {key} {value!r}, which is {'' if said else 'not '}{name}; "
                f"the weights are {'not ' if said else ''}{name} ({collapse(others, 2)})", f"correct {key}",
            )  # fmt: skip


def _held_by(r: Recognition, switch: str, on: bool) -> list[str]:
    """The stored tensors that are there where a switch is on, or off; once for each parameter that says so."""
    word = switch if on else f"not {switch}"
    return [stored for stored, (row, _) in r.matches.items() if word in {r.architecture.params[p].switch for p in row.parts}]


@also("switch")
def open_switch(s: Subject) -> Iterator[Finding]:
    """Parts that are nowhere, of which only the configuration says whether the model has any, and there is none."""
    r = s.graph.recognition
    if r is None or r.learned is not None:
        return
    keys = {k if isinstance(k, str) else k.canonical: key.partition(" | ")[0] for key, k in r.dialect.config.keys.items()}
    for name, side in r.architecture.one_sided.items():
        told = s.graph.switches.get(name) or s.stands(name) is not None or any(m.row.when == name for m in r.matches.values())
        if side or "@" in name or told:
            continue
        word, params = f"not {name}", r.architecture.params
        rows = [row for row in r.table.rows if row.role == "param" and any(word in params[p].words for p in row.parts)]
        names = [r.stored_name(row, dict.fromkeys(placeholders(row.names[0]), 0), s.graph.counts) for row in rows]
        yield Finding(
            "warning", "switch", collapse(names, 4),
            f"{collapse(names, 4)} {are(names)} not there: whether the model has any, its configuration says ({keys.get(name, name)})",
            "give the configuration with --config FILE", "undecided",
        )  # fmt: skip


@rule("duplicate", "error", "One parameter, one tensor")
def duplicate(s: Subject) -> Iterator[Finding]:
    """Two stored tensors are names of one parameter of the model (layer norms as gamma and as weight, with a prefix and without, a
    variable and the same once more under the number that TensorFlow gives: kernel_1), and nothing says which of them counts.
    """
    for canonical, first, second in s.graph.twice:
        yield Finding("error", "duplicate", second, f"{first} and {second} both hold {canonical}")
    r = s.graph.recognition
    rest = s.graph.of_role("unexplained") if r is not None else []
    again: list[tuple[str, str]] = []
    for name in rest:
        assert r is not None
        bare = name.removeprefix(r.wrapper)
        for prefix in r.dialect.prefixes:  # the same name with the prefix, or without it
            m = r.table.match(*reduce_name(bare), prefix) if prefix != r.prefix else None
            held = s.graph.params.get(expand(m.row.parts[0], dict(m.at))) if m is not None and m.row.role == "param" else None
            if held is not None:
                again.append((name, held.stored))
                break
    if again:
        names, firsts = (sorted(x, key=natural) for x in zip(*again, strict=True))
        yield Finding(
            "error", "duplicate", collapse(names, 4),
            f"{count(names, 'tensor')} with another prefix {are(names)} there a second time: {collapse(names, 4)} "
            f"beside {collapse(firsts, 4)}",
            "find out which of them counts, and leave the others out",
        )  # fmt: skip
    if r is None or not s.checkpoint.container.startswith("tf"):
        return
    numbered = [
        (n, first)
        for n in rest
        if (first := re.sub("_[1-9][0-9]*$", "", n)) != n and first in s.graph.roles and s.graph.roles[first].kind == "param"
    ]
    if numbered:
        names, firsts = (sorted(x, key=natural) for x in zip(*numbered, strict=True))
        yield Finding(
            "error", "duplicate", collapse(names, 4),
            f"{count(names, 'variable')} {are(names)} there a second time under a number that TensorFlow gave: {collapse(names, 4)} beside "
            f"{collapse(firsts, 4)}; which of them the model computes with, no name says",
            "save the one model that is meant in a graph of its own",
        )  # fmt: skip


@rule("unexpected", "warning", "Nothing is there that the architecture does not know")
def unexpected(s: Subject) -> Iterator[Finding]:
    """Tensors that are no parameter, no head, no computed buffer and no optimizer state of the architecture. A loader ignores them;
    whoever put them there meant something by them: an adapter, a head of one's own, another model in the same file.
    """
    if s.graph.recognition is None:
        return
    packed = {n for p in s.graph.packings for n in p.stored}
    rest = sorted((n for n in s.graph.of_role("unexplained") if n not in packed), key=natural)
    if rest:
        learned = s.graph.recognition.learned
        yield Finding(
            "error" if learned is not None and learned.said else "warning",  # the library's own class has no such tensor
            "unexpected",
            collapse(rest, 4),
            f"{count(rest, 'tensor')} {are(rest)} unexpected in {s.graph.recognition.architecture.title}: {collapse(rest)}",
        )


@rule("optimizer", "info", "Optimizer state beside the weights")
def optimizer(s: Subject) -> Iterator[Finding]:
    """Moments of Adam, slots of Adafactor, step counters: they are not part of the model and make the file two or three times as
    large. `ckptkit fix` or `ckptkit convert --drop-optimizer` leaves them out.
    """
    rest = s.graph.of_role("optimizer")
    if rest:
        size = sum(s.checkpoint.tensors[n].spec.nbytes for n in rest)
        yield Finding(
            "info",
            "optimizer",
            collapse(sorted(rest, key=natural), 2),
            f"{count(rest, 'tensor')} of optimizer state ({size:,} bytes) beside the weights",
        )


def _is_buffer(s: Subject, name: str) -> bool:
    """Whether a tensor is a table of whole numbers, or a buffer of a learned class, which may be of any type."""
    if name.rpartition(".")[2] == "num_batches_tracked":  # torch.nn.BatchNorm's counter
        return True
    match = s.graph.recognition.matches.get(name) if s.graph.recognition is not None else None
    if match is not None and s.architecture is not None and any(s.architecture.params[p].whole for p in match.row.parts):
        return True
    found = s.graph.recognition.learned if s.graph.recognition is not None else None
    seen = found.seen.get(name[len(found.wrapper) :]) if found is not None else None
    return seen is not None and seen.row.buffer


@rule("dtype", "error", "Parameters have one type")
def dtype(s: Subject) -> Iterator[Finding]:
    """A few tensors of another type among many: what a partial conversion or an interrupted cast leaves. The odd ones are named.
    An error where parameters are of no floating type at all: whole numbers, truth values. Also given where a type of the file has no
    portable form and is read as another, or where the configuration's `dtype` is another one than the tensors'.

    Norms, what a router chooses by and the constants of state spaces are often kept in float32 among narrower matrices: where that is so
    in every layer, nothing is said.
    """
    by: dict[str, list[str]] = {}
    wrong: dict[str, list[str]] = {}
    roles = s.graph.roles
    known = s.graph.recognition is not None
    for name, t in s.checkpoint.tensors.items() if known else ():
        if name in s.packings.weights:
            continue
        if DTYPES[t.spec.dtype].kind == "float" and roles[name].kind in ("param", "tied", "repeat"):
            by.setdefault(t.spec.dtype, []).append(name)
        elif roles[name].kind in ("param", "tied", "repeat") and not _is_buffer(s, name):
            wrong.setdefault(t.spec.dtype, []).append(name)
    for dtype, names in wrong.items():
        most = max(by, key=lambda d: len(by[d]), default="")
        others = f"; the other {len(by[most])} are {most}" if most else ""
        yield Finding(
            "error",
            "dtype",
            collapse(sorted(names, key=natural), 4),
            f"{count(names, 'tensor')} {are(names)} {dtype}, which no weight is{others}",
            "quantised or cast? get the weights as numbers",
        )
    if len(by) > 1:
        main = max(by, key=lambda d: len(by[d]))
        from ._kept import kept_wide

        kept = kept_wide(s, by, main)
        for dtype, every in by.items():
            names = [n for n in every if n not in kept]
            if dtype != main and names:
                yield Finding(
                    "warning",
                    "dtype",
                    collapse(sorted(names, key=natural), 4),
                    f"{count(names, 'tensor')} {are(names)} {dtype} among {len(by[main])} of dtype {main}",
                )
