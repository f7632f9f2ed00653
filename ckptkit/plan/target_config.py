"""The configuration of a target in another naming: what the source's says, what the tensors say, in the words of the target's library."""

from __future__ import annotations

from collections.abc import Mapping

from .._typing import NamedTuple
from ..configuration.quantization import unpacked_words
from ..configuration.read import BLOCK
from ..configuration.write import Source, choose_class, named_class, to_json_text, write_config
from ..findings import Finding
from ..graph.examine import Subject
from ..graph.tf_objects import MEMORY, hung, scope
from ..schema import Class, Dialect
from ..tensors import DTYPES
from .arrange import Weights
from .columns import specs_of
from .naming import bare
from .quantize import said_of
from .target import Request, as_mapping


class TargetConfig(NamedTuple):
    """A configuration to be written. `extras` are for a container that holds it beside the tensors."""

    raw: dict[str, object]
    text: str
    extras: Mapping[str, object]
    classes: tuple[str, ...]  # of the library, that load the target
    labels: int | None  # how many the classifier tells apart, if there is one
    findings: tuple[Finding, ...]


def target_config(subject: Subject, request: Request, weights: Weights, dialect: Dialect) -> TargetConfig:
    """What `dialect` has for the configuration of what is written."""
    arch, own = subject.architecture, subject.graph.dialect
    assert arch is not None and own is not None
    rest = subject.values.rest if subject.values is not None else {}
    named = named_class(rest, arch, dialect, weights.groups)
    values = _values(subject, request, own) | _tied(subject, weights, dialect, named)
    labelled = {p.group for p in arch.params.values() if "labels" in p.layout.axes}
    labels = subject.sizes().axis.get("labels") if weights.groups & labelled else None
    written = write_config(values, rest, arch, dialect, weights.groups, labels=labels, source=_source(subject, own, weights))
    memory = _memory(subject, own, dialect, named)
    raw = {**written.raw, BLOCK: {**as_mapping(written.raw.get(BLOCK)), MEMORY: memory}} if memory else written.raw
    raw = said_of(unpacked_words(raw, bool(subject.packings.weights)), request, weights)
    return TargetConfig(
        raw, (dialect.config.writer.text or to_json_text)(raw), written.extras, written.classes, labels, tuple(written.findings)
    )


def _values(subject: Subject, request: Request, own: Dialect) -> dict[str, object]:
    """The canonical values: what the naming implies, the model's name, the configuration, the user, the tensors say; the last counts."""
    values: dict[str, object] = {**own.config.implied, **_of_its_name(subject, own)}
    if subject.values is not None:
        values.update(subject.values.values)
    values.update(subject.given)
    values.update({c: v for c in own.config.follows if c not in values and (v := subject.value(c)) is not None})
    sizes = subject.sizes()
    values.update(sizes.axis)
    values.update(sizes.by_place())
    if request.vocab is not None:
        values["vocab"] = request.vocab
    values.update(subject.graph.counts)
    values.update({name: next(iter(on)) for name, on in subject.graph.switches.items() if len(on) == 1})
    return values


def _of_its_name(subject: Subject, own: Dialect) -> Mapping[str, object]:
    """What the name says that the library gave the model, which the file keeps or, with a head beside it, the model's layer has."""
    ck = subject.checkpoint
    named = (m for m in own.library.said if ck.called == m or any(n.startswith(f"layers/{m}/") for n in ck.tensors))
    return own.library.said.get(next(named, ""), {})


def _source(subject: Subject, own: Dialect, weights: Weights) -> Source:
    return Source(own, _dtype(weights), subject.values.keys if subject.values is not None else {})


def _tied(subject: Subject, weights: Weights, dialect: Dialect, named: Class | None) -> dict[str, object]:
    """{"tied": whether} where the tensors decide it, whatever the configuration says: there is nothing else to use."""
    if weights.untied:
        return {"tied": False}
    arch = subject.architecture
    assert arch is not None
    if named is None:  # then the class that fits is what is written
        chosen = choose_class(dialect.classes, weights.groups, None, arch.free_groups)
        named = chosen[0] if chosen is not None else None
    used = weights.groups | (named.groups if named is not None else frozenset())
    ties = [p for p in arch.params.values() if p.tied and p.group in used and (named is None or p.name not in named.without)]
    needed = (*(t.name for t in ties), *subject.graph.untied_by(dialect))
    return {"tied": True} if any(p not in subject.graph.params for p in needed) else {}


def _dtype(weights: Weights) -> str | None:
    """PyTorch's name of the dtype that all floating tensors of the target have, if it is one."""
    dtypes = {s.dtype for s in set(specs_of(weights.targets).values()) if DTYPES[s.dtype].kind == "float"}
    return DTYPES[next(iter(dtypes))].torch if len(dtypes) == 1 else None


def _memory(subject: Subject, own: Dialect, dialect: Dialect, named: Class | None) -> dict[str, object]:
    """What the target's names do not say of the source's: kept in the configuration for the way back."""
    graph = subject.graph
    memory = hung(graph.recognition, graph.counts) if graph.recognition is not None else {}
    memory |= bare(subject) if dialect is not own else {}
    if dialect.files.spelling != own.files.spelling:
        memory |= scope(own, list(subject.checkpoint.tensors), named.name if named is not None else "")
    return memory
