"""What the tensors of a target are called: by the dialect's rows, under the prefix that its library expects, as TensorFlow's objects hold
them or as Keras spells them. What the source's names tell beyond the templates is remembered, so that the way back ends where it began."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..configuration.write import choose_class, named_class
from ..graph.examine import Subject
from ..graph.tf_objects import recalled, recalled_scope, remembered, scope
from ..schema import Dialect, Row, Table


class Naming:
    """The names in `dialect` of what `subject` holds, written with the heads `groups`."""

    def __init__(self, subject: Subject, dialect: Dialect, groups: frozenset[str]) -> None:
        assert subject.graph.recognition is not None
        self.subject, self.dialect, self.groups = subject, dialect, groups
        self.recognition = subject.graph.recognition
        self.arch = self.recognition.architecture
        self.table = self.arch.table(dialect.name)
        self._raw = subject.config.raw if subject.config is not None else None
        rest = subject.values.rest if subject.values is not None else {}
        self.named = named_class(rest, self.arch, dialect, groups)  # the class that the configuration names
        self.hung = recalled(dialect, self.table, self._raw) if dialect.files.objects else None
        self.prefix = self.hung.prefix if self.hung is not None else self._prefix()

    def name(self, row: Row, at: Mapping[str, int]) -> str:
        """What the tensor of a row is called at one place."""
        counts = self.subject.graph.counts
        if self.hung is None:
            return self.table.stored_name(row, at, self.prefix, counts)
        by_path = self.dialect.files.objects is not None and bool(self.dialect.files.objects.paths)
        return (self.hung._replace(root="") if by_path else self.hung).name(row, at, counts)

    def spelled(self, names: Sequence[str]) -> dict[str, str] | None:
        """What tensors of these names are stored as, where a dialect's names are no templates; None where they are."""
        spelling = self.dialect.files.spelling
        if spelling is None:
            return None
        chosen = (self.named,) if self.named is not None else choose_class(self.dialect.classes, self.groups, None, self.arch.free_groups)
        cls = chosen[0].name if chosen else ""
        same = spelling == self.recognition.dialect.files.spelling
        known = scope(self.dialect, list(self.subject.checkpoint.tensors), cls) if same else remembered(self._raw)
        return spelling.stored(list(names), cls, *filter(None, (recalled_scope(self.dialect, cls, known),)))

    def _prefix(self) -> str:
        """The first prefix; none where the dialect allows that and no head is stored beside the core, nor has the class that is named
        one, nor has the source it, in this naming, and names no class."""
        first = self.dialect.prefixes[0]
        if "" not in self.dialect.prefixes or (self.dialect.prefixed and self.named is None) or outside(self.table, self.groups):
            return first
        kept = self.subject.checkpoint.extras.get("gguf")
        if isinstance(kept, Mapping) and "ckptkit.block" not in kept:  # llama.cpp left a head out: any class loads what has the prefix
            return first
        own = self.dialect is self.recognition.dialect
        said = {"prefix": self.recognition.prefix} if own else remembered(self._raw).get(self.dialect.name)
        without = isinstance(said, Mapping) and said.get("prefix") == ""
        if self.named is None:
            chosen = choose_class(self.dialect.classes, self.groups, None, self.arch.free_groups)
            kept = own and self.recognition.prefix == first and chosen is not None and outside(self.table, chosen[0].groups)
            return first if kept else ""
        return first if outside(self.table, self.named.groups) and not without else ""


def outside(table: Table, groups: frozenset[str]) -> bool:
    """Whether some of these groups is stored beside the prefix."""
    return any(not row.prefixed and table.arch.params[p].group in groups for row in table.rows if row.role == "param" for p in row.parts)


def bare(subject: Subject) -> dict[str, object]:
    """What to remember of a checkpoint without the prefix that the class has that its configuration names; {} of others."""
    r = subject.graph.recognition
    if r is None or r.prefix or "" not in r.dialect.prefixes or len(r.dialect.prefixes) == 1:
        return {}
    cls = named_class(subject.values.rest if subject.values is not None else {}, r.architecture, r.dialect, subject.graph.groups)
    return {r.dialect.name: {"prefix": ""}} if cls is not None and outside(r.table, cls.groups) else {}
