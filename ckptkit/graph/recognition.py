"""What recognition asks and answers: plain values, which `recognize` makes and everything after it reads."""

from __future__ import annotations

from collections.abc import Mapping

from .._typing import TYPE_CHECKING, NamedTuple
from ..schema import Architecture, Dialect, Match, Row, Table

if TYPE_CHECKING:
    from .learned import Learned


class Score(NamedTuple):
    """How well a dialect fits, compared field by field: what stands first decides first."""

    explained: int  # names of the checkpoint that the dialect has
    declared: int  # the configuration or the file calls it so: 1, 2 by the architecture's first name
    missing: int  # core patterns that are not there, negative: 0 is whole
    signature: int  # 1 borne, -1 contradicted, 0 the shapes do not tell
    written: int  # core patterns that are there as they would be written
    marked: int  # marks of the dialect's form that the configuration bears
    rank: int  # of the architecture, negative

    @property
    def whole(self) -> bool:
        """Whether no part of the core is missing."""
        return self.missing >= 0


class Candidate(NamedTuple):
    """A dialect that may be what a checkpoint is in, at one of its prefixes."""

    score: Score
    architecture: Architecture
    dialect: Dialect
    prefix: str


class Question(NamedTuple):
    """What is known besides the names, as evidence: `declared` is what the configuration calls the model, `config` all that it says,
    `called` the name that the file gives it, `places` the ends of its object paths. And what narrows the choice: `architecture`,
    `dialect`, `part`, and `scope`, the stem of the model's names. `text`: it is of the text model among others; `untold`: nothing
    is to be recognised. `broken`: weights of which there are parts, which do not fit together."""

    declared: str | None = None
    architecture: str | None = None
    dialect: str | None = None
    part: str | None = None
    scope: str | None = None
    config: Mapping[str, object] = {}
    called: str = ""
    places: frozenset[str] = frozenset()
    text: bool = False
    untold: bool = False
    broken: tuple[str, ...] = ()


class Recognition(NamedTuple):
    """What a checkpoint was recognised as. `wrapper` is what was set apart before every name."""

    architecture: Architecture
    dialect: Dialect
    prefix: str
    wrapper: str
    matches: dict[str, Match]  # stored name -> its row
    score: Score
    evidence: tuple[str, ...]
    plain: Mapping[str, str] = {}  # stored name -> plain name, where the dialect has a spelling
    learned: Learned | None = None  # where the architecture has no table of its own
    cousins: tuple[str, ...] = ()  # architectures that these tensors could be of as well, and that compute something else with them
    likely: tuple[str, ...] = ()  # those that they could be of as well, though less likely
    lost: tuple[str, ...] = ()  # those that they could be of if they have lost a tensor or two

    @property
    def table(self) -> Table:
        return self.architecture.table(self.dialect.name)

    def stored_name(self, row: Row, at: Mapping[str, int], counts: Mapping[str, int]) -> str:
        """The name that a tensor of this checkpoint has or would have; `counts` as in `schema.expand`."""
        name = self.table.stored_name(row, at, self.prefix, counts)
        spelling = self.dialect.files.spelling
        if spelling is not None:
            name = spelling.stored([*self.plain.values(), name], "").get(name, name)
        return self.wrapper + name
