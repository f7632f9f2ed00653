"""What a checkpoint is: by the tables, and where they have none by the schemas that were learned, which are imported (2 ms) only then."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ..arch import is_learned, known
from .recognize import Question, Recognition, recognize


def recognized(shapes: Mapping[str, tuple[int, ...]], aliases: Callable[[], Mapping[str, str]], asked: Question) -> Recognition | None:
    """What a checkpoint is: by a table of ours where the configuration (or the user) names what has one, else by a learned schema, else by
    the names alone, of which a table's count before what was learned."""
    said = asked.architecture or asked.declared
    if said is not None and known(said) is None and is_learned(said):
        from .recognize_learned import recognize_learned

        found = recognize_learned(shapes, said, asked.config) if asked.dialect in (None, "hf") else None
        if found is not None or asked.architecture is not None:
            return found
    found = recognize(shapes, aliases, asked)
    if any((asked.declared, asked.architecture, asked.dialect, asked.part)) or (
        found is not None and len(found.matches) * 10 >= 9 * len(shapes)
    ):
        return found
    from .recognize_learned import recognize_by_names

    return recognize_by_names(shapes, asked.config) or found  # a table that leaves a tenth over may be a cousin's
