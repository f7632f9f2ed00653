"""A run: begun, joined by whoever works on it, done unit by unit. All that it needs to go on after any death lies beside the target, in
`.ckptkit/`.

Policy: readers see the checkpoint of before or the new one (`committing`). Which parts there are is the store's word; a note only adds the
checksums. A unit done twice is as good as once. Whoever begins the same run again takes up what is there; another run into the same place
is refused until the first is finished or cleaned away. A worker never begins a run: one that comes late finds none, and does nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial

from .. import store
from .._typing import Any, NamedTuple
from ..containers import Part
from ..engine.coverage import check_slots
from ..engine.journal import fingerprint
from ..engine.run import check_inputs, mode_of
from ..errors import CheckpointError, NotFoundError, UsageError
from ..plan.values import Plan
from ..store.below import tree_at
from ..store.interface import ABSENT, Tree
from ..store.local import LocalTree
from ..store.said import ExistsError
from .make import Memory, made
from .receipts import Receipt, fold, receipt_of
from .replacing import Old, in_new_names, look_at_old, old_of
from .saved import Saved, from_anywhere, load, save
from .units import Places, Unit, cut, finish, part_of, places_of, size_for, wide, within

NOTES = ".ckptkit"
AT_ONCE = 16  # notes that are read together
Upload = dict[str, str]
Where = tuple[Tree, str, str]


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
    places: Places
    unit: int  # bytes of a unit
    memory: Memory
    sending: AbstractContextManager[object] = nullcontext()  # held while a part is sent
    committed: bool = False  # whether the target is there, and only what is of no use any more has to be removed

    def name(self, file: int) -> str:
        """What a file of the layout is called in the tree."""
        return self.plan.layout.files[file][0]

    def note(self, word: str) -> str:
        """The name of a note."""
        return f"{self.notes}/{self.mark}/{word}"

    @property
    def manifest(self) -> str:
        """The name of the note that says that there is a run."""
        return f"{self.notes}/run.json"


def place_of(plan: Plan) -> tuple[str, str]:
    """(the folder that a plan's target is in or is, the name in it of a target that is one file)."""
    target = store.absolute(plan.target).rstrip("/")
    if not plan.single:
        return target, ""
    folder, _, name = target.rpartition("/")
    return folder, name


def begin(
    plan: Plan, *, overwrite: bool = False, unit: int = 0, on_overflow: str = "error", shared: bool = False, usual: int = 0
) -> Run:
    """Begin the run of a plan, or take one up that was begun.

    `unit`: bytes of a unit (0: as the run was cut that is taken up, or `usual`, or by the target's size). `on_overflow`: as for `convert`.
    `shared`: note the plan beside the target too, for workers that are other processes. Raises UsageError where the target is there, or
    another run is under way.
    """
    if not plan.layout.files:
        raise UsageError("there is nothing to write", path=plan.target)
    check_slots(plan)
    check_inputs(plan)
    plan = from_anywhere(plan)
    at = _where(plan, on_overflow)
    tree, notes, mark = at
    said = read_note(tree, f"{notes}/run.json")
    if said is not None and said.get("mark") != mark:
        raise UsageError("another run into this place is not finished", path=plan.target, hint=cleaned(plan))
    there = said.get("unit") if said is not None else None
    size = unit or (there if isinstance(there, int) and there > 0 else usual or size_for(plan))
    new = said is None
    if said is None:
        said = _made(plan, at, size, overwrite)
    if said is None:  # somebody else was quicker
        return begin(plan, overwrite=overwrite, unit=unit, on_overflow=on_overflow, shared=shared, usual=usual)
    run = _taken_up(plan, at, said, size, on_overflow)
    if not new and not run.committed:
        run = _renewed(run, said)
    if shared and not run.committed:
        tree.put(run.note("plan.json"), save(Saved(plan, size, on_overflow, overwrite)))
    return run


def _made(plan: Plan, at: Where, size: int, overwrite: bool) -> dict[str, Any] | None:
    """The manifest of a run that is new, which is written only where there is none: None where there is one meanwhile."""
    tree, notes, mark = at
    old = look_at_old(plan, tree, place_of(plan)[1], overwrite=overwrite)
    plan = in_new_names(plan, old, mark)
    files = sorted({u.file for u in cut(plan, size, tree.least_part, equal=tree.equal_parts)})
    mine: dict[int, Upload] = {}
    said: dict[str, Any] = {}
    try:
        for f in files:
            mine[f] = tree.sink(plan.layout.files[f][0]).begin()
        said = {"ckptkit_run": 2, "mark": mark, "unit": size, "old": _without(old, plan)._asdict()}
        said["uploads"] = {str(f): u for f, u in mine.items()}
        tree.put(f"{notes}/run.json", json.dumps(said).encode(), only_if=ABSENT)
    except CheckpointError as e:
        if isinstance(e, ExistsError) or not said or _withdrawn(tree, f"{notes}/run.json", said):
            for f, u in mine.items():
                tree.sink(plan.layout.files[f][0]).abort(u)
        if isinstance(e, ExistsError):
            return None
        raise
    return said


def _withdrawn(tree: Tree, name: str, said: dict[str, Any]) -> bool:
    """Whether it is certain that there is no manifest that says this: it may have been written, and only the answer was lost."""
    try:
        tree.fresh()
        if read_note(tree, name) == json.loads(json.dumps(said)):
            tree.delete(name)
    except CheckpointError:
        return False
    return True


def join(plan: Plan, *, unit: int, on_overflow: str = "error") -> Run:
    """The run of a plan that somebody else has begun, with the same `unit`. Raises NotFoundError where it is not under way."""
    check_inputs(plan)
    at = _where(plan, on_overflow)
    said = read_note(at[0], f"{at[1]}/run.json")
    if said is None:
        message = "no run into this place is under way"
        raise NotFoundError(message, path=plan.target, hint="it was finished or cleaned away; `ckptkit convert` begins it")
    if said.get("mark") != at[2]:
        message = "the run that is under way is of another plan, or was begun by another version of ckptkit"
        raise UsageError(message, path=plan.target, hint="the same version is needed everywhere")
    return _taken_up(plan, at, said, unit, on_overflow)


def _where(plan: Plan, on_overflow: str) -> Where:
    """(the tree, the folder of the notes in it, the word that tells the run from others)."""
    folder, single = place_of(plan)
    tree = tree_at(folder)
    tree.fresh()
    if isinstance(tree, LocalTree):
        tree.mode = mode_of(plan)
    mark = fingerprint(plan, plan.layout.checksum or "-", on_overflow)[:24]
    return tree, f"{NOTES}/{single}" if single else NOTES, mark


def _taken_up(plan: Plan, at: Where, said: dict[str, Any], size: int, on_overflow: str) -> Run:
    """The run that a manifest tells of."""
    tree, notes, mark = at
    old = old_of(said["old"])
    plan = in_new_names(plan, old, mark)
    units = cut(plan, size, tree.least_part, equal=tree.equal_parts)
    uploads = {int(f): dict(u) for f, u in said["uploads"].items()}
    if {u.file for u in units} != uploads.keys() or said.get("unit") != size:
        hint = f"the --part-size that it was begun with; or {cleaned(plan)}"
        raise UsageError("the run that is under way was cut another way", path=plan.target, hint=hint)
    committed = said.get("committed") is True
    old, places = _without(old, plan), places_of(plan)
    return Run(plan, tree, mark, units, uploads, old, on_overflow, notes, places, size, Memory(size), committed=committed)


def _renewed(run: Run, said: dict[str, Any]) -> Run:
    """The run with new uploads for those that are gone though nothing was made of them: a store may throw away what was begun long ago."""
    uploads = dict(run.uploads)
    for file, upload in run.uploads.items():
        sink = run.tree.sink(run.name(file))
        try:
            sink.parts(upload)
        except KeyError:
            if not is_made(run, file):
                uploads[file] = sink.begin()
    if uploads != run.uploads:
        run.tree.put(run.manifest, json.dumps({**said, "uploads": {str(f): u for f, u in uploads.items()}}).encode())
    return run._replace(uploads=uploads)


def is_made(run: Run, file: int) -> bool:
    """Whether an object is there that has the bytes that a file of the layout is to have, and is not what was there before."""
    run.tree.fresh()
    found = run.tree.entry(run.name(file))
    return found is not None and found.size == run.plan.layout.files[file][1] and (not run.old.was or found.tag != run.old.was)


def _without(old: Old, plan: Plan) -> Old:
    """What a run takes the place of, without what it writes itself."""
    return old._replace(obsolete=tuple(n for n in old.obsolete if n not in plan.names))


def cleaned(plan: Plan) -> str:
    """The hint that says how to be rid of a run."""
    return f"ckptkit clean {plan.target} shows it; with --remove it is gone"


def do(run: Run, unit: Unit) -> Receipt:
    """Make a unit and store it as its part; done twice is as good as once.

    One that waits for others reads their receipts. Raises CheckpointError where one of them is not done, or the run is over.
    """
    parts = within(unit, run.places.tails)
    of = wide(unit, run.places)
    with run.memory.lent(of.stop - of.start) as memory:
        m = made(part_of(run.plan, of, run.places), memory, clip=run.on_overflow == "clip")
        receipt = Receipt(unit.name, "", unit.stop - unit.start, _sums(run, of, m.crcs), dict(m.lost), m.read)
        if parts:
            needs = frozenset(n for p in parts for n in p.needs)
            crcs = fold(run.plan, [receipt, *_awaited(run, unit)], needs)
            zeros = dict.fromkeys((t.name for t in run.plan.tasks), 0)
            _put_in(m.data, of, finish(run.plan, {**zeros, **crcs}))
        data = m.data[unit.start - of.start : unit.stop - of.start]
        try:
            with run.sending:
                tag = run.tree.sink(run.name(unit.file)).part(run.uploads[unit.file], unit.number, data)
        except KeyError:
            message = "its upload is not there any more: another process has finished the run, or it was cleaned away"
            raise CheckpointError(message, path=run.tree.label(run.name(unit.file)), hint="look whether the target is there") from None
    receipt = receipt._replace(tag=tag)
    run.tree.put(run.note(f"{unit.name}.json"), receipt.to_json())
    return receipt


def _awaited(run: Run, unit: Unit) -> list[Receipt]:
    """The receipts of the units that one waits for."""
    found = _receipts(run, unit.waits)
    lacking = [w for w in unit.waits if w not in found]
    if lacking:
        message = f"unit {unit.name} waits for {len(lacking)} others that are not done"
        raise CheckpointError(message, path=run.plan.target, hint="do those first")
    return list(found.values())


def _put_in(data: memoryview, unit: Unit, parts: Iterable[Part]) -> None:
    """Put what depends on checksums into a unit's bytes."""
    for p in parts:
        low, high = max(p.offset, unit.start), min(p.offset + len(p.data), unit.stop)
        if p.file == unit.file and low < high:
            data[low - unit.start : high - unit.start] = p.data[low - p.offset : high - p.offset]


def _sums(run: Run, unit: Unit, crcs: dict[str, int]) -> dict[str, tuple[int, int, int]]:
    """Of each tensor of a unit: where its piece begins in the tensor, how long it is, its checksum."""
    out = {}
    for t in within(unit, run.places.tasks):
        if t.name in crcs:
            low, high = max(unit.start, t.slot.offset), min(unit.stop, t.slot.offset + t.slot.length)
            out[t.name] = low - t.slot.offset, high - low, crcs[t.name]
    return out


def done(run: Run, units: Iterable[Unit] | None = None) -> dict[str, Receipt]:
    """The receipts of units (all, or of `units`) that are done: those whose part the store has as the note says, or whose object is
    committed."""
    tree = run.tree
    tree.fresh()
    units = run.units if units is None else tuple(units)
    there: dict[int, dict[int, tuple[str, int]] | None] = {}
    for file in dict.fromkeys(u.file for u in units):
        try:
            there[file] = tree.sink(run.name(file)).parts(run.uploads[file])
        except KeyError:
            there[file] = None if is_made(run, file) else {}
    names = noted(run)
    said = _receipts(run, [u.name for u in units if u.name in names])
    out = {}
    for u in units:
        receipt, parts = said.get(u.name), there[u.file]
        if receipt is not None and (parts is None or parts.get(u.number) == (receipt.tag, receipt.size)):
            out[u.name] = receipt
    return out


def noted(run: Run) -> set[str]:
    """The names of the units that there are receipts of."""
    return {n.removesuffix(".json") for n in run.tree.list(f"{run.notes}/{run.mark}")}


def _receipts(run: Run, names: Iterable[str]) -> dict[str, Receipt]:
    """The receipts that are noted, of those names."""

    def one(name: str) -> Receipt | None:
        try:
            receipt = receipt_of(read_note(run.tree, run.note(f"{name}.json")) or {})
        except (KeyError, TypeError, ValueError):
            return None
        return receipt if receipt.unit == name else None

    names = list(names)
    if len(names) < 2:
        return {n: r for n in names if (r := one(n)) is not None}
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return {n: r for n, r in zip(names, pool.map(one, names), strict=True) if r is not None}


def left(run: Run, have: dict[str, Receipt]) -> list[Unit]:
    """The units that are not done."""
    return [u for u in run.units if u.name not in have]


def ready(run: Run, have: dict[str, Receipt]) -> list[Unit]:
    """The units that are not done and wait for none that is not."""
    return [u for u in left(run, have) if all(w in have for w in u.waits)]


def read_note(tree: Tree, name: str) -> dict[str, Any] | None:
    """A note; None where there is none."""
    entry = tree.entry(name)
    if entry is None or entry.size < 0:
        return None
    try:
        value = json.loads(read_whole(tree, name))
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def read_whole(tree: Tree, name: str) -> bytes:
    """All of a small object. Raises NotFoundError."""
    blob = tree.blob(name)
    try:
        return blob.pread(blob.size, 0)
    finally:
        blob.close()


class Known(NamedTuple):
    """How a process finds a run that another one has begun: the folder of its target, and the note in it that holds the plan."""

    folder: str
    note: str


_runs: dict[Known, Run] = {}


@contextmanager
def known(run: Run) -> Iterator[Callable[[Unit], Receipt]]:
    """What does units of the run wherever it is called. It can be pickled: another process reads the run's notes, once; this one need
    not."""
    at = Known(place_of(run.plan)[0], run.note("plan.json"))
    _runs[at] = run
    try:
        yield partial(do_at, at)
    finally:
        _runs.pop(at, None)


def do_at(at: Known, unit: Unit) -> Receipt:
    """Do a unit of the run that is under way there. Raises NotFoundError where none is."""
    return do(_run_at(at), unit)


def _run_at(at: Known) -> Run:
    """The run as this process knows it."""
    run = _runs.get(at)
    if run is None:
        tree = tree_at(at.folder)
        tree.fresh()
        if tree.entry(at.note) is None:
            raise NotFoundError("no run into this place is under way", path=at.folder, hint="it was finished or cleaned away")
        saved = load(read_whole(tree, at.note), tree.label(at.note))
        if len(_runs) > 3:
            _runs.clear()
        run = _runs[at] = join(saved.plan, unit=saved.unit, on_overflow=saved.on_overflow)
    return run
