"""The names of a checkpoint as dialects have them: how often each pattern is met, shapes, and the plain names of those spelled out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from itertools import islice

from .._typing import TYPE_CHECKING
from ..schema import Dialect
from ..schema.templates import patterns_of, stem, tally

if TYPE_CHECKING:
    from ..schema.library_names import Spelling


class StoredNames:
    """The names of a checkpoint as the dialects that are tried need them: how often each pattern is met, shapes, plain names."""

    def __init__(self, shapes: Mapping[str, tuple[int, ...]], patterns: Mapping[str, int], config: Mapping[str, object]) -> None:
        self.stored, self.patterns = shapes, patterns
        self.stems = {stem(p) for p in patterns}
        self.marks = [mark for mark in "/." if any(mark in p for p in patterns)]
        self._config = config
        self._spelled: dict[Spelling, StoredNames | None] = {}

    @property
    def plain(self) -> Mapping[str, str]:
        """Stored name -> plain name, where a spelling tells them apart."""
        return {}

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """The shapes by plain names."""
        return self.stored

    def of(self, dialect: Dialect) -> StoredNames | None:
        """The names as a dialect's rows have them; None where they are not spelled as it spells them."""
        spelling = dialect.files.spelling
        if spelling is None:
            return self
        if spelling not in self._spelled:
            self._spelled[spelling] = None
            if any(spelling.sign in name for name in islice(self.stored, 8)):
                config = dialect.config.reader.unfold(self._config) if dialect.config.reader.unfold is not None else None
                spelled = SpelledNames(self.stored, spelling, self._config if config is None else config)
                if spelled.patterns:
                    self._spelled[spelling] = spelled
        return self._spelled[spelling]


class SpelledNames(StoredNames):
    """The same names as a spelling has them. They are made when they are needed: most dialects are only tried, by the patterns."""

    def __init__(self, stored: Mapping[str, tuple[int, ...]], spelling: Spelling, config: Mapping[str, object]) -> None:
        self.stored = stored
        self._make: Callable[[], Mapping[str, str]] = lambda: spelling.plain(list(stored), config)
        super().__init__(
            stored,
            tally(patterns_of(self.plain.values())) if spelling.patterns is None else spelling.patterns(list(stored), config),
            config,
        )

    @cached_property
    def plain(self) -> Mapping[str, str]:
        return self._make()

    @cached_property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        plain = self.plain
        return {plain.get(n, n): s for n, s in self.stored.items()}
