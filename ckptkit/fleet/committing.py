"""The end of a run: its parts become the target.

Policy: readers see the checkpoint of before or the new one. Objects appear when their parts are committed: the shards first, under names
of their own where a checkpoint is replaced, then what lies beside the weights, and the index, or the one file of weights, last, with a
condition. Each step may be done again by whoever takes the run up.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

from .. import store
from ..engine.run import check_inputs
from ..errors import CheckpointError, FindingsError
from ..findings import Finding
from ..store.interface import ABSENT
from ..store.said import ExistsError
from .receipts import Receipt, fold
from .replacing import index_of
from .run import Run, cleaned, is_made, left, read_note
from .units import finish


def commit(run: Run, receipts: dict[str, Receipt]) -> tuple[Finding, ...]:
    """Make the target of its parts, from the receipts of all units (by name). What was to be said of values is returned.

    Raises CheckpointError where a unit is not done, FindingsError for values that were lost.
    """
    if run.committed:
        tidy(run)
        return ()
    lacking = left(run, receipts)
    if lacking:
        message = f"{len(lacking)} of {len(run.units)} units are not done"
        raise CheckpointError(message, path=run.plan.target, hint="begin the same conversion again: it goes on")
    findings = _lost(run, receipts)
    check_inputs(run.plan)
    crcs = fold(run.plan, receipts.values())
    tags: dict[int, dict[int, str]] = {}
    for u in run.units:
        tags.setdefault(u.file, {})[u.number] = receipts[u.name].tag
    last = _last(run)
    for file in run.uploads:
        if file != last:
            _complete(run, file, tags[file])
    for name, data in _beside(run):
        run.tree.put(name, data)
    for file, data in sorted(_late(run, crcs).items(), key=lambda x: x[0] == last):
        _put_late(run, file, data, last=file == last)
    if last in run.uploads:
        _complete(run, last, tags[last], only_if=ABSENT if run.old.fresh else None)
    said = read_note(run.tree, run.manifest) or {}
    run.tree.put(run.manifest, json.dumps({**said, "committed": True}).encode())
    tidy(run)
    return findings


def tidy(run: Run) -> None:
    """Remove what the new checkpoint took the place of, and the notes."""
    run.tree.delete_all(run.old.obsolete)
    clear(run)


def _last(run: Run) -> int:
    """The file whose appearance makes the checkpoint: an index, else the last of the layout."""
    at = index_of(run.plan)
    return len(run.plan.layout.files) - 1 if at is None else at


def _complete(run: Run, file: int, tags: dict[int, str], only_if: str | None = None) -> None:
    """Commit one object; one that an earlier run has committed is there with the bytes that it is to have."""
    name = run.name(file)
    try:
        run.tree.sink(name).commit(run.uploads[file], tags, only_if=only_if)
    except KeyError:
        if not is_made(run, file):
            message = "its parts are gone, and so is what was made of them"
            raise CheckpointError(message, path=run.tree.label(name), hint=f"{cleaned(run.plan)}, and begin again") from None


def _late(run: Run, crcs: dict[str, int]) -> dict[int, bytes]:
    """The files without tensors, whole: indexes."""
    out: dict[int, bytearray] = {i: bytearray() for i in range(len(run.plan.layout.files)) if i not in run.uploads}
    for p in (*run.plan.layout.parts, *finish(run.plan, crcs)):
        held = out.get(p.file)
        if held is not None:
            held.extend(bytes(max(0, p.offset + len(p.data) - len(held))))
            held[p.offset : p.offset + len(p.data)] = p.data
    return {i: bytes(b) for i, b in out.items()}


def _put_late(run: Run, file: int, data: bytes, *, last: bool) -> None:
    """Write a file without tensors; the last of all only where nothing, or what was there when the run began, still is."""
    name = run.name(file)
    if not last:
        run.tree.put(name, data)
        return
    try:
        run.tree.put(name, data, only_if=run.old.tag or ABSENT)
    except ExistsError:
        run.tree.fresh()
        blob = run.tree.blob(name)
        if blob.size != len(data) or blob.pread(blob.size, 0) != data:  # else this run has written it before it died
            raise


def _beside(run: Run) -> Iterable[tuple[str, bytes]]:
    """What lies beside the weights: texts, and files that are copied."""
    for source, name in run.plan.copies:
        yield name, store.read_bytes(source, "header_bytes")
    for name, text in run.plan.texts:
        yield name, text.encode("utf-8", "backslashreplace")


def _lost(run: Run, receipts: dict[str, Receipt]) -> tuple[Finding, ...]:
    lost: dict[str, int] = {}
    for r in receipts.values():
        for name, n in r.lost.items():
            lost[name] = lost.get(name, 0) + n
    became = {"clip": "were stored as its largest", "keep": "became infinite or NaN", "error": "would become infinite or NaN"}
    how, severity = run.on_overflow, "error" if run.on_overflow == "error" else "warning"
    findings = tuple(
        Finding(severity, "overflow", t.name, f"{lost[t.name]:,} values too large for {t.dtype} {became[how]}",
                "choose a wider type, or clip or keep them" if severity == "error" else "")
        for t in run.plan.tasks
        if t.name in lost
    )  # fmt: skip
    if findings and how == "error":
        abandon(run)
        raise FindingsError(f"{findings[0].where!r}: {findings[0].message}", findings, path=run.plan.target, hint=findings[0].hint)
    return findings


def abandon(run: Run) -> None:
    """Throw away what a run has stored, and what it has put beside it into a place that was empty."""
    run.tree.fresh()
    if run.old.fresh and not run.plan.single:
        run.tree.delete_all(run.tree.list().keys() & set(run.plan.names))
    for file, upload in run.uploads.items():
        run.tree.sink(run.name(file)).abort(upload)
    clear(run)


def clear(run: Run) -> None:
    """Remove the notes of a run, whoever wrote them."""
    run.tree.fresh()
    run.tree.delete_all(map(run.note, run.tree.list(f"{run.notes}/{run.mark}")))
    run.tree.delete(run.manifest)
