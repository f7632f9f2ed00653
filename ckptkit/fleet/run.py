"""A run: begun, done unit by unit, committed. All that it needs to go on after any death lies beside the target, in `.ckptkit/`.

Policy: readers see the checkpoint of before or the new one. Objects appear when their parts are committed: the shards first, under names
of their own where a checkpoint is replaced, then what lies beside the weights, and the index, or the one file of weights, last, with a
condition. Which parts there are is the store's word; a note only adds the checksums. A unit done twice is as good as once. Whoever begins
the same run again takes up what is there; another run into the same place is refused until the first is finished or cleaned away.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence

from .. import store
from .._typing import Any, NamedTuple
from ..containers import Part, by_name
from ..engine.coverage import check_slots
from ..engine.journal import fingerprint
from ..engine.run import check_inputs
from ..errors import CheckpointError, FindingsError, UsageError
from ..findings import Finding
from ..plan.values import Plan, from_json, to_json
from ..store.below import tree_at
from ..store.interface import ABSENT, Tree
from ..store.said import ExistsError
from .make import made
from .receipts import Receipt, fold, receipt_of
from .replacing import Old, in_new_names, look_at_old, old_of
from .units import UNIT, Finish, Unit, cut_plan, part_of

NOTES = ".ckptkit"
Upload = dict[str, str]


class Run(NamedTuple):
    """A run that was begun: its plan (in the names that the target gets), the tree that it writes to, its units, the uploads of its files
    by their numbers, and what it takes the place of."""

    plan: Plan
    tree: Tree
    mark: str
    units: tuple[Unit, ...]
    uploads: dict[int, Upload]
    old: Old
    on_overflow: str
    notes: str
    committed: bool = False  # whether the target is there, and only what is of no use any more has to be removed

    def name(self, file: int) -> str:
        """What a file of the layout is called in the tree."""
        return self.plan.layout.files[file][0]

    def note(self, word: str) -> str:
        """The name of a note."""
        return f"{self.notes}/{self.mark}/{word}"


def finish_of(plan: Plan) -> Finish:
    """What makes the bytes of the plan's container that depend on checksums."""
    return by_name(plan.layout.container).finish


def place_of(plan: Plan) -> tuple[str, str]:
    """(the folder that a plan's target is in or is, the name in it of a target that is one file)."""
    if not plan.single:
        return plan.target.rstrip("/"), ""
    folder, _, name = plan.target.rstrip("/").rpartition("/")
    return folder or ".", name


def begin(plan: Plan, *, overwrite: bool = False, unit: int = UNIT, on_overflow: str = "error") -> Run:
    """Begin the run of a plan, or take one up that was begun. Raises UsageError where the target is there, or another run is under way."""
    if not plan.layout.files:
        raise UsageError("there is nothing to write", path=plan.target)
    check_slots(plan)
    check_inputs(plan)
    folder, single = place_of(plan)
    tree = tree_at(folder)
    tree.fresh()
    notes = f"{NOTES}/{single}" if single else NOTES
    mark = fingerprint(plan, plan.layout.checksum or "-", on_overflow)[:24]
    manifest, said = f"{notes}/run.json", _json(tree, f"{notes}/run.json")
    if said is not None and said.get("mark") != mark:
        raise UsageError("another run into this place is not finished", path=plan.target, hint=_clean(plan))
    old = look_at_old(plan, tree, single, overwrite=overwrite) if said is None else old_of(said["old"])
    plan = in_new_names(plan, old, mark)
    old = old._replace(obsolete=tuple(n for n in old.obsolete if n not in plan.names))
    units = cut_plan(plan, finish_of(plan), unit, tree.least_part)
    if said is None:
        mine = {u.file: tree.sink(plan.layout.files[u.file][0]).begin() for u in units if u.number == 1}
        said = {"ckptkit_run": 1, "mark": mark, "unit": unit, "old": old._asdict(), "uploads": {str(f): u for f, u in mine.items()}}
        try:
            tree.put(manifest, json.dumps(said).encode(), only_if=ABSENT)
        except ExistsError:
            for f, u in mine.items():
                tree.sink(plan.layout.files[f][0]).abort(u)
            return begin(plan, overwrite=overwrite, unit=unit, on_overflow=on_overflow)
    uploads = {int(f): dict(u) for f, u in said["uploads"].items()}
    if {u.file for u in units} != uploads.keys() or said.get("unit") != unit:
        raise UsageError("the run that is under way was cut another way", path=plan.target, hint=_clean(plan))
    return Run(plan, tree, mark, units, uploads, old, on_overflow, notes, said.get("committed") is True)


def _clean(plan: Plan) -> str:
    """The hint that says how to be rid of a run."""
    return f"ckptkit clean {plan.target} shows it; with --remove it is gone"


def do(run: Run, unit: Unit, crcs: dict[str, int] | None = None) -> Receipt:
    """Make a unit and store it as its part. One that waits is only summed, until `crcs` are given. Done twice is as good as once."""
    if not unit.waits or crcs is not None:
        own = dict.fromkeys((t.name for t in run.plan.tasks), 0)
        with made(part_of(run.plan, unit), clip=run.on_overflow == "clip") as m:
            extra = [p for p in finish_of(run.plan)(run.plan.layout, crcs or {**own, **m.crcs}) if p.file == unit.file]
            data = _with(m.data, unit, extra)
            tag = run.tree.sink(run.name(unit.file)).part(run.uploads[unit.file], unit.number, data)
            receipt = Receipt(unit.name, tag, len(data), _sums(run.plan, unit, m.crcs), dict(m.lost), m.read)
    else:
        with made(part_of(run.plan, unit), clip=run.on_overflow == "clip") as m:
            receipt = Receipt(unit.name, "", unit.stop - unit.start, _sums(run.plan, unit, m.crcs), dict(m.lost), m.read)
    if crcs is None:
        run.tree.put(run.note(f"{unit.name}.json"), json.dumps(receipt.to_json()).encode())
    return receipt


def _with(data: memoryview, unit: Unit, parts: Iterable[Part]) -> memoryview:
    """A unit's bytes with what depends on checksums put in."""
    made_ = [p for p in parts if unit.start < p.offset + len(p.data) and p.offset < unit.stop]
    if not made_:
        return data
    out = bytearray(data)
    for p in made_:
        low, high = max(p.offset, unit.start), min(p.offset + len(p.data), unit.stop)
        out[low - unit.start : high - unit.start] = p.data[low - p.offset : high - p.offset]
    return memoryview(out)


def _sums(plan: Plan, unit: Unit, crcs: dict[str, int]) -> dict[str, tuple[int, int, int]]:
    out = {}
    for t in plan.tasks:
        if t.name in crcs and t.slot.file == unit.file:
            low, high = max(unit.start, t.slot.offset), min(unit.stop, t.slot.offset + t.slot.length)
            if low < high:
                out[t.name] = low - t.slot.offset, high - low, crcs[t.name]
    return out


def done(run: Run) -> dict[str, Receipt]:
    """The receipts of units that are done, by unit: those whose part the store has as the note says, or whose object is committed."""
    tree = run.tree
    tree.fresh()
    there: dict[int, dict[int, tuple[str, int]] | None] = {}
    for file, upload in run.uploads.items():
        try:
            there[file] = tree.sink(run.name(file)).parts(upload)
        except KeyError:
            entry = tree.entry(run.name(file))
            there[file] = None if entry is not None and entry.size == run.plan.layout.files[file][1] else {}
    out = {}
    notes = tree.list(f"{run.notes}/{run.mark}")
    for u in run.units:
        if f"{u.name}.json" not in notes:
            continue
        said = _json(tree, run.note(f"{u.name}.json"))
        try:
            receipt = receipt_of(said or {})
        except (KeyError, TypeError, ValueError):
            continue
        parts = there[u.file]
        if receipt.unit == u.name and (parts is None or u.waits or parts.get(u.number) == (receipt.tag, receipt.size)):
            out[u.name] = receipt
    return out


def left(run: Run, have: dict[str, Receipt]) -> list[Unit]:
    """The units that are not done."""
    return [u for u in run.units if u.name not in have]


def commit(run: Run, receipts: dict[str, Receipt]) -> tuple[Finding, ...]:
    """Make the target of its parts. Raises CheckpointError where a unit is not done, FindingsError for values that were lost."""
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
        got = receipts[u.name]
        if u.waits and not _committed(run, u.file):
            got = do(run, u, crcs)
        tags.setdefault(u.file, {})[u.number] = got.tag
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
    said = _json(run.tree, f"{run.notes}/run.json") or {}
    run.tree.put(f"{run.notes}/run.json", json.dumps({**said, "committed": True}).encode())
    tidy(run)
    return findings


def tidy(run: Run) -> None:
    """Remove what the new checkpoint took the place of, and the notes."""
    for name in run.old.obsolete:
        run.tree.delete(name)
    clear(run)


def _last(run: Run) -> int:
    """The file whose appearance makes the checkpoint: an index, else the last of the layout."""
    names = [n for n, _ in run.plan.layout.files]
    return next((i for i, n in enumerate(names) if n.endswith((".index.json", ".index"))), len(names) - 1)


def _committed(run: Run, file: int) -> bool:
    try:
        run.tree.sink(run.name(file)).parts(run.uploads[file])
    except KeyError:
        return True
    return False


def _complete(run: Run, file: int, tags: dict[int, str], only_if: str | None = None) -> None:
    """Commit one object; one that an earlier run has committed is there with the bytes that it is to have."""
    name, size = run.plan.layout.files[file]
    try:
        run.tree.sink(name).commit(run.uploads[file], tags, only_if=only_if)
    except KeyError:
        found = run.tree.entry(name)
        if found is None or found.size != size:
            message = "its parts are gone, and so is what was made of them"
            raise CheckpointError(message, path=run.tree.label(name), hint=f"{_clean(run.plan)}, and begin again") from None


def _late(run: Run, crcs: dict[str, int]) -> dict[int, bytes]:
    """The files without tensors, whole: indexes."""
    out: dict[int, bytearray] = {i: bytearray() for i in range(len(run.plan.layout.files)) if i not in run.uploads}
    for p in (*run.plan.layout.parts, *finish_of(run.plan)(run.plan.layout, crcs)):
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
    """Throw away what a run has stored."""
    for file, upload in run.uploads.items():
        run.tree.sink(run.name(file)).abort(upload)
    clear(run)


def clear(run: Run) -> None:
    """Remove the notes of a run."""
    for n in run.tree.list(f"{run.notes}/{run.mark}"):
        run.tree.delete(run.note(n))
    run.tree.delete(f"{run.notes}/run.json")


def carry_out(run: Run, spread: Callable[[Callable[[Unit], Receipt], Sequence[Unit]], Iterable[Receipt]]) -> tuple[Finding, ...]:
    """Do what is left of a run by `spread`(do, units), and commit it."""
    if run.committed:
        return commit(run, {})
    have = done(run)
    for r in spread(lambda u: do(run, u), left(run, have)):
        have[r.unit] = r
    return commit(run, have)


def save_plan(plan: Plan) -> bytes:
    """A plan as the text of a note."""
    return json.dumps(to_json(plan)).encode()


def load_plan(data: bytes) -> Plan:
    """The plan of a note."""
    return from_json(json.loads(data))


def _json(tree: Tree, name: str) -> dict[str, Any] | None:
    """A note; None where there is none."""
    entry = tree.entry(name)
    if entry is None or entry.size < 0:
        return None
    blob = tree.blob(name)
    try:
        value = json.loads(blob.pread(blob.size, 0))
    except ValueError:
        return None
    finally:
        blob.close()
    return value if isinstance(value, dict) else None
