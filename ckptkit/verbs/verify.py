"""`verify`: are two checkpoints the same model? Three levels, each with what it rests on.

bits       the same parameters with the same bytes, whatever the container, naming, orientation or order
values     the same numbers: exactly, or, where one side as a whole has a narrower dtype, exactly after rounding to it
behaviour  both rebuilt and run on the same probes, outputs compared after every block; the first that drifts is named

Each side is rebuilt from its own configuration; what that says and nobody here models bars "same" (`configured`). The first two are
`pair`'s. One engine with equal weights must agree to 0; where equal weights cannot be had (a table folded into another, another engine), to
1e-5 + 1e-6 of the largest output, in float32. Imports a framework when it runs.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from .._typing import TYPE_CHECKING, NamedTuple
from ..comparison.configured import shown
from ..comparison.left_out import beyond_unlike, beyond_words, not_compared, other_keys
from ..comparison.pair import Difference, Level, Pair, Step
from ..errors import EXIT_FINDINGS, EXIT_OK, EXIT_UNDECIDED, CheckpointError, LoadError, UndecidedError, UsageError, one_of
from ..graph.examine import Subject, examine
from ..graph.examine_two import examine_two
from ..graph.reading import AS_FOUND, Reading
from ..support.name_text import collapse
from ..support.progress import phase
from ..support.shown import html_of, line, text_of

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from ..graph.reading import Words

LEVELS = ("bits", "values", "behaviour")
ENGINES = ("torch", "keras")


class Verification(NamedTuple):
    """The outcome of `verify`: the levels that were looked at, in order, and what follows."""

    a: str
    b: str
    levels: tuple[Level, ...]
    verdict: str
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return line(self, self.verdict, f"exit code {self.exit_code}")

    def __str__(self) -> str:
        return text_of("verification", self)

    def _repr_html_(self) -> str:
        return html_of(self)

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
    config_b: str | None = None,
    casts: bool = False,
    without: Sequence[str] = (),
    progress: Callable[[int, int], object] | None = None,
    reading: Reading = AS_FOUND,
    reading_b: Reading | None = None,
    **words: Unpack[Words],
) -> Verification:
    """Compare the checkpoints `a` and `b` up to `level` (None: as far as it goes).

    `against` ("transformers", "keras_hub") also loads `b` with the library its users will load it with. `engines`: the frameworks that
    rebuild `a` and `b` ("torch", "keras"; one name: both; none: whichever is installed, PyTorch first). `atol`, `rtol`: allowed
    instead of the exact comparison. `probes`: how many made inputs, or an .npz file of them. `casts`: single tensors of `b`
    may have been rounded to their dtype. `without`: heads to leave out of account. `reading`, or its fields as keywords (config, container,
    architecture, dialect, scope, part, given, drop), overrule what would be found of `a`; `reading_b` of `b` (if it is not said: the same
    architecture, part and given values, with the configuration `config_b`). `progress` is called with (bytes done, bytes in all) of
    each phase: comparing, then building and running.
    Raises CheckpointError where one cannot be read or does not fit its configuration.
    """
    if level is not None and level not in LEVELS:
        raise UsageError(f"no level is called {level!r}", hint=one_of(level, LEVELS))
    if (against is not None or engines) and level in ("bits", "values"):
        raise UsageError(f"{'--against' if against else '--engines'} runs the model: it needs the level behaviour, not {level}")
    if len(engines) > 2 or any(e not in ENGINES for e in engines):
        odd = next((e for e in engines if e not in ENGINES), "")
        hint = one_of(odd, ENGINES) if odd else "such as --engines torch,keras"
        raise UsageError(f"--engines {','.join(engines)}: expected one or two of {' and '.join(ENGINES)}", hint=hint)
    reading = reading.but(**words)
    other = reading._replace(config=config_b, container=None, dialect=None, scope=None, drop=()) if reading_b is None else reading_b
    part = reading.part
    examined = examine_two(a, b, reading, other, _open)
    with examined[0] as one, examined[1] as two:
        if part and not any(_has_part(s, part) for s in (one, two)):
            raise UsageError(f"--part {part}: neither side has such a part", path=os.fspath(a))
        pair = Pair(one, two, atol, rtol, casts, frozenset(without))
        notes = list(pair.notes)
        phase(progress, "comparing parameters")
        bits, values = pair.compare(progress)
        levels = [bits] if level == "bits" else [bits, values]
        if one.packings.weights or two.packings.weights:
            from ..comparison.packing_error import steps_between, summary

            notes += summary(list(steps_between(one, two)))
        wanted = levels[-1]
        grave, beside = _left_out(pair)
        if level in (None, "behaviour"):
            phase(progress, "building and running both models")
            ran, more = _behaviour(pair, values, probes, against, engines, progress)
            ran = [_beside(lv) if grave else lv for lv in ran]
            levels += ran
            notes += more
        verdict = wanted.verdict
        for lv in levels[2:]:
            if verdict == "same" or lv.verdict == "different":
                verdict = lv.verdict
        if verdict == "same" and grave:
            verdict = "undecided"
        return Verification(os.fspath(a), os.fspath(b), tuple(levels), verdict, (*notes, *grave, *beside))


def _left_out(pair: Pair) -> tuple[list[str], list[str]]:
    """(what bars "same", what is only to be said) of what no level has compared, in words."""
    grave, notes = not_compared(pair.one, pair.two)
    out = list(grave)
    arch = pair.one.architecture
    if arch is not None and (names := beyond_unlike(pair.one, pair.two)):
        out.append(beyond_words(names, arch.title))
    if arch is None or pair.two.architecture is None:  # nobody here knows what a key of theirs means
        said = ", ".join(f"{k} (A {shown(x)}, B {shown(y)})" for k, (x, y) in list(other_keys(pair.one, pair.two).items())[:4])
        out += [f"the configurations of an unknown architecture differ: {said}"] if said else []
    tied = [_tied(s) for s in (pair.one, pair.two)]
    if None not in tied and tied[0] != tied[1]:
        out.append(f"the configuration of A says that the output is tied: {tied[0]}, that of B: {tied[1]}")
    kinds = [s.checkpoint.classes for s in (pair.one, pair.two)]
    if unlike := sorted(n for n in kinds[0].keys() | kinds[1].keys() if kinds[0].get(n) != kinds[1].get(n)):
        out.append(f"tensors of classes of their own, not the same on both sides: {collapse(unlike, 4)}")
    return out, list(notes)


def _tied(s: Subject) -> object:
    """Whether the configuration says that the output is tied; None where it does not, as a GGUF file's keys, and the tensors show it."""
    if s.values is None or s.architecture is None:
        return None
    form = s.architecture.dialects[s.values.form].config
    return None if form.whole is not None and "tied" in s.values.assumed else s.values.values.get("tied")


def _of_keys(level: Level, unlike: list[str]) -> Level:
    """The level of behaviour, which is not "same" where the configurations differ in what nobody here models."""
    if level.verdict != "same" or not unlike:
        return level
    return level._replace(verdict="undecided", basis=f"{level.basis}; what these say is not modelled here: {'; '.join(unlike)}")


def _beside(level: Level) -> Level:
    """The level of behaviour, which is not "same" where something that was not run could make the two different models."""
    if level.name != "behaviour" or level.verdict != "same":
        return level
    return level._replace(verdict="undecided", basis=f"{level.basis}; what the notes name was not run")


def _has_part(s: Subject, part: str) -> bool:
    return s.checkpoint.chosen == part or (s.graph.dialect is not None and s.graph.dialect.part == part)


def _open(path: str | os.PathLike[str], reading: Reading) -> Subject:
    """Examine one side; `part` means nothing to a side that is one model."""
    try:
        return examine(path, reading)
    except UsageError:
        if reading.part is None:
            raise
        return examine(path, reading._replace(part=None))


def _behaviour(
    pair: Pair, values: Level, probes: str | int, against: str | None, engines: Sequence[str], progress: Callable[[int, int], object] | None
) -> tuple[list[Level], list[str]]:
    """The level of behaviour, and that of the library asked for. What stands in the way makes it undecided, with the reason."""
    if not pair.known:
        return [], ["the architecture is unknown: its behaviour cannot be compared"]
    if against is not None and pair.one.architecture is not None and pair.one.architecture.learned:
        from ..runtime.verify.by_library import compare_by_library

        try:
            return [compare_by_library(pair, against)], []
        except (UndecidedError, LoadError) as e:
            return [Level(f"against {against}", "undecided", str(e))], []
    from ..comparison.configured import contradictions, unlike_functions, unlike_keys
    from ..runtime.verify.behaviour import compare_behaviour, compare_library

    out = []
    wrong = [f"of {side} {text}" for side, s in (("A", pair.one), ("B", pair.two)) for text in contradictions(s)]
    try:
        if wrong:
            raise UndecidedError(f"not run, since a library would make another model of this: {'; '.join(wrong)}")
        said = [*unlike_keys(pair.one, pair.two), *unlike_functions(pair.one, pair.two)]
        out.append(_of_keys(compare_behaviour(pair, values, probes, engines, progress), said))
    except UndecidedError as e:
        out.append(Level("behaviour", "undecided", str(e)))
    except CheckpointError as e:
        if against is not None or engines or e.kind != "unsupported":
            raise
        out.append(Level("behaviour", "undecided", str(e)))
    if against is not None:
        try:
            out.append(compare_library(pair, probes, against, progress))
        except (UndecidedError, LoadError) as e:
            out.append(Level(f"against {against}", "undecided", str(e)))
    return out, []


__all__ = ["Difference", "Level", "Pair", "Step", "Verification", "verify"]
