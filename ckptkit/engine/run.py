"""Runs a Plan: moves, re-lays and casts the bytes, in bounded memory, on several threads, into an atomic target.

Policy: everything is refused before the first byte is written that can be (a target that is there, an input that
changed, no space, a plan that does not fit its sources). What is written does not depend on the number of workers or on
the memory allowed. The order of things: tensors, headers, what depends on checksums, read back, sync, rename.
Reading back proves what the kernel holds, not what the disk holds: those bytes come from the page cache.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager

from .._typing import TYPE_CHECKING, NamedTuple
from ..containers import FileLayout, Part
from ..errors import CheckpointError, CorruptError, FindingsError, NotFoundError, UsageError
from ..findings import Finding
from ..plan.values import Plan, Source
from ..support.files import CHUNK, Files, checksum, quickest_checksum, trim, write_error, writeback
from ..tensors import Extent
from .jobs import Job, jobs_of, ordered
from .journal import Done, Journal, fingerprint, take_up
from .loop_nest import flat
from .output import copy_file, create, flush, write_parts, write_text
from .replaceable import private, readable_file
from .staging import Stage
from .worker import Settings, Stopped, Worker, Written, check_groups

if TYPE_CHECKING:
    from typing import TypeVar

    T = TypeVar("T")

LEAST_MEMORY = 8 << 20
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
    max_memory: int = 256 << 20,
    check: bool = True,
    on_overflow: str = "error",
    sync: bool = True,
    progress: Callable[[int, int], None] | None = None,
    proof: Callable[[str, str], object] | None = None,
    compute_finish: Callable[[FileLayout, Mapping[str, int]], Iterable[Part]],
) -> Result:
    """Carry out `plan`; the target is there and whole afterwards, or as it was before.

    `max_memory` bounds the buffers (bytes, at least 8 MiB); `jobs` is how many threads (default: the processors).
    Without `sync` the disk is not waited for: as safe against a kill, but not against a power cut soon after.
    `check` reads every tensor back and compares. `on_overflow` says what a finite value becomes that a narrower type
    cannot hold: "error" refuses, "clip" stores the largest finite value, "keep" infinity or NaN; the last two are findings.
    `proof` is called with the path of what was written, before it is put in place, and its name for messages: what it raises stops the
    run. `compute_finish` is the container's `finish`. Raises CheckpointError and its kinds; nothing is left behind then.
    """
    started = time.perf_counter()
    if on_overflow not in OVERFLOW:
        raise UsageError(f"on_overflow is {on_overflow!r}", hint=f"one of {', '.join(OVERFLOW)}")
    if max_memory < LEAST_MEMORY:
        raise UsageError(f"a memory bound of {max_memory:,} bytes is too little", hint="at least 8 MiB")
    if jobs is not None and jobs < 1:
        raise UsageError(f"{jobs} jobs", hint="at least 1")
    inputs = [p for p, _, _ in plan.inputs] + [e.path for s in plan.sources for e in s.extents] + [p for p, _ in plan.copies]
    kind = plan.layout.checksum or (quickest_checksum() if check else None)
    resumable = kind is not None and sum(s for _, s in plan.layout.files) >= MANY
    mark = fingerprint(plan, kind, on_overflow) if resumable and kind else ""
    with (
        Stage(
            plan.target,
            single=plan.single,
            overwrite=overwrite,
            inputs=dict.fromkeys(inputs),
            names=plan.names,
            mode=_mode(plan),
            resume=True,
        ) as stage,
        _inline(plan) as plan,
    ):
        earlier = take_up(stage, plan, mark)
        check_inputs(plan)
        names = _names(plan)
        if not earlier:
            _check_space(plan, stage)
        workers = max(1, min(jobs or os.cpu_count() or 1, max_memory // _EACH, len(plan.tasks)))
        by_slot = plan.layout.checksum is not None
        sources = tuple(flat(s) for s in plan.sources)
        if len(plan.tasks) >= TRIM:
            trim()
        todo = jobs_of(plan, sources, max_memory // workers - 3 * CHUNK, by_slot)
        todo = ordered(todo)
        paths = tuple(stage.file(n) for n in names)
        for path, (_, size) in zip(paths, plan.layout.files, strict=True):
            if not earlier or size <= 0:
                create(path, size, stage)
        journal = Journal(stage, mark) if resumable else None
        total = sum(j.length for j in todo)
        stop = [False]
        settings = Settings(
            paths, sources, tuple(s.dtype for s in plan.sources),
            checksum(kind) if kind else None, by_slot, writeback() if sync and total >= MANY else None, on_overflow == "clip", stop,
            (lambda *job: journal.add(Done(*job))) if journal is not None else None, check,
        )  # fmt: skip
        hands = [Worker(settings, Files(stage.label)) for _ in range(max(1, min(workers, len(todo))))]
        report = None if progress is None else (lambda: progress(sum(h.done for h in hands), total))
        try:
            todo = _left(hands, todo, earlier, settings, stop)
            _spread(hands, Worker.do, todo, stop, report)
            crcs = {t.name: 0 for t in plan.tasks if by_slot}  # that of no bytes, for those that have none
            for h in hands:
                crcs.update(h.crcs)
            findings = _overflows(plan, hands, on_overflow)
            extra = 0
            files = Files(stage.label)
            try:
                extra += write_parts(files, paths, sorted(plan.layout.parts, key=lambda p: (p.file, p.offset)))
                extra += write_parts(files, paths, compute_finish(plan.layout, crcs))
                for (name, size), path in zip(plan.layout.files, paths, strict=True):
                    have = _size(path, stage)
                    if size >= 0 and have != size:
                        raise CheckpointError(f"is {have:,} bytes and was laid out as {size:,}: a mistake of the container", path=name)
            finally:
                files.close()
            extra += sum(copy_file(source, stage.file(name), stage) for source, name in plan.copies)
            extra += sum(write_text(stage.file(name), text, stage) for name, text in plan.texts)
            if check:
                _check(hands, paths, stage, stop)
            if proof is not None:
                proof(paths[0] if plan.single else stage.path, plan.target)
            check_inputs(plan)
            staged = [*paths, *(stage.file(n) for n in dict.fromkeys([n for _, n in plan.copies] + [n for n, _ in plan.texts]))]
            if sync:
                _spread(hands, lambda _, path: flush(path, stage), staged, stop, None)
        finally:
            for h in hands:
                h.close()
        sizes = tuple((n, _size(stage.file(n), stage)) for n in plan.names)
        if progress is not None:
            progress(total, total)
        if journal is not None:
            journal.close()
        stage.commit(names[0] if plan.single else None, sync=sync)
        read = sum(h.bytes_read for h in hands)
        return Result(plan.target, sizes, read, total + extra, time.perf_counter() - started, crcs, findings)


@contextmanager
def _inline(plan: Plan) -> Iterator[Plan]:
    """The plan with the sources that carry their own bytes put into a temporary file, so that every source has extents."""
    if all(s.data is None for s in plan.sources):
        yield plan
        return
    import tempfile

    with tempfile.NamedTemporaryFile(prefix="ckptkit-") as file:
        sources = []
        for s in plan.sources:
            if s.data is None:
                sources.append(s)
            else:
                sources.append(Source(s.name, s.dtype, (Extent(file.name, file.tell(), len(s.data)),)))
                file.write(s.data)
        file.flush()
        yield plan._replace(sources=tuple(sources))


def check_inputs(plan: Plan) -> None:
    """Refuse inputs that are not what they were when the plan was made."""
    for path, size, mtime_ns in plan.inputs:
        s = readable_file(path)
        if s is None:
            raise NotFoundError("was there when the plan was made and is no readable file now", path=path)
        if s.st_size != size or s.st_mtime_ns != mtime_ns:
            raise CheckpointError("has changed since the plan was made", path=path, hint="plan again, once nothing writes to it")
    for path, _ in plan.copies:
        if readable_file(path) is None:
            raise NotFoundError("was to be copied along and is no readable file", path=path)


def _size(path: str, stage: Stage) -> int:
    """The bytes of a staged file. Raises CheckpointError where somebody has removed it."""
    try:
        return os.stat(path).st_size
    except OSError as e:
        raise write_error(e, stage.label(path)) from None


def _mode(plan: Plan) -> int:
    """The most that the target's files may permit: what every file of weights that goes into it does."""
    beside = {p for p, _ in plan.copies}
    return private([p for p, _, _ in plan.inputs if p not in beside] or [p for p, _, _ in plan.inputs])


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
    need += sum(t.slot.length for t in plan.tasks if t.slot.file in open_ended)
    need += sum(s.st_size for s in (readable_file(p) for p, _ in plan.copies) if s)
    try:
        v = os.statvfs(stage.path)
    except OSError:
        return
    free = v.f_bavail * v.f_frsize
    if need > free:
        raise CheckpointError(
            f"needs {human_bytes(need)}, has {human_bytes(free)} free", path=plan.target, hint="free some space or choose another place"
        )


def _spread(
    hands: list[Worker], do: Callable[[Worker, T], None], todo: Iterable[T], stop: list[bool], report: Callable[[], None] | None
) -> None:
    """Do everything in `todo` on the workers' threads; the first failure, or an interrupt here, stops the others and is raised."""
    items = iter(todo)
    lock = threading.Lock()
    failures: list[BaseException] = []

    def work(hand: Worker) -> None:
        try:
            while not stop[0]:
                with lock:
                    item = next(items, end)
                if item is end:
                    return
                do(hand, item)  # type: ignore[arg-type]
        except Stopped:
            return
        except BaseException as e:  # noqa: BLE001, RUF100
            failures.append(e)
            stop[0] = True

    end = object()
    threads = [threading.Thread(target=work, args=(h,), daemon=True) for h in hands]
    try:
        for t in threads:
            t.start()
        for t in threads:
            while t.is_alive():
                t.join(None if report is None else 0.1)
                if report is not None and not stop[0]:
                    report()
    except BaseException:
        stop[0] = True
        for t in threads:
            if t.ident is not None:
                t.join()
        raise
    if failures:
        raise next((e for e in failures if isinstance(e, CheckpointError)), failures[0])


def _left(hands: list[Worker], todo: list[Job], earlier: list[Done], settings: Settings, stop: list[bool]) -> list[Job]:
    """The jobs that an earlier run has not done, or whose bytes are no longer right; what it found out of the others is taken over."""
    if not earlier:
        return todo
    wanted = {(j.file, j.offset, j.length) for j in todo}
    right: set[tuple[int, int, int]] = set()

    def look(hand: Worker, done: Done) -> None:
        place = done.file, done.offset, done.length
        if place in wanted and done.written and all(0 <= w[0] < len(settings.paths) for w in done.written):
            try:
                if any(hand.check(group) is not None for group in check_groups(done.written)):
                    return
            except CheckpointError:
                return
            hand.crcs.update(done.crcs)
            hand.lost.update(done.lost)
            hand.done += done.length
            right.add(place)
            if settings.note is not None:
                settings.note(*done)

    _spread(hands, look, earlier, stop, None)
    return [j for j in todo if (j.file, j.offset, j.length) not in right]


def _overflows(plan: Plan, hands: list[Worker], on_overflow: str) -> tuple[Finding, ...]:
    """A finding for every tensor with values too large for its type, in the plan's order; an error unless they are accepted."""
    lost: dict[str, int] = {}
    for h in hands:
        lost.update(h.lost)
    became = {"clip": "were stored as its largest", "keep": "became infinite or NaN", "error": "would become infinite or NaN"}[on_overflow]
    severity, hint = ("error", "choose a wider type, or clip or keep them") if on_overflow == "error" else ("warning", "")
    findings = tuple(
        Finding(severity, "overflow", t.name, f"{lost[t.name]:,} values too large for {t.dtype} {became}", hint)
        for t in plan.tasks
        if t.name in lost
    )
    if findings and on_overflow == "error":
        first, more = findings[0], f" (and {len(findings) - 1} other tensors)" if len(findings) > 1 else ""
        raise FindingsError(f"{first.where!r}: {first.message}{more}", findings, path=plan.target, hint=hint)
    return findings


def _check(hands: list[Worker], paths: tuple[str, ...], stage: Stage, stop: list[bool]) -> None:
    """Read back what was written and hold it against the checksums taken while writing."""
    wrong: list[tuple[int, int, str]] = []

    def one(hand: Worker, group: list[Written]) -> None:
        bad = hand.check(group)
        if bad is not None:
            wrong.append(bad)

    _spread(hands, one, check_groups([w for h in hands for w in h.written]), stop, None)
    if wrong:
        file, offset, name = min(wrong)
        hint = "the disk or memory of this machine may be failing"
        raise CorruptError(
            f"{name!r} at byte {offset:,} reads back differently from what was written", path=stage.label(paths[file]), hint=hint
        )
