"""What goes with a model besides its weights and configuration: vocabularies, tokenizers, their settings, and the files that a
library wants beside them.

Files are copied as they are, under the name that the target's library looks for (`Files.sidecars`). Where the library has settings
of its own for them (`Library.vocabulary`: keras_hub's tokenizer.json), these are made of what the source says; a vocabulary that lies
only inside transformers' tokenizer.json is taken out of it. Sources: transformers models/bert/tokenization_bert.py, tokenizers' JSON
(model.vocab, model.merges, normalizer); keras_hub tokenizers/.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping

from .. import store
from .._typing import Any, NamedTuple
from ..configuration.write import to_json_text
from ..errors import CheckpointError, printable
from ..findings import Finding
from ..graph.examine import Subject
from ..schema import Dialect, Kit

SIDECARS = frozenset((
    "vocab.txt", "vocab.json", "vocab.bpe", "encoder.json", "merges.txt", "dict.txt", "tokenizer.json", "tokenizer_config.json",
    "special_tokens_map.json", "added_tokens.json", "spiece.model", "sentencepiece.model", "sentencepiece.bpe.model", "spiece.vocab",
    "spm.model", "30k-clean.model", "30k-clean.vocab", "tokenizer.model", "chat_template.jinja", "chat_template.json",
    "generation_config.json", "preprocessor_config.json", "modules.json", "sentence_bert_config.json", "config_sentence_transformers.json",
    "sentencepiece.model", "bpe.model", "LICENSE", "LICENSE.txt",
))  # fmt: skip

TOKENIZER, SETTINGS = "transformers' tokenizer", "tokenizer_config.json"
WORDS, CODES, MERGES = "word pieces", "bpe vocabulary", "bpe merges"
HEADER = "#version: 0.2\n"  # the first line of transformers' merges.txt, which its older tokenizers skip unread


class Company(NamedTuple):
    """Files for the target's folder: (path, name) to copy, (name, text) to write."""

    copies: tuple[tuple[str, str], ...]
    texts: tuple[tuple[str, str], ...]
    findings: tuple[Finding, ...] = ()


def gather(subject: Subject, target: Dialect | None, raw: Mapping[str, object], cls: str, labels: int | None, taken: set[str]) -> Company:
    """What goes along with a model written as `target`, and what its library wants beside the configuration `raw`. Reads small files
    only."""
    folder, source = subject.checkpoint.folder, subject.graph.dialect
    there = present(subject, target)
    findings = [_left_out(n, out) for n in there if (out := store.leads_out(os.path.join(folder, n), folder)) is not None]
    there = {n: what for n, what in there.items() if n not in {f.where for f in findings}}
    copies = {to: os.path.join(folder, n) for n, to in renamed(subject, target, there).items()}
    texts: dict[str, str] = {}
    roles = {role: os.path.join(folder, n) for n, role in there.items() if role}
    text: dict[str, object] | None = None
    if target is not None and target.library.vocabulary is not None:
        if source is not None and source.library.vocabulary is not None and (old := _beside(folder, "tokenizer.json")) is not None:
            roles.setdefault("", old)
        text = _vocabulary(target, roles, folder, copies, texts, findings)
    elif target is not None and target.config.labels and source is not None and source.library.vocabulary is not None:
        _for_transformers(roles, folder, copies, texts)
    elif target is not None and target.config.labels and source is not None and source.name.startswith("fairseq"):
        from .dictionaries import gathered

        findings += gathered(folder, str(raw.get("model_type")), copies, texts)
    if target is not None:
        kit = Kit(cls, labels, text)
        made = {name: make(raw, kit) for name, make in target.config.writer.beside.items()}
        texts |= {name: to_json_text(value) for name, value in made.items() if value is not None}
    return Company(
        tuple((path, name) for name, path in copies.items() if name not in taken and name not in texts),
        tuple((n, t) for n, t in texts.items() if n not in taken),
        tuple(findings),
    )


def present(subject: Subject, target: Dialect | None) -> dict[str, str]:
    """The files of the source's folder that go along -> what they are in `Files.sidecars` ("" for none)."""
    folder, source = subject.checkpoint.folder, subject.graph.dialect
    dialects = list(subject.architecture.dialects.values()) if subject.architecture else []
    own = {n: what for d in dialects for what, n in d.files.sidecars.items() if "/" not in n}
    made: set[str] = set()
    if source is not None:
        own |= {n: what for what, n in source.files.sidecars.items()}
        made = set(source.config.writer.beside)
    names = {*store.listdir(folder), *(n for n in own if "/" in n)}
    if target is None:
        names_stay = {n: "" for n in sorted(made) if n in names}
    else:
        names_stay = {}
    found = {n: own.get(n, "") for n in sorted(names) if (n in SIDECARS or n in own) and n not in made}
    return {n: what for n, what in {**found, **names_stay}.items() if store.is_file(os.path.join(folder, n))}


def renamed(subject: Subject, target: Dialect | None, there: Mapping[str, str]) -> dict[str, str]:
    """What the target calls each of the files; of two for one name the one that has it already goes along."""
    if target is None:
        return {n: n for n in there}
    usual: dict[str, str] = {}
    for d in subject.architecture.dialects.values() if subject.architecture else ():
        for what, n in d.files.sidecars.items():
            if "/" not in n:
                usual.setdefault(what, n)
    named = {n: target.files.sidecars.get(what) or (usual.get(what, n) if "/" in n else n) for n, what in there.items()}
    return {n: t for n, t in named.items() if t == n or t not in named}


def _vocabulary(
    target: Dialect, roles: Mapping[str, str], folder: str, copies: dict[str, str], texts: dict[str, str], findings: list[Finding]
) -> dict[str, object] | None:
    """The settings of the target's tokenizer; None, and a finding, where the source has no vocabulary that it would load."""
    words = target.library.vocabulary
    assert words is not None
    said, settings = _object(roles.get(TOKENIZER)), _object(_beside(folder, SETTINGS))
    held: dict[str, str | bytes] = {what: store.read_bytes(roles[what]) for what in words.files if what in roles}
    if set(words.files) - held.keys():
        held = dict(_taken_out(said, words.files))
        texts |= {target.files.sidecars[what]: str(value) for what, value in held.items()}
    if set(words.files) - held.keys():
        looked = " and ".join(words.files)
        message = f"the source has no vocabulary ({looked}) that {target.title} could load: the model is written without a tokenizer"
        findings.append(Finding("info", "vocabulary", folder, message, "put it beside the source and convert again"))
        return None
    known = _tokens(held[words.files[0]]) if words.tokens else set()
    lacking = [t for t in words.tokens if t not in known]
    if lacking:
        message = (
            f"the vocabulary has no {', '.join(lacking)}, without which {target.title}'s tokenizer does not load: "
            f"the model is written without one"
        )
        findings.append(Finding("warning", "vocabulary", folder, message))
        for what in words.files:
            copies.pop(target.files.sidecars[what], None)
            texts.pop(target.files.sidecars[what], None)
        return None
    if words.otherwise:
        findings.append(Finding("info", "vocabulary", folder, f"{target.title}'s tokenizer takes text as it is: {words.otherwise}"))
    before = _mapping(_object(roles.get("")).get("config"))  # keras_hub's own
    if WORDS in words.files:
        rules = _mapping(said.get("normalizer"))
        lower = _first(bool, before.get("lowercase"), settings.get("do_lower_case"), rules.get("lowercase"), True)
        accents = _first(bool, before.get("strip_accents"), settings.get("strip_accents"), rules.get("strip_accents"), lower)
        if not (before or "do_lower_case" in settings or "lowercase" in rules):
            message = "no file says whether text is lower-cased: it is, as transformers does without one"
            findings.append(Finding("info", "vocabulary", folder, message, f'{SETTINGS} says it: {{"do_lower_case": false}}'))
        return {"lowercase": lower, "strip_accents": accents}
    if CODES in words.files:
        rules = _mapping(said.get("pre_tokenizer"))
        return {
            "add_prefix_space": _first(
                bool, before.get("add_prefix_space"), settings.get("add_prefix_space"), rules.get("add_prefix_space"), False
            )
        }
    return {}


def _taken_out(said: Mapping[str, object], files: tuple[str, ...]) -> dict[str, str]:
    """The vocabulary inside transformers' tokenizer.json, as the text of files; nothing where it has none of that kind."""
    model = _mapping(said.get("model"))
    vocabulary, merges = model.get("vocab"), model.get("merges")
    if not isinstance(vocabulary, dict) or not all(isinstance(i, int) for i in vocabulary.values()):
        return {}
    added = said.get("added_tokens")
    for token in added if isinstance(added, list) else ():
        entry = _mapping(token)
        if isinstance(entry.get("id"), int) and entry["id"] not in vocabulary.values():
            vocabulary = {**vocabulary, str(entry.get("content")): entry["id"]}
    order = sorted(vocabulary, key=lambda t: vocabulary[t])
    if WORDS in files and model.get("type") == "WordPiece" and [vocabulary[t] for t in order] == list(range(len(order))):
        return {WORDS: "".join(f"{t}\n" for t in order)}
    if CODES in files and model.get("type") == "BPE" and isinstance(merges, list):
        pairs = [" ".join(map(str, m)) if isinstance(m, list) else str(m) for m in merges]
        return {CODES: json.dumps({t: vocabulary[t] for t in order}, ensure_ascii=False), MERGES: HEADER + "".join(f"{p}\n" for p in pairs)}
    return {}


def _for_transformers(roles: Mapping[str, str], folder: str, copies: dict[str, str], texts: dict[str, str]) -> None:
    """What keras_hub's tokenizer.json says, as transformers says it; and the first line that its merges.txt has."""
    said = _mapping(_object(_beside(folder, "tokenizer.json")).get("config"))
    if WORDS in roles and said and SETTINGS not in copies:
        lower, accents = bool(said.get("lowercase")), bool(said.get("strip_accents"))
        texts[SETTINGS] = to_json_text({"do_lower_case": lower, "strip_accents": accents})
    merges = next((to for to, path in copies.items() if path == roles.get(MERGES)), None)
    if merges is not None:
        raw = store.read_bytes(roles[MERGES])
        if not raw.startswith(b"#version"):
            texts[merges] = HEADER + raw.decode("utf-8", "replace")


def _tokens(text: str | bytes) -> set[str]:
    """The tokens of a vocabulary: a line each, or the keys of an object."""
    text = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
    if text.lstrip()[:1] == "{":
        try:
            return set(json.loads(text))
        except ValueError:
            pass
    return set(text.splitlines())


def _object(path: str | None) -> dict[str, Any]:
    """A small JSON file's object; an empty one where there is none, or none that can be read: it is not what is converted."""
    if path is None or not store.is_file(path):
        return {}
    try:
        value = store.read_json(path)
    except CheckpointError:
        return {}
    return value if isinstance(value, dict) else {}


def _beside(folder: str, name: str) -> str | None:
    """The path of a file beside the checkpoint; None where there is none, or only a link that leads out."""
    path = os.path.join(folder, name)
    return path if store.is_file(path) and store.leads_out(path, folder) is None else None


def _left_out(name: str, real: str) -> Finding:
    message = f"{printable(name)} is a link that leads out of the checkpoint's folder, to {printable(real)}: it is left out"
    return Finding("warning", "links", name, message, "copy the file itself into the folder, if it belongs there")


def _mapping(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _first(kind: type, *values: object) -> object:
    """The first value of a kind."""
    return next(v for v in values if isinstance(v, kind))
