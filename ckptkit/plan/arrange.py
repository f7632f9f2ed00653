"""What arranging a conversion gives, what all ways of arranging share, and the arrangement of tensors that keep their names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from functools import cached_property
from operator import itemgetter

from .. import store
from .._typing import NamedTuple
from ..errors import UnsupportedError
from ..findings import Finding
from ..graph.examine import Subject
from ..graph.packed_weights import PackedWeight
from ..graph.survey import Survey
from ..graph.tf_objects import Hung
from ..limits import raised
from ..schema import Dialect
from ..schema.loops import Loop, simplify
from ..support.name_text import collapse
from ..tensors import DTYPES, Extent, StoredTensor, TensorSpec, row_major_strides
from .columns import Sources, Targets, straight
from .pieces import over_boxes
from .target import Request
from .values import ADJUSTING, Drawn, Encode, Encoded, PackedParts, Piece, Source, is_copy
from .with_codes import with_codes

Stories = dict[str, dict[str, object] | None]  # None: copied to, or from, the same name


class Weights(NamedTuple):
    """What `arrange` gives: the tensors of the target before they have offsets, and the story of every tensor."""

    sources: Sequence[Source]
    targets: Sequence[tuple[str, TensorSpec, tuple[Piece, ...]]]
    ties: dict[str, str]  # target name -> the target name it is one tensor with
    strings: dict[str, list[bytes]]
    came: Stories  # target name -> where from
    went: Stories  # source name -> where to, or why not
    groups: frozenset[str]
    untied: bool  # whether a parameter that may be tied is stored apart and differs
    findings: tuple[Finding, ...]
    encodes: Mapping[str, Encode] = {}  # target names of parts of weights that are quantised -> how
    hung: Hung | None = None  # where TensorFlow's objects hold the target, if they do


class Builder:
    """What both ways of arranging share: sources by name, target tensors, ties and the ledger's two sides."""

    def __init__(self, subject: Subject, request: Request, survey: Survey) -> None:
        self.subject = subject
        self.request = request
        self.survey = survey
        self._paths: dict[str, str] = {}
        self.tensors = subject.checkpoint.tensors
        self.packed = subject.packings.weights
        self.parts: dict[str, StoredTensor] = {}  # parts of packed weights that move as they are, by the names of their sources
        self.sources: dict[str, int] = {}
        self.made: dict[str, bytes | Drawn] = {}  # sources that are computed, float32
        self.targets: list[tuple[str, TensorSpec, tuple[Piece, ...]]] = []
        self.ties: dict[str, str] = {}
        self.strings: dict[str, list[bytes]] = {}
        self.came: Stories = {}
        self.went: Stories = {}
        self.findings: list[Finding] = []

    def source(self, stored: str) -> int:
        return self.sources.setdefault(stored, len(self.sources))

    def dtype(self, target: str, canonical: str, dtype: str) -> str:
        """The dtype a target tensor gets: only floating ones are ever cast."""
        if DTYPES[dtype].kind == "float":
            for glob, wanted in self.request.dtypes:
                if fnmatchcase(target, glob) or fnmatchcase(canonical, glob):
                    dtype = wanted
        return dtype

    def kept_dtype(self, stored: str) -> str:
        """The dtype that a stored tensor keeps where none is asked for: of a packed weight, what its library decodes it to."""
        weight = self.packed.get(stored)
        return weight.form.dtype if weight is not None else self.tensors[stored].spec.dtype

    def moved(self, stored: str, target: str) -> None:
        story = self.went.setdefault(stored, {"to": []})
        assert story is not None
        to = story["to"]
        assert isinstance(to, list)
        to.append(target)

    def _stored(self, name: str) -> Source:
        """A stored tensor as a source. What is encoded is named: it is unpacked where the plan is carried out."""
        if name in self.parts:
            return Source(name, self.parts[name].spec.dtype, self._extents(self.parts[name]))
        t, checkpoint = self.tensors[name], self.subject.checkpoint
        weight = self.packed.get(name)
        if weight is not None:
            form = weight.form if not self.request.repack else with_codes(weight.form)
            return Source(name, "F32", (), packed=PackedParts(form, tuple(
                (role, p.spec.dtype, self._extents(p)) for role, p in weight.parts.items()
            )))  # fmt: skip
        if t.read is None:
            return Source(name, t.spec.dtype, self._extents(t))
        own = checkpoint.stored_as.get(name, name)
        encoded = Encoded(checkpoint.container, self._absolute(checkpoint.path), own, t.spec.nbytes, self._raised)
        return Source(name, t.spec.dtype, (), encoded=encoded)

    def _extents(self, t: StoredTensor) -> tuple[Extent, ...]:
        return tuple(tuple.__new__(Extent, (self._absolute(p), at, n)) for p, at, n in t.extents)

    def _absolute(self, path: str) -> str:
        """A plan may be carried out in another folder."""
        found = self._paths.get(path)
        if found is None:
            found = self._paths[path] = store.absolute(path)
        return found

    @cached_property
    def _raised(self) -> tuple[tuple[str, int], ...]:
        """The limits that were raised for the source."""
        return tuple(sorted({**raised(), **self.subject.checkpoint.limits}.items()))

    def finish(self, groups: frozenset[str], untied: bool) -> Weights:
        checkpoint = self.subject.checkpoint
        sources = self._sources()
        for name in checkpoint.tensors:
            if name not in self.went:
                self.went[name] = {"dropped": "not part of the target"}
        for weight in self.packed.values():
            for t in weight.parts.values():
                self.went.setdefault(t.name, {"part": weight.name})
        return Weights(sources, tuple(self.targets), self.ties, self.strings, self.came, self.went, groups, untied, tuple(self.findings))

    def _sources(self) -> tuple[Source, ...]:
        """Every source that the targets count; of tensors in pieces the pieces that they need."""
        boxed = {n: t for n in self.sources if n not in self.packed and (t := self.parts.get(n) or self.tensors.get(n)) and t.boxes}
        if not boxed:
            return tuple(map(self._source_of, self.sources))
        pieces, counted = over_boxes(self.targets, list(self.sources), boxed)
        self.targets = [(n, spec, ps) for (n, spec, _), ps in zip(self.targets, pieces, strict=True)]
        out = []
        for name, box in counted:
            if box is None:
                out.append(self._source_of(name))
            else:
                path, at, n = box.extent
                out.append(Source(f"{name}{box.shown()}", boxed[name].spec.dtype, (Extent(self._absolute(path), at, n),)))
        return tuple(out)

    def _source_of(self, name: str) -> Source:
        made = self.made.get(name)
        if made is None:
            return self._stored(name)
        return Source(name, "F32", (), *((None, made) if isinstance(made, Drawn) else (made,)))


def adjusted_finding(names: Sequence[str], source: str, target: str) -> Finding:
    """That the target keeps other values of these canonical parameters than the source."""
    text = f"{collapse(names)}: {source} and {target} store other values of them, rounded"
    return Finding("info", "adjusted", collapse(names, 2), text)


def other_function(source: Dialect, target: Dialect) -> Finding:
    """That the same weights are another function in the target's library."""
    text = "; ".join(f"{d.title}: {d.computes}" for d in (source, target) if d.computes)
    return Finding("warning", "function", target.name, f"the same weights do not compute quite the same there: {text}")


def how_made(pieces: Sequence[Piece], cast: bool) -> str:
    if len(pieces) == 1 and is_copy(pieces[0]):
        return "cast" if cast else "copied"
    words = []
    if any(p.op == "fill" for p in pieces):
        words.append("filled")
    if any(p.op == "add" for p in pieces):
        words.append("added")
    if any(p.op in ADJUSTING for p in pieces):
        words.append("adjusted")
    if len([p for p in pieces if p.op == "copy"]) > 1:
        words.append("joined")
    if any(p.op == "copy" and not is_copy(p) for p in pieces):
        words.append("re-laid")
    if cast:
        words.append("cast")
    return ", ".join(words) or "copied"


class Same(Builder):
    """Name for name: another container, the same tensors."""

    def weights(self) -> Weights:
        return self._all_copied() or self._each()

    def _all_copied(self) -> Weights | None:
        """The arrangement where every tensor is a run or runs of bytes that is carried over as it is, by columns: a conversion of 90,000
        tensors is mostly this. None where one may be anything else."""
        kinds = {r[0] for r in self.subject.graph.roles.values()}
        if self.packed or self.request.dtypes or not self.tensors or not kinds.isdisjoint(("optimizer", "dropped", "part")):
            return None
        names, stored = list(self.tensors), list(self.tensors.values())
        own, specs, extents, strides, storages, reads, boxes = zip(*stored, strict=True)
        n = len(names)
        if strides.count(None) < n or reads.count(None) < n or any(boxes) or list(own) != names:
            return None
        if any(spec[0] == "STRING" for spec in set(specs)) or (storages.count(None) < n and self._shares(stored)):
            return None
        dtypes = [spec[0] for spec in specs]
        sources: Sequence[Source]
        if set(map(len, extents)) == {1}:
            paths, offsets, lengths = zip(*map(itemgetter(0), extents), strict=True)
            whole_paths = {p: self._absolute(p) for p in set(paths)}
            sources = Sources(names, dtypes, list(map(whole_paths.__getitem__, paths)), offsets, lengths)
        else:
            sources = tuple(map(Source, names, dtypes, map(self._extents, stored)))
        went: Stories = dict.fromkeys(names)
        return Weights(sources, Targets(names, specs), {}, {}, dict.fromkeys(names), went, self.subject.graph.groups, False, ())

    def _shares(self, stored: Sequence[StoredTensor]) -> bool:
        """Whether tensors of the target may be one another: two lie in one storage."""
        held = [t[4] for t in stored if t[4] is not None and t[2]]
        return self.request.container.TIES and len(set(held)) < len(held)

    def _each(self) -> Weights:
        """The arrangement, tensor by tensor."""
        first: dict[object, str] = {}
        beside = []  # optimizer state outside the state dict of a nested PyTorch file: it would get in among the weights
        for name, t in self.tensors.items():
            role = self.subject.graph.roles[name]
            travels = name in self.subject.checkpoint.beside and getattr(self.request.container, "STATE", False)
            if role.kind == "optimizer" and (self.request.drop_optimizer or (name in self.subject.checkpoint.beside and not travels)):
                self.went[name] = {"dropped": "optimizer state"}
                beside += [] if self.request.drop_optimizer else [name]
                continue
            if role.kind == "dropped" or (role.kind == "part" and self.subject.checkpoint.chosen):
                self.went[name] = {"dropped": "asked to be dropped" if role.kind == "dropped" else f"part of {role.what}"}
                continue
            if t.spec.dtype == "STRING":
                self._string(name)
                continue
            if name in self.packed and not self.request.dequantize:
                self._parts_of(self.packed[name])
                continue
            identity = t.identity
            if identity is not None and identity in first and self.request.container.TIES:
                self.ties[name] = first[identity]
                self.went[name] = None
                self.came[name] = {"from": [name], "how": f"tied to {first[identity]}"}
                continue
            if identity is not None:
                first.setdefault(identity, name)
            dtype = self.dtype(name, role.what if role.kind == "param" else name, self.kept_dtype(name))
            pieces = (whole(self.source(name), t),)
            self.targets.append((name, t.spec if dtype == t.spec.dtype else TensorSpec(dtype, t.spec.shape), pieces))
            how = "decoded" if name in self.packed else how_made(pieces, dtype != t.spec.dtype)
            self.went[name] = None
            self.came[name] = None if how == "copied" else {"from": [name], "how": how}
        if beside:
            message = f"{len(beside)} tensors of optimizer state beside {self.subject.checkpoint.wrapper!r} are not carried over"
            self.findings.append(Finding("warning", "dropped", collapse(beside, 3), message))
        return self.finish(self.subject.graph.groups, False)

    def _parts_of(self, weight: PackedWeight) -> None:
        """The parts of a packed weight, bit for bit under their own names: no dtype that is asked for is meant for them."""
        for t in weight.parts.values():
            if DTYPES[t.spec.dtype].block > 1 and self.subject.checkpoint.container != self.request.container.NAME:
                message = f"{t.name!r} is stored in blocks of {t.spec.dtype}, which {self.request.container.TITLE} cannot hold"
                raise UnsupportedError(message, path=self.subject.checkpoint.path, hint="--dequantize decodes them")
            self.parts[t.name] = t
            self.targets.append((t.name, t.spec, (whole(self.source(t.name), t),)))
            self.went[t.name] = self.came[t.name] = None
        if weight.name not in self.parts:
            self.went[weight.name] = {"to": [t.name for t in weight.parts.values()]}

    def _string(self, name: str) -> None:
        if self.request.container.STRINGS:
            t = self.tensors[name]
            self.strings[name] = self.subject.checkpoint.strings(name)
            self.targets.append((name, t.spec, ()))
            self.went[name] = self.came[name] = None
        else:
            self.went[name] = {"dropped": f"text, which {self.request.container.TITLE} does not hold"}
            self.findings.append(
                Finding("info", "dropped", name, f"{name} is text, which {self.request.container.TITLE} does not hold: dropped")
            )


def whole(source: int, t: StoredTensor) -> Piece:
    if t.strides is None:
        return Piece(source, straight(t.spec.numel))
    strides = t.strides or row_major_strides(t.spec.shape)
    loops = simplify(tuple(Loop(n, s, r) for n, s, r in zip(t.spec.shape, strides, row_major_strides(t.spec.shape), strict=True)))
    return Piece(source, loops)
