"""What lies beside the weights: vocabularies, code, the types and labels a configuration names, the folder's own name."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

from .._typing import TYPE_CHECKING
from ..arch import architectures
from ..errors import CheckpointError
from ..findings import Finding
from ..jsonio import read_bytes, read_json
from ..subject import Subject
from ..tensors import DTYPES
from ._base import also, rule

if TYPE_CHECKING:
    from ..containers import Checkpoint

PADDINGS = (8, 16, 32, 64, 128, 256, 512)  # to a multiple of which programs pad a vocabulary
_GOOGLE_NAME = re.compile(r"(?:^|[_-])L-(\d+)_H-(\d+)_A-(\d+)(?:$|[_-])")
_WORDS = re.compile(r"[^a-z0-9]+")


def folder_of(checkpoint: Checkpoint) -> str:
    """The directory in which a checkpoint's files lie."""
    return os.path.dirname(os.path.abspath(checkpoint.files[0] if checkpoint.files else checkpoint.path))


# --- vocabulary ----------------------------------------------------------------------------------------------------


def _lines(path: str) -> int:
    """Tokens of a vocab.txt: a line each, the last one's end optional."""
    raw = read_bytes(path)
    return raw.count(b"\n") + (not raw.endswith(b"\n") and bool(raw))


def _json_ids(path: str) -> int:
    """One more than the largest id of a vocab.json."""
    data = read_json(path)
    return _top(data)


def _top(ids: object) -> int:
    if isinstance(ids, dict):
        return max((v for v in ids.values() if isinstance(v, int)), default=-1) + 1
    return len(ids) if isinstance(ids, list) else 0


def _tokenizer_json(path: str) -> int:
    """One more than the largest id of a tokenizer.json, tokens added later included."""
    data = read_json(path)
    model = data.get("model") if isinstance(data, dict) else None
    n = _top(model.get("vocab")) if isinstance(model, dict) else 0
    added = data.get("added_tokens") if isinstance(data, dict) else None
    for token in added if isinstance(added, list) else ():
        if isinstance(token, dict) and isinstance(token.get("id"), int):
            n = max(n, token["id"] + 1)
    return n


def _pieces(path: str) -> int:
    """Pieces of a sentencepiece model: field 1 of sentencepiece_model.proto's ModelProto."""
    from ..containers._proto import fields

    raw = read_bytes(path)
    return sum(number == 1 for number, *_ in fields(raw, 0, len(raw), path))


VOCABULARIES = {
    "tokenizer.json": _tokenizer_json, "vocab.txt": _lines, "vocab.json": _json_ids, "encoder.json": _json_ids, "spiece.model": _pieces,
    "sentencepiece.model": _pieces, "30k-clean.model": _pieces,
}  # fmt: skip


def vocabulary_size(checkpoint: Checkpoint) -> tuple[str, int] | None:
    """(file, number of tokens) of the vocabulary beside a checkpoint; None if there is none that can be read."""
    folder = folder_of(checkpoint)
    for name, size in VOCABULARIES.items():
        path = os.path.join(folder, name)
        if os.path.isfile(path):
            try:
                n = size(path)
            except CheckpointError:
                continue
            if n:
                return name, n
    return None


@rule("vocabulary", "error", "The vocabulary beside the weights fits their rows", reads="beside")
def vocabulary(s: Subject) -> Iterator[Finding]:
    """The tokens of tokenizer.json, vocab.txt, vocab.json or a sentencepiece model against the rows of the embedding. More tokens
    than rows is an error: the last tokens have no embedding. Fewer is an information where the rows are padded to a multiple of 8
    to 512 or by less than 128 (`ckptkit fix` trims them), a warning otherwise: probably another model's vocabulary.
    """
    rows = s.sizes().axis.get("vocab") if s.architecture is not None else None
    found = vocabulary_size(s.checkpoint) if rows is not None else None
    if rows is None or found is None:
        return
    name, tokens = found
    if tokens > rows:
        yield Finding(
            "error", "vocabulary", name, f"{name} has {tokens:,} tokens; the weights have rows for {rows:,}: {tokens - rows:,} tokens have no embedding",
            "take the vocabulary that belongs to the weights",
        )  # fmt: skip
    elif tokens < rows:
        padded = rows - tokens < 128 or any(-(-tokens // p) * p == rows for p in PADDINGS)
        words = "padding" if padded else "far more than padding: another model's vocabulary?"
        yield Finding("info" if padded else "warning", "vocabulary", name, f"{name} has {tokens:,} tokens; the weights have {rows:,} rows, {rows - tokens:,} more: {words}", basis="inferred")


# --- what the configuration says beside sizes ----------------------------------------------------------------------


@rule("remote-code", "warning", "The configuration names no code to run")
def remote_code(s: Subject) -> Iterator[Finding]:
    """`auto_map` in a configuration names Python files that transformers imports and runs with `trust_remote_code`. ckptkit never
    does. Read them before anybody does, or use the class of the library.
    """
    said = s.config.raw.get("auto_map") if s.config is not None else None
    if isinstance(said, dict) and said:
        names = ", ".join(str(v) for v in said.values())
        yield Finding("warning", "remote-code", "auto_map", f"{s.config_name} names code that a loader with trust_remote_code runs: {names}", "read it before you trust it")


@also("config")
def special_ids(s: Subject) -> Iterator[Finding]:
    """Token ids that the vocabulary does not have."""
    vocab = s.sizes().axis.get("vocab") if s.architecture is not None and s.config is not None else None
    if vocab is None or s.config is None:
        return
    for key in ("pad_token_id", "bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id", "mask_token_id", "unk_token_id", "decoder_start_token_id"):
        n = s.config.raw.get(key)
        if isinstance(n, int) and not isinstance(n, bool) and n >= vocab:
            yield Finding("warning", "config", key, f"{s.config_name} says {key} {n}; the weights have rows 0 to {vocab - 1}")


@also("dtype")
def said_dtype(s: Subject) -> Iterator[Finding]:
    """The type that the configuration names against that of most weights."""
    if s.config is None or s.graph.recognition is None:
        return
    key = next((k for k in ("dtype", "torch_dtype") if isinstance(s.config.raw.get(k), str)), None)
    sizes: dict[str, int] = {}
    for name in s.graph.of_role("param"):
        spec = s.checkpoint.tensors[name].spec
        if DTYPES[spec.dtype].kind == "float":
            sizes[spec.dtype] = sizes.get(spec.dtype, 0) + spec.numel
    if key is None or not sizes:
        return
    main = DTYPES[max(sizes, key=lambda d: sizes[d])]
    said = str(s.config.raw[key]).removeprefix("torch.")
    if said in {d.torch for d in DTYPES.values()} and said != main.torch:
        yield Finding(
            "warning", "dtype", key, f"{s.config_name} says {key} {said}; the weights are {main.torch}: a loader that goes by the configuration casts them", f"set {key} to {main.torch}"
        )


@also("size")
def said_labels(s: Subject) -> Iterator[Finding]:
    """The labels that a configuration lists against the rows of the classifier."""
    if s.architecture is None or s.config is None:
        return
    labels = {p.group for p in s.architecture.params.values() if "labels" in p.layout.axes}
    have = s.graph.solution.sizes.axis.get("labels")
    if have is None or not labels & s.graph.groups:
        return
    listed = s.config.raw.get("id2label")
    count = s.config.raw.get("num_labels")
    said, key = (len(listed), "id2label") if isinstance(listed, dict) else (count, "num_labels")
    if isinstance(said, int) and not isinstance(said, bool) and said != have:
        yield Finding("error", "size", key, f"{s.config_name} has {said} labels ({key}); the weights hold {have}", "list the labels that the classifier was trained with")


@also("tie")
def said_untied(s: Subject) -> Iterator[Finding]:
    """A head said not to be tied, of which the matrix is not there."""
    arch = s.architecture
    if arch is None or s.values is None or s.value("tied") is not False or "tied" in s.values.assumed or s.graph.dialect is None:
        return
    assert s.config is not None
    named = s.config.raw.get("architectures")
    classes = {c.name: c.groups for d in arch.dialects.values() for c in d.classes}
    claimed = classes.get(str(named[0]), frozenset()) if isinstance(named, list) and named else frozenset()
    table = arch.table(s.graph.dialect.name)
    for name, info in arch.params.items():
        if info.tied is None or info.group == "core" or name in s.graph.params or name not in table.by_param:
            continue
        if info.group in claimed or info.group in s.graph.groups:
            key = s.values.keys.get("tied", "tie_word_embeddings")
            stored = table.by_param[name][0].names[0]
            yield Finding(
                "warning", "tie", stored, f"{s.config_name} says {key} false, but {stored} is not there: a loader that goes by it makes a new one",
                f"set {key} to true, or get the whole checkpoint",
            )  # fmt: skip


# --- the folder's name ---------------------------------------------------------------------------------------------


def _named_variant(words: list[str]) -> tuple[str, dict[str, int]] | None:
    """The longest known variant whose name's words stand in `words` one after another."""
    best: tuple[int, str, dict[str, int]] | None = None
    families = {n for arch in architectures().values() for n in arch.names}  # "gpt2" says the family, and no size of it
    for arch in architectures().values():
        for name, sizes in arch.variants.items():
            if name in families:
                continue
            parts = [w for w in _WORDS.split(name.lower()) if w]
            if any(words[i : i + len(parts)] == parts for i in range(len(words))) and (best is None or len(parts) > best[0]):
                best = (len(parts), name, sizes)
    return best[1:] if best is not None else None


@rule("variant", "warning", "The folder is named after what it holds", basis="inferred")
def variant(s: Subject) -> Iterator[Finding]:
    """A folder called roberta-large that holds 12 layers, or one called uncased_L-24_H-1024_A-16 that holds others. Only the number
    of layers decides, and the sizes where the folder bears exactly a variant's name; a name is a hint and no proof.
    """
    if s.architecture is None:
        return
    folder = os.path.basename(folder_of(s.checkpoint))
    have = {**s.graph.solution.sizes.axis, **s.graph.counts}
    m = _GOOGLE_NAME.search(folder)
    words = [w for w in _WORDS.split(folder.lower()) if w]
    named = ("its name", dict(zip(("layers", "hidden"), map(int, m.groups()[:2]), strict=True))) if m else _named_variant(words)
    if named is None:
        return
    name, sizes = named
    exact = m is not None or _WORDS.split(name.lower()) == words
    wrong = [k for k in sizes if k in have and have[k] != sizes[k] and (exact or k == "layers")]
    if wrong:
        said, seen = " and ".join(f"{sizes[k]} {k}" for k in wrong), " and ".join(f"{have[k]} {k}" for k in wrong)
        other = s.graph.variant()
        yield Finding(
            "warning", "variant", folder, f"the folder {folder} promises {said} ({name}); the weights have {seen}{f', as {other} has' if other else ''}",
            "is this the checkpoint that was meant?", basis="inferred",
        )  # fmt: skip
