"""`convert`: examine, validate, plan, run. The target is complete: weights, configuration, vocabulary, ledger.

Order matters: what can be refused is refused before a byte is written (the target exists, the source has errors, a
value is undecided), and nothing is assumed that changes a model's outputs.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence

from .._typing import NamedTuple
from ..configuration.read import BLOCK
from ..configuration.write import named_class, to_json_text, write_config
from ..containers import OBJECT_GRAPH
from ..errors import CheckpointError, FindingsError, UsageError, printable
from ..findings import Finding
from ..graph.examine import Subject, examine
from ..graph.tf_objects import MEMORY, hung, object_places, scope
from ..plan.arrange import Request, Weights
from ..plan.assemble import arrange, assemble
from ..plan.ledger import LEDGER, ledger_text, make_ledger
from ..plan.sidecars import gather
from ..plan.target import (
    as_mapping,
    choose_container,
    choose_dialect,
    filename,
    is_container,
    known_groups,
    new_groups,
    own_dialect,
    single_file,
)
from ..plan.translate import bare
from ..plan.values import Plan
from ..rules.run import run_rules
from ..schema import Dialect
from ..support.collector import paused
from ..tensors import DTYPES

PRIVATE = ("hdf5:", "keras:")  # metadata that only the formats of these names understand


class Conversion(NamedTuple):
    """What `convert` did or, with `dry_run`, would do. `result` is the engine's, None for a dry run; `config` the target's, as text."""

    plan: Plan
    ledger: dict[str, object]
    findings: tuple[Finding, ...]
    classes: tuple[str, ...]
    result: object | None
    config: str = ""


def convert(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    to: str | None = None,
    container: str | None = None,
    dtypes: Sequence[tuple[str, str]] = (),
    config: str | None = None,
    given: Mapping[str, object] | None = None,
    architecture: str | None = None,
    dialect: str | None = None,
    part: str | None = None,
    max_shard_size: int | None = None,
    drop: Sequence[str] = (),
    drop_optimizer: bool = False,
    dry_run: bool = False,
    overwrite: bool = False,
    force: bool = False,
    check: bool | str = True,
    jobs: int | None = None,
    max_memory: int = 256 << 20,
    on_overflow: str = "error",
    sync: bool = True,
    progress: Callable[[int, int], None] | None = None,
    init_missing: bool = False,
    add: Sequence[str] = (),
    resize_vocab: int | None = None,
    seed: int = 0,
    renew: bool = False,
) -> Conversion:
    """Write the checkpoint at `source` to `target` in dialect `to` (None, or a container's name: names stay) and `container` (None:
    the dialect's own).

    `target` is a directory, or one file if it ends like one of the container's and the container is a single file.
    `dtypes`: (glob, dtype) pairs; `given`: canonical values that nothing else says ({"heads": 16}); `drop`: head groups to
    leave out; `max_shard_size` and `max_memory` in bytes; `check` verifies the source's checksums and reads back what was
    written, with check="reference" also by the format's own library; `on_overflow` (error, clip, keep) and `sync` are the engine's;
    `force` converts in spite of error findings. `init_missing`: parameters that the source lacks start as the architecture's authors
    have them start; `add`: so do heads that it lacks; `resize_vocab`: so do further rows of the vocabulary (or rows are left out);
    `renew`: names and configuration are written anew though the naming stays (of an architecture that has one naming only, they stay);
    all of it by `seed`, the same values as `build_transformer_model` gives, listed in the findings and the ledger. Raises
    FindingsError, UndecidedError, UsageError, ... (`errors`).
    """
    from ..engine.run import run
    from ..engine.staging import check_target

    src, dst = os.fspath(source), os.fspath(target)
    if to is not None and container is None and is_container(to):
        to, container = None, to
    if check not in (True, False, "reference"):
        raise UsageError(f"check is {check!r}", hint="True, False or 'reference'")
    single = single_file(dst, container)
    check_target(dst, single=single, overwrite=overwrite or dry_run, inputs=())
    with paused(), examine(src, config=config, architecture=architecture, dialect=dialect, part=part, given=given) as subject:
        grows = init_missing or bool(add) or resize_vocab is not None
        wanted = container or (choose_container(subject, None, None, dst).NAME if single else None)
        target_dialect = choose_dialect(subject, to, wanted) if to is not None or not grows else own_dialect(subject)
        chosen = choose_container(subject, target_dialect, container, dst if single else None)
        if target_dialect is not None and target_dialect is subject.graph.dialect and _has_one_naming(subject) and not (renew or grows):
            target_dialect = None
        findings = run_rules(subject, integrity=bool(check) and not dry_run)
        if init_missing:
            findings = [f for f in findings if f.rule != "missing"]
        errors = [f for f in findings if f.severity == "error"]
        if errors and not force:
            raise FindingsError(
                f"{len(errors)} error{'s' * (len(errors) != 1)} in the source, nothing was written", tuple(findings), path=src,
                hint="mend it, or convert all the same with --force",
            )  # fmt: skip
        request = Request(
            chosen, target_dialect, filename(chosen, target_dialect or subject.graph.dialect, dst if single else None), tuple(dtypes),
            max_shard_size,
            drop_optimizer, known_groups(subject, drop, "--drop"), resize_vocab, init_missing, new_groups(subject, target_dialect, add),
            seed,
        )  # fmt: skip
        weights = arrange(subject, request)
        try:
            plan, ledger, classes, said, text = _plan(subject, request, weights, dst, single)
        except CheckpointError as e:
            e.path = e.path or printable(src)
            raise
        findings += [*weights.findings, *said]
        proof = _reference(chosen.NAME) if check == "reference" else None
        if dry_run:
            return Conversion(plan, ledger, tuple(findings), classes, None, text)
        result = run(
            plan,
            overwrite=overwrite,
            jobs=jobs,
            max_memory=max_memory,
            check=bool(check),
            proof=proof,
            on_overflow=on_overflow,
            sync=sync,
            progress=progress,
            compute_finish=chosen.finish,
        )
        return Conversion(plan, ledger, (*findings, *result.findings), classes, result, text)


def _has_one_naming(subject: Subject) -> bool:
    """Whether the architecture is a learned one, whose names are the library's as they are, without a wrapper to take off."""
    r = subject.graph.recognition
    return r is not None and r.learned is not None and not r.wrapper


def _reference(container: str) -> Callable[[str, str], object]:
    """What reads a container with the format's own library; imported only when it is asked for. UsageError where there is none."""
    from ..runtime.verify.reference import READERS, hold

    if container not in READERS:
        raise UsageError(f"--check=reference: there is no library to read {container} with", hint=f"it can be had for {', '.join(READERS)}")
    return hold


def _plan(
    subject: Subject, request: Request, weights: Weights, dst: str, single: bool
) -> tuple[Plan, dict[str, object], tuple[str, ...], list[Finding], str]:
    """The plan with configuration, sidecars and ledger; with them the configuration's text."""
    ck = subject.checkpoint
    texts: list[tuple[str, str]] = []
    copies: list[tuple[str, str]] = []
    extras: Mapping[str, object] = {}
    classes: tuple[str, ...] = ()
    metadata = {k: v for k, v in ck.metadata.items() if request.dialect is None or k != OBJECT_GRAPH}
    metadata, findings = _carried(metadata, request)
    wrapper = text = ""
    raw: dict[str, object] = {}
    labels: int | None = None
    dialect = request.dialect
    if dialect is not None:
        raw, extras, classes, said, labels = _configuration(subject, request, weights, dialect)
        findings += said
        text = (dialect.config.writer.text or to_json_text)(raw)
        if dialect.config.filename:
            texts.append((dialect.config.filename, text))
        elif dialect.container != request.container.NAME:
            texts.append(("config.json", text))
        metadata |= dialect.files.metadata
        if dialect.files.spelling is not None and dialect.container == request.container.NAME:
            metadata |= dialect.files.spelling.metadata(list(weights.came))
        if dialect.config.writer.fold is not None and dialect.name != "hf":
            metadata |= {"keras:config.json": text, "keras:metadata.json": to_json_text({"keras_version": "3.0.0"})}
        if dialect.container == request.container.NAME:
            wrapper = dialect.files.wrapper
            if weights.hung is not None and subject.architecture is not None:
                extras = {**extras, **object_places(subject.architecture.table(dialect.name), weights.hung, subject.graph.counts)}
        else:
            extras = {}
    else:
        if ck.container == request.container.NAME:
            wrapper, extras = ck.wrapper, ck.extras
        if subject.graph.dialect is not None:
            metadata = {**subject.graph.dialect.files.metadata, **metadata}
        if ck.objects is not None:
            metadata[OBJECT_GRAPH] = ck.objects.packed()
        if subject.config is not None and not subject.config.inside:
            copies.append((subject.config.source, os.path.basename(subject.config.source)))
        elif subject.config is not None and not extras:
            texts.append(("config.json", to_json_text(_plain(subject.config.raw))))
        text = to_json_text(_plain(subject.config.raw)) if subject.config is not None else ""
    lost = [k for k in ck.extras if not extras and k not in ("args", "cfg")]
    if lost:
        findings.append(
            Finding("info", "dropped", ", ".join(lost[:6]), f"what lies beside the tensors is not carried over: {', '.join(lost[:12])}")
        )
    if not single:
        company = gather(
            subject, dialect, raw, classes[0] if classes else "", labels, {name for name, _ in texts} | {name for _, name in copies}
        )
        copies += company.copies
        texts += company.texts
        findings += company.findings
    elif texts or copies:
        findings.append(
            Finding("info", "config", dst, "the target is a single file: the configuration and vocabulary are not written beside it")
        )
        texts, copies = [], []
    ledger = make_ledger(subject, request, weights, findings)
    if not single:
        texts.append((LEDGER, ledger_text(ledger)))
    inputs = [*ck.files, *(c for c, _ in copies)]
    plan = assemble(
        weights,
        request,
        target=dst,
        single=single,
        inputs=inputs,
        metadata=metadata,
        extras=extras,
        wrapper=wrapper,
        copies=copies,
        texts=texts,
    )
    return plan, ledger, classes, findings, text


def _carried(metadata: Mapping[str, str], request: Request) -> tuple[dict[str, str], list[Finding]]:
    """The metadata that go along, and the finding of those that do not: a Keras file's own (`hdf5:model_config`), where the target
    has no place for it or other names."""
    names_stay = request.dialect is None
    keeps: tuple[str, ...] = getattr(request.container, "KEEPS", ()) if names_stay else ()
    lost = [k for k in metadata if k.startswith(PRIVATE) and not k.startswith(keeps)]
    kept = {k: v for k, v in metadata.items() if k not in lost}
    why = f"{request.container.TITLE} has no place for it" if names_stay else "it speaks of the old names"
    said = f"what the file says besides its tensors is not carried over ({', '.join(lost[:8])}): {why}"
    return kept, [Finding("info", "dropped", ", ".join(lost[:4]), said)] if lost else []


def _plain(raw: Mapping[str, object]) -> dict[str, object]:
    """The part of a configuration found inside a file that JSON can hold."""
    return {k: v for k, v in raw.items() if isinstance(v, (str, int, float, bool, list, dict, type(None)))}


def _configuration(
    subject: Subject, request: Request, weights: Weights, dialect: Dialect
) -> tuple[dict[str, object], Mapping[str, object], tuple[str, ...], list[Finding], int | None]:
    arch = subject.architecture
    assert arch is not None and subject.graph.dialect is not None
    sizes = subject.sizes()
    values: dict[str, object] = dict(subject.graph.dialect.config.implied)
    if subject.values is not None:
        values.update(subject.values.values)
    values.update(subject.given)
    values.update({c: v for c in subject.graph.dialect.config.follows if c not in values and (v := subject.value(c)) is not None})
    values.update(sizes.axis)
    if request.vocab is not None:
        values["vocab"] = request.vocab
    values.update(subject.graph.counts)
    values.update({name: next(iter(on)) for name, on in subject.graph.switches.items() if len(on) == 1})
    rest = subject.values.rest if subject.values is not None else {}
    named = named_class(rest, arch, dialect, weights.groups)
    used = weights.groups | (named.groups if named is not None else frozenset())
    ties = [p for p in arch.params.values() if p.tied and p.group in used and (named is None or p.name not in named.without)]
    if weights.untied:
        values["tied"] = False
    elif any(p.name not in subject.graph.params for p in ties):
        values["tied"] = True  # whatever the configuration says: there is nothing else to use
    labelled = {p.group for p in arch.params.values() if "labels" in p.layout.axes}
    labels = sizes.axis.get("labels") if weights.groups & labelled else None
    dtypes = {s.dtype for _, s, _ in weights.targets if DTYPES[s.dtype].kind == "float"}
    dtype = DTYPES[next(iter(dtypes))].torch if len(dtypes) == 1 else None
    written = write_config(
        values, rest, arch, dialect, weights.groups, labels=labels, dtype=dtype, preferred=subject.graph.dialect.library.like or None,
        usual=_usual_activation(subject.graph.dialect),
    )  # fmt: skip
    apart = "mlm_activation" in (own := subject.graph.dialect).config.keys and "mlm" in weights.groups and own.config is not dialect.config
    if apart and values.get("mlm_activation") is None:
        message = (
            f"no file says the activation of the MLM head, which {own.title} has apart from that of the layers; "
            f"{values.get('activation')} is taken for both"
        )
        written = written._replace(
            findings=(*written.findings, Finding("warning", "config", "mlm_activation", message, "--set mlm_activation=linear, say"))
        )
    memory = hung(subject.graph.recognition, subject.graph.counts) if subject.graph.recognition is not None else {}
    memory |= bare(subject) if dialect is not subject.graph.dialect else {}
    if dialect.files.spelling != subject.graph.dialect.files.spelling:
        memory |= scope(subject.graph.dialect, list(subject.checkpoint.tensors), named.name if named is not None else "")
    raw = {**written.raw, BLOCK: {**as_mapping(written.raw.get(BLOCK)), MEMORY: memory}} if memory else written.raw
    return raw, written.extras, written.classes, list(written.findings), labels


def _usual_activation(dialect: Dialect) -> str | None:
    """The activation that a naming's own configuration names first: Google's "gelu" is the tanh approximation."""
    said = next((k.words for k in dialect.config.keys.values() if not isinstance(k, str) and k.canonical == "activation" and k.words), None)
    first = next(iter(said.values())) if said else None
    first = first[0] if isinstance(first, tuple) else first
    return first if isinstance(first, str) else None
