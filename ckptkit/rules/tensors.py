"""Which tensors are there, and of which type: missing, doubled, left over."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product as combinations

from ..findings import Finding
from ..names import collapse, natural
from ..schema import expand, placeholders
from ..subject import Subject
from ..tensors import DTYPES
from ._base import are, count, rule


@rule("missing", "error", "Every tensor that the architecture needs is there")
def missing(s: Subject) -> Iterator[Finding]:
    """The core of a model must be whole. Every head (pooler, language model head, classifier, ...) is whole or absent; half of one is
    an error too. A tied tensor may be absent, and so may what the naming has no place for.
    """
    graph, r = s.graph, s.graph.recognition
    if r is None:
        return
    arch = r.architecture
    groups: dict[str, list[str]] = {}
    whole = {p: {i for i in range(max(v) + 1) if i in v} for p, v in graph.indices.items()}
    sizes = s.sizes().axis
    lacked = {p for p, lack in r.dialect.lacks.items() if lack.holds(sizes)}
    optional_seen = {arch.params[p].module for b in graph.params.values() for p in (b.row.parts[b.which],) if arch.params[p].optional}
    for row in r.table.rows:
        if row.role != "param":
            continue
        infos = [arch.params[p] for p in row.parts]
        info = infos[0]
        if all(i.tied for i in infos) or info.group not in graph.groups or (info.optional and info.module not in optional_seen):
            continue
        holders = placeholders(row.names[0])
        for at_values in combinations(*(sorted(whole.get(h, ())) for h in holders)):
            at = dict(zip(holders, at_values, strict=True))
            absent = [expand(p, at) for p in row.parts if expand(p, at) not in graph.params and p not in lacked]
            if absent:
                groups.setdefault(info.group, []).append(r.wrapper + r.table.stored_name(row, at, r.prefix))
    for group, names in groups.items():
        if group == "core":
            yield Finding("error", "missing", collapse(names, 6), f"{count(names, 'tensor')} that {arch.title} needs {are(names)} not there: {collapse(names)}")
        else:
            held = [n for n, m in r.matches.items() if any(arch.params[p].group == group for p in m.row.parts)]
            yield Finding(
                "error", "missing", collapse(names, 4), f"half of the {group} head is missing: {collapse(names)} ({collapse(held, 3)} {are(held)} there)"
            )


@rule("duplicate", "error", "One parameter, one tensor")
def duplicate(s: Subject) -> Iterator[Finding]:
    """Two stored tensors are names of one parameter of the model, and nothing says which of them counts.
    """
    for canonical, first, second in s.graph.twice:
        yield Finding("error", "duplicate", second, f"{first} and {second} both hold {canonical}")


@rule("unexpected", "warning", "Nothing is there that the architecture does not know")
def unexpected(s: Subject) -> Iterator[Finding]:
    """Tensors that are no parameter, no head, no computed buffer and no optimizer state of the architecture. A loader ignores them;
    whoever put them there meant something by them: an adapter, a head of one's own, another model in the same file.
    """
    if s.graph.recognition is None:
        return
    rest = s.graph.of_role("unexplained")
    if rest:
        rest = sorted(rest, key=natural)
        yield Finding("warning", "unexpected", collapse(rest, 4), f"{count(rest, 'tensor')} {are(rest)} unexpected in {s.graph.recognition.architecture.title}: {collapse(rest)}")


@rule("optimizer", "info", "Optimizer state beside the weights")
def optimizer(s: Subject) -> Iterator[Finding]:
    """Moments of Adam, slots of Adafactor, step counters: they are not part of the model and make the file two or three times as
    large. `ckptkit fix` or `ckptkit convert --drop-optimizer` leaves them out.
    """
    rest = s.graph.of_role("optimizer")
    if rest:
        size = sum(s.checkpoint.tensors[n].spec.nbytes for n in rest)
        yield Finding("info", "optimizer", collapse(sorted(rest, key=natural), 2), f"{count(rest, 'tensor')} of optimizer state ({size:,} bytes) beside the weights")


@rule("dtype", "warning", "Parameters have one type")
def dtype(s: Subject) -> Iterator[Finding]:
    """A few tensors of another type among many: what a partial conversion or an interrupted cast leaves. The odd ones are named.
    Also given where a type of the file has no portable form and is read as another, or where the configuration's `dtype` is another
    one than the tensors'.
    """
    by: dict[str, list[str]] = {}
    roles = s.graph.roles
    known = s.graph.recognition is not None
    for name, t in s.checkpoint.tensors.items():
        if DTYPES[t.spec.dtype].kind == "float" and (not known or roles[name].kind in ("param", "tied", "repeat")):
            by.setdefault(t.spec.dtype, []).append(name)
    if len(by) > 1 and known:
        main = max(by, key=lambda d: len(by[d]))
        for dtype, names in by.items():
            if dtype != main:
                yield Finding("warning", "dtype", collapse(sorted(names, key=natural), 4), f"{count(names, 'tensor')} {are(names)} {dtype} among {len(by[main])} of dtype {main}")
