"""What else the stored names could be: architectures of the same names that compute otherwise, where no file says which it is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from .._typing import TYPE_CHECKING
from ..schema import Architecture, Dialect

if TYPE_CHECKING:
    from .recognize import Candidate


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
