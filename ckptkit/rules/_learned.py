"""What a learned schema foretells at a configuration, against what is stored: counts, names, sizes. Imported where there is one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from .._typing import TYPE_CHECKING
from ..findings import Finding
from ..graph.examine import Subject
from ..graph.learned import COMPUTED, MEMORY, place
from ..schema.learned import Place, evaluate, fill, holds, keys_of, node_of, size_of
from ..support.name_text import collapse, natural
from ._base import are, count

if TYPE_CHECKING:
    from .._typing import Any
    from ..graph.learned import Learned
    from ..schema.learned import LearnedRow


def _of(s: Subject) -> Learned | None:
    return s.graph.recognition.learned if s.graph.recognition is not None else None


def layers(s: Subject) -> Iterator[Finding]:
    """Counts that are more than one key: lists of stages, several stacks by one key, stacks of which nothing is there."""
    found = _of(s)
    if found is None or not found.said:
        return
    for node, p in found.schema.places.items():
        outers = [outer for n, outer in found.counts if n == node]
        if not outers:
            yield from _absent(s, found, node, p)
            continue
        simple = f"{found.placeholders[node]}s"
        for outer in outers:
            have, said = found.counts[node, outer], evaluate(p.count, found.env, outer)
            if said is None or said == have:
                continue
            if s.value(simple) == said and s.graph.counts.get(simple) != said and s.graph.counts.get(simple) == have:
                continue  # the rule of plain counts says it
            where = fill(node, outer[: node.count("#")])
            names = sorted((found.wrapper + n for n, x in found.seen.items() if _under(x.row, x.at, node, outer)), key=natural)
            key = _shown(p.count, outer)
            keys = ", ".join(keys_of(p.count))
            if not keys:  # the architecture's name says how many
                yield Finding(
                    "error", "layers", collapse(names[-12:], 3) or where,
                    f"{found.class_name} has {said} of {place(where, found.prefix)}; the weights hold {have}", "get the whole checkpoint",
                )  # fmt: skip
                continue
            yield Finding(
                "error", "layers", collapse(names[-12:], 3) or where,
                f"{s.config_name} says {said} for {place(where, found.prefix)} ({key}); the weights hold {have}. A loader that trusts "
                f"the configuration {'makes the rest at random' if said > have else 'drops the rest'}",
                f"correct {keys}, or get the whole checkpoint",
            )  # fmt: skip


def _shown(text: str, outer: tuple[int, ...]) -> str:
    for i, n in enumerate(outer):
        text = text.replace(f"@{i}", str(n))
    return text


def _under(row: LearnedRow, at: tuple[int, ...], node: str, outer: tuple[int, ...]) -> bool:
    k = len(outer)
    return row.pattern.count("#") > k and at[:k] == outer and node_of(row.pattern, k) == node


def _absent(s: Subject, found: Learned, node: str, p: Place) -> Iterator[Finding]:
    """A stack of which nothing is there, though rows that are always there say that there are some."""
    if "#" in node:
        return
    said = evaluate(p.count, found.env)
    needed = [r for r in found.rows if r.pattern.startswith(f"{node}.#.") and holds(r.when, found.env, (p.first,)) is True and not r.tied]
    if said and needed and not _whole_head_absent(found, needed[0]):
        yield Finding(
            "error", "layers", place(node, found.prefix),
            f"{s.config_name} says {said} for {place(node, found.prefix)} ({p.count}); the weights hold 0: none of "
            f"{found.stored(needed[0].pattern, (p.first,) * needed[0].pattern.count('#'))} and the others is there",
            "get the whole checkpoint",
        )  # fmt: skip


def _whole_head_absent(found: Learned, row: LearnedRow) -> bool:
    """Whether a row is of a head, outside of the class's base, of which nothing is there."""
    if row.pattern.startswith("~") or not found.prefix:
        return False
    head = row.pattern.partition(".")[0]
    return not any(x.row.pattern.partition(".")[0] == head for x in found.seen.values())


def _places(found: Learned, row: LearnedRow) -> list[tuple[int, ...]]:
    """The numbers that the places of a row take by the layers that are stored."""
    out: list[tuple[int, ...]] = [()]
    for k in range(row.pattern.count("#")):
        node = node_of(row.pattern, k)
        p = found.schema.places[node]
        new = []
        for at in out:
            n = found.counts.get((node, at))
            if n is None:
                n = evaluate(p.count, found.env, at) if at else 0
            new += [(*at, j) for j in range(p.first, p.first + min(n or 0, 1 << 16))]
        out = new
    return out


def _env(s: Subject, found: Learned) -> Mapping[str, Any]:
    """What the configuration says, with the tensors' sizes where it says another, so that one wrong key is one finding."""
    axes = s.graph.solution.sizes.axis
    env = dict(found.env)
    for canonical, key in found.keys.items():
        if canonical in axes and key in found.said:
            env[key] = axes[canonical]
    return env


def missing(s: Subject) -> Iterator[Finding]:
    """Tensors that the library's class has at this configuration."""
    found = _of(s)
    if found is None or not found.said:
        return
    have = {(x.row.pattern, x.at) for x in found.seen.values()}
    repeated = {x.row.tied for x in found.seen.values() if x.row.tied and holds(x.row.when, found.env, x.at) is not True}
    lacking: list[str] = []
    heads: dict[str, list[str]] = {}
    for row in found.rows:
        if row.when is False or (row.buffer and _computed(row.pattern)) or row.pattern in repeated:
            continue
        for at in _places(found, row):
            if (row.pattern, at) in have or holds(row.when, found.env, at) is not True:
                continue
            name = found.stored(row.pattern, at)
            if _whole_head_absent(found, row):
                heads.setdefault(row.pattern.partition(".")[0], []).append(name)
            else:
                lacking.append(name)
    cls = found.class_name.removesuffix(MEMORY)
    if lacking:
        lacking.sort(key=natural)
        yield Finding(
            "error", "missing", collapse(lacking, 4),
            f"{count(lacking, 'tensor')} that {cls} has at this configuration {are(lacking)} not there: {collapse(lacking)}",
        )  # fmt: skip
    for head, names in heads.items():
        yield Finding(
            "warning", "head", head,
            f"{s.config_name} names the class {cls}, but the weights hold no {head} ({collapse(names, 3)}): its "
            f"loader makes a new one at random",
            "name the class without it, or train it", "undecided",
        )  # fmt: skip


def _computed(pattern: str) -> bool:
    parts = tuple(pattern.split("."))
    return any(parts[-len(e) :] == e for e in COMPUTED)


def unexpected(s: Subject) -> Iterator[Finding]:
    """Tensors of the schema that the class does not have at this configuration."""
    found = _of(s)
    if found is None or not found.said:
        return
    over = sorted(
        (found.wrapper + n for n, x in found.seen.items() if not x.row.tied and holds(x.row.when, found.env, x.at) is False), key=natural
    )
    if over:
        cls = found.class_name.removesuffix(MEMORY)
        yield Finding(
            "error", "unexpected", collapse(over, 4),
            f"{count(over, 'tensor')} {are(over)} there that {cls} does not have at this configuration: {collapse(over)}",
            f"correct {s.config_name}: it describes another model",
        )  # fmt: skip


def sizes(s: Subject) -> Iterator[Finding]:
    """Sizes that follow from several keys, or differ from layer to layer."""
    found = _of(s)
    if found is None:
        return
    tensors = s.checkpoint.tensors
    if found.said:
        env = _env(s, found)
        merged: dict[tuple[str, int, int], list[str]] = {}
        for n, x in found.seen.items():
            shape = tensors[found.wrapper + n].spec.shape
            if len(shape) != len(x.row.dims):
                if x.row.dims:
                    merged.setdefault((f"{len(x.row.dims)} dimensions", -1, len(x.row.dims)), []).append(found.wrapper + n)
                continue
            for d, dim in enumerate(x.row.dims):
                want = size_of(dim, env, x.at)
                if want is not None and want != shape[d] and not (isinstance(dim, str) and _solved(s, found, dim, found.wrapper + n, d)):
                    merged.setdefault((dim if isinstance(dim, str) else "by its place", d, want), []).append(found.wrapper + n)
        for (text, d, want), names in merged.items():
            names.sort(key=natural)
            shape = tensors[names[0]].spec.shape
            if d < 0:
                said = f"shape {list(shape)}: {len(shape)} dimensions where {want} are due"
            else:
                said = f"shape {list(shape)}: dimension {d} is {shape[d]}, where {s.config_name} makes it {want}{_because(text, found)}"
            yield Finding("error", "size", collapse(names, 4), said)


def _solved(s: Subject, found: Learned, dim: str, name: str, d: int) -> bool:
    """Whether other rules hold this dimension of a tensor: it is one key, and an axis of the tensor's own row."""
    recognition = s.graph.recognition
    match = recognition.matches.get(name) if recognition is not None else None
    axes = match.row.layout.dims[d] if match is not None and d < len(match.row.layout.dims) else ()
    return dim in found.said and any(k == dim and (c,) == axes and c in s.graph.solution.sizes.axis for c, k in found.keys.items())


def _because(text: str, found: Learned) -> str:
    keys = [k for k in keys_of(text) if k in found.env] if text[:1].isalpha() or "(" in text[:1] else []
    if text == "by its place" or not keys:
        return ""
    return f" ({text}; {', '.join(f'{k} {found.env[k]}' for k in keys)})"
