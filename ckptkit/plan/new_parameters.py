"""What a conversion makes new or leaves out: parameters the source lacks, rows of a larger or smaller vocabulary.

Nothing is drawn here. A new parameter is a source whose elements the engine makes where it needs them, by `initial`, so a
plan with a vocabulary of millions stays small and its bytes do not depend on windows or threads.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import groupby
from itertools import product as combinations
from math import prod

from .._typing import NamedTuple
from ..errors import UndecidedError, UsageError
from ..findings import Finding
from ..graph.examine import Subject
from ..limits import LIMITS
from ..schema import Param, Row, count_name, expand, placeholders
from ..schema.layout import Grown, Placed, Sizes, nest, stored_shape
from ..schema.loops import Loop
from ..support.name_text import collapse
from .initial import Recipe, Starts, recipe
from .values import Drawn, Piece

AXIS = "vocab"


class New(NamedTuple):
    """Elements that start anew. `source` is -1 where they are all the same: then `piece` fills them in."""

    how: Recipe
    drawn: Drawn | None
    piece: Piece


def resized(subject: Subject, rows: int | None) -> tuple[Sizes, Grown | None]:
    """(the sizes of the target, the axis that changes) for a vocabulary of `rows` (None: as it is). UsageError where there is none."""
    sizes = subject.sizes()
    if rows is None:
        return sizes, None
    have = sizes.axis.get(AXIS)
    if have is None:
        raise UsageError(f"the vocabulary cannot have {rows} rows: no table of words is known here", path=subject.checkpoint.path)
    if rows < 1:
        raise UsageError(f"a vocabulary of {rows} rows", hint="at least 1")
    if rows == have:
        return sizes, None
    wide = sizes.copy()
    wide.axis[AXIS] = rows
    return wide, Grown(AXIS, wide)


def lacking(subject: Subject, groups: Collection[str], absent: Collection[str]) -> frozenset[str]:
    """The canonical parameters that the core and the heads `groups` need and that are not there; `absent` may be."""
    graph, arch = subject.graph, subject.architecture
    assert arch is not None
    seen = {arch.params[b.row.parts[b.which]].module for b in graph.params.values()}
    stand = {name: next(iter(on)) if len(on) == 1 else subject.value(name) is True for name, on in graph.switches.items()}

    def wanted(info: Param) -> bool:
        for switch in info.words:
            if "@" not in switch and stand[switch.removeprefix("not ")] is switch.startswith("not "):
                return False
        return info.module in seen or (not info.computed and (bool(info.switch) or not info.optional))

    def has(info: Param, at: Mapping[str, int]) -> bool:
        """Whether the place is of the kind that has it."""
        for word in info.words:
            switch, _, holder = word.removeprefix("not ").partition("@")
            if holder and kinds[f"{switch}@{holder}"].get(at[holder]) is word.startswith("not "):
                return False
        return True

    kinds = {switch: subject.kinds(switch) for switch in arch.layer_kinds}

    return frozenset(
        name
        for template, info in arch.params.items()
        if (info.group == "core" or info.group in groups) and not info.tied and template not in absent and wanted(info)
        for name, at in places(template, graph.counts)
        if name not in graph.params and has(info, at)
    )


def places(template: str, counts: Mapping[str, int]) -> Iterator[tuple[str, dict[str, int]]]:
    """Every parameter of a template, with the values of its placeholders."""
    holders = placeholders(template)
    for values in combinations(*(range(counts.get(count_name(h), 0)) for h in holders)):
        at = dict(zip(holders, values, strict=True))
        yield expand(template, at), at


def anew(subject: Subject, template: str, name: str, there: Placed, sizes: Sizes, seed: int, first: int = 0) -> New:
    """What writes the parameter `name` (from row `first` of the vocabulary on) where it belongs; its source's number is for the caller to
    put in."""
    arch = subject.architecture
    assert arch is not None
    info = arch.params[template]
    shape = stored_shape(info.layout, (info.layout,), sizes)
    suffix = template[len(info.module) + 1 :]
    init = arch.traits.get("init")
    starts = Starts(init if isinstance(init, Mapping) else {}, subject.value, sizes.axis)
    how = recipe(starts, arch.modules[info.module].kind, suffix, name, shape)
    loops, a, b = nest(Placed(info.layout, (info.layout,), 0), there, sizes, Grown(AXIS, sizes, first))
    if how.kind in ("zeros", "ones"):
        return New(how, None, Piece(-1, tuple(Loop(n, 0, t) for n, _, t in loops), 0, b, "fill", float(how.kind == "ones")))
    numel = 1
    for n in shape:
        numel *= n
    return New(how, Drawn(how.kind, how.scale, name, seed, numel), Piece(0, loops, a, b))


def computed_shape(subject: Subject, row: Row, sizes: Sizes) -> tuple[int, ...] | None:
    """The shape of a computed tensor: of the axes' sizes, or, where no weight has its axis, as its derivation gives it; None where this
    model has none. UndecidedError where a size that the weights share is not known."""
    assert subject.architecture is not None
    unknown = [axis for axis in row.layout.axes if axis not in sizes.axis]
    if not unknown:
        return stored_shape(row.layout, (row.layout,), sizes)
    if any(axis in side for relation in subject.architecture.relations for side in relation for axis in unknown):
        raise UndecidedError(
            f"neither the tensors nor a configuration say how large {' x '.join(unknown)} is, of which {row.names[0]} is computed",
            path=subject.checkpoint.path, hint="give the configuration with --config FILE, or: --set heads=N",
        )  # fmt: skip
    import numpy as np

    made = subject.derive(row.note, ())
    return None if made is None else tuple(np.shape(np.asarray(made)))


def told(new: Mapping[str, list[str]], rows: Mapping[str, list[str]], cut: list[str], seed: int, have: int, want: int) -> list[Finding]:
    """The findings: `new` and `rows` are target names by how they start, `cut` those that lost rows of the vocabulary."""
    out = []
    if new:
        every = [n for names in new.values() for n in names]
        what = "; ".join(f"{collapse(names)} {how}" for how, names in new.items())
        out.append(
            Finding(
                "warning",
                "initialised",
                collapse(every, 4),
                f"{len(every)} tensor{'s' * (len(every) > 1)} with values that the source lacks, initialised (seed {seed}): {what}",
            )
        )
    if rows:
        every = [n for names in rows.values() for n in names]
        what = "; ".join(f"{collapse(names)} {how}" for how, names in rows.items())
        out.append(
            Finding(
                "warning",
                "initialised",
                collapse(every, 4),
                f"rows {have}-{want - 1} of the vocabulary are new, initialised (seed {seed}): {what}",
                "give the tokenizer as many tokens",
            )
        )
    if cut:
        out.append(
            Finding("warning", "dropped", collapse(cut, 4), f"rows {want}-{have - 1} of the vocabulary are left out: {collapse(cut)}")
        )
    return out


def walk(rows: Sequence[Row], counts: Mapping[str, int]) -> Iterator[tuple[Row, dict[str, int]]]:
    """Every row at every place it stands, layer by layer as models list their tensors."""
    for holders, block in groupby(rows, key=lambda r: placeholders(r.names[0])):
        members = list(block)
        places = prod(counts.get(count_name(h), 0) for h in holders)
        LIMITS.check("tensors", places * len(members), "the number of tensors up to the highest layer that a name has")
        for values in combinations(*(range(counts.get(count_name(h), 0)) for h in holders)):
            at = dict(zip(holders, values, strict=True))
            for row in members:
                yield row, at
