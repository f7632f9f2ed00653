"""A checkpoint with all that is known of it before a weight is read: graph, configuration, and what was noticed on the way."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType

from .. import store
from .._typing import TYPE_CHECKING, NamedTuple
from ..arch import architectures, by_name, dialect_names, is_learned
from ..configuration.quantization import quantization_of
from ..configuration.read import RawConfig, Values, interpret, load_config, size_names, value_names
from ..configuration.text_settings import TEXT, text_place
from ..containers import Checkpoint, drop_explained, open_checkpoint
from ..errors import CheckpointError, UsageError, one_of
from ..findings import Finding
from ..schema import Architecture, Param
from ..schema.layout import Sizes
from ..support.columns import sorts
from ..support.lazy import later
from .packed_weights import NONE, Packings, group_packed
from .reading import AS_FOUND, OTHERS, Reading
from .recognition import Question
from .second_names import shared_storages
from .solve import Solution
from .weight_graph import WeightGraph, bind

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from . import composites
    from .account import Account
    from .reading import Words
else:
    later(globals(), composites=".composites")


class Subject(NamedTuple):
    """What `examine` gives: close it (or use it in a `with`) to give the files back."""

    checkpoint: Checkpoint
    graph: WeightGraph
    config: RawConfig | None
    values: Values | None
    given: Mapping[str, object]  # what the user set by hand: canonical values, above the configuration's
    findings: tuple[Finding, ...]
    packings: Packings = NONE
    # the configuration of a multimodal model, where this is its text model, or where nothing is recognised of it
    whole: RawConfig | None = None

    def __repr__(self) -> str:
        from ..support.shown import line

        return line(self, self.checkpoint.path, self.architecture.name if self.architecture else "unknown architecture")

    @property
    def has_modules(self) -> bool:
        """Whether there may be sentence-transformers' modules: a list of them beside the weights, or by hand (see `graph.sentence`)."""
        return "sentence" in self.given or store.is_file(os.path.join(self.checkpoint.folder, "modules.json"))

    def __enter__(self) -> Subject:
        return self

    def close(self) -> None:
        """Give the files back."""
        self.checkpoint.close()

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self.checkpoint.close()

    @property
    def architecture(self) -> Architecture | None:
        return self.graph.architecture

    @property
    def account(self) -> Account:
        """Everything that is there, each in one place. Made once."""
        from .account import Account, make_account

        if not isinstance(self.graph.account, Account):
            self.graph.account = make_account(self)
        assert isinstance(self.graph.account, Account)
        return self.graph.account

    def value(self, canonical: str) -> object:
        """A canonical value: the user's, else the configuration's, else what the dialect's own code computes, else None."""
        if canonical in self.given:
            return self.given[canonical]
        said = self.values.values.get(canonical) if self.values is not None else None
        if said is None and self.graph.dialect is not None and canonical in self.graph.dialect.config.follows:
            known = {**(self.values.values if self.values is not None else {}), **self.graph.solution.sizes.axis}
            return self.graph.dialect.config.follows[canonical](known)
        return said

    @property
    def untied(self) -> bool:
        """Whether tables of input and output that are stored apart are two: as the configuration says, or without one as the class has
        them (a Llama's are two, a BERT's one)."""
        said = self.value("tied")
        if said is None and self.values is None and self.graph.dialect is not None:
            said = self.graph.dialect.config.defaults.get("tied")
        return said is False

    @property
    def tied_groups(self) -> frozenset[str]:
        """The heads that every checkpoint of the model has: all that they have is tied, or (a bias) switched off by the configuration."""
        arch = self.architecture
        if arch is None:
            return frozenset()
        own = {p.group for p in arch.params.values() if not p.tied and not (p.switch and self.value(p.switch) is False)}
        tied = frozenset(p.group for p in arch.params.values()) - own
        raw = self.config.raw if self.config is not None else {}
        named = raw.get("architectures")
        of = self.graph.dialect.classes if self.graph.dialect is not None else ()
        cls = next((c for c in of if isinstance(named, list) and named and c.name == named[0]), None)
        return tied if cls is None else tied & (arch.tied_groups | cls.groups)  # a classifier's class has no other head

    def says(self, canonical: str) -> str:
        """Who says a canonical value that `value` gives, for a message: "config.json says"."""
        if canonical in self.given:
            return "--set says"
        if self.values is None or self.values.values.get(canonical) is None:
            return f"{self.graph.dialect.title} computes" if self.graph.dialect is not None else "nothing says"
        return f"{self.config_name} says"

    @property
    def config_name(self) -> str:
        """What messages call the configuration."""
        if self.config is None:
            return "the configuration"
        return "the configuration inside the file" if self.config.inside else os.path.basename(self.config.source)

    def derive(self, how: str, shape: tuple[int, ...]) -> object:
        """The array of `shape` that a dialect's derived tensor holds by the architecture's derivation ("name value value")."""
        assert self.architecture is not None
        name, *values = how.split()
        return self.architecture.derivations[name](shape, *(self.value(v) for v in values))

    def counted(self) -> list[str]:
        """The stored names whose elements are the model's parameters, each parameter once.

        A tie counts once unless it is none (`untied`). Of an unknown architecture everything counts that
        is not optimizer state. What nothing explains counts too; derived tensors and strays do not.
        """
        kinds = {"param", "unexplained"} | ({"tied"} if self.untied else set())
        tensors, roles = self.checkpoint.tensors, self.graph.roles
        if (
            all(role[0] in kinds for role in sorts(roles)[1])
            and all(spec.dtype != "STRING" for spec in self.checkpoint.specs)
            and not shared_storages(tensors)
        ):
            return list(tensors)
        seen: set[object] = set()
        out = []
        for name, t in tensors.items():
            if roles[name].kind not in kinds or t.spec.dtype == "STRING":
                continue
            if t.storage is not None and (identity := t.identity) is not None:
                if identity in seen:
                    continue
                seen.add(identity)
            out.append(name)
        return out

    def kinds(self, switch: str) -> dict[int, bool]:
        """How a switch of single layers ("moe@layer") stands in each: by the tensors, where they leave it open by the configuration or the
        number of layers; else as in most layers, or, where one side alone has tensors, the way that has none."""
        seen, arch = self.graph.layer_kinds.get(switch, {}), self.architecture
        said = self.said_kinds(switch) or ()
        if not said and arch is not None and switch in arch.by_count:
            said = arch.kinds[switch](self.graph.counts) or ()
        votes = [next(iter(on)) for on in seen.values() if len(on) == 1]
        side = arch.one_sided.get(switch) if arch is not None else None
        usual = 2 * sum(votes) > len(votes) if side is None else not side
        n = max((*self.graph.indices.get(switch.partition("@")[2], ()), -1)) + 1
        return {i: next(iter(seen[i])) if len(seen.get(i, ())) == 1 else said[i] if i < len(said) else usual for i in range(n)}

    def said_kinds(self, switch: str) -> Sequence[bool] | None:
        """How the configuration says that a switch of single layers stands in each; None where it does not."""
        arch = self.architecture
        if arch is None or self.values is None or switch not in arch.kinds:
            return None
        return arch.kinds[switch](self._said())

    def stands(self, switch: str) -> bool | None:
        """How the configuration says that a switch of all layers alike stands, by its own key or by others; None where it does not."""
        said = self.value(switch)
        kinds = self.said_kinds(switch) if said is None else None
        return said if isinstance(said, bool) else None if kinds is None else any(kinds)

    def _said(self) -> dict[str, object]:
        assert self.values is not None
        return {**self.values.values, **self.given, **self.graph.counts}

    def listed(self, sizes: Callable[[Mapping[str, object]], Sequence[int] | None]) -> tuple[int, ...] | None:
        """What the configuration says of an axis that has a size of its own in each layer; None where it does not."""
        found = sizes(self._said()) if self.values is not None else None
        return None if found is None else tuple(found)

    def layers_with(self, info: Param, holder: str, places: list[int]) -> list[int]:
        """Of the places of a placeholder those that have a parameter, which may be of one kind of layers."""
        for word in info.words:
            if word.endswith(f"@{holder}"):
                stand, on = self.kinds(word.removeprefix("not ")), not word.startswith("not ")
                places = [i for i in places if stand.get(i) is on]
        return places

    def completed(self) -> Solution:
        """The graph's solution, solved on with the sizes that only the user or the configuration says (a table of two joined ones)."""
        arch, found = self.architecture, self.graph.solution
        assert arch is not None
        given = {}
        for axis in sorted(size_names(arch) - found.sizes.axis.keys()):
            n = self.value(axis) if "@" not in axis else None
            if isinstance(n, int) and not isinstance(n, bool) and n > 0:
                given[axis] = n
        return self.graph.solved({**found.sizes.axis, **given}) if given else found

    def sizes(self) -> Sizes:
        """The sizes that tensors imply, with what they leave open (heads) as the user or the configuration says."""
        if self.architecture is None:
            return self.graph.solution.sizes.copy()
        sizes = self.completed().sizes.copy()
        for count, n in self.graph.counts.items():  # a tensor of another naming may join what these names count
            sizes.axis.setdefault(count, n)
        assert self.graph.dialect is not None
        for param, lack in self.graph.dialect.lacks.items():
            if param not in self.graph.params:
                for axis, n in lack.sizes.items():
                    sizes.axis[axis] = n
        return sizes


def _refuse_misspelt(given: Mapping[str, object], architecture: Architecture) -> None:
    """UsageError for a value by hand whose name means nothing: a misspelt one must not pass for one that was set."""
    own = value_names(architecture) | set(OTHERS)
    for name in given:
        if name not in own and not any(name in value_names(a) for a in architectures().values()):
            raise UsageError(f"--set {name}: no value of {architecture.title} is called so", hint=one_of(name, sorted(own)))


def examine(path: str | os.PathLike[str], reading: Reading = AS_FOUND, *, entire: bool = False, **words: Unpack[Words]) -> Subject:
    """Open `path`, find its configuration, and recognise it. Reads headers only.

    `entire`: of a multimodal model that no schema explains, nothing is recognised instead of its text model alone.

    `reading`, or its fields as keywords (config, container, architecture, dialect, scope, part, given), overrule what would be found;
    `drop` are globs of stored names to leave out.
    A configuration that cannot be read is an error finding, unless it was named. Raises CheckpointError.
    """
    config, container, architecture, dialect, scope, part, given, drop = reading.but(**words)
    if architecture is not None and not is_learned(architecture):
        by_name(architecture)
    if dialect is not None and dialect not in dialect_names():
        raise UsageError(f"no dialect is called {dialect!r}", hint=one_of(dialect, sorted(dialect_names()), "ckptkit list dialects"))
    checkpoint = open_checkpoint(path, container)
    try:
        chosen = False
        if part is not None:
            from .parts import select_part

            chosen = select_part(checkpoint, part)
        raw, findings = _configuration(checkpoint, config, "" if chosen else part or "")
        said = raw.raw if raw else None
        whole = raw if said is not None and text_place(said) is not None else None
        if part == TEXT and whole is not None and not chosen:
            checkpoint.chosen, chosen = TEXT, True
        part = None if chosen else part
        packings = group_packed(checkpoint, quantization_of(said, os.path.basename(raw.source) if raw else "", checkpoint.folder))
        broken = tuple(f.weight for f in packings.faults)
        asked = Question(raw.declared if raw else None, architecture, dialect, part, scope, said or {}, broken=broken)
        if whole is not None and (chosen or not any((architecture, dialect, part, scope))):
            raw, graph = _multimodal(checkpoint, whole, asked, drop, chosen=chosen, entire=entire)
            whole = whole if raw is not whole or (entire and graph.recognition is None) else None
        else:
            graph, whole = bind(checkpoint, asked, drop), None
        if graph.dialect is not None and graph.dialect.part != (part or ""):
            raw, findings = _configuration(checkpoint, config, graph.dialect.part)
        drop_explained(checkpoint, [n for n, role in graph.roles.items() if role.kind in ("tied", "repeat")])
        values = None
        if given and graph.recognition is not None and graph.recognition.learned is None:
            _refuse_misspelt(given, graph.recognition.architecture)
        if raw is not None and graph.recognition is not None:
            values = interpret(raw, graph.recognition.architecture, graph.recognition.dialect)
            findings += values.findings
        return Subject(checkpoint, graph, raw, values, dict(given), tuple(findings), packings, whole)
    except BaseException:
        checkpoint.close()
        raise


def _multimodal(
    checkpoint: Checkpoint, whole: RawConfig, asked: Question, drop: Sequence[str], *, chosen: bool, entire: bool
) -> tuple[RawConfig, WeightGraph]:
    """What a multimodal model is: as a whole by its schema, else its text model with that one's own settings, which is what a part that was
    `chosen` is tried as first. `entire`: else nothing."""
    if not chosen:
        graph = bind(checkpoint, asked, drop)
        learned = graph.recognition is not None and graph.recognition.learned is not None
        if (
            graph.recognition is not None
            and learned
            and not composites.unforeseen(whole, graph.recognition.matches, graph.of_role("unexplained"))
        ):
            return whole, graph
        if entire:
            return whole, bind(checkpoint, asked._replace(untold=True), drop)
        return _text(checkpoint, whole, asked, drop) or (whole, graph)
    inside = _text(checkpoint, whole, asked, drop)
    if inside is None and checkpoint.chosen == TEXT:
        inner = composites.text_config(whole)
        name = inner.declared if inner is not None else whole.declared
        raise UsageError(f"--part {TEXT}: no table here has the text model ({name})", path=checkpoint.path)
    other = composites.part_config(whole, checkpoint.chosen) if inside is None else None
    if other is not None:
        return other, bind(checkpoint, asked._replace(declared=other.declared, config=other.raw), drop)
    return inside or (whole, bind(checkpoint, asked, drop))


def _text(checkpoint: Checkpoint, whole: RawConfig, asked: Question, drop: Sequence[str]) -> tuple[RawConfig, WeightGraph] | None:
    """The text model of a multimodal model, with its own settings; None where it is not found."""
    inner = composites.text_config(whole)
    if inner is None:
        return None
    graph = bind(checkpoint, asked._replace(declared=inner.declared, config=inner.raw, text=True), drop)
    if graph.recognition is None:
        return None
    said = f"it is the text model of what the configuration calls {whole.declared}"
    graph.recognition = graph.recognition._replace(evidence=(*graph.recognition.evidence, said))
    return inner, graph


def _configuration(checkpoint: Checkpoint, path: str | None, part: str) -> tuple[RawConfig | None, list[Finding]]:
    """The configuration, and the finding that it cannot be read; an error only where it was named."""
    try:
        return load_config(checkpoint, path, part), []
    except CheckpointError as e:
        if path is not None:
            raise
        return None, [Finding("error", "config", os.path.basename(e.path or "config"), e.message, e.hint or "")]
