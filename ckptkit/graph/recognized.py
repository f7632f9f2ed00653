"""What a checkpoint is: by the tables, and where they have none by the schemas that were learned, which are imported (2 ms) only then."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ..arch import architectures, is_learned, known
from ..configuration.text_settings import text_place
from ..schema.templates import reduce_names
from .recognition import Question, Recognition
from .recognize import recognize, wrapped


def recognized(shapes: Mapping[str, tuple[int, ...]], aliases: Callable[[], Mapping[str, str]], asked: Question) -> Recognition | None:
    """What a checkpoint is: by a table of ours where the configuration (or the user) names what has one, else by a learned schema, else by
    the names alone, of which a table's count before what was learned. UsageError where no name begins with the scope that is asked for."""
    if asked.scope is not None:
        from .scopes import scope_of

        scope = scope_of(shapes, asked.scope)
        inner = {n[len(scope) :]: s for n, s in shapes.items() if n.startswith(scope)}
        own = {n[len(scope) :]: a for n, a in aliases().items() if n.startswith(scope)}
        found = recognized(inner, lambda: own, asked._replace(scope=None))
        return wrapped(found, scope, len(shapes)) if found is not None else None
    said = asked.architecture or asked.declared
    if said is not None and (known(said) is None or text_place(asked.config)) and is_learned(said):
        from .recognize_learned import recognize_learned

        found = recognize_learned(shapes, said, asked.config) if asked.dialect in (None, "hf") else None
        if found is not None or asked.architecture is not None:
            return found
    found = recognize(shapes, aliases, asked)
    if found is not None and not any((asked.declared, asked.architecture, asked.dialect, asked.part)) and _is_fragment(found, shapes):
        return None
    if any((asked.declared, asked.architecture, asked.dialect, asked.part)) or (found is not None and len(found.matches) == len(shapes)):
        return found
    from .recognize_learned import recognize_by_names

    learned, kin = recognize_by_names(shapes, asked.config)
    if learned is not None or found is None or not kin:
        return learned or found  # a table that leaves names over may be a cousin's
    return found._replace(cousins=(*found.cousins, *kin), evidence=(*found.evidence, f"all names are those of {', '.join(kin)}"))


def _is_fragment(found: Recognition, shapes: Mapping[str, tuple[int, ...]]) -> bool:
    """Whether a table holds less than two thirds of its own core, and others of the same naming explain as many names: some layers of a
    model, which may be any of theirs."""
    core = found.table.core(found.prefix)
    if found.score.whole or (len(core) + found.score.missing) * 3 >= len(core) * 2 or found.wrapper:
        return False
    patterns = {p for n, p in reduce_names(shapes).items() if n in found.matches}
    others = 0
    for arch in architectures().values():
        d = arch.dialects.get(found.dialect.name)
        if d is not None and arch is not found.architecture:
            others += any(patterns <= arch.table(d.name).index(prefix).keys() for prefix in d.prefixes)
    return others > 1
