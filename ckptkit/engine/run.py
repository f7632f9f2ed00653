"""Runs a Plan: moves, re-lays and casts the bytes, in bounded memory, on several threads, into an atomic target.

Policy: everything is refused before the first byte is written that can be (a target that is there, an input that
changed, no space, a plan that does not fit its sources). What is written does not depend on the number of workers or on
the memory allowed. The order of things: tensors, headers, what depends on checksums, read back, sync, rename.
Reading back proves what the kernel holds, not what the disk holds: those bytes come from the page cache.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from contextlib import closing

from .. import store
from .._typing import NamedTuple
from ..containers import Part
from ..errors import CheckpointError, FindingsError, NotFoundError, UnsupportedError, UsageError, one_of
from ..findings import Finding
from ..limits import using
from ..plan.columns import Sources, Tasks, files_of
from ..plan.values import PLAN_VERSION, Plan
from ..store.files import Files
from ..support.files import CHUNK, checksum, quickest_checksum, trim, write_error, writeback
from ..support.machine import LEAST, buffers, processors
from ..support.rows import Rows
from .copies import Copies, runs_of
from .coverage import check_slots
from .crew import Crew
from .jobs import Job, jobs_of, ordered
from .journal import Done, Journal, fingerprint, take_up
from .output import Finish, Finisher, copy_file, create, flush, write_parts, write_text
from .replaceable import current_stamp, private
from .settings import Settings
from .sources import Unpacker, flats
from .staging import Stage
from .worker import Worker

_EACH = 4 << 20  # a worker needs this much at least: 1 MiB to read, to gather and to cast, and a window
OVERFLOW = ("error", "clip", "keep")
TRIM = 5000  # tensors from which on what planning needed is given back to the system before more is asked for
MANY = 64 << 20  # bytes from which on it pays to have the disk begin early


class Result(NamedTuple):
    """What a run did. `crcs` are the checksums of the slots that the container asked for."""

    target: str
    files: tuple[tuple[str, int], ...]
    bytes_read: int
    bytes_written: int
    seconds: float
    crcs: dict[str, int]
    findings: tuple[Finding, ...]


def run(
    plan: Plan,
    *,
    overwrite: bool = False,
    jobs: int | None = None,
    max_memory: int | None = None,
    check: bool = True,
    on_overflow: str = "error",
    sync: bool = True,
    progress: Callable[[int, int], None] | None = None,
    proof: Callable[[str, str], object] | None = None,
    compute_finish: Finish,
) -> Result:
    """Carry out `plan`; the target is there and whole afterwards, or as it was before.

    `max_memory` bounds the buffers (bytes, at least 8 MiB; default: 256 MiB, or a quarter of what the control group allows where that is
    less); `jobs` is how many threads (default: the processors that may be used).
    Without `sync` the disk is not waited for: as safe against a kill, but not against a power cut soon after.
    `check` reads every tensor back and compares. `on_overflow` says what a finite value becomes that a narrower type
    cannot hold: "error" refuses, "clip" stores the largest finite value, "keep" infinity or NaN; the last two are findings.
    `proof` is called with the path of what was written, before it is put in place, and its name for messages: what it raises stops the
    run. `compute_finish` is the container's `finish` (see `finisher`). Raises CheckpointError and its kinds; nothing is left behind then.
    """
    started = time.perf_counter()
    if plan.version != PLAN_VERSION:
        raise UnsupportedError(f"the plan is of version {plan.version}, this ckptkit carries out version {PLAN_VERSION}", hint="plan again")
    options = accepted(Options(jobs, buffers() if max_memory is None else max_memory, check, on_overflow, sync))
    limits = {} if isinstance(plan.sources, Sources) else dict(p for s in plan.sources if s.encoded is not None for p in s.encoded.limits)
    with (
        using(**limits),
        Stage(
            plan.target, single=plan.single, overwrite=overwrite, inputs=_inputs(plan), names=plan.names, mode=mode_of(plan), resume=True
        ) as stage,
        closing(Unpacker()) as unpacker,
    ):
        pinned = store.pin(p for p, _, _ in plan.inputs)  # objects are read as they are now, or not at all
        work = _prepare(plan, options, stage, unpacker, compute_finish)
        try:
            crcs = _tensors(work, progress)
            findings = _overflows(plan, work.crew.hands, on_overflow)
            extra = _headers(work, (work.rest or compute_finish)(plan.layout, crcs)) + work.crew.behind + _beside(work)
            if check:
                work.crew.check(stage)
            if proof is not None:
                proof(work.paths[0] if plan.single else stage.path, plan.target)
            check_inputs(plan)
            del pinned
            if sync:
                work.crew.spread(lambda _, path: flush(path, stage), _staged(work))
        finally:
            work.crew.close()
        sizes = tuple((n, _size(stage.file(n), stage)) for n in plan.names)
        if progress is not None:
            progress(work.total, work.total)
        if work.journal is not None:
            work.journal.close()
        stage.commit(plan.layout.files[0][0] if plan.single else None, sync=sync)
        read = sum(h.bytes_read for h in work.crew.hands)
        return Result(plan.target, sizes, read, work.total + extra, time.perf_counter() - started, crcs, findings)


class Options(NamedTuple):
    """How a plan is carried out: see `run`."""

    jobs: int | None
    max_memory: int
    check: bool
    on_overflow: str
    sync: bool


def accepted(options: Options) -> Options:
    """`options`, or the UsageError of the one that cannot be."""
    if options.on_overflow not in OVERFLOW:
        raise UsageError(f"on_overflow is {options.on_overflow!r}", hint=one_of(options.on_overflow, OVERFLOW))
    if options.max_memory < LEAST:
        raise UsageError(f"a memory bound of {options.max_memory:,} bytes is too little", hint="at least 8 MiB")
    if options.jobs is not None and options.jobs < 1:
        raise UsageError(f"{options.jobs} jobs", hint="at least 1")
    return options


class _Work(NamedTuple):
    """A plan that has been checked, with the files that it is written to, the jobs that it is, and the workers that do them."""

    plan: Plan
    stage: Stage
    paths: tuple[str, ...]  # of the container's files
    todo: list[Job]
    total: int  # bytes of all jobs
    earlier: list[Done]  # what a run that was killed has done of them
    crew: Crew
    journal: Journal | None
    rest: Finish | None  # what is still to be written once all jobs are done, if that is less than usual


def _prepare(plan: Plan, options: Options, stage: Stage, unpacker: Unpacker, finish: Finish) -> _Work:
    """Refuse what can be refused, lay the files out, and hire the workers."""
    kind = plan.layout.checksum or (quickest_checksum() if options.check else None)
    resumable = kind is not None and sum(s for _, s in plan.layout.files) >= MANY
    mark = fingerprint(plan, kind, options.on_overflow) if resumable and kind else ""
    earlier = take_up(stage, plan, mark)
    check_inputs(plan)
    check_slots(plan)
    names = _names(plan)
    if not earlier:
        _check_space(plan, stage)
    workers = max(1, min(options.jobs or processors(), options.max_memory // _EACH, len(plan.tasks)))
    by_slot = plan.layout.checksum is not None
    runs = runs_of(plan)
    sources = flats(plan.sources) if runs is None else ()
    if len(plan.tasks) >= TRIM:
        trim()
    todo = ordered(jobs_of(plan, sources, options.max_memory // workers - 3 * CHUNK, by_slot, runs))
    paths = tuple(stage.file(n) for n in names)
    for path, (_, size) in zip(paths, plan.layout.files, strict=True):
        if not earlier or size <= 0:
            create(path, size, stage)
    journal = Journal(stage, mark) if resumable else None
    total = sum([j.length for j in todo])
    whole = isinstance(finish, Finisher) and finish.behind is not None and by_slot and all(isinstance(j, Copies) for j in todo)
    behind, rest = (finish.behind(plan.layout), finish.rest) if whole and isinstance(finish, Finisher) and finish.behind else (None, None)
    settings = Settings(
        paths, sources, tuple(s.dtype for s in plan.sources) if runs is None else (),
        checksum(kind) if kind else None, by_slot, writeback() if options.sync and total >= MANY else None, options.on_overflow == "clip",
        [False], (lambda *job: journal.add(Done(*job))) if journal is not None else None, options.check, unpacker,
        behind, _ahead(plan, options.max_memory // workers),
    )  # fmt: skip
    return _Work(plan, stage, paths, todo, total, earlier, Crew(settings, stage, max(1, min(workers, len(todo)))), journal, rest)


def _ahead(plan: Plan, memory: int) -> int:
    """How much of its objects a worker with so much memory may hold; 0 where no source lies in a store."""
    return memory // 2 if any(store.is_url(p) for p, _, _ in plan.inputs) else 0


def _tensors(work: _Work, progress: Callable[[int, int], None] | None) -> dict[str, int]:
    """Write every tensor that an earlier run has not; the checksums of the slots, where the container asks for them."""
    crew, total = work.crew, work.total
    todo = crew.left(work.todo, work.earlier) if work.earlier else work.todo
    crew.spread(Worker.do, todo, None if progress is None else (lambda: progress(sum(h.done for h in crew.hands), total)))
    for h in crew.hands:
        h.finish()
    tasks = work.plan.tasks
    names = tasks.names if isinstance(tasks, Tasks) else [t.name for t in tasks]
    crcs = dict.fromkeys(names if work.plan.layout.checksum is not None else (), 0)  # that of no bytes, for those that have none
    for h in crew.hands:
        crcs.update(h.crcs)
    return crcs


def _headers(work: _Work, finish: Iterable[Part | Rows]) -> int:
    """Write what is known of the container's files beforehand, and what depends on their content; its bytes."""
    plan, files = work.plan, Files(work.stage.label)
    try:
        known: list[Part] = sorted(plan.layout.parts, key=lambda p: (p.file, p.offset))
        extra = write_parts(files, work.paths, known)
        extra += write_parts(files, work.paths, finish)
    finally:
        files.close()
    for (name, size), path in zip(plan.layout.files, work.paths, strict=True):
        have = _size(path, work.stage)
        if size >= 0 and have != size:
            raise CheckpointError(f"is {have:,} bytes and was laid out as {size:,}: a mistake of the container", path=name)
    return extra


def _beside(work: _Work) -> int:
    """Write what lies beside the weights; its bytes."""
    stage = work.stage
    copied = sum(copy_file(source, stage.file(name), stage) for source, name in work.plan.copies)
    return copied + sum(write_text(stage.file(name), text, stage) for name, text in work.plan.texts)


def _staged(work: _Work) -> list[str]:
    beside = dict.fromkeys([n for _, n in work.plan.copies] + [n for n, _ in work.plan.texts])
    return [*work.paths, *(work.stage.file(n) for n in beside)]


def _inputs(plan: Plan) -> Iterable[str]:
    """The paths of everything that is read."""
    if isinstance(plan.sources, Sources):
        held = [*dict.fromkeys(plan.sources.paths)]
    else:
        held = [*dict.fromkeys([e[0] for s in plan.sources for e in s[2]]), *[s[5].path for s in plan.sources if s[5] is not None]]
    return dict.fromkeys([p for p, _, _ in plan.inputs] + held + [p for p, _ in plan.copies])


def check_inputs(plan: Plan) -> None:
    """Refuse inputs that are not what they were when the plan was made."""
    for path, size, stamp in plan.inputs:
        found = current_stamp(path)
        if found is None:
            raise NotFoundError("was there when the plan was made and is no readable file now", path=path)
        if found != (size, stamp):
            raise CheckpointError("has changed since the plan was made", path=path, hint="plan again, once nothing writes to it")
    for path, _ in plan.copies:
        if current_stamp(path) is None:
            raise NotFoundError("was to be copied along and is no readable file", path=path)


def mode_of(plan: Plan) -> int:
    """The most that the target's files may permit: what every file of weights that goes into it does."""
    beside = {p for p, _ in plan.copies}
    return private([p for p, _, _ in plan.inputs if p not in beside] or [p for p, _, _ in plan.inputs])


def _size(path: str, stage: Stage) -> int:
    """The bytes of a staged file. Raises CheckpointError where somebody has removed it."""
    try:
        return os.stat(path).st_size
    except OSError as e:
        raise write_error(e, stage.label(path)) from None


def _names(plan: Plan) -> list[str]:
    """The names of the container's files, all names of the target checked."""
    every = plan.names
    if plan.single and len(every) != 1:
        raise CheckpointError(f"the plan is for one file and has {len(every)}", path=plan.target)
    twice = sorted({n for n in every if every.count(n) > 1}) if len(set(every)) < len(every) else []
    if twice:
        raise CheckpointError(f"the plan writes {twice[0]!r} twice", path=plan.target)
    for part in plan.layout.parts:
        if not 0 <= part.file < len(plan.layout.files):
            raise CheckpointError("the plan has a header for a file that is not in it", path=plan.target)
    return [n for n, _ in plan.layout.files]


def _check_space(plan: Plan, stage: Stage) -> None:
    from ..support.progress import human_bytes

    need = sum(s for _, s in plan.layout.files if s > 0) + sum(len(t) for _, t in plan.texts)
    open_ended = {i for i, (_, s) in enumerate(plan.layout.files) if s < 0}
    need += sum(t.slot.length for t in plan.tasks if t.slot.file in open_ended) if open_ended & {*files_of(plan.tasks)} else 0
    need += sum(s[0] for s in (current_stamp(p) for p, _ in plan.copies) if s)
    try:
        v = os.statvfs(stage.path)
    except OSError:
        return
    free = v.f_bavail * v.f_frsize
    if need > free:
        raise CheckpointError(
            f"needs {human_bytes(need)}, has {human_bytes(free)} free", path=plan.target, hint="free some space or choose another place"
        )


def _overflows(plan: Plan, hands: list[Worker], on_overflow: str) -> tuple[Finding, ...]:
    """A finding for every tensor with values too large for its type, in the plan's order; an error unless they are accepted."""
    lost: dict[str, int] = {}
    for h in hands:
        lost.update(h.lost)
    became = {"clip": "were stored as its largest", "keep": "became infinite or NaN", "error": "would become infinite or NaN"}[on_overflow]
    severity, hint = ("error", "choose a wider type, or clip or keep them") if on_overflow == "error" else ("warning", "")
    findings = tuple(
        Finding(severity, "overflow", t.name, f"{lost[t.name]:,} values too large for {t.dtype} {became}", hint)
        for t in (plan.tasks if lost else ())
        if t.name in lost
    )
    if findings and on_overflow == "error":
        first, more = findings[0], f" (and {len(findings) - 1} other tensors)" if len(findings) > 1 else ""
        raise FindingsError(f"{first.where!r}: {first.message}{more}", findings, path=plan.target, hint=hint)
    return findings
