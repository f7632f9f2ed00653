"""Sizes of tensors against each other, and against the configuration."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

from ..configuration.read import optional_axes
from ..findings import Finding
from ..graph.examine import Subject
from ..schema import count_name
from ..schema.layout import Axes
from ..support.json_text import written
from ..support.name_text import collapse
from ._base import also, as_written, rule

ORDER = 40
_OF_RANK = re.compile(r"consolidated\.([0-9]{2})\.pth")


@rule("shape", "error", "The tensors' shapes agree with each other")
def shape(s: Subject) -> Iterator[Finding]:
    """Each dimension of each tensor is an equation in the sizes of the model (hidden, heads, vocabulary, ...). Where the equations
    disagree, the most tensors decide, and those that differ are named with both numbers: a transposed kernel that is not square, an
    embedding of another width, a scalar where a matrix is expected.

    A square kernel that is transposed, or query and key exchanged, fits every equation: no rule of shapes can tell. `ckptkit verify`
    against a reference decides that.
    """
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
            text = f"shape {shape}: {have} dimensions where {want} are expected"
        else:
            text = f"shape {shape}: dimension {dim} is {have}, the other tensors make it {want} ({_axis_words(s, axes)})"
        yield Finding("error", "shape", collapse(names, 4), text)
    for m in set(s.completed().mismatches) - set(solution.mismatches):
        said = " and ".join(f"{a} {s.value(a)}" for a in m.axes if a not in solution.sizes.axis and s.value(a) is not None)
        yield Finding(
            "error",
            "size",
            m.name,
            f"shape {list(tensors[m.name].spec.shape)}: dimension {m.dim} is {m.have}; {said}, as {s.config_name} says, make {m.want}",
        )
    yield from _said_otherwise(s)
    r = s.graph.recognition
    for axis, (n, why) in (r.dialect.limits if r is not None else {}).items():
        have = solution.sizes.axis.get(axis, n)
        if have != n:
            yield Finding(
                "error",
                "shape",
                _origin(s, (axis,)),
                f"{axis} is {have}; in this naming ({s.graph.dialect.title if s.graph.dialect else ''}) it is {n}: {why}",
            )
    for left, a, right, b in solution.broken:
        yield Finding(
            "error",
            "shape",
            _origin(s, left + right),
            f"{' x '.join(left)} is {a}, but {' x '.join(right)} is {b}: in {s.architecture.title} they are equal",
        )


def _said_otherwise(s: Subject) -> Iterator[Finding]:
    """Products of sizes, equal in the architecture, that are not once the configuration has said what no tensor tells by itself."""
    solution, whole = s.graph.solution, s.completed()
    if s.architecture is None or set(whole.mismatches) - set(solution.mismatches):  # these name the tensors
        return
    keys = s.values.keys if s.values is not None else {}
    given = [x for x in keys if x in whole.sizes.axis and x not in solution.sizes.axis]  # what the configuration had to say
    for left, a, right, b in set(whole.broken) - set(solution.broken):
        said, made, held, have = (left, a, right, b) if set(left) & set(given) else (right, b, left, a)
        first = [x for x in said if x in given]
        if not first:
            continue
        words = " and ".join(f"{keys[x]} {s.value(x)}" for x in first)
        beside = ", ".join(f"{keys[x]} {s.value(x)}" for x in given if x not in said and x in (*s.architecture.heads, "head_dim"))
        yield Finding(
            "error", "size", next((whole.origin[x][0] for x in held if x in whole.origin), keys[first[0]]),
            f"{s.config_name} says {words}{f', which makes {made}' if len(said) > 1 else ''}; "
            f"the weights hold {have} ({' x '.join(held)}{f'; {beside}' if beside else ''})",
        )  # fmt: skip


@also("shape")
def one_rank(s: Subject) -> Iterator[Finding]:
    """One of the files in which Meta keeps the pieces of tensor-parallel ranks, alone: every matrix is cut, along one side or the other."""
    found = _OF_RANK.fullmatch(os.path.basename(s.checkpoint.path))
    if found is None or s.graph.dialect is None or s.graph.dialect.name != "meta" or s.checkpoint.ranks:
        return
    name, t = next(((n, t) for n, t in s.checkpoint.tensors.items() if n.endswith(".attention.wo.weight")), (None, None))
    shape = t.spec.shape if t is not None else ()
    if name is None or len(shape) != 2 or not 0 < shape[1] < shape[0] or shape[0] % shape[1]:
        return
    of, rank = shape[0] // shape[1], int(found[1])
    gone = [r for r in range(of) if r != rank]
    what = f"rank{'s' * (len(gone) > 1)} {', '.join(map(str, gone[:8]))}{', ...' if len(gone) > 8 else ''}"
    yield Finding(
        "error", "shape", name,
        f"shape {list(shape)}: the file is of rank {rank} of {of}; that of {what} is missing, and every matrix lacks its piece",
        f"fetch {', '.join(f'consolidated.{r:02}.pth' for r in gone[:4])}{', ...' if len(gone) > 4 else ''}",
    )  # fmt: skip


def _axis_words(s: Subject, axes: Axes) -> str:
    origin = s.graph.solution.origin
    return ", ".join(f"{a} from {origin[a][0]}" if a in origin else a for a in axes)


def _origin(s: Subject, axes: Axes) -> str:
    origin = s.graph.solution.origin
    return ", ".join(dict.fromkeys(origin[a][0] for a in axes if a in origin)) or " x ".join(axes)


@rule("size", "error", "The sizes of the configuration are those of the tensors")
def size(s: Subject) -> Iterator[Finding]:
    """The sizes that the tensors imply against those the configuration says: vocabulary, hidden, positions, segments, ... Number
    against number, with the tensor that it was read from.
    """
    if s.architecture is None or s.values is None:
        return
    sizes = s.graph.solution.sizes
    counts = {count_name(p) for p in s.architecture.counted}
    origin = s.graph.solution.origin
    may_lack = optional_axes(s.architecture)
    yield from _sizes_by_layer(s)
    for canonical, said in s.values.values.items():
        have = sizes.axis.get(canonical, 0 if canonical in may_lack and not _switched_off(s, canonical) else None)
        if have is None or said == have or canonical in counts or canonical in s.architecture.fixed or not isinstance(said, int):
            continue
        if canonical in s.values.assumed:
            continue
        key = s.values.keys.get(canonical, canonical)
        where = origin[canonical][0] if canonical in origin else key
        shown = s.values.raw.get(key, said) if s.values is not None else said
        overruled = s.architecture.dialects[s.values.form].config.overruled.get(canonical)
        yield Finding(
            "warning" if overruled else "error", "size", where,
            f"{s.config_name} says {key} {written(shown)}; the weights hold {f'{canonical} {have}' if have else f'no {canonical}'}"
            f"{f' ({where})' if canonical in origin else ''}{f': {overruled}' if overruled else ''}",
            f"set {key} to {written(as_written(s, canonical, have))}",
        )  # fmt: skip


def _switched_off(s: Subject, axis: str) -> bool:
    """Whether an axis belongs to a part of the model that the configuration leaves out too: by the switch, or a size of 0 beside."""
    assert s.architecture is not None
    for switch in s.architecture.switches:
        for word in (switch, f"not {switch}"):
            own = optional_axes(s.architecture, word) - {count_name(p) for p in s.architecture.counted}
            if axis in own:
                said = s.value(switch)
                return said is (word != switch) if isinstance(said, bool) else any(s.value(a) in (0, None) for a in own)
    return False


def _sizes_by_layer(s: Subject) -> Iterator[Finding]:
    """Axes that have a size of their own in each layer against the configuration's list, or its one number for all."""
    assert s.values is not None
    by_axis: dict[str, dict[int, int]] = {}
    for axis, n in s.graph.solution.sizes.axis.items():
        name, at, number = axis.partition("@")
        if at:
            by_axis.setdefault(name, {})[int(number)] = n
    for name, have in by_axis.items():
        own = s.architecture.by_layer.get(name) if s.architecture is not None else None
        said = s.values.values.get(name) if own is None else s.listed(own)
        if not isinstance(said, (int, tuple)) or isinstance(said, bool) or name in s.values.assumed:
            continue
        key = s.values.keys.get(name, name)
        for place, n in sorted(have.items()):
            one = said if isinstance(said, int) else said[place] if place < len(said) else None
            if one not in (None, n):
                where = s.graph.solution.origin.get(f"{name}@{place}", (key, 0))[0]
                yield Finding(
                    "error", "size", where,
                    f"{s.config_name} says {key} {one} for layer {place}; the weights hold {name} {n} ({where})", f"set it to {n}",
                )  # fmt: skip


@rule("heads", "error", "The number of attention heads divides the hidden size")
def heads(s: Subject) -> Iterator[Finding]:
    """A number of heads that does not divide the rows of the query cannot be. One that does divide them may still be wrong: no
    tensor's shape tells heads from head size, so it is not checked further; `ckptkit verify` against a reference decides it. Where
    nothing says the number, that is an information, undecided.
    """
    if s.architecture is None:
        return
    for axis in s.architecture.heads:
        if (
            s.value(axis) is None
            and axis not in s.completed().sizes.axis
            and not any(f.rule in ("heads", "config") and f.severity == "error" for f in s.findings)
        ):
            yield Finding(
                "info", "heads", axis,
                f"neither the tensors nor a configuration say how many {axis} there are: no shape tells them from their size",
                "give the configuration with --config FILE",
                "undecided",
            )  # fmt: skip
    if s.values is None:
        return
    sizes = s.graph.solution.sizes
    for axis in s.architecture.heads:
        n = s.value(axis)
        joint = next((v for axes, v in sizes.products.items() if axis in axes), None)
        if isinstance(n, int) and n > 0 and joint is not None and joint % n and not any(f.rule == "heads" for f in s.findings):
            key = s.values.keys.get(axis, axis)
            yield Finding("error", "heads", key, f"{key} is {n}, which does not divide the {joint} rows of the query")
