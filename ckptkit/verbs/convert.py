"""`convert`: examine, choose the target, hold the source against the rules, survey the values, plan, run.

Order matters: what can be refused is refused before a byte is written (the target exists, the source has errors, a
value is undecided), and nothing is assumed that changes a model's outputs. The target is complete: weights, configuration,
vocabulary, ledger.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence

from .. import store
from .._typing import TYPE_CHECKING, Any, NamedTuple
from ..errors import FindingsError, UsageError
from ..findings import Finding
from ..graph.evidence import refuse_doubt
from ..graph.examine import Subject, examine
from ..graph.reading import AS_FOUND, Reading
from ..graph.survey import survey
from ..plan.assemble import parse_dtype
from ..plan.losses import groups_and_globs, losses
from ..plan.make import make_plan
from ..plan.target import Request, Wanted, choose_target, fragment_of, single_file, with_container
from ..plan.values import Plan
from ..rules.run import run_rules
from ..support.collector import paused
from ..support.shown import html_of, line, text_of
from ..support.sizes import parse_size

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from ..graph.reading import SourceWords


class Conversion(NamedTuple):
    """What `convert` did or, with `dry_run`, would do. `result` is the engine's, None for a dry run; `config` the target's, as text."""

    plan: Plan
    ledger: dict[str, object]
    findings: tuple[Finding, ...]
    classes: tuple[str, ...]
    result: object | None
    config: str = ""

    def __repr__(self) -> str:
        return line(self, self.plan.target, f"{len(self.findings)} findings", "dry run" if self.result is None else "written")

    def __str__(self) -> str:
        return text_of("plan" if self.result is None else "conversion", self)

    def _repr_html_(self) -> str:
        return html_of(self)


def cast_pairs(dtype: str | None, dtypes: str | Mapping[str, str] | Sequence[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """(glob, a name of DTYPES) of what people write: "bfloat16", {"*.weight": "float16"}, pairs. UsageError for what is none."""
    if isinstance(dtypes, str):
        dtypes = [("*", dtypes)]
    pairs = list(dtypes.items()) if isinstance(dtypes, Mapping) else list(dtypes)
    if any(isinstance(p, str) or len(p) != 2 for p in pairs):
        raise UsageError("dtypes are pairs of a glob and a dtype", hint='such as [("*", "bfloat16")]')
    return tuple((glob, parse_dtype(word)) for glob, word in [*([("*", dtype)] if dtype is not None else []), *pairs])


def _sizes(max_shard_size: int | str | None, max_memory: int | str | None, check: bool | str) -> tuple[int | None, int | None]:
    """Both in bytes. UsageError for what is no size, or no kind of check."""
    if check not in (True, False, "reference"):
        raise UsageError(f"check is {check!r}", hint="True, False or 'reference'")
    return parse_size(max_shard_size, "max_shard_size"), parse_size(max_memory, "max_memory")


def convert(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    to: str | None = None,
    container: str | None = None,
    dtype: str | None = None,
    dtypes: str | Mapping[str, str] | Sequence[tuple[str, str]] = (),
    max_shard_size: int | str | None = None,
    drop: Sequence[str] = (),
    drop_optimizer: bool = False,
    dry_run: bool = False,
    overwrite: bool = False,
    force: bool = False,
    check: bool | str = True,
    jobs: int | None = None,
    max_memory: int | str | None = None,
    on_overflow: str = "error",
    sync: bool = True,
    progress: Callable[[int, int], None] | None = None,
    init_missing: bool = False,
    add: Sequence[str] = (),
    resize_vocab: int | None = None,
    seed: int = 0,
    renew: bool = False,
    names_only: bool = False,
    dequantize: bool = False,
    quantize: str | None = None,
    keep: Sequence[str] = (),
    tp: int = 1,
    pp: int = 1,
    on: str | None = None,
    plan_to: str | os.PathLike[str] | None = None,
    part_size: int | str | None = None,
    reading: Reading = AS_FOUND,
    **words: Unpack[SourceWords],
) -> Conversion:
    """Write a checkpoint in the dialect `to` (None, or a container's name: names stay) and in `container` (None: the dialect's own).

    `target` is a directory, or one file if it ends like one of the container's and the container is a single file. `reading`, or its
    fields as keywords (config, architecture, dialect, scope, part, given; `container` is the target's), overrule what would be found;
    `given`: canonical values that nothing else says ({"heads": 16}). `dtype`: what floating tensors are cast to ("bfloat16"), `dtypes`:
    (glob, dtype) pairs, or a mapping; `drop`: head groups to leave out, and globs of stored names; `max_shard_size` and `max_memory` in
    bytes or as "5GB"; `check` verifies the source's checksums and reads back what was written, with check="reference" also by the format's
    own library; `on_overflow` (error, clip, keep) and `sync` are the engine's; `force` converts in spite of error findings.
    `init_missing`: parameters that the source lacks start as the architecture's authors have them start; `add`: so do heads that it
    lacks; `resize_vocab`: so do further rows of the vocabulary (or rows are left out); all of it
    by `seed`, the same values as `build_transformer_model` gives, and listed. `renew`: names and configuration are written anew though
    the naming stays (where there is one only, they stay); `names_only`: where nothing says the configuration none is written.
    `dequantize`: packed weights are decoded; else their parts move bit for bit. `quantize`: weights are packed so ("fp8-block", "q8_0"),
    but for those that fit a glob of `keep`. `tp`, `pp`: files for as many tensor-parallel ranks and stages of a pipeline, in a naming
    that has them (meta, megatron). `on`: whose workers write it, in parts of `part_size` ("local:4", "ray", "dask://HOST:8786");
    `plan_to`: where to write the plan instead, for `ckptkit work`. Raises FindingsError, UndecidedError, UsageError, ... (`errors`).
    """
    from ..engine.output import finisher
    from ..engine.run import run
    src, dst = os.fspath(source), os.fspath(target)
    shard, memory = _sizes(max_shard_size, max_memory, check)
    parts = Parts(on, os.fspath(plan_to) if plan_to else None, parse_size(part_size, "part_size") or 0)
    drop, globs = groups_and_globs(drop)
    wanted = with_container(Wanted(to, container, cast_pairs(dtype, dtypes), shard, drop, drop_optimizer, init_missing, add, resize_vocab,
                                   seed, dequantize, quantize, keep, names_only, renew, tp, pp))  # fmt: skip
    _check_target(dst, wanted, parts, overwrite=overwrite or dry_run, check=check)
    entire = wanted.to is None and not (renew or add or init_missing or resize_vocab)
    with paused(), examine(src, reading.but(**words, drop=(*reading.drop, *globs)), entire=entire) as subject:
        request = choose_target(subject, wanted, dst)
        findings = _refuse_errors(subject, wanted, request, src, integrity=bool(check) and not dry_run, force=force)
        if request.dialect is not None and not (names_only and request.dialect is subject.graph.dialect):
            refuse_doubt(subject.graph.recognition, src, "what is written")
        planned = make_plan(subject, request, survey(subject, request.dialect))
        found = (*findings, *planned.findings)
        done = Conversion(planned.plan, planned.ledger, found, planned.contents.classes, None, planned.contents.config)
        proof = _reference(request.container.NAME) if check == "reference" else None
        if dry_run:
            return _told(done, overwrite=overwrite and not store.is_url(dst) and not parts.elsewhere)
        if store.is_url(dst) or parts.elsewhere:
            return _in_parts(done, parts, jobs, progress, overwrite=overwrite, on_overflow=on_overflow)
        result = run(planned.plan, overwrite=overwrite, jobs=jobs, max_memory=memory, check=bool(check), proof=proof,
                     on_overflow=on_overflow, sync=sync, progress=progress, compute_finish=finisher(request.container))  # fmt: skip
        return done._replace(findings=(*done.findings, *result.findings), result=result)


def _told(done: Conversion, *, overwrite: bool) -> Conversion:
    """`done`; what replacing a folder here would lose is an error now."""
    from ..engine.replaceable import check_target

    if overwrite:
        check_target(done.plan.target, single=done.plan.single, overwrite=True, inputs=(), names=done.plan.names)
    return done


class Parts(NamedTuple):
    """A target that is written in parts: by which engine, where its plan is written to instead, bytes of a part (0: by its size)."""

    on: str | None = None
    plan_to: str | None = None
    size: int = 0

    @property
    def elsewhere(self) -> bool:
        """Whether other processes do it."""
        return self.on is not None or self.plan_to is not None


def _check_target(target: str, wanted: Wanted, parts: Parts, *, overwrite: bool, check: bool | str) -> None:
    """Refuse a target that cannot be, before anything is read. Of one in a store that is asked when its run begins."""
    from ..engine.replaceable import check_target

    if parts.on is not None and parts.plan_to is not None:
        raise UsageError("--on and --plan-to are two ways to have the work done", hint="leave one out")
    if parts.on is not None:
        from ..fleet.engines import engine

        engine(parts.on)
    if parts.size and not parts.elsewhere and not store.is_url(target):
        raise UsageError("--part-size is for targets that are written in parts", path=target, hint="with --on, --plan-to, or into a store")
    if not store.is_url(target) and not parts.elsewhere:  # a run of other processes may be under way there
        check_target(target, single=single_file(target, wanted.container), overwrite=overwrite, inputs=())
    if check == "reference" and (store.is_url(target) or parts.elsewhere):
        raise UsageError("--check=reference reads a target on this machine", path=target, hint="convert to a folder here, and copy it")


def _in_parts(
    done: Conversion, parts: Parts, jobs: int | None, progress: Callable[[int, int], None] | None, *, overwrite: bool, on_overflow: str
) -> Conversion:
    """Carry the plan out into a store, or by other processes; or write it where they find it."""
    from ..fleet.driver import run_in_threads, run_on
    from ..fleet.elsewhere import plan_to
    from ..fleet.engines import engine

    words: dict[str, Any] = {"overwrite": overwrite, "unit": parts.size, "on_overflow": on_overflow}
    if parts.plan_to is not None:
        run = plan_to(done.plan, parts.plan_to, **words)
        units = f"{len(run.units):,} unit{'s' * (len(run.units) != 1)}"
        told = f"a plan of {units}: `ckptkit work` does them, `ckptkit finish` makes the target of them"
        return done._replace(findings=(*done.findings, Finding("info", "plan", parts.plan_to, told)))
    if parts.on is None:
        result = run_in_threads(done.plan, jobs=jobs, progress=progress, **words)
    else:
        with engine(parts.on) as workers:
            result = run_on(done.plan, workers, progress=progress, **words)
    return done._replace(findings=(*done.findings, *result.findings), result=result)


def _refuse_errors(subject: Subject, wanted: Wanted, request: Request, path: str, *, integrity: bool, force: bool) -> list[Finding]:
    """The source's findings, without that of what is to be made new, and what the target would lose of it; FindingsError for
    errors among them, unless `force`."""
    findings = [f for f in run_rules(subject, integrity=integrity) if not (wanted.init_missing and f.rule == "missing")]
    to = wanted.to
    if to is not None and subject.architecture is None and (of := fragment_of(subject, to)):
        said = f"of no whole model: every name is {to}'s already, of {', '.join(of[:4])}{', ...' if len(of) > 4 else ''}: they stay"
        findings.append(Finding("warning", "unknown", subject.checkpoint.path, said, basis="undecided"))
    findings += losses(subject, dialect=request.dialect, casts=bool(wanted.dtypes))
    errors = [f for f in findings if f.severity == "error"]
    if errors and not force:
        raise FindingsError(
            f"{len(errors)} error{'s' * (len(errors) != 1)} in the source, nothing was written", tuple(findings),
            path=path, hint="mend it, or convert all the same with --force",
        )  # fmt: skip
    return findings


def _reference(container: str) -> Callable[[str, str], object]:
    """What reads a container with the format's own library; imported only when it is asked for. UsageError where there is none."""
    from ..runtime.verify.reference import READERS, hold

    if container not in READERS:
        raise UsageError(f"--check=reference: there is no library to read {container} with", hint=f"it can be had for {', '.join(READERS)}")
    return hold
