"""Why a recognition is believed, what speaks against it, and which other architectures the same tensors could be of.

Policy: cousins, whose tensors have the same names, are told apart by what the configuration calls the model, by keys that only one
form of configuration has, by a prefix that only one has, or by a size that only one can have (`signature`). A size that one usually has
(`usual`) makes it the likelier one, and no more: then nothing says which of them it is, and nobody may take it for granted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from .._typing import TYPE_CHECKING
from ..arch import names as known_names
from ..errors import UndecidedError
from ..schema import Architecture, Dialect, Table
from ..schema.templates import patterns_of
from .training_state import optimizer_state

if TYPE_CHECKING:
    from .recognition import Candidate, Question, Recognition
    from .stored_names import StoredNames


MOST = 4  # architectures of which a tensor may have been lost that are named


def evidence(best: Candidate, kin: Sequence[Candidate], asked: Question, wrapper: str, matched: str) -> Iterator[str]:
    """Why the best candidate is believed, and what speaks against it."""
    score, arch, dialect, _ = best
    yield f"{matched} tensor names are {dialect.title}'s for {arch.title}"
    if asked.declared is not None:
        written_as = asked.declared in (o.config.marks.get("model_type") for o in arch.dialects.values())
        remark = f", as which {arch.title} is written too" if written_as else ", which the tensors are not"
        yield f"the configuration calls it {asked.declared}" + ("" if asked.declared in arch.names else remark)
    elif asked.called in dialect.library.models:
        yield f"the file calls it {asked.called}"
    if wrapper:
        yield f"the names are wrapped in {wrapper!r}"
    if score.signature > 0:
        table = arch.table(dialect.name)
        for param, dim, size in arch.signature:
            yield _signature_words(arch, table, param, dim, size)
        for param, dim, size in arch.usual if not arch.signature else ():
            row, _ = table.by_param[param]
            yield f"{row.names[0]} has {' x '.join(row.layout.dims[dim])} {size}, as {arch.title} usually has"
    if kin:
        yield f"the names alone could also be {', '.join(c.architecture.name for c in kin)}"


def cousins(best: Candidate, found: Sequence[Candidate], asked: Question) -> list[Candidate]:
    """Of each other architecture that the same tensors could be of one candidate, none where something says which it is."""
    score = best.score
    if score.declared or asked.architecture is not None:
        return []
    lacking = _keys_lacking(best.dialect, asked.config)
    alike = (
        c
        for c in found
        if (c.score.explained, c.score.missing) == (score.explained, score.missing) and c.score.signature >= 0
        if c.score.marked >= score.marked and _own(c.dialect, c.architecture) and _keys_lacking(c.dialect, asked.config) <= lacking
    )
    kin = {c.architecture.name: c for c in alike if c.architecture is not best.architecture}
    return [kin[name] for name in sorted(kin)]


def _keys_lacking(dialect: Dialect, config: Mapping[str, object]) -> int:
    """How many of the sizes that a dialect's configurations always give a configuration does not, 0 where there is none."""
    keys = (key for key, k in dialect.config.keys.items() if isinstance(k, str) or (k.required and k.words is None))
    return sum(not any(a.partition(".")[0] in config for a in key.split(" | ")) for key in keys) if config else 0


def in_doubt(best: Candidate, kin: Sequence[Candidate]) -> tuple[str, ...]:
    """Those of its cousins, written by the same library, that compute something else with the same tensors."""
    base = best.architecture.extends or best.architecture.name
    same = (c.architecture for c in kin if c.dialect.title == best.dialect.title)
    return tuple(a.name for a in same if (a.extends or a.name) != base)


def less_likely(best: Candidate, found: Sequence[Candidate], names: StoredNames) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(other architectures that explain as many names and run otherwise, some of those that do and lack one tensor in each layer or
    once, or two that are there once), where the best is taken for likely by no mark of its own: a RoFormer's TensorFlow names are a
    NEZHA's, and a BERT's without positions."""
    score = best.score
    marked = score.marked and best.dialect.config.marks
    if score.declared or score.signature > 0 or not score.whole or marked or not _own(best.dialect, best.architecture):
        return (), ()
    near = {
        c.architecture.name: c
        for c in found
        if c.score.explained == score.explained and _own(c.dialect, c.architecture) and c.score.signature >= 0
        if c.architecture is not best.architecture and (less := score.missing - c.score.missing) in (0, 1, 2)
        if less == 1 or (_way(c.architecture) != _way(best.architecture) and not (less and _lacks_in_layers(c, names)))
    }
    lost = [name for name, c in near.items() if not c.score.whole]
    lost.sort(key=lambda name: (-near[name].score.signature, -near[name].score.rank, name))
    most = MOST if lost and not near[lost[0]].score.signature else 1
    return tuple(sorted(name for name, c in near.items() if c.score.whole)), tuple(lost[:most])


def _lacks_in_layers(c: Candidate, names: StoredNames) -> bool:
    """Whether a tensor of the core that is not there would be in every layer."""
    spelled = names.of(c.dialect)
    held = spelled.patterns if spelled is not None else {}
    core = c.architecture.table(c.dialect.name).core(c.prefix)
    return any("#" in p for alternatives in core.values() if not any(p in held for p in alternatives) for p in alternatives)


def _way(arch: Architecture) -> tuple[object, ...]:
    """How an architecture runs, as far as names may not tell it."""
    return tuple(arch.traits.get(trait) for trait in ("positions", "norm", "mask"))


def is_untold(r: Recognition) -> bool:
    """Whether the tensors are only likely to be what they are taken for, and what tells it in every checkpoint of its naming (a mark of the
    configuration, a computed tensor) is not there."""
    return bool(r.lost and r.dialect.config.marks) and not any(m.row.made for m in r.matches.values())


def refuse_doubt(r: Recognition | None, path: str, what: str) -> None:
    """UndecidedError where cousins would make something else of the same tensors than `what` ("how it runs") takes them for."""
    if r is None or not (r.cousins or is_untold(r)):
        return
    others = [f"{name}'s" for name in r.cousins] + [f"{name}'s that lost some" for name in r.lost if is_untold(r)]
    raise UndecidedError(
        f"the tensors could be {r.architecture.name}'s or {', '.join(others)}, and nothing says which: {what} depends on it",
        path=path, hint=f"--architecture {r.architecture.name}, or the configuration with --config FILE",
    )  # fmt: skip


def is_belied(found: Recognition, shapes: Mapping[str, tuple[int, ...]], config: Mapping[str, object]) -> bool:
    """Whether the configuration gives another size than the tensors have to an embedding, a table that layers and heads have no part in."""
    said = _sizes_said(found.dialect, config)
    for stored, (row, at) in found.matches.items():
        axes = row.layout.dims[0] if not at and row.role == "param" and len(row.parts) == 1 and row.layout.dims else ()
        n = said.get(axes[0]) if len(axes) == 1 else None
        if n is not None and shapes.get(stored, (n,))[:1] != (n,):
            return True
    return False


def is_told(found: Recognition, config: Mapping[str, object]) -> bool:
    """Whether the tensors have the sizes by which the architecture is known, and the configuration says others."""
    said = _sizes_said(found.dialect, config)
    arch, table = found.architecture, found.table
    rows = [(table.by_param[p][0], dim, size) for p, dim, size in (*arch.signature, *arch.usual) if p in table.by_param]
    return found.score.signature > 0 and any(said.get(" ".join(row.layout.dims[dim]), size) != size for row, dim, size in rows)


def _sizes_said(dialect: Dialect, config: Mapping[str, object]) -> dict[str, int]:
    """The sizes that a configuration gives under a plain key, by axis."""
    keys = {
        key: k if isinstance(k, str) else k.canonical
        for key, k in dialect.config.keys.items()
        if isinstance(k, str) or not (k.plus or k.shift)
    }
    return {axis: n for key, axis in keys.items() if isinstance(n := config.get(key), int) and not isinstance(n, bool)}


def _own(dialect: Dialect, arch: Architecture) -> bool:
    """Whether a dialect is the architecture's own: not one in which it is written as another architecture."""
    return dialect.config.marks.get("model_type", arch.name) in arch.names


def _signature_words(arch: Architecture, table: Table, param: str, dim: int, size: int) -> str:
    row, _ = table.by_param[param]
    return f"{row.names[0]} has {' x '.join(row.layout.dims[dim])} {size}, which tells {arch.title} from others of these names"


def is_cousin(found: Recognition, shapes: Mapping[str, tuple[int, ...]], declared: str | None) -> bool:
    """Whether the checkpoint is of a family that is not here, though another one names its tensors alike.

    The configuration says so by a name that nothing here has. Without one, the tensors do, where rows of the core are missing in every
    layer and as many others that nothing explains stand in their place.
    """
    arch = found.architecture
    if declared is not None:
        return declared not in known_names() and declared not in {d.config.marks.get("model_type") for d in arch.dialects.values()}
    if found.score.whole:
        return False
    rest = [n for n in shapes if n not in found.matches]
    state = optimizer_state(rest, found.matches)
    parts = [arch.table(d.name).index(d.prefixes[0]) for d in arch.dialects.values() if d.part and d.part != found.dialect.part]
    strange = {p for p in patterns_of(n for n in rest if n not in state) if "#" in p and not any(p in part for part in parts)}
    return len(strange) >= -found.score.missing


def signature(table: Table, prefix: str, names: StoredNames) -> int:
    """1 where the shapes bear the architecture's signature, -1 where they contradict it, 0 where it has none or they do not tell.

    1 too where a size is the usual one; another one contradicts nothing.
    """
    said = 0
    for param, dim, size in (*table.arch.signature, *table.arch.usual):
        if param not in table.by_param:
            continue
        row, _ = table.by_param[param]
        for name in row.names:
            shape = names.shapes.get(prefix + name if row.prefixed else name)
            if shape is not None and len(shape) > dim:
                if shape[dim] == size:
                    said = 1
                elif (param, dim, size) in table.arch.signature:
                    return -1
    return said
