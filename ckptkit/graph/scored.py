"""How well the stored names fit each naming, and what else they could be: architectures of the same names that compute otherwise, where
no file says which it is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from .._typing import NamedTuple
from ..schema import Architecture, Dialect


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


def written_as_its_own(dialect: Dialect, arch: Architecture) -> bool:
    """Whether a dialect is the architecture's own: not one in which it is written as another architecture."""
    return dialect.config.marks.get("model_type", arch.name) in arch.names


def _alike(best: Candidate, found: Sequence[Candidate], least: int) -> Iterator[Candidate]:
    """The candidates of other architectures that explain as many names, and lack as many patterns more as `least` says."""
    for c in found:
        own = c.architecture is not best.architecture and written_as_its_own(c.dialect, c.architecture)
        if own and c.score.explained == best.score.explained and 0 <= best.score.missing - c.score.missing <= least:
            yield c


def untold(best: Candidate, found: Sequence[Candidate]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The other architectures that fit as well, where neither the configuration nor the tensors tell; and those that nearly fit."""
    score = best.score
    if score.declared or score.signature > 0 or not score.whole or not written_as_its_own(best.dialect, best.architecture):
        return (), ()
    unmarked = not best.dialect.config.marks  # a form that bears its marks is told by them
    ours = _way(best.architecture)
    near = [c for c in _alike(best, found, 2) if c.score.signature >= 0 and _way(c.architecture) != ours]
    others = {c.architecture.name for c in near if c.score.missing == score.missing and c.score.marked >= score.marked - unmarked}
    lost = sorted((c for c in near if c.architecture.name not in others and c.score.missing < score.missing), key=lambda c: -c.score.rank)
    return tuple(sorted(others)), tuple(c.architecture.name for c in lost[:1] if unmarked)


def _way(arch: Architecture) -> tuple[object, ...]:
    """How an architecture runs, as far as names may not tell it."""
    return tuple(arch.traits.get(trait) for trait in ("positions", "norm", "mask"))
