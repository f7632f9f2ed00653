"""Weights that lie flat: the partitions of ZeRO, cut by the shapes of the parameters.

Stages 1 and 2: the parameters of a group follow on each other, the whole is cut into as many parts as there are ranks. Stage 3: each
parameter is cut so, and a rank's part of it is ceil(elements / ranks), the last padded.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod

from ..._typing import NamedTuple
from ...errors import CorruptError, UnsupportedError, printable
from ...findings import Finding
from ...limits import LIMITS
from ...support.opaque import Opaque
from ...tensors import DTYPES, Extent, StoredTensor, TensorSpec, Unread
from .._pickle.globals import Tensor
from .._ranks import lacking
from ..torch.rank_file import RankFile
from .states import States, mapping, shapes_of

STATE = "optimizer.state."
_GROUPS = ("single_partition_of_fp32_groups", "fp32_flat_groups", "fp32_groups")


class Found(NamedTuple):
    """What the files of a folder come to. `steps`: (file, the tensor that counts a rank's steps); `more` are further files; `mesh` says
    among how many ranks, and by which stage of ZeRO, it is cut."""

    tensors: dict[str, StoredTensor]
    unread: dict[str, Unread]
    beside: frozenset[str]
    extras: dict[str, object]
    findings: list[Finding]
    files: list[str]
    steps: list[tuple[str, StoredTensor]]
    more: list[RankFile]
    mesh: str = ""


class _Flat(NamedTuple):
    """The parts of the ranks of something flat: (path, offset of the first byte, elements); None of a rank whose file is gone."""

    parts: tuple[tuple[Extent, int] | None, ...]
    dtype: str

    def cut(self, start: int, stop: int) -> tuple[list[Extent], list[int]]:
        """(the extents of elements [start, stop) of the parts one after another, the ranks that lack some)."""
        width = DTYPES[self.dtype].bits // 8
        usual = next((n for p in self.parts if p is not None for _, n in (p,)), 0)
        out: list[Extent] = []
        lost: list[int] = []
        at = 0
        for rank, part in enumerate(self.parts):
            n = part[1] if part is not None else usual
            low, high = max(start, at), min(stop, at + n)
            if low < high:
                if part is None:
                    lost.append(rank)
                else:
                    e = part[0]
                    out.append(Extent(e.path, e.offset + (low - at) * width, (high - low) * width))
            at += n
        return out, lost

    @property
    def size(self) -> int:
        """Elements of all parts."""
        usual = next((n for p in self.parts if p is not None for _, n in (p,)), 0)
        return sum(p[1] if p is not None else usual for p in self.parts)


def read_flat(folder: str, held: States) -> Found:
    """The weights and the optimizer's state of ZeRO's files."""
    first = held.model[0]
    value = mapping(first.value)
    groups = shapes_of(value.get("param_shapes"), first.path)
    some = next(iter(held.optim.values()))
    zero = mapping(mapping(some.value).get("optimizer_state_dict"))
    stage = _number(zero.get("zero_stage"))
    world = _world(zero.get("partition_count"), held, some)
    key = next((k for k in _GROUPS if k in zero), "")
    if stage not in (1, 2, 3) or not key:
        raise UnsupportedError(f"is of ZeRO stage {stage}, of which no flat weights are known", path=some.path)
    lost = {r: held.lost.get(r) or f"the file of rank {r} of {world} is missing" for r in range(world) if r not in held.optim}
    found = Found({}, {}, frozenset(), {}, [], [], [], [])
    walk = _Cutter(found, held, world, stage, lost)
    walk.all(groups, key, zero)
    walk.rest(value, first)
    beside = {n for n in (*found.tensors, *found.unread) if n.startswith(STATE)}
    found.findings.extend(lacking(walk.costs))
    return found._replace(beside=frozenset(beside), mesh=f"{world} (data, ZeRO stage {stage})")


def lists_slices(file: RankFile) -> bool:
    """Whether a rank's file says which parameters its share is of (stages 1 and 2)."""
    return bool(mapping(mapping(file.value).get("optimizer_state_dict")).get("param_slice_mappings"))


def _number(value: object) -> int:
    """A number, or an enumeration's."""
    if isinstance(value, Opaque) and value.args:
        value = value.args[0]
    return value if type(value) is int else -1


def _world(count: object, held: States, some: RankFile) -> int:
    counts = count if isinstance(count, list) else [count]
    world = max((n for n in counts if type(n) is int), default=0)
    if not 0 < world <= LIMITS.shards or world <= max(held.optim):
        raise CorruptError(f"says that there are {world} ranks, and there is a file of rank {max(held.optim)}", path=some.path)
    return world


class _Cutter:
    """Takes parameters out of the flat parts."""

    def __init__(self, found: Found, held: States, world: int, stage: int, lost: dict[int, str]) -> None:
        self.found, self.held, self.world, self.stage, self.lost = found, held, world, stage, lost
        self.costs: dict[str, list[str]] = {}  # why -> the tensors that lack a piece

    def all(self, groups: list[dict[str, tuple[int, ...]]], key: str, zero: object) -> None:
        """Every parameter, and what the optimizer keeps of it."""
        masters = [self._parts(r, key) for r in range(self.world)]
        count = max((len(m) for m in masters if m is not None), default=0)
        if self.stage == 3 and count != len(groups):  # sub-groups cut where they are full: one run for all groups
            shapes = {n: s for group in groups for n, s in group.items()}
            for moment in ("", *self._moments(0)):
                self._stage3(shapes, masters, moment)
            self._step(0)
            return
        if count != len(groups):
            raise CorruptError(f"has {count} flat groups for {len(groups)} groups of parameters", path=self.held.model[0].path)
        paddings = mapping(zero).get("param_alignment_paddings")
        for i, shapes in enumerate(groups):
            extra = paddings[i] if isinstance(paddings, list) and i < len(paddings) and isinstance(paddings[i], list) else []
            for moment in ("", *self._moments(i)):
                parts = [self._part(r, masters[r], i, moment) for r in range(self.world)]
                self._group(shapes, parts, moment, extra, i)
            self._step(i)

    def _parts(self, rank: int, key: str) -> list[object] | None:
        file = self.held.optim.get(rank)
        if file is None:
            return None
        zero = mapping(mapping(file.value).get("optimizer_state_dict"))
        groups = zero.get(key)
        if not isinstance(groups, list) or _number(zero.get("zero_stage")) != self.stage:
            raise CorruptError(f"rank {rank} has no {key}, or is of another stage of ZeRO", path=file.path)
        return groups

    def _states(self, rank: int, group: int) -> dict[object, object]:
        """What the optimizer of a rank keeps of a group."""
        file = self.held.optim.get(rank)
        zero = mapping(mapping(file.value).get("optimizer_state_dict")) if file is not None else {}
        base = zero.get("optimizer_state_dict", zero.get("base_optimizer_state"))
        states = mapping(base).get("state") if isinstance(base, dict) else base
        if isinstance(states, list):
            return dict(mapping(states[group])) if group < len(states) else {}
        return dict(mapping(mapping(states).get(group)))

    def _moments(self, group: int) -> list[str]:
        rank = next(iter(self.held.optim))
        return [str(k) for k, v in self._states(rank, group).items() if isinstance(v, Tensor) and v.size not in ((), (1,))]

    def _step(self, group: int) -> None:
        for rank, file in self.held.optim.items():
            step = self._states(rank, group).get("step")
            if isinstance(step, Tensor):
                t = file.tensor(f"{STATE}step.{group}", step)
                self.found.steps.append((file.path, t))
                self.found.tensors.setdefault(t.name, t)

    def _part(self, rank: int, master: list[object] | None, group: int, moment: str) -> tuple[Extent, int, str] | None:
        file = self.held.optim.get(rank)
        if file is None or master is None:
            return None
        value = self._states(rank, group).get(moment) if moment else master[group] if group < len(master) else None
        t = file.tensor(f"group {group} of rank {rank}", value)
        if t.strides is not None or len(t.spec.shape) != 1 or len(t.extents) != 1:
            raise CorruptError(f"group {group} of rank {rank} does not lie flat", path=file.path)
        return t.extents[0], t.spec.numel, t.spec.dtype

    def _slices(self, group: int, where: Sequence[tuple[str, int, int]], share: int) -> None:
        """An error for a rank that lists other parameters as its own (`param_slice_mappings`) than those that its share reaches over."""
        for rank, file in self.held.optim.items():
            listed = mapping(mapping(file.value).get("optimizer_state_dict")).get("param_slice_mappings")
            said = {n for n in mapping(listed[group]) if type(n) is str} if isinstance(listed, list) and group < len(listed) else set()
            due = {n for n, start, stop in where if start < (rank + 1) * share and stop > rank * share}
            other = sorted(said ^ due)
            if said and other and said <= {n for n, _, _ in where}:
                text = f"rank {rank} has its part of {printable(other[0])!r} elsewhere than its place among the ranks says"
                hint = "the files of two ranks were exchanged, or one is of another run"
                self.found.findings.append(Finding("error", "pieces", printable(other[0]), text, hint))

    def _group(
        self, shapes: dict[str, tuple[int, ...]], parts: Sequence[tuple[Extent, int, str] | None], moment: str, extra: list[object],
        group: int,
    ) -> None:
        have = [p for p in parts if p is not None]
        dtype = have[0][2] if have else "F32"
        flat = _Flat(tuple(None if p is None else (p[0], p[1]) for p in parts), dtype)
        sizes = {r: f"{p[2]} [{p[1]:,}]" for r, p in enumerate(parts) if p is not None}
        usual = max(sizes.values(), key=lambda s: (list(sizes.values()).count(s), s), default="")
        if (odd := next((r for r, s in sizes.items() if s != usual), None)) is not None:
            what = f"{sizes[odd]} for {printable(next(iter(shapes), ''))!r} and what follows, other ranks {usual}"
            raise CorruptError(f"rank {odd} has {what}: their parts are of one size", path=self.held.optim[odd].path)
        at = 0
        where: list[tuple[str, int, int]] = []
        for k, (name, shape) in enumerate(shapes.items()):
            n = prod(shape)
            if self.stage == 3:
                piece = -(-n // self.world)
                extents, lost = self._thirds(flat, at, piece, n)
                at += piece
            else:
                extents, lost = flat.cut(at, at + n)
                where.append((name, at, at + n))
                more = extra[k] if k < len(extra) else 0
                at += n + (more if type(more) is int and more > 0 else 0)
            self._add(f"{STATE}{name}.{moment}" if moment else name, TensorSpec(dtype, shape), extents, lost)
        if where and not moment and have:
            self._slices(group, where, have[0][1])
        room = have[0][1] if have and self.stage == 3 else flat.size
        if have and not at <= room < at + 4 * self.world + 4096:
            text = f"holds {room:,} elements{' of each rank' if self.stage == 3 else ''} for parameters of {at:,}"
            raise CorruptError(text, path=have[0][0].path, hint="the files are of another model, or another number of ranks")

    def _thirds(self, flat: _Flat, at: int, piece: int, n: int) -> tuple[list[Extent], list[int]]:
        """(the extents of a parameter of `n` elements of which each rank has `piece` from `at` on, the ranks that lack theirs)."""
        width = DTYPES[flat.dtype].bits // 8
        out: list[Extent] = []
        lost: list[int] = []
        for rank, part in enumerate(flat.parts):
            want = min(piece, n - rank * piece)
            if want <= 0:
                break
            if part is None:
                lost.append(rank)
            elif at + want > part[1]:
                raise CorruptError(f"holds {part[1]:,} elements, too few for what rank {rank} has of the parameters", path=part[0].path)
            else:
                out.append(Extent(part[0].path, part[0].offset + at * width, want * width))
        return out, lost

    def _stage3(self, shapes: dict[str, tuple[int, ...]], masters: list[list[object] | None], moment: str) -> None:
        """Parameters whose parts run on from one flat group into the next."""
        runs: list[list[tuple[Extent, int, str]] | None] = [
            None if m is None else [p for g in range(len(m)) if (p := self._part(r, m, g, moment)) is not None]
            for r, m in enumerate(masters)
        ]
        have = [r for r in runs if r is not None]
        dtype = have[0][0][2]
        width = DTYPES[dtype].bits // 8
        at = 0
        for name, shape in shapes.items():
            n = prod(shape)
            piece = -(-n // self.world)
            extents: list[Extent] = []
            lost: list[int] = []
            for rank, run in enumerate(runs):
                want = max(0, min(piece, n - rank * piece))
                if run is None:
                    lost += [rank] if want else []
                    continue
                got = list(_across(run, at, at + want, width))
                if sum(e.length for e in got) != want * width:
                    raise CorruptError(f"rank {rank} holds too few elements for the parameters", path=run[0][0].path)
                extents += got
            at += piece
            self._add(f"{STATE}{name}.{moment}" if moment else name, TensorSpec(dtype, shape), extents, lost)

    def _add(self, name: str, spec: TensorSpec, extents: list[Extent], lost: list[int]) -> None:
        LIMITS.check("tensors", len(self.found.tensors) + 1, "the number of tensors", self.held.model[0].path)
        if name in self.found.tensors or name in self.found.unread:
            raise CorruptError(f"lists {printable(name)!r} twice", path=self.held.model[0].path)
        if lost:
            for rank in lost:
                self.costs.setdefault(self.lost.get(rank, f"the file of rank {rank} is missing"), []).append(name)
            self.found.unread[name] = Unread(f"pieces without those of rank {', '.join(map(str, lost[:8]))}", spec.dtype, spec.shape)
            return
        if sum(e.length for e in extents) != spec.nbytes:
            raise CorruptError(f"{printable(name)!r} has {sum(e.length for e in extents):,} bytes; its shape needs {spec.nbytes:,}",
                path=extents[0].path if extents else self.held.model[0].path)  # fmt: skip
        self.found.tensors[name] = StoredTensor(name, spec, tuple(extents))

    def rest(self, value: object, first: RankFile) -> None:
        """Frozen parameters, buffers, and parameters that are others; what else the states hold."""
        states = mapping(value)
        module = mapping(states.get("module"))
        for name in states.get("buffer_names") or ():
            if type(name) is str and isinstance(module.get(name), Tensor):
                self.found.tensors[name] = first.tensor(name, module[name])
        for name, shape in mapping(states.get("frozen_param_shapes")).items():
            self._frozen(name, shape, first)
        shared = states.get("shared_params")
        pairs = list(shared.items()) if isinstance(shared, dict) else list(shared or ())
        for alias, source in (p for p in pairs if isinstance(p, (list, tuple)) and len(p) == 2):
            t = self.found.tensors.get(source) if type(source) is str else None
            if t is not None and type(alias) is str and alias not in self.found.tensors:
                same = t._replace(storage=t.storage or f"{first.path}#{source}")
                self.found.tensors[source], self.found.tensors[alias] = same, same._replace(name=alias)
        self.found.extras.update(extras_of(states))

    def _frozen(self, name: object, shape: object, first: RankFile) -> None:
        if type(name) is not str or type(shape) is not tuple:
            raise CorruptError("its frozen_param_shapes are no shapes by name", path=first.path)
        if self.stage < 3:
            t = first.tensor(name, mapping(mapping(first.value).get("frozen_param_fragments")).get(name))
            if t.spec.shape != shape:
                raise CorruptError(f"has {printable(name)!r} as {list(t.spec.shape)}, and says that it is {list(shape)}", path=first.path)
            self.found.tensors[name] = t
            return
        n, dtype = prod(shape), "F32"
        extents: list[Extent] = []
        lost: list[int] = []
        for rank in range(self.world):
            file = self.held.model.get(rank)
            if file is None:
                lost.append(rank)
                continue
            t = file.tensor(name, mapping(mapping(file.value).get("frozen_param_fragments")).get(name))
            dtype, width = t.spec.dtype, DTYPES[t.spec.dtype].bits // 8
            left = n * width - sum(e.length for e in extents)
            extents += [t.extents[0]._replace(length=min(left, t.extents[0].length))] if left else []
        self._add(name, TensorSpec(dtype, shape), extents, lost)


def _across(run: list[tuple[Extent, int, str]], start: int, stop: int, width: int) -> Iterator[Extent]:
    """The extents of elements [start, stop) of flat groups one after another."""
    at = 0
    for e, n, _ in run:
        low, high = max(start, at), min(stop, at + n)
        if low < high:
            yield Extent(e.path, e.offset + (low - at) * width, (high - low) * width)
        at += n


def read_module(folder: str, held: States) -> Found:
    """The weights of `module`, where nothing lies flat (ZeRO is off, or the optimizer's files were left out)."""
    first = held.model[0]
    states = mapping(first.value)
    found = Found({}, {}, frozenset(), extras_of(states), [], [], [], [])
    for name, value in mapping(states.get("module")).items():
        if type(name) is not str or not isinstance(value, Tensor):
            continue
        t = first.tensor(name, value)
        wanted = next((g[name] for g in shapes_of(states.get("param_shapes") or {}, first.path) if name in g), t.spec.shape)
        if t.spec.shape != wanted:
            hint = "ZeRO-3 keeps the weights in the *_optim_states.pt files, which are not here"
            raise CorruptError(f"has no elements of {printable(name)!r}, which is {list(wanted)}", path=first.path, hint=hint)
        found.tensors[name] = t
    ordered = first.maker.tie(found.tensors)
    return found._replace(tensors=ordered)


def extras_of(states: object) -> dict[str, object]:
    """What the model's states say besides, as plain data."""
    out: dict[str, object] = {k: v for k, v in mapping(states).items() if type(k) is str and type(v) in (bool, int, float, str)}
    folder = mapping(states).get("ds_config")
    return {**out, **({"ds_config": folder} if isinstance(folder, dict) and _plain(folder) else {})}


def _plain(value: object, depth: int = 0) -> bool:
    if depth > 16:
        return False
    if isinstance(value, dict):
        return all(type(k) in (str, int) and _plain(v, depth + 1) for k, v in value.items())
    if isinstance(value, (list, tuple)):
        return all(_plain(v, depth + 1) for v in value)
    return value is None or type(value) in (bool, int, float, str)
