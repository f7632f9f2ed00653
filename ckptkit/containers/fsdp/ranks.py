"""The files of FSDP's ranks put together: the model's, the optimizer's, and what the rest says of the step."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from math import prod

from ..._typing import NamedTuple
from ...errors import CheckpointError, CorruptError, UnsupportedError, printable
from ...findings import Finding
from ...limits import LIMITS
from ...support.name_text import collapse
from ...tensors import DTYPES, Box, StoredTensor, TensorSpec, Unread
from .. import _pieces, _ranks
from .._interface import Checkpoint
from .._pickle.globals import Tensor
from ..torch.rank_file import RankFile, open_rank
from .pieces import KNOWN, Held, Piece, held

STATE = "optimizer.state."
_FILE = re.compile(r"(model|optim|extra_state)_world_size_([0-9]{1,6})_rank_([0-9]{1,6})\.pt")


class _Part(NamedTuple):
    """What one rank has of a tensor."""

    rank: int
    file: RankFile
    held: Held


def read_ranks(folder: str, names: Sequence[str], world: int, settings: Mapping[str, object]) -> Checkpoint:
    """The checkpoint of a folder's ranks. Raises CorruptError, UnsupportedError, LimitError."""
    LIMITS.check("shards", max(world, len(names)), "the number of ranks", folder)
    found = {kind: _open(folder, names, kind, world) for kind in ("model", "optim")}
    model, optim = found["model"][0], found["optim"][0]
    said = {f.path: r for f in (*model.values(), *optim.values()) if (r := _saved_by(f)) is not None}
    for kind, (opened, lost) in found.items():
        lost.update(_overwritten(kind, opened, said, world))
    rest = _rest(folder, names, world)
    labels = {f.path: f"rank {r}" for kind in (model, optim, rest) for r, f in kind.items()}
    weighty = [*model.values(), *optim.values()]
    files = [*weighty, *rest.values()]
    mine = (os.path.join(folder, n) for n in names if (m := _FILE.fullmatch(n)) and int(m[2]) == world)
    paths = dict.fromkeys([*(f.path for f in files), *mine])
    made = Checkpoint(
        folder, "fsdp", {}, files=list(paths), extras=dict(settings),
        findings=[*_ranks.findings_of(weighty), *_harm(rest.values())],
        checks=lambda: _ranks.checks_of(files, labels),
    )  # fmt: skip
    made.ranks = labels
    unread: dict[str, Unread] = {}
    made.unread = unread
    joiner = _Joiner(made, unread, world)
    joiner.all({r: _values(f, f.value) for r, f in model.items()}, model, found["model"][1])
    joiner.spare(found["model"][1])
    if world > 1 and not joiner.cut:
        whole = collapse(list(made.tensors), 3)
        raise UnsupportedError(
            f"has plain tensors in each rank's file ({printable(whole, 300)}): nothing says which part of the whole they are", path=folder,
            hint="save sharded state dicts (DTensors), or the whole model, with the library that wrote them",
        )  # fmt: skip
    _optimizer(joiner, model, optim, found["optim"][1])
    made.beside = frozenset(n for n in (*made.tensors, *unread) if n.startswith(STATE))
    made.mesh = joiner.mesh
    made.findings += joiner.findings()
    made.findings += _misplaced(files, said, {n for _, lost in found.values() for n in lost})
    made.findings += _steps(rest)
    made.findings += _ranks.linked(folder, labels)
    told = world == 1 or all(f.path in said for f in model.values())

    def audit() -> Iterator[Finding]:
        yield from made.compare_replicas()
        if not told:
            yield _ranks.untold(os.path.basename(folder))

    made.audit = audit
    return made


def _open(folder: str, names: Sequence[str], kind: str, world: int) -> tuple[dict[int, RankFile], dict[int, str]]:
    """(the ranks' files of a kind, the ranks whose file is not there or cannot be read -> why)."""
    files: dict[int, RankFile] = {}
    lost: dict[int, str] = {}
    mine = {int(m[3]): n for n in names if (m := _FILE.fullmatch(n)) and m[1] == kind and int(m[2]) == world}
    for rank, name in sorted(mine.items()):
        try:
            files[rank] = open_rank(os.path.join(folder, name), KNOWN)
        except CheckpointError as e:
            lost[rank] = f"the file of rank {rank}, {name}, cannot be read: {e.message}"
    if kind == "model" and not files:
        raise CorruptError(next(iter(lost.values()), f"has no file of {world} ranks"), path=folder)
    if mine and max(mine) >= world:
        raise CorruptError(f"has {mine[max(mine)]}, and ranks are numbered from 0", path=folder)
    for rank in range(world) if mine else ():
        if rank not in mine:
            lost[rank] = f"the file of rank {rank}, {kind}_world_size_{world}_rank_{rank}.pt, is missing"
    return files, lost


def _values(file: RankFile, value: object) -> dict[str, object]:
    """The tensors of a state dict by name. CorruptError where it is none."""
    if not isinstance(value, dict) or not all(type(k) is str for k in value):
        raise CorruptError("holds no state dict", path=file.path)
    LIMITS.check("tensors", len(value), "the number of tensors", file.path)
    return value


class _Joiner:
    """Makes tensors of what the ranks have, and gathers what is to be said of them."""

    def __init__(self, made: Checkpoint, unread: dict[str, Unread], world: int) -> None:
        self.made, self.unread, self.world = made, unread, world
        self.costs: dict[str, list[str]] = {}  # what is wrong with a rank's file -> the tensors that lack a piece
        self.odd: list[Finding] = []
        self.cut = 0  # tensors that are DTensors or ShardedTensors
        self.mesh = ""
        self._same: dict[tuple[object, ...], str] = {}

    def all(self, values: Mapping[int, Mapping[str, object]], files: Mapping[int, RankFile], lost: Mapping[int, str]) -> None:
        """The tensors of every rank's state dict."""
        for name in dict.fromkeys(n for state in values.values() for n in state):
            parts: list[_Part] = []
            for rank, state in values.items():
                value = state.get(name)
                h = held(value)
                if h is None and isinstance(value, Tensor):
                    t = files[rank].tensor(name, value)
                    h = Held(t.spec.dtype, t.spec.shape, (Piece(value, (0,) * len(t.spec.shape), t.spec.shape),))
                elif h is not None:
                    self.cut += 1
                    self.mesh = self.mesh or h.mesh
                if h is not None:
                    parts.append(_Part(rank, files[rank], h))
            if parts:
                self._join(name, parts, lost)

    def _join(self, name: str, parts: Sequence[_Part], lost: Mapping[int, str]) -> None:
        first, path = parts[0].held, self.made.path
        LIMITS.check("tensors", len(self.made.tensors) + 1, "the number of tensors", path)
        other = next((p for p in parts if p.held[:2] != first[:2]), None)
        if other is not None:
            text = f"rank {other.rank} has {printable(name)!r} as {other.held.dtype} {list(other.held.shape)}"
            text += f", rank {parts[0].rank} as {first.dtype} {list(first.shape)}"
            kind = f"as other tensors in rank {other.rank} and in rank {parts[0].rank}"
            self._refuse(name, first, kind, text, "they are of different models")
            return
        if unclear := next((p for p in parts if p.held.why), None):
            self.unread[name] = Unread(unclear.held.why, first.dtype, first.shape)
            return
        spec = TensorSpec(first.dtype, first.shape)
        boxes = []
        for p in parts:
            for piece in p.held.pieces:
                box = self._box(name, spec, p, piece)
                if box is None:
                    return
                boxes += [box] if all(box.shape) or not spec.numel else []
        what = repr(printable(name))
        found = _pieces.tile(boxes, spec.shape, spec.dtype, what, path)
        self.made.replicas += [_pieces.Replicas(name, spec, a, b) for a, b in found.overlaps]
        if found.missing and spec.numel:
            self._lacks(name, spec, boxes, found.missing, {p.rank for p in parts}, lost)
        elif found.boxes:
            t = _pieces.joined(name, spec, found.boxes)
            same = self._same.setdefault((spec, *(b.extent for b in found.boxes)), name)
            if same != name:
                tied = self.made.tensors[same]
                self.made.tensors[same] = tied._replace(storage=tied.storage or f"{path}#{same}")
                t = t._replace(storage=f"{path}#{same}")
            self.made.tensors[name] = t
        elif boxes:
            self.made.tensors[name] = StoredTensor(name, spec, (boxes[0].extent._replace(length=0),))
        else:
            self._lacks(name, spec, boxes, 0, {p.rank for p in parts}, lost)

    def _box(self, name: str, spec: TensorSpec, part: _Part, piece: Piece) -> Box | None:
        """The box of a piece; None, and a finding, where it is not as large as its place."""
        t = part.file.tensor(name, piece.tensor)
        empty = not prod(t.spec.shape) and not prod(piece.shape)
        if t.spec.dtype != spec.dtype or (t.spec.shape != piece.shape and not empty):
            place = f"its place in {spec.dtype} {list(spec.shape)} is {list(piece.shape)}"
            text = f"rank {part.rank} has {t.spec.dtype} {list(t.spec.shape)} of {printable(name)!r}, and {place}"
            kind = f"a piece of rank {part.rank} that does not fit its place"
            self._refuse(name, part.held, kind, text, "its file is damaged, or of another run")
            return None
        box = Box(piece.offset, piece.shape, t.extents[0], t.strides)
        _pieces.check_inside(box, spec.shape, repr(printable(name)), part.file.path)
        if DTYPES[spec.dtype].bits % 8 and piece.shape != spec.shape:
            self.unread[name] = Unread("pieces of elements smaller than a byte", spec.dtype, spec.shape)
            return None
        return box

    def _refuse(self, name: str, held: Held, kind: str, text: str, hint: str) -> None:
        self.unread[name] = Unread(kind, held.dtype, held.shape)
        self.odd.append(Finding("error", _pieces.RULE, printable(name), text, hint))

    def _lacks(
        self, name: str, spec: TensorSpec, boxes: Sequence[Box], missing: int, ranks: set[int], lost: Mapping[int, str]
    ) -> None:
        self.unread[name] = Unread(f"pieces with {missing:,} of {spec.numel:,} elements missing", spec.dtype, spec.shape)
        for why in lost.values():
            self.costs.setdefault(why, []).append(name)
        if lost:
            return
        if gone := sorted(set(range(self.world)) - ranks):
            self.costs.setdefault(f"rank {gone[0]}{' and others do' if gone[1:] else ' does'} not have them all", []).append(name)
            return
        who = _pieces.describe_hole(boxes, spec, lambda b: self.made.ranks.get(b.extent.path, b.extent.path))
        text = f"{printable(name)!r} is in pieces, {missing:,} of its {spec.numel:,} elements are missing{f' ({who})' if who else ''}"
        self.odd.append(Finding("error", _pieces.RULE, printable(name), text, _ranks.AGAIN))

    def spare(self, lost: Mapping[int, str]) -> None:
        """That a rank's file is gone of which other ranks have every piece."""
        for rank, why in lost.items():
            if why not in self.costs:
                text = f"{why}: other ranks have all pieces of it, the trainer asks for it all the same"
                self.odd.append(Finding("warning", _pieces.RULE, f"rank {rank}", printable(text, 1000), _ranks.AGAIN))

    def findings(self) -> list[Finding]:
        """Errors about pieces: those of one kind together."""
        most = 20
        more = len(self.odd) - most
        said = [Finding("error", _pieces.RULE, "", f"and {more:,} more tensors whose pieces do not fit together")] if more > 0 else []
        return [*_ranks.lacking(self.costs), *self.odd[:most], *said]


# --- what lies beside the model -------------------------------------------------------------------------------------------


def _optimizer(joiner: _Joiner, model: Mapping[int, RankFile], optim: Mapping[int, RankFile], lost: Mapping[int, str]) -> None:
    """Join what the optimizer keeps; with DTensors, since FSDP1 keeps it of flat parameters whose order only it knows."""
    states: dict[int, dict[str, object]] = {}
    for rank, file in optim.items():
        of = file.value.get("state") if isinstance(file.value, dict) else None
        states[rank] = {
            f"{key}.{moment}": value
            for key, kept in (of.items() if isinstance(of, dict) else ()) if isinstance(kept, dict) and type(key) in (int, str)
            for moment, value in kept.items() if type(moment) is str
        }  # fmt: skip
        LIMITS.check("tensors", len(states[rank]), "the number of tensors", file.path)
    if not any(states.values()):
        return
    cut = any(held(v) is not None for state in states.values() for v in state.values())
    if not cut and joiner.world > 1:
        file = next(iter(optim.values()))
        text = "the optimizer's state is of FSDP's flat parameters, which the files do not describe: it is not read"
        joiner.made.findings.append(Finding("info", _pieces.RULE, os.path.basename(file.path), text))
        return
    names = _parameters(next(iter(model.values())), next(s for s in states.values() if s))
    renamed = {r: {_called(k, names): v for k, v in state.items()} for r, state in states.items()}
    joiner.all(renamed, optim, lost)
    joiner.spare(lost)


def _called(key: str, names: Mapping[str, str]) -> str:
    number, _, moment = key.rpartition(".")
    return f"{STATE}{names.get(number, number)}.{moment}"


def _parameters(model: RankFile, state: Mapping[str, object]) -> dict[str, str]:
    """The number of each parameter in the optimizer -> its name: parameters are numbered in the order of the state dict, a tied one once,
    which counts only where every shape agrees. Empty where that is not so."""
    seen: dict[object, str] = {}
    for name, value in model.value.items():
        h = held(value)
        local = h.pieces[0].tensor if h is not None and h.pieces else None
        if h is not None:
            storage = getattr(local, "storage", None)
            seen.setdefault((getattr(storage, "key", name), getattr(local, "offset", 0)), name)
    ordered = list(seen.values())
    shapes: dict[str, tuple[int, ...]] = {}
    for key, value in state.items():
        h = held(value)
        if h is not None:
            shapes.setdefault(key.rpartition(".")[0], h.shape)
    if not shapes or not all(k.isdigit() and len(k) < 10 and int(k) < len(ordered) for k in shapes):
        return {}
    if any(held(model.value[ordered[int(k)]]).shape != shape for k, shape in shapes.items()):  # type: ignore[union-attr]
        return {}
    return {str(i): name for i, name in enumerate(ordered)} if len(shapes) == len(ordered) else {}


def _saved_by(file: RankFile) -> int | None:
    """The rank that saved a file: as the mesh of its tensors says, else as it was called then."""
    value = file.value
    state = value.get("state") if isinstance(value, dict) else None
    inner = [v for kept in state.values() if isinstance(kept, dict) for v in kept.values()] if isinstance(state, dict) else []
    for v in [*(value.values() if isinstance(value, dict) else ()), *inner]:
        h = held(v)
        if h is not None and h.rank is not None:
            return h.rank
    called = _FILE.fullmatch(f"{file.called}.pt")
    return int(called[3]) if called else None


def _overwritten(kind: str, files: Mapping[int, RankFile], said: Mapping[str, int], world: int) -> dict[int, str]:
    """The ranks none of whose files is there, though one is called so -> why."""
    there = {said.get(f.path, r) for r, f in files.items()}
    out = {}
    for rank in sorted(set(range(world)) & files.keys() - there):
        name = f"{kind}_world_size_{world}_rank_{rank}.pt"
        out[rank] = f"the file of rank {rank}, {name}, is not its own: it was saved by rank {said[files[rank].path]}"
    return out


def _misplaced(files: Sequence[RankFile], said: Mapping[str, int], lost: Collection[int]) -> Iterator[Finding]:
    """An error for every file that is of another rank than its name says; what is said as a loss is not said again."""
    for file in files:
        name = os.path.basename(file.path)
        meant, rank = _FILE.fullmatch(name), said.get(file.path)
        if meant is not None and rank is not None and rank != int(meant[3]) and int(meant[3]) not in lost:
            first = next((k for k in file.value if type(k) is str), "") if isinstance(file.value, dict) else ""
            about = f", and has its part of {printable(first)!r}" if meant[1] == "model" and first else ""
            text = f"{name} is named as the file of rank {int(meant[3])}, and was saved by rank {rank}{about}"
            hint = "the files of two ranks were exchanged, or one was copied"
            yield Finding("error", _pieces.RULE, f"rank {int(meant[3])}", text, hint)


def _rest(folder: str, names: Sequence[str], world: int) -> dict[int, RankFile]:
    """The files of the ranks with what else a trainer keeps; one that cannot be read is nobody's weights."""
    files: dict[int, RankFile] = {}
    for name in names:
        m = _FILE.fullmatch(name)
        if m is not None and m[1] == "extra_state" and int(m[2]) == world:
            with suppress(CheckpointError):
                files[int(m[3])] = open_rank(os.path.join(folder, name))
    return files


def _harm(files: Iterable[RankFile]) -> list[Finding]:
    """What pickles would do on the machine of whoever loads them. That a random state is numpy's is nothing to say."""
    return [f for f in _ranks.findings_of(files) if f.severity == "error"]


def _steps(rest: Mapping[int, RankFile]) -> list[Finding]:
    """An error where the schedulers of ranks have counted other steps than each other."""
    counts: dict[int, int] = {}
    for rank, file in rest.items():
        schedule = file.value.get("lr_scheduler") if isinstance(file.value, dict) else None
        step = schedule.get("last_epoch") if isinstance(schedule, dict) else None
        if type(step) is int:
            counts[rank] = step
    by: dict[int, list[int]] = {}
    for rank, step in counts.items():
        by.setdefault(step, []).append(rank)
    if len(by) < 2:
        return []
    usual = max(by, key=lambda k: len(by[k]))
    return [
        Finding("error", _pieces.RULE, f"rank {ranks[0]}",
            f"the extra_state of rank {ranks[0]} is of step {step}, those of others of {usual}: its tensors may be of that step too",
            "its files are of another step of the run")
        for step, ranks in by.items() if step != usual
    ]  # fmt: skip


