"""What a target holds besides its tensors: metadata, what lies beside them in the file, the files beside the file.

Policy: the configuration is written anew in another naming and goes along where names stay; what belongs to the source's format or naming
alone is not carried over, and that is said.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from .. import store
from .._typing import NamedTuple
from ..configuration.quantization import unpacked_words
from ..configuration.write import to_json_text
from ..containers import OBJECT_GRAPH
from ..containers.gguf.keys import typed
from ..findings import Finding
from ..graph.examine import Subject
from ..graph.tf_objects import object_places
from ..schema import Dialect
from .arrange import Weights
from .left_behind import MODULES, left_behind, modules_of
from .quantize import main_type, said_of
from .sidecars import SIDECARS, Company, gather
from .target import Request
from .target_config import TargetConfig, target_config

PRIVATE = ("hdf5:", "keras:")  # metadata that only the formats of these names understand

Named = tuple[tuple[str, str], ...]


class Contents(NamedTuple):
    """What lies in the target beside the tensors. `config` is the text of its configuration, wherever that is written."""

    metadata: Mapping[str, str] = {}
    extras: Mapping[str, object] = {}
    wrapper: str = ""
    copies: Named = ()  # (file, name in the target)
    texts: Named = ()  # (name in the target, content)
    findings: tuple[Finding, ...] = ()
    config: str = ""
    classes: tuple[str, ...] = ()  # of the target's library, that load it


def gather_contents(subject: Subject, request: Request, weights: Weights) -> Contents:
    """Everything of the target but its tensors and the ledger. Reads small files only."""
    metadata, findings = _carried(subject, request)
    if request.dialect is None or (request.names_only and subject.config is None):
        contents = _as_it_was(subject, request, metadata, weights)
        company = gather(subject, None, {}, "", None, _names(contents)) if not request.single else None
    else:
        config = target_config(subject, request, weights, request.dialect)
        contents = _translated(subject, request, weights, config, metadata, request.dialect)
        cls = config.classes[0] if config.classes else ""
        company = gather(subject, request.dialect, config.raw, cls, config.labels, _names(contents)) if not request.single else None
    findings += contents.findings
    told = ("args", "cfg", "special:model.yml", *(("gguf",) if request.dialect is not None else ()))  # said in the configuration, in files
    lost = [k for k in subject.checkpoint.extras if not contents.extras and k not in told]
    if lost:
        said = f"what lies beside the tensors is not carried over: {', '.join(lost[:12])}"
        findings.append(Finding("info", "dropped", ", ".join(lost[:6]), said))
    if company is not None:
        company = _with_modules(subject, company, request)
        if subject.checkpoint.whole_folder:
            findings += left_behind(subject.checkpoint.folder, _used(subject, contents, company))
    elif store.is_file(os.path.join(subject.checkpoint.folder, MODULES)):
        findings += modules_of(subject.checkpoint.folder, [MODULES], loadable=False).findings
    return _with_company(contents, company, request, findings)


def _with_modules(subject: Subject, company: Company, request: Request) -> Company:
    """The company with the further modules of a sentence-transformers model, or without what only it reads."""
    loadable = request.container.NAME in ("safetensors", "torch") and (request.dialect is None or request.dialect.config.labels)
    modules = modules_of(subject.checkpoint.folder, [name for _, name in company.copies], loadable=loadable)
    copies = [(path, name) for path, name in company.copies if name not in modules.stays]
    further = [(path, name) for name, path in modules.copies.items()]
    return Company((*copies, *further), company.texts, (*company.findings, *modules.findings))


def _used(subject: Subject, contents: Contents, company: Company) -> list[str]:
    """The paths of the source's folder that are read or copied."""
    ck, config = subject.checkpoint, subject.config
    used = [*ck.files, *(path for path, _ in (*contents.copies, *company.copies)), *(os.path.join(ck.folder, n) for n in SIDECARS)]
    return [*used, config.source] if config is not None and not config.inside else used


def _carried(subject: Subject, request: Request) -> tuple[dict[str, str], list[Finding]]:
    """The metadata that go along, and the finding of those that do not: a Keras file's own (`hdf5:model_config`), where the target
    has no place for it or other names."""
    names_stay = request.dialect is None
    old = {OBJECT_GRAPH, *subject.checkpoint.ties} if not names_stay else set()
    metadata = {k: v for k, v in subject.checkpoint.metadata.items() if k not in old}
    keeps: tuple[str, ...] = getattr(request.container, "KEEPS", ()) if names_stay else ()
    lost = [k for k in metadata if k.startswith(PRIVATE) and not k.startswith(keeps)]
    kept = {k: v for k, v in metadata.items() if k not in lost}
    why = f"{request.container.TITLE} has no place for it" if names_stay else "it speaks of the old names"
    said = f"what the file says besides its tensors is not carried over ({', '.join(lost[:8])}): {why}"
    findings = [Finding("info", "dropped", ", ".join(lost[:4]), said)] if lost else []
    ties = subject.checkpoint.ties
    if names_stay and ties and subject.checkpoint.container != request.container.NAME:
        pairs = ", ".join(f"{a} is {b}" for a, b in sorted(ties.items())[:4])
        what = f"{request.container.TITLE} has no place for what the metadata say ({pairs}): loaders may take these for missing"
        findings.append(Finding("warning", "dropped", min(ties), what, "name a dialect with --to: it stores them under their own names"))
    return kept, findings


def _as_it_was(subject: Subject, request: Request, metadata: dict[str, str], weights: Weights) -> Contents:
    """Where names stay: what the source has, as far as the container holds it."""
    ck, config = subject.checkpoint, subject.config
    same = ck.container == request.container.NAME
    if subject.graph.dialect is not None:
        metadata = {**subject.graph.dialect.files.metadata, **metadata}
    if ck.objects is not None:
        metadata = {**metadata, OBJECT_GRAPH: ck.objects.packed()}
    extras = ck.extras if same else {}
    if same and ck.container == "gguf" and request.quantize is not None:
        extras = {**extras, "gguf": typed(extras["gguf"], request.quantize)}
    decoded = request.dequantize and bool(subject.packings.weights)
    raw = said_of(unpacked_words(_plain(config.raw), decoded), request, weights) if config is not None else {}
    text = to_json_text(raw) if config is not None else ""
    copies: Named = ()
    texts: Named = ()
    if config is not None and not config.inside and (decoded or request.quantize is not None):
        texts = ((os.path.basename(config.source), text),)
    elif config is not None and not config.inside:
        copies = ((store.absolute(config.source), os.path.basename(config.source)),)
    elif config is not None and not extras:
        texts = (("config.json", text),)
    return Contents(metadata, extras, ck.wrapper if same else "", copies, texts, config=text)


def _translated(
    subject: Subject, request: Request, weights: Weights, config: TargetConfig, metadata: dict[str, str], dialect: Dialect
) -> Contents:
    """In another naming: the configuration in the words of its library, where the library looks for it."""
    at_home = request.container.NAME in (dialect.container, dialect.split.whole if dialect.split is not None else "")
    texts: Named = ()
    if dialect.config.filename:
        texts = ((dialect.config.filename, config.text),)
    elif not at_home:
        texts = (("config.json", config.text),)
    metadata = {**metadata, **dialect.files.metadata}
    if dialect.files.spelling is not None and at_home:
        metadata |= dialect.files.spelling.metadata(list(weights.came))
    if dialect.config.writer.fold is not None:
        metadata |= {"keras:config.json": config.text, "keras:metadata.json": to_json_text({"keras_version": "3.0.0"})}
    extras = config.extras if at_home else {}
    if at_home and weights.hung is not None and subject.architecture is not None:
        extras = {**extras, **object_places(subject.architecture.table(dialect.name), weights.hung, subject.graph.counts)}
    if at_home and dialect.container == "gguf":
        keys, said = _vocabulary_keys(subject, request, extras.get("gguf"))
        extras = {**extras, "gguf": typed(keys, main_type(weights))}
        config = config._replace(findings=(*config.findings, *said))
    findings = config.findings
    kept = subject.checkpoint.extras.get("gguf")
    if isinstance(kept, Mapping) and dialect.container != "gguf" and not request.single:
        from ..vocabulary import files_of

        files = files_of(kept, subject.checkpoint.path)
        texts, findings = (*texts, *files.texts), (*findings, *files.findings)
    wrapper = dialect.files.wrapper if at_home else ""
    return Contents(metadata, extras, wrapper, (), texts, findings, config.text, config.classes)


def _vocabulary_keys(subject: Subject, request: Request, keys: object) -> tuple[dict[str, object], tuple[Finding, ...]]:
    """The keys of a GGUF file with its tokenizer's, where it has none yet, and what there is to say of it."""
    from ..vocabulary import keys_of

    out = dict(keys) if isinstance(keys, Mapping) else {}
    kept = subject.checkpoint.extras.get("gguf")
    if isinstance(kept, Mapping):
        return {**{k: v for k, v in kept.items() if str(k).startswith("tokenizer.")}, **out}, ()
    rows = request.vocab or subject.sizes().axis.get("vocab")
    if rows is None:
        return out, ()
    vocabulary = keys_of(subject.checkpoint.folder, rows, subject.config.raw if subject.config is not None else {})
    return {**out, **vocabulary.keys}, vocabulary.findings


def _names(contents: Contents) -> set[str]:
    return {name for name, _ in contents.texts} | {name for _, name in contents.copies}


def _with_company(contents: Contents, company: Company | None, request: Request, findings: list[Finding]) -> Contents:
    """The contents with the files that go along, in a folder; a single file has nothing beside it, which is said."""
    if company is not None:
        copies, texts = (*contents.copies, *company.copies), (*contents.texts, *company.texts)
        return contents._replace(copies=copies, texts=texts, findings=(*findings, *company.findings))
    if contents.texts or contents.copies:
        said = "the target is a single file: the configuration and vocabulary are not written beside it"
        findings.append(Finding("info", "config", request.target, said))
    return contents._replace(copies=(), texts=(), findings=tuple(findings))


def _plain(raw: Mapping[str, object]) -> dict[str, object]:
    """The part of a configuration found inside a file that JSON can hold."""
    return {k: v for k, v in raw.items() if isinstance(v, (str, int, float, bool, list, dict, type(None)))}
