"""From an examined checkpoint to a plan, step by step: arrange the tensors, gather what lies beside them, tell of both, lay it all out.

Reads no weight and makes no file: what values decide comes in with the survey, and a tensor that its file holds encoded is only named, to
be unpacked by who carries the plan out. What is small and no weight is read: configuration, vocabulary, the texts of string tensors,
which a layout has among its headers.
"""

from __future__ import annotations

from fnmatch import fnmatchcase

from .._typing import TYPE_CHECKING, NamedTuple
from ..containers import Ranked
from ..errors import CheckpointError, UsageError, printable
from ..findings import Finding
from ..graph.examine import Subject
from ..graph.survey import Survey
from ..support.name_text import meant
from .arrange import Same, Weights
from .assemble import assemble
from .columns import specs_of
from .contents import Contents, gather_contents
from .ledger import make_ledger, with_ledger
from .quantize import as_llama_cpp, quantized
from .target import Request
from .values import Plan

if TYPE_CHECKING:
    from .merge import Overlay


class Planned(NamedTuple):
    """A plan, and what there is to say of it."""

    plan: Plan
    ledger: dict[str, object]
    findings: tuple[Finding, ...]
    contents: Contents


def _without_last_row(subject: Subject, request: Request) -> Request:
    """The request for a naming that does not store the last row of its vocabulary (`Dialect.short`), in its own container."""
    dialect = request.dialect or subject.graph.dialect
    if dialect is None or not dialect.short or dialect.container != request.container.NAME or request.vocab is not None:
        return request
    have = subject.sizes().axis.get(dialect.short)
    return request._replace(dialect=dialect, vocab=have - 1) if have is not None else request


def make_plan(subject: Subject, request: Request, survey: Survey, over: Overlay | None = None) -> Planned:
    """Plan what `request` asks for, with an adapter laid `over` it. Raises UndecidedError or UnsupportedError where it cannot be decided or
    stored."""
    request = _without_last_row(subject, request)
    weights = arrange(subject, request, survey)
    _refuse_unfit(weights, subject, request)
    if over is not None:
        from .merge import files_of, merged, told, untied

        weights = merged(weights, subject, over)
    if request.repack:
        from .repack import repacked

        weights = repacked(weights, request)
    if request.quantize is not None:
        weights = quantized(weights, request)
    if request.dialect is not None and request.dialect.container == "gguf" == request.container.NAME:
        weights = as_llama_cpp(weights)
    places: dict[str, Ranked] = {}
    split = request.dialect.split if request.dialect is not None else None
    if split is not None and split.container == request.container.NAME:
        from .ranks import deal

        weights, places = deal(weights, subject, request)
    elif split is not None and split.whole == request.container.NAME:
        from .ranks import pad, sized

        weights = pad(weights, subject, request)
    try:
        contents = gather_contents(subject, request, weights)
        if split is not None and split.whole == request.container.NAME:
            contents = sized(contents, request, weights)
        if over is not None:
            contents = untied(contents, subject, over)
        ledger = make_ledger(subject, request, weights, contents.findings)
        if over is not None:
            ledger["adapter"] = told(over)
        inputs = [*subject.checkpoint.files, *(files_of(over) if over is not None else ()), *(c for c, _ in contents.copies)]
        plan = assemble(weights, request, contents, inputs, (frozenset(subject.checkpoint.beside & weights.came.keys()), places))
        if not request.single:
            plan = with_ledger(plan, ledger)
    except CheckpointError as e:
        e.path = e.path or printable(subject.checkpoint.path)
        raise
    return Planned(plan, ledger, (*weights.findings, *contents.findings), contents)


def _refuse_unfit(weights: Weights, subject: Subject, request: Request) -> None:
    """UsageError for a glob of names that nothing fits: a misspelt one must not pass for tensors that were cast, or kept."""
    if request.keep and request.quantize is None:
        raise UsageError("--keep says what --quantize leaves as it is", hint="--quantize NAME")
    names = list(specs_of(weights.targets)) if request.dtypes or request.keep else []
    globs = [("--dtype", g, (*names, *subject.graph.params)) for g, _ in request.dtypes if g != "*"]
    for option, glob, of in (*globs, *(("--keep", g, names) for g in request.keep)):
        if not any(fnmatchcase(n, glob) for n in of):
            raise UsageError(f"{option} {glob}: no tensor has such a name", hint=meant(glob, names))


def arrange(subject: Subject, request: Request, survey: Survey) -> Weights:
    """Decide what tensors the target holds and where every element of them comes from.

    With a target dialect, the target's rows are walked and each is filled from the canonical parameters; without one (an
    unknown architecture, or a change of container only) every tensor goes over under its own name. Nothing is dropped in
    silence: of every source tensor it is told where it went or why not, and of every target tensor where it came from.
    """
    if request.dialect is None or subject.graph.recognition is None:
        return Same(subject, request, survey).weights()
    from .translate import Translate  # and what it needs: many conversions keep the names

    return Translate(subject, request, survey, request.dialect).weights()
