"""Which learned schema the stored names are of.

Policy: with a configuration its model_type decides, and the names must fit. Without one a schema is only named where exactly one explains
all the names: a cousin is never named for the real one.
"""

from __future__ import annotations

from collections.abc import Mapping

from .._typing import TYPE_CHECKING
from ..arch import learned_index, learned_schema
from ..schema.templates import patterns_of, tally
from .learned import Learned, Shapes, beyond, fit_names, learned_architecture, passed_over
from .recognition import Recognition, Score
from .scopes import scopes, shared_wrapper

if TYPE_CHECKING:
    from .._typing import Any

LONGEST = 40  # characters of wrappers
MOST = 40  # schemas that are tried where only names speak


def recognize_learned(shapes: Shapes, model_type: str, raw: Mapping[str, Any] | None) -> Recognition | None:
    """The recognition of `shapes` (stored name -> shape) by the schema of a model type; None where the names are not its."""
    schema = learned_schema(model_type)
    if beyond(schema, raw):
        return None
    found = fit_names(schema, raw, shapes, "")
    wrapper = ""
    while found is None and len(wrapper) < LONGEST:
        shared = shared_wrapper(tally(patterns_of(n[len(wrapper) :] for n in shapes if n.startswith(wrapper))))
        if not shared:
            break
        wrapper += shared
        found = fit_names(schema, raw, shapes, wrapper)
    if found is None:  # below a scope of somebody's own, of several the one that explains most
        fits = [f for scope in scopes(shapes) if (f := fit_names(schema, raw, shapes, scope)) is not None and _whole(f)]
        found = max(fits, key=lambda f: len(f.seen), default=None)
    return _recognition(found, shapes) if found is not None else None


def _recognition(found: Learned, shapes: Shapes, others: str = "") -> Recognition:
    inner = {n[len(found.wrapper) :]: s for n, s in shapes.items() if n.startswith(found.wrapper)}
    arch, dialect, matches = learned_architecture(found.schema, found, inner)
    for n in inner:
        if n not in found.seen and (match := passed_over(n, found.schema.ignored)):
            matches[found.wrapper + n] = match
    cls = found.class_name.partition("@")[0]
    evidence = [f"{len(found.seen)} of {len(shapes)} tensor names are those of {cls} in {found.schema.library}"]
    if found.said:
        evidence.append(f"the configuration calls it {found.schema.model_type}")
    if found.class_name != cls:
        evidence.append("they are its names in memory, which are others than those it saves")
    if found.wrapper:
        evidence.append(f"the names are wrapped in {found.wrapper!r}")
    if others:
        evidence.append(others)
    score = Score(len(found.seen), 2 * bool(found.said), 0, 0, 0, 0, 0)
    return Recognition(arch, dialect, found.prefix, found.wrapper, matches, score, tuple(evidence), learned=found)


def recognize_by_names(shapes: Shapes, raw: Mapping[str, Any] | None) -> tuple[Recognition | None, tuple[str, ...]]:
    """(the recognition by the one learned schema that explains every name and lacks none, or None where none does or several do; these).

    Where the configuration names a class but no model type, only that class's schema is tried.
    """
    named = raw.get("architectures") if raw else None
    if isinstance(named, list) and named and (model_type := learned_index()["classes"].get(str(named[0]))):
        return recognize_learned(shapes, model_type, raw), ()
    if not shapes or raw:
        return None, ()
    marks = learned_index()["marks"]
    votes: dict[str, int] = {}
    for pattern in tally(patterns_of(shapes)):
        rest = pattern
        for _ in range(4):
            for t in marks.get(rest, ()):
                votes[t] = votes.get(t, 0) + 1
            _, dot, rest = rest.partition(".")
            if not dot:
                break
    needed: dict[str, int] = {}  # all marks of a schema are what every class of it has
    for types in marks.values():
        for t in types:
            needed[t] = needed.get(t, 0) + 1
    votes = {t: n for t, n in votes.items() if n >= needed[t]}
    if not votes or len(votes) > MOST:
        return None, ()
    fits = []
    for t in sorted(votes):
        found = fit_names(learned_schema(t), None, shapes, "")
        if found is not None and all(n in found.seen or passed_over(n, found.schema.ignored) for n in shapes) and _whole(found):
            fits.append(found)
    return (_recognition(fits[0], shapes), ()) if len(fits) == 1 else (None, tuple(f.schema.model_type for f in fits))


def _whole(found: Learned) -> bool:
    """Whether every row that the class always has is met."""
    met = {s.row.pattern for s in found.seen.values()}
    return all(r.pattern in met for r in found.rows if r.when is True and not r.tied and not r.buffer and _counted(r.pattern, met))


def _counted(pattern: str, met: set[str]) -> bool:
    """Whether the places of a row that is always there have others: experts that no layer has are none that lack."""
    stem = pattern.rpartition("#")[0]
    return not stem or any(p.startswith(stem) for p in met)
