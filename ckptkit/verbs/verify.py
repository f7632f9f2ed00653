"""`verify`: are two checkpoints the same model? Three levels, each with what it rests on.

bits       the same parameters with the same bytes, whatever the container, naming, orientation or order
values     the same numbers: exactly, or, where one side as a whole has a narrower dtype, exactly after rounding to it
behaviour  both rebuilt and run on the same probes, outputs compared after every block; the first that drifts is named

The first two are `pair`'s. One engine with equal weights must agree to 0; where equal weights cannot be had (a table folded into another,
another engine), to 1e-5 + 1e-6 of the largest output, in float32. Imports a framework when it runs.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from ..comparison.pair import Difference, Level, Pair, Step
from ..errors import EXIT_FINDINGS, EXIT_OK, EXIT_UNDECIDED, CheckpointError, LoadError, UndecidedError, UsageError
from ..graph.examine import Subject, examine

LEVELS = ("bits", "values", "behaviour")
ENGINES = ("torch", "keras")


class Verification(NamedTuple):
    """The outcome of `verify`: the levels that were looked at, in order, and what follows."""

    a: str
    b: str
    levels: tuple[Level, ...]
    verdict: str
    notes: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        return {"same": EXIT_OK, "different": EXIT_FINDINGS}.get(self.verdict, EXIT_UNDECIDED)

    @property
    def drift(self) -> str | None:
        """The first block whose outputs differ."""
        return next((s.name for level in self.levels for s in level.steps if not s.worst <= s.allowed), None)


def verify(
    a: str | os.PathLike[str],
    b: str | os.PathLike[str],
    *,
    level: str | None = None,
    against: str | None = None,
    engines: Sequence[str] = (),
    atol: float | None = None,
    rtol: float | None = None,
    probes: str | int = 4,
    config: str | None = None,
    config_b: str | None = None,
    part: str | None = None,
    given: Mapping[str, object] | None = None,
    casts: bool = False,
    without: Sequence[str] = (),
    progress: Callable[[str], None] | None = None,
) -> Verification:
    """Compare the checkpoints `a` and `b` up to `level` (None: as far as it goes).

    `against` ("transformers", "keras_hub") also loads `b` with the library its users will load it with. `engines`: the frameworks that
    rebuild `a` and `b` ("torch", "keras"; one name: both; none: whichever is installed, PyTorch first). `atol`, `rtol`: allowed
    instead of the exact comparison. `probes`: how many made inputs, or an .npz file of them. `casts`: single tensors of `b`
    may have been rounded to their dtype. `without`: heads to leave out of account. `part`: of a side that holds several models.
    Raises CheckpointError where one cannot be read or does not fit its configuration.
    """
    if level is not None and level not in LEVELS:
        raise UsageError(f"no level is called {level!r}", hint=f"one of {', '.join(LEVELS)}")
    if (against is not None or engines) and level in ("bits", "values"):
        raise UsageError(f"{'--against' if against else '--engines'} runs the model: it needs the level behaviour, not {level}")
    if len(engines) > 2 or any(e not in ENGINES for e in engines):
        raise UsageError(
            f"--engines {','.join(engines)}: one or two of {' and '.join(ENGINES)} are due", hint="such as --engines torch,keras"
        )
    say = progress or (lambda _text: None)
    with _open(a, config, part, given) as one, _open(b, config_b, part, given) as two:
        if part and all(s.graph.dialect is None or s.graph.dialect.part != part for s in (one, two)):
            raise UsageError(f"--part {part}: neither side has such a part", path=os.fspath(a))
        pair = Pair(one, two, atol, rtol, casts, frozenset(without))
        notes = list(pair.notes)
        say("comparing parameters")
        bits, values = pair.compare()
        levels = [bits] if level == "bits" else [bits, values]
        wanted = levels[-1]
        if level in (None, "behaviour"):
            say("running both models")
            ran, more = _behaviour(pair, values, probes, against, engines)
            levels += ran
            notes += more
        verdict = wanted.verdict
        for lv in levels[2:]:
            if verdict == "same" or lv.verdict == "different":
                verdict = lv.verdict
        return Verification(os.fspath(a), os.fspath(b), tuple(levels), verdict, tuple(notes))


def _open(path: str | os.PathLike[str], config: str | None, part: str | None, given: Mapping[str, object] | None) -> Subject:
    """Examine one side; `part` means nothing to a side that is one model."""
    try:
        return examine(path, config=config, part=part, given=given)
    except UsageError:
        if part is None:
            raise
        return examine(path, config=config, given=given)


def _behaviour(pair: Pair, values: Level, probes: str | int, against: str | None, engines: Sequence[str]) -> tuple[list[Level], list[str]]:
    """The level of behaviour, and that of the library asked for. What stands in the way makes it undecided, with the reason."""
    if not pair.known:
        return [], ["the architecture is unknown: its behaviour cannot be compared"]
    if against is not None and pair.one.architecture is not None and pair.one.architecture.learned:
        from ..runtime.verify.by_library import compare_by_library

        try:
            return [compare_by_library(pair, against)], []
        except (UndecidedError, LoadError) as e:
            return [Level(f"against {against}", "undecided", str(e))], []
    from ..runtime.verify.behaviour import compare_behaviour, compare_library

    out = []
    try:
        out.append(compare_behaviour(pair, values, probes, engines))
    except UndecidedError as e:
        out.append(Level("behaviour", "undecided", str(e)))
    except CheckpointError as e:
        if against is not None or engines or e.kind != "unsupported":
            raise
        out.append(Level("behaviour", "undecided", str(e)))
    if against is not None:
        try:
            out.append(compare_library(pair, probes, against))
        except (UndecidedError, LoadError) as e:
            out.append(Level(f"against {against}", "undecided", str(e)))
    return out, []


__all__ = ["Difference", "Level", "Pair", "Step", "Verification", "verify"]
